//! TwoGate's cell: a point that is moved past two gates to a goal which jumps on the way.
//!
//! A gate is a disc that is passed on either side, which side is a choice; whoever averages two
//! choices goes through its middle. The point follows its command as a critically damped spring:
//! `a = 1600 (command − p) − 80 v`, semi-implicit Euler, one step a servo period.
//!
//! ```text
//!   waiting ── command leaves the start ──► running ── at the goal, or 200 ticks ──► over
//!      ▲                                                                              │
//!      └───────────────────── the point is back at the start and rests ◄──────────────┘
//! ```
//! An episode's ticks are counted from the first step of its first motion, so that arming and the
//! first decision take none of its time. Reference: `tests/oracle/twogate.py`, `episode`.
//!
//! | module | holds |
//! |---|---|
//! | [`episode`] | [`episode::EpisodePlan`], [`episode::Episode`]: start, jump, collision, success |
//! | [`camera`] | [`camera::TwoGateCamera`]: the scene from above |
//! | [`oracle`] | [`oracle::TwoGateOracle`]: the verdict, and where the goal is |

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlad_cell::description::RobotDescription;
use vlad_wire::clock::SharedClock;

use crate::realtime::{RealtimeWorld, Steps};
use crate::robot::{Port, SimRobot};
use camera::TwoGateCamera;
use episode::{Episode, EpisodePlan};
use oracle::TwoGateOracle;

pub mod camera;
pub mod episode;
pub mod oracle;

/// Steps of the dynamics a second; the robot's servo rate.
pub const STEP_HZ: u32 = 300;
/// Steps of a policy tick.
pub const STEPS_PER_TICK: u32 = 10;
/// Length of a step, nanoseconds: as the guard rounds its period, so that in virtual time each of
/// its periods is one step.
const STEP_NS: u64 = 3_333_333;
/// Length of a step of the dynamics, seconds.
const STEP_S: f64 = 1.0 / STEP_HZ as f64;
/// Length of a policy tick, seconds.
pub(crate) const TICK_S: f64 = 1.0 / 30.0;
/// Middle of the first gate, metres.
pub const FIRST_GATE_M: [f64; 2] = [0.45, 0.0];
/// Middle of the second gate, metres.
pub const SECOND_GATE_M: [f64; 2] = [1.05, 0.0];
/// Radius of a gate, metres: nearer to its middle is a collision.
pub const GATE_RADIUS_M: f64 = 0.07;
/// Where the goal is along x, metres.
pub const GOAL_X_M: f64 = 1.6;
/// Name of the goal among the true objects.
pub const GOAL: &str = "goal";
/// Spring of the point's controller, 1/s².
const STIFFNESS: f64 = 1600.0;
/// Its damping, 1/s: critical.
const DAMPING: f64 = 80.0;
/// The point rests where it moves and lags by less than this, metres (per second).
const REST_M: f64 = 1e-4;

/// A cell that TwoGate's world cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TwoGateError {
    /// Path of the field in the robot's description.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// The point and its episode; behind the lock of [`TwoGateWorld`].
pub(crate) struct Scene {
    port: Arc<Port>,
    start_ns: u64,
    n_steps: u64,
    n_skipped: u64,
    position_m: [f64; 2],
    velocity_m_s: [f64; 2],
    target_m: [f64; 2],
    command: Vec<f64>,
    episode: Episode,
}

/// A handle to a TwoGate world; clones are the same world.
#[derive(Clone)]
pub struct TwoGateWorld {
    scene: Arc<Mutex<Scene>>,
    port: Arc<Port>,
    description: Arc<RobotDescription>,
}

impl TwoGateWorld {
    /// Makes a world whose first episode is drawn from `seed`, at the time `start_ns`.
    ///
    /// # Errors
    /// [`TwoGateError`] if the robot is not two axes at 300 and 30 Hz, or a camera's rate does not
    /// divide the servo rate.
    pub fn new(robot: &RobotDescription, seed: u64, start_ns: u64) -> Result<Self, TwoGateError> {
        check(robot)?;
        let port = Arc::new(Port::new(robot.n_dofs()));
        let plan = EpisodePlan::from_seed(seed);
        let mut scene = Scene {
            port: Arc::clone(&port),
            start_ns,
            n_steps: 0,
            n_skipped: 0,
            position_m: [0.0; 2],
            velocity_m_s: [0.0; 2],
            target_m: [0.0; 2],
            command: vec![0.0; robot.n_dofs()],
            episode: Episode::new(plan, [0.0; 2]),
        };
        scene.begin(plan);
        Ok(Self {
            scene: Arc::new(Mutex::new(scene)),
            port,
            description: Arc::new(robot.clone()),
        })
    }

    /// Puts the point at the start of an episode, at rest. Whoever commands it must look where it is
    /// before the next command.
    pub fn begin(&self, plan: EpisodePlan) {
        self.lock().begin(plan);
    }

    /// Lets the goal jump now, for whoever draws the moment himself; once an episode.
    pub fn jump(&self) {
        self.lock().episode.jump();
    }

    /// The episode as it stands.
    pub fn episode(&self) -> Episode {
        self.lock().episode.clone()
    }

    /// Position, metres, and velocity, metres per second.
    pub fn motion(&self) -> ([f64; 2], [f64; 2]) {
        let scene = self.lock();
        (scene.position_m, scene.velocity_m_s)
    }

    /// Gives the point, as the guard sees it.
    pub fn robot(&self) -> SimRobot {
        SimRobot::new(Arc::clone(&self.port))
    }

