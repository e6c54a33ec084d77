//! The stage of every fault in virtual time: a cell with a real cell's limits, a task that moves, and
//! a witness between guard and robot.
//!
//! | [`Manner`] | cell | policy | chunks meet by |
//! |---|---|---|---|
//! | `Halting` | demo | `scripted` | sync: stand still, look, think |
//! | `Flowing` | TwoGate | `twogate`, prefix of at most 6 rows | clean prefix, while the point moves |

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use vlad_cell::description::{Arm, RobotDescription};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::policy::twogate::TwoGatePolicy;
use vlad_sim::twogate::oracle;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Epoch;
use vlad_wire::msg::command::{Answer, Reset};
use vlad_wire::msg::execute::Executed;
use vlad_wire::stream::{Command, ResetCommand};

use super::finding::{Finding, Worst};
use super::standard;
use crate::rehearsal::dispatcher::Dispatcher;
use crate::rehearsal::holder::signature;
use crate::rehearsal::liar::Orders;
use crate::rehearsal::puppet::{Hands, Puppet};
use crate::rehearsal::witness::Witness;
use crate::rehearsal::{Options, Run};

/// The task of the demo cell's stage.
const INSTRUCTION: &str = "put the red block in the left tray";
/// Longest prefix that Xiaomi-Robotics-0 was trained with, rows.
const PREFIX_TRAINED: u16 = 6;
/// What a real cell allows; the shipped cells' own patience is that of a busy desktop.
const REAL: [&str; 7] = [
    "guard.action_age_limit_ms=700",
    "guard.heartbeat_missed_max=5",
    "guard.overrun_max=3",
    "guard.overrun_per_s_max=10",
    "guard.state_late_max=3",
    "guard.disagreement_max=5",
    "perception.stale_ms=180",
];
/// For stories that are longer than TwoGate's way to its goal: 0.3 m/s, to and fro.
pub const PACING: Hands = Hands::Pace {
    by: 0.01,
    within: 0.5,
};
/// Longest wait for the arms to move.
const PATIENCE_NS: u64 = 10 * SECOND;
/// How long a stage goes on after a fault, to see that nothing moves by itself.
const AFTERMATH_NS: u64 = SECOND;
/// From the end of a latched mode's cause to its reset.
const RESET_NS: u64 = 600 * MS;

/// How consecutive chunks meet on a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The arms stand still while the policy thinks.
    Halting,
    /// The next decision is conditioned on accepted actions, which are played meanwhile.
    Flowing,
}

impl Manner {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Halting, Self::Flowing];

    /// A cell and a policy for it, and the strategy.
    pub fn options(self) -> Options {
        match self {
            Self::Halting => Options::default(),
            Self::Flowing => Options {
                cell: "twogate",
                policy: Box::new(|_| Ok(Arc::new(TwoGatePolicy::new(PREFIX_TRAINED)?))),
                sets: vec!["expert.strategy=clean-prefix".to_owned()],
                ..Options::default()
            },
        }
    }
}

/// One run of one fault.
pub struct Stage {
    /// The cell.
    pub run: Run,
    /// In the gateway's place.
    pub dispatcher: Dispatcher,
    /// Between guard and robot.
    pub witness: Witness,
    /// What the first camera is told.
    pub camera: Orders,
    /// Times at which a person let the guard go on, nanoseconds.
    pub(super) persons_ns: Vec<u64>,
    /// Times at which a guard was started anew, nanoseconds.
    pub(super) begun_ns: Vec<u64>,
    /// The fault's own figures, and those that every run has.
    figures: Vec<Worst>,
    standards: Vec<Worst>,
    pub(super) faults: Vec<String>,
    /// From the newest fault to the servo tick that knew of it, milliseconds.
    pub(super) detected_after_ms: f64,
    /// Whether the newest stop found the robot in motion.
    pub(super) stopped_in_motion: bool,
    epoch: Epoch,
    /// Whether decisions behind a prefix must have happened.
    flows: bool,
}

