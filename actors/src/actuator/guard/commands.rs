//! What people and the gateway may ask of the guard.

use vlad_safety::mode::{Event, Mode, State};
use vlad_safety::reason::Reason;
use vlad_wire::clock::MS;
use vlad_wire::id::Epoch;
use vlad_wire::msg::command::{Estop, Lease, Park, Pause, Rearm, Reset, Resume, Speed};

use super::{Guard, Held, Notice, Words};
use crate::actuator::servo::Ask;

/// Longest lease without renewal.
const TTL_MAX_MS: u32 = 10_000;
/// Share of the speed, acceleration and jerk limits that parking uses: nobody waits for it.
const PARK_SHARE: f64 = 0.25;

/// Answer to a rearm while perception says that it is unfit; the bus side adds what it says.
pub const UNFIT: &str = "perception is unfit";

/// The guard's answer, before it is a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Whether it was done.
    pub done: bool,
    /// Why not, or what was done.
    pub text: &'static str,
    /// The mode and reason after it.
    pub state: State,
    /// Highest epoch that the guard knows.
    pub epoch: Epoch,
}

impl Guard {
    /// Does what is asked, or says why not.
    pub fn ask(&mut self, ask: &Ask, now_ns: u64) -> Reply {
        match ask {
            Ask::Lease(lease) => self.lease(lease, now_ns),
            Ask::Rearm(rearm) => self.rearm(rearm, now_ns),
            Ask::Resume(resume) => self.resume(resume, now_ns),
            Ask::Pause(pause) => self.pause(pause, now_ns),
            Ask::Park(park) => self.park(park, now_ns),
            Ask::Speed(speed) => self.speed(speed),
            Ask::Estop(estop) => self.estop(estop, now_ns),
            Ask::Reset(reset) => self.reset(reset, now_ns),
        }
    }

    /// Grants, renews or takes back the right to command the cell.
    pub fn lease(&mut self, ask: &Lease, now_ns: u64) -> Reply {
        match *ask {
            Lease::Grant {
                epoch,
                task,
                attempt,
                ttl_ms,
            } => {
                let free = self.lease.is_none()
                    && (self.state.mode == Mode::Armed || self.state.mode == Mode::Hold);
                if let Err(text) = self.check_epoch(epoch) {
                    return self.answer(false, text);
                }
                if !free || TTL_MAX_MS < ttl_ms {
                    return self.answer(false, "the cell is not free");
                }
                self.epoch = epoch;
                let ttl_ns = u64::from(ttl_ms) * MS;
                let expires_ns = now_ns.saturating_add(ttl_ns);
                self.lease = Some(Held {
                    epoch,
                    task,
                    attempt,
                    ttl_ns,
                    expires_ns,
                });
                self.lineage.restart();
                self.notice(Notice::info(
                    "lease_granted",
                    Words::Granted(task, attempt, epoch),
                ));
                self.apply(Event::LeaseGranted, now_ns);
                self.answer(true, "granted")
            }
            Lease::Renew { epoch } => match &mut self.lease {
                Some(held) if held.epoch == epoch => {
                    held.expires_ns = now_ns.saturating_add(held.ttl_ns);
                    self.answer(true, "renewed")
                }
                _ => self.refuse_epoch(),
            },
            Lease::Release { epoch } => match self.lease {
                Some(held) if held.epoch == epoch => {
                    self.lease = None;
                    self.notice(Notice::info("lease_released", Words::Released(epoch)));
                    self.apply(Event::LeaseReleased, now_ns);
                    self.answer(true, "released")
                }
                _ => self.refuse_epoch(),
            },
        }
    }

    /// Leaves disarmed or stopped.
    pub fn rearm(&mut self, ask: &Rearm, now_ns: u64) -> Reply {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if !matches!(self.state.mode, Mode::Disarmed | Mode::Stopped) {
            return self.answer(false, "only a disarmed or stopped guard can be rearmed");
        }
        // F38: whoever arms a cell must not learn of another camera by the first motion.
        if self.watch.says_unfit(now_ns, self.config.silence_ns()) {
            return self.answer(false, UNFIT);
        }
        if !self.pose_is(&ask.expected_pose) {
            return self.answer(
                false,
                "the robot is not where it is expected: look at the cell",
            );
        }
        self.epoch = ask.epoch;
        self.lease = None;
        self.buffer.clear();
        // Joints may have been moved by hand since; a gripper keeps its command and so its grip.
        let joints = self.measured.position.iter().zip(&self.shape.gripper);
        let joints = joints.zip(&mut self.command).enumerate();
        for (dof, ((measured, gripper), command)) in joints {
            if !gripper && self.envelope.place(dof, *measured) {
                *command = *measured;
            }
        }
        self.following.restart();
        self.apply(Event::Rearm, now_ns);
        self.answer(true, "armed")
    }