    /// Gives the cameras, in the description's order.
    pub fn cameras(&self) -> Vec<TwoGateCamera> {
        let cameras = self.description.cameras().iter();
        cameras
            .map(|camera| TwoGateCamera::new(self.clone(), camera))
            .collect()
    }

    /// Gives the one who knows where the goal is.
    pub fn oracle(&self) -> TwoGateOracle {
        TwoGateOracle::new(self.clone())
    }

    /// Goes on to `now_ns`: all steps that end at or before it. An earlier time changes nothing.
    pub fn advance_to(&self, now_ns: u64) {
        while self.step_if_due(now_ns) {}
    }

    /// Starts the thread that lets the world go with the clock, which must be the machine's
    /// monotonic clock. The world's time is first set to the clock's.
    ///
    /// # Errors
    /// What the system says if it gives no thread.
    pub fn run_realtime(&self, clock: SharedClock) -> std::io::Result<RealtimeWorld> {
        RealtimeWorld::start(self.clone(), clock)
    }

    /// World time, nanoseconds: the end of the last step.
    pub fn now_ns(&self) -> u64 {
        self.lock().now_ns()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Scene> {
        // A panic in a step leaves numbers, not broken memory: the others may still look at them.
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steps for TwoGateWorld {
    fn next_step_ns(&self) -> u64 {
        let scene = self.lock();
        scene.now_ns() + STEP_NS
    }

    fn step_if_due(&self, now_ns: u64) -> bool {
        let mut scene = self.lock();
        let due = scene.now_ns() + STEP_NS <= now_ns;
        if due {
            scene.step();
        }
        due
    }

    fn skip_to(&self, now_ns: u64) -> u64 {
        let mut scene = self.lock();
        let n_skipped = now_ns.saturating_sub(scene.now_ns()) / STEP_NS;
        scene.n_skipped += n_skipped;
        n_skipped
    }
}

impl Scene {
    pub(crate) fn now_ns(&self) -> u64 {
        self.start_ns + (self.n_steps + self.n_skipped) * STEP_NS
    }

    /// Steps since the world's start, left out ones included.
    pub(crate) fn n_periods(&self) -> u64 {
        self.n_steps + self.n_skipped
    }

    pub(crate) fn position_m(&self) -> [f64; 2] {
        self.position_m
    }

    pub(crate) fn episode(&self) -> &Episode {
        &self.episode
    }

    /// Puts the point at an episode's start.
    fn begin(&mut self, plan: EpisodePlan) {
        self.position_m = [0.0, plan.start_y_m];
        self.episode = Episode::new(plan, self.position_m);
        self.velocity_m_s = [0.0; 2];
        self.target_m = self.position_m;
        // A command from before would pull the point back.
        self.port.take_command(&mut self.command);
        self.publish();
    }

    fn step(&mut self) {
        if self.port.take_command(&mut self.command)
            && let [x, y] = *self.command
        {
            self.target_m = [x, y];
        }
        if self.rests() && self.episode.may_follow(self.position_m) {
            self.episode = self.episode.next(self.target_m);
        }
        self.episode.watch_start(self.target_m);
        for axis in 0..2 {
            let lag_m = self.target_m[axis] - self.position_m[axis];
            let acceleration = STIFFNESS * lag_m - DAMPING * self.velocity_m_s[axis];
            self.velocity_m_s[axis] += acceleration * STEP_S;
            self.position_m[axis] += self.velocity_m_s[axis] * STEP_S;
        }
        self.n_steps += 1;
        self.episode.note(self.position_m);
        self.publish();
    }

    fn rests(&self) -> bool {
        (0..2).all(|axis| {
            let lag_m = self.target_m[axis] - self.position_m[axis];
            self.velocity_m_s[axis].abs() < REST_M && lag_m.abs() < REST_M
        })
    }

    /// Gives the robot's handle the newest sample.
    fn publish(&self) {
        let mut sampled = self.port.sampled();
        sampled.step = self.n_steps;
        sampled.measured.sampled_at_ns = self.now_ns();
        sampled.measured.position.copy_from_slice(&self.position_m);
        sampled
            .measured
            .velocity
            .copy_from_slice(&self.velocity_m_s);
        drop(sampled);
        self.port.announce();
    }
}

fn check(robot: &RobotDescription) -> Result<(), TwoGateError> {
    let toml = robot.toml();
    let refuse = |holds: bool, field: &str, problem: &str| {
        let (field, problem) = (field.to_owned(), problem.to_owned());
        if holds {
            Ok(())
        } else {
            Err(TwoGateError { field, problem })
        }
    };
    let axes = toml.arms.is_empty() && toml.axes.len() == 2;
    refuse(axes, "axes", "must be x and y, and no arms")?;
    refuse(toml.robot_type.width == 2, "robot_type.width", "must be 2")?;
    refuse(
        robot.slots().slots() == [0, 1],
        "axes.x.slot",
        "must be 0, and that of y 1",
    )?;
    let rates = (toml.servo_hz - f64::from(STEP_HZ)).abs() < 1e-9
        && robot.servo_per_tick() == STEPS_PER_TICK;
    refuse(rates, "servo_hz", "must be 300, and policy_hz 30")?;
    for camera in &toml.cameras {
        let steps = f64::from(STEP_HZ) / camera.rate_hz;
        let whole = (steps - steps.round()).abs() < 1e-9;
        refuse(whole, "cameras.rate_hz", "must divide 300")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