impl Stage {
    /// Sets the stage; nothing is armed.
    ///
    /// # Errors
    /// Parts that cannot be made.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        Self::with(seed, Options::default(), &[])
    }

    /// The same with other settings; `sets` come last.
    ///
    /// # Errors
    /// Parts that cannot be made.
    pub fn with(seed: u64, options: Options, sets: &[&str]) -> anyhow::Result<Self> {
        let (witness, camera) = (Witness::default(), Orders::default());
        let flows = options.cell == "twogate";
        let (watched, told) = (witness.clone(), camera.clone());
        let own = options.sets.into_iter();
        let own: Vec<String> = own.chain(sets.iter().map(ToString::to_string)).collect();
        let run = Run::new(Options {
            robot: Box::new(move |robot, description| watched.around(robot, gripper(description))),
            camera: Box::new(move |idx, camera| match idx {
                0 => told.around(camera),
                _ => told.companion().around(camera),
            }),
            scene_seed: seed,
            sets: REAL.iter().map(ToString::to_string).chain(own).collect(),
            ..options
        })?;
        let instruction = if flows {
            oracle::INSTRUCTION
        } else {
            INSTRUCTION
        };
        let dispatcher = Dispatcher::new(&run, instruction, seed)?;
        Ok(Self {
            run,
            dispatcher,
            witness,
            camera,
            persons_ns: Vec::new(),
            begun_ns: Vec::new(),
            figures: Vec::new(),
            standards: Vec::new(),
            faults: Vec::new(),
            detected_after_ms: 0.0,
            stopped_in_motion: false,
            epoch: 2,
            flows,
        })
    }

    /// A stage whose chunks meet so.
    ///
    /// # Errors
    /// Parts that cannot be made.
    pub fn meeting(seed: u64, manner: Manner) -> anyhow::Result<Self> {
        Self::with(seed, manner.options(), &[])
    }

    /// A stage whose policy hangs on strings.
    ///
    /// # Errors
    /// Parts that cannot be made.
    pub fn on_strings(seed: u64, own: Options, sets: &[&str]) -> anyhow::Result<(Self, Puppet)> {
        let tied: Arc<Mutex<Option<Puppet>>> = Arc::default();
        let (ties, make) = (tied.clone(), own.policy);
        let options = Options {
            policy: Box::new(move |robot| {
                let puppet = Puppet::new(make(robot)?, robot.clone());
                *ties.lock().unwrap_or_else(PoisonError::into_inner) = Some(puppet.clone());
                Ok(Arc::new(puppet))
            }),
            ..own
        };
        let stage = Self::with(seed, options, sets)?;
        let puppet = tied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((stage, puppet.context("no policy was made")?))
    }

    /// Arms the guard and waits until the robot moves well: on a flowing stage by a decision behind a
    /// prefix.
    ///
    /// # Errors
    /// It does not.
    pub fn move_arms(&mut self) -> anyhow::Result<()> {
        self.dispatcher.begin(&mut self.run)?;
        self.persons_ns.push(0);
        let flows = self.flows;
        self.wait("the robot moves", PATIENCE_NS, |dispatcher| {
            let running = dispatcher
                .mode()
                .is_some_and(|(mode, _)| mode == Mode::Running);
            running && dispatcher.moving() && (!flows || plays_behind_prefix(dispatcher))
        })
    }

    /// Whether decisions overlap with motion.
    pub fn flows(&self) -> bool {
        self.flows
    }

    /// The time.
    pub fn now_ns(&self) -> u64 {
        self.run.stepped.clock().now_ns()
    }

    /// A servo period, nanoseconds.
    pub fn period_ns(&self) -> u64 {
        standard::period_ns(&self.run.config.robot)
    }

    /// Starts a guard anew on the world's robot, with the witness between them.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn restart_guard(&mut self) -> anyhow::Result<()> {
        let gripper = gripper(&self.run.config.robot);
        let robot = self.witness.around(self.run.world.robot(), gripper);
        self.begun_ns.push(self.now_ns());
        Ok(self.run.stepped.restart_guard(robot)?)
    }

    /// Starts perception anew, with the world's cameras.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn restart_perception(&mut self) -> anyhow::Result<()> {
        let world = &self.run.world;
        let (cameras, oracle) = (world.cameras(), Some(world.oracle()));
        Ok(self.run.stepped.restart_perception(cameras, oracle)?)
    }

    /// How far any joint was told to move in the last `for_ns`, radians.
    pub fn moved_since(&self, for_ns: u64) -> f64 {
        let periods = usize::try_from(for_ns / self.period_ns()).unwrap_or(usize::MAX);
        let mut ticks = self.dispatcher.report().ticks().rev().take(periods);
        let Some(last) = ticks.next() else { return 0.0 };
        let apart = |tick: &Executed| {
            let dofs = tick.command.iter().zip(&last.command);
            dofs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        ticks.map(apart).fold(0.0, f64::max)
    }

    /// Servo periods from a time until the guard was in a mode.
    ///
    /// # Errors
    /// It never was.
    pub fn detected_periods(&self, from_ns: u64, mode: Mode) -> anyhow::Result<f64> {
        let mut later = self.dispatcher.report().ticks();
        let meant = |now: Mode| now == mode || (mode == Mode::Stopping && now == Mode::Stopped);
        let first = later.find(|tick| from_ns < tick.sent_at_ns && meant(tick.mode));
        let first = first.with_context(|| format!("the guard never was in {mode}"))?;
        let passed_ns = first.sent_at_ns - from_ns;
        Ok(f64::from(u32::try_from(
            passed_ns.div_ceil(self.period_ns()),
        )?))
    }

    /// Whether a degree of freedom is a gripper.
    pub fn is_gripper(&self, dof: usize) -> bool {
        self.run
            .config
            .robot
            .arms()
            .iter()
            .any(|arm| arm.gripper_dof() == dof)
    }

    /// How far the first arm's gripper may be told to close beyond what it measures, metres.
    pub fn squeeze_max(&self) -> f64 {
        let arms = &self.run.config.robot.toml().arms;
        arms.first().map_or(0.0, |arm| arm.gripper.squeeze_max_m)
    }

    /// Goes on for so long.
    ///
    /// # Errors
    /// A core that cannot.
    pub fn pass(&mut self, for_ns: u64) -> anyhow::Result<()> {
        self.dispatcher.pass(&mut self.run, for_ns)
    }

    /// Goes on until `seen`.
    ///
    /// # Errors
    /// It does not come.
    pub fn wait(
        &mut self,
        what: &str,
        for_ns: u64,
        seen: impl FnMut(&Dispatcher) -> bool,
    ) -> anyhow::Result<()> {
        self.dispatcher.until(&mut self.run, (what, for_ns), seen)
    }

    /// Goes on until the guard is in a mode; gives its reason.
    ///
    /// # Errors
    /// It does not come.
    pub fn wait_mode(&mut self, mode: Mode, for_ns: u64) -> anyhow::Result<Reason> {
        let what = format!("the guard is {mode}");
        let seen = |dispatcher: &Dispatcher| dispatcher.mode().is_some_and(|now| now.0 == mode);
        self.wait(&what, for_ns, seen)?;
        Ok(self.dispatcher.mode().context("no mode")?.1)
    }

    /// Goes on until the guard stops or has stopped: one that stands is through in a servo tick.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_stop(&mut self, for_ns: u64) -> anyhow::Result<Reason> {
        let stops = |dispatcher: &Dispatcher| {
            let mode = dispatcher.mode().map(|now| now.0);
            matches!(mode, Some(Mode::Stopping | Mode::Stopped))
        };
        self.wait("the guard stops", for_ns, stops)?;
        Ok(self.dispatcher.mode().context("no mode")?.1)
    }

    /// Waits for a stop of a reason that an injected fault brings, and for its standstill; looks
    /// at the way there, and that nothing moves in the second after.
    ///
    /// # Errors
    /// There is none within `for_ns`.
    pub fn stops(&mut self, reasons: &[Reason], for_ns: u64) -> anyhow::Result<()> {
        self.stops_since(self.now_ns(), reasons, for_ns)
    }

    /// The same of a fault that was injected at a time before.
    ///
    /// # Errors
    /// There is none within `for_ns`.
    pub fn stops_since(
        &mut self,
        injected_ns: u64,
        reasons: &[Reason],
        for_ns: u64,
    ) -> anyhow::Result<()> {
        let reason = self.wait_stop(for_ns)?;
        self.demand(reasons.contains(&reason), || {
            format!("stops for {reason} instead of {reasons:?}")
        });
        self.wait_mode(Mode::Stopped, SECOND)?;
        standard::judge_stop(self, Mode::Stopping, injected_ns)?;
        self.stays(Mode::Stopped)
    }

    /// The same of a hold.
    ///
    /// # Errors
    /// There is none within `for_ns`.
    pub fn holds(&mut self, reason: Reason, for_ns: u64) -> anyhow::Result<()> {
        let injected_ns = self.now_ns();
        let what = format!("the guard holds: {reason}");
        let seen = |dispatcher: &Dispatcher| dispatcher.mode() == Some((Mode::Hold, reason));
        self.wait(&what, for_ns, seen)?;
        self.pass(SECOND / 2)?;
        standard::judge_stop(self, Mode::Hold, injected_ns)
    }

    /// Looks that a mode stays for a second.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn stays(&mut self, mode: Mode) -> anyhow::Result<()> {
        self.pass(AFTERMATH_NS)?;
        let now = self.dispatcher.mode().map(|now| now.0);
        self.demand(now == Some(mode), || {
            format!("it is {now:?} instead of {mode}")
        });
        Ok(())
    }

    /// A person rearms, and the task goes on: the documented way out of a stop.
    ///
    /// # Errors
    /// The guard refuses, or does not move.
    pub fn recovers(&mut self) -> anyhow::Result<()> {
        self.persons_ns.push(self.now_ns());
        let epoch = self.next_epoch();
        let armed = self.dispatcher.rearm(&mut self.run, epoch)?;
        ensure!(armed.done, "the rearm is refused: {}", armed.text);
        self.leases()?;
        self.wait_mode(Mode::Running, PATIENCE_NS)?;
        Ok(())
    }

    /// A new lease, as of the gateway's next attempt.
    ///
    /// # Errors
    /// The guard refuses.
    pub fn leases(&mut self) -> anyhow::Result<()> {
        let epoch = self.next_epoch();
        let leased = self.dispatcher.take(&mut self.run, epoch)?;
        ensure!(leased.done, "the lease is refused: {}", leased.text);
        Ok(())
    }

    /// A latched mode: a rearm must be refused, a reset after half a second leads to disarmed.
    ///
    /// # Errors
    /// No answers.
    pub fn resets(&mut self) -> anyhow::Result<()> {
        let epoch = self.next_epoch();
        let armed = self.dispatcher.rearm(&mut self.run, epoch)?;
        self.demand(!armed.done, || "a latched guard was rearmed".to_owned());
        self.pass(RESET_NS)?;
        self.persons_ns.push(self.now_ns());
        let reset = Reset {
            epoch: self.next_epoch(),
            by: signature(),
        };
        let answer = self.ask::<ResetCommand>(&reset)?;
        self.demand(answer.done && answer.mode == Mode::Disarmed, || {
            format!("the reset leads to {}: {}", answer.mode, answer.text)
        });
        Ok(())
    }

    /// Asks the guard.
    ///
    /// # Errors
    /// No answer.
    pub fn ask<C: Command<Answer = Answer>>(&mut self, ask: &C::Ask) -> anyhow::Result<Answer> {
        self.dispatcher.ask::<C>(&mut self.run, ask)
    }

    /// An epoch that the guard has not seen.
    pub fn next_epoch(&mut self) -> Epoch {
        self.epoch += 1;
        self.epoch
    }

    /// Notes what is not as it must be.
    pub fn demand(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// Notes a figure of this fault with its limit.
    pub fn figure(&mut self, what: &str, value: f64, limit: f64) {
        self.figures.push(Worst::new(what, value, limit));
    }

    /// Notes a figure that every run has.
    pub(super) fn standard(&mut self, what: &str, value: f64, limit: f64) {
        self.standards.push(Worst::new(what, value, limit));
    }

    /// The newest stop must have been one of motion.
    pub fn demand_motion(&mut self) {
        let moved = self.stopped_in_motion;
        self.demand(moved, || "the stop found a robot that stood".to_owned());
    }

    /// The end: what every run must fulfil is judged too.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn conclude(mut self) -> anyhow::Result<Finding> {
        // The last messages are under way.
        self.pass(100 * MS)?;
        let strategies = self.dispatcher.report().chunks.iter();
        let met = strategies.filter(|head| 0 < head.prefix_len).count();
        let flows = self.flows;
        self.demand(!flows || 0 < met, || {
            "no decision had a prefix: nothing overlapped".to_owned()
        });
        standard::judge(&mut self);
        let standards = Finding::standard(self.standards);
        Ok(Finding::of(self.figures, self.faults).with(standards))
    }
}

/// Whether what is played now was decided behind a prefix.
fn plays_behind_prefix(dispatcher: &Dispatcher) -> bool {
    let report = dispatcher.report();
    let Some(playing) = report.ticks().next_back().and_then(|tick| tick.chunk) else {
        return false;
    };
    let mut heads = report.chunks.iter().rev();
    heads.any(|head| head.id == playing && 0 < head.prefix_len)
}

/// The first arm's gripper, as a degree of freedom.
pub fn gripper(robot: &RobotDescription) -> usize {
    robot.arms().first().map_or(0, Arm::gripper_dof)
}