    /// Stops now, and latches.
    pub fn estop(&mut self, _ask: &Estop, now_ns: u64) -> Reply {
        self.lease = None;
        self.apply(Event::Estop, now_ns);
        self.answer(true, "latched")
    }

    /// Leaves a latched mode.
    pub fn reset(&mut self, ask: &Reset, now_ns: u64) -> Reply {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if !self.state.mode.latched() {
            return self.answer(false, "only an e-stop or a fault can be reset");
        }
        let waited_ns = now_ns.saturating_sub(self.since_ns);
        if waited_ns < u64::from(self.config.reset_after_ms) * MS || self.still_since_ns.is_none() {
            return self.answer(
                false,
                "too early: wait until the robot stands and try again",
            );
        }
        self.epoch = ask.epoch;
        self.lineage.restart();
        self.apply(Event::Reset, now_ns);
        self.answer(true, "disarmed")
    }

    /// Holds; a tick of this guard is a safe point, because every hold is a controlled stop.
    pub fn pause(&mut self, _ask: &Pause, now_ns: u64) -> Reply {
        self.apply(Event::Pause, now_ns);
        let paused = self.state.reason == Reason::Paused;
        self.answer(
            paused,
            if paused {
                "paused"
            } else {
                "nothing is running"
            },
        )
    }

    /// Goes on after a pause.
    pub fn resume(&mut self, ask: &Resume, now_ns: u64) -> Reply {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if self.state.reason != Reason::Paused {
            return self.answer(false, "the cell is not paused");
        }
        if ask.expected_pose.is_empty() || !self.pose_is(&ask.expected_pose) {
            return self.answer(
                false,
                "the robot is not where it was paused: look at the cell",
            );
        }
        self.epoch = ask.epoch;
        if let Some(held) = &mut self.lease {
            held.epoch = ask.epoch;
        }
        self.lineage.resume();
        self.apply(Event::Resume, now_ns);
        self.answer(true, "resumed")
    }

    /// Goes to the park pose, slowly and between tasks only. Grippers keep what they hold.
    pub fn park(&mut self, ask: &Park, now_ns: u64) -> Reply {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if self.still_since_ns.is_none() {
            return self.answer(false, "the robot moves: wait until it stands");
        }
        if self.lease.is_some() {
            return self.answer(
                false,
                "a task holds the cell: cancel it or wait for its end",
            );
        }
        self.apply(Event::ParkStarted, now_ns);
        if self.state.reason != Reason::Parking {
            return self.answer(false, "only an armed cell can be parked: rearm it");
        }
        self.epoch = ask.epoch;
        let dofs = self.shape.park.iter().zip(&self.command);
        let dofs = dofs.zip(&self.shape.gripper).zip(&mut self.target);
        for (((park, command), gripper), target) in dofs {
            *target = if *gripper { *command } else { *park };
        }
        self.parking_since = self.servo_tick;
        self.interpolator
            .go(self.envelope.motion(), &self.target, PARK_SHARE);
        self.answer(true, "on the way to the park pose")
    }

    /// Changes the operator's speed fraction, from the next policy tick on.
    pub fn speed(&mut self, ask: &Speed) -> Reply {
        // The message was checked when it was read; this guard trusts nobody.
        if !(0.0 < ask.rate && ask.rate <= 1.0) {
            return self.answer(
                false,
                "the speed fraction must lie above 0 and at most at 1",
            );
        }
        self.pace.limit = ask.rate.max(self.config.speed_min);
        self.notice(Notice::info("speed_changed", Words::Speed(self.pace.limit)));
        self.answer(true, "from the next tick on")
    }

    fn check_epoch(&mut self, epoch: Epoch) -> Result<(), &'static str> {
        if self.epoch < epoch {
            return Ok(());
        }
        self.counters.old_epochs += 1;
        Err("the epoch is not newer than the guard's")
    }

    fn refuse_epoch(&mut self) -> Reply {
        self.counters.old_epochs += 1;
        self.answer(false, "no such lease")
    }

    /// Whether the robot is where it is expected; an empty pose means wherever it is. A gripper's
    /// tolerance is that of a first command.
    fn pose_is(&self, expected: &[f64]) -> bool {
        if expected.is_empty() {
            return true;
        }
        let tolerance_rad = self.config.pose_tolerance_deg.to_radians();
        let dofs = self
            .measured
            .position
            .iter()
            .zip(expected)
            .zip(&self.shape.gripper);
        expected.len() == self.measured.position.len()
            && dofs.into_iter().all(|((measured, expected), gripper)| {
                let tolerance = if *gripper {
                    self.config.first_command_m
                } else {
                    tolerance_rad
                };
                (measured - expected).abs() <= tolerance
            })
    }

    fn answer(&self, done: bool, text: &'static str) -> Reply {
        Reply {
            done,
            text,
            state: self.state,
            epoch: self.epoch,
        }
    }
}
