//! What the guard is built from: limits of time and the robot's shape.

use serde::{Deserialize, Serialize};
use vlad_cell::description::RobotDescription;
use vlad_safety::envelope::{self, Limits};
use vlad_safety::follow::Tolerance;
use vlad_safety::gripper::FlipFilter;
use vlad_safety::workspace::Workspace;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::robot_type::SlotMap;

use super::servo::ThreadPlan;

/// The guard's settings: the table `guard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// Longest planned gap before the guard stops, milliseconds.
    pub think_timeout_ms: u32,
    /// How long perception may be unfit or silent before the guard stops, milliseconds.
    pub unfit_timeout_ms: u32,
    /// Heartbeats in a row that a role may miss.
    pub heartbeat_missed_max: u32,
    /// E7: farthest first action from the measured pose, radians.
    pub first_command_rad: f64,
    /// E7 for grippers, metres of opening.
    pub first_command_m: f64,
    /// Farthest pose from the expected one at rearm and resume, degrees.
    pub pose_tolerance_deg: f64,
    /// Oldest action that is sent, counted from its earliest image, milliseconds.
    pub action_age_limit_ms: u32,
    /// Time between the end of a latched mode's cause and its reset, milliseconds.
    pub reset_after_ms: u32,
    /// Servo ticks in a row that may begin late by more than a period.
    pub overrun_max: u32,
    /// Servo ticks within a second that may do so.
    pub overrun_per_s_max: u32,
    /// Servo periods at whose end the robot's newest sample is too old.
    pub state_late_max: u32,
    /// E11: largest distance between command and measurement, radians (or metres of an axis).
    pub following_rad: f64,
    /// E11: how long it must last, milliseconds.
    pub following_ms: u32,
    /// E11: by how much the robot follows its commands, milliseconds.
    pub following_lag_ms: u32,
    /// Smallest speed fraction; an operator's smaller one becomes this one, a chunk's is refused.
    pub speed_min: f64,
    /// Whether a chunk that comes after its prefix is over is judged by its seam (reference A.8).
    pub late_chunk_rule: bool,
    /// Chunks in a row that may differ from what they replace by more than twice their own large
    /// step before the guard holds (F33); 0 lets any number pass.
    pub disagreement_max: u32,
    /// Priority of the servo thread under `SCHED_FIFO`, 1 to 99; 0 for an ordinary thread.
    pub realtime_priority: u8,
    /// Whether the process's memory is locked.
    pub lock_memory: bool,
}

impl GuardConfig {
    /// Lists what is wrong, as field and problem.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        let mut demand = |holds: bool, field, problem| {
            if !holds {
                faults.push((field, problem));
            }
        };
        let timeout = |ms: u32| (50..=60_000).contains(&ms);
        demand(
            timeout(self.think_timeout_ms),
            "think_timeout_ms",
            "must lie in 50 to 60000",
        );
        demand(
            timeout(self.unfit_timeout_ms),
            "unfit_timeout_ms",
            "must lie in 50 to 60000",
        );
        demand(
            timeout(self.action_age_limit_ms),
            "action_age_limit_ms",
            "must lie in 50 to 60000",
        );
        demand(
            (500..=60_000).contains(&self.reset_after_ms),
            "reset_after_ms",
            "must lie in 500 to 60000",
        );
        let missed = (2..=100).contains(&self.heartbeat_missed_max);
        demand(missed, "heartbeat_missed_max", "must lie in 2 to 100");
        let overruns = (1..=10_000).contains(&self.overrun_max);
        demand(overruns, "overrun_max", "must lie in 1 to 10000");
        let late = (2..=10_000).contains(&self.state_late_max);
        demand(late, "state_late_max", "must lie in 2 to 10000");
        self.motion_faults(&mut demand);
        let jump = 0.0 < self.first_command_rad && self.first_command_rad <= 0.2;
        demand(
            jump,
            "first_command_rad",
            "must lie above 0 and at most at 0.2",
        );
        let grip = 0.0 < self.first_command_m && self.first_command_m <= 0.05;
        demand(
            grip,
            "first_command_m",
            "must lie above 0 and at most at 0.05",
        );
        let pose = 0.0 < self.pose_tolerance_deg && self.pose_tolerance_deg <= 10.0;
        demand(
            pose,
            "pose_tolerance_deg",
            "must lie above 0 and at most at 10",
        );
        faults
    }

    fn motion_faults(&self, demand: &mut impl FnMut(bool, &'static str, &'static str)) {
        let often = (1..=10_000).contains(&self.overrun_per_s_max);
        demand(often, "overrun_per_s_max", "must lie in 1 to 10000");
        let error = 0.0 < self.following_rad && self.following_rad <= 1.0;
        demand(error, "following_rad", "must lie above 0 and at most at 1");
        let lasts = (1..=1000).contains(&self.following_ms);
        demand(lasts, "following_ms", "must lie in 1 to 1000");
        let lag = self.following_lag_ms <= 500;
        demand(lag, "following_lag_ms", "must be at most 500");
        let slowest = 0.0 < self.speed_min && self.speed_min <= 1.0;
        demand(slowest, "speed_min", "must lie above 0 and at most at 1");
        let differ = self.disagreement_max <= 1000;
        demand(differ, "disagreement_max", "must be at most 1000");
        let priority = self.realtime_priority <= 99;
        demand(priority, "realtime_priority", "must lie in 0 to 99");
    }

    /// How the servo thread runs.
    pub fn thread_plan(&self) -> ThreadPlan {
        ThreadPlan {
            priority: self.realtime_priority,
            locks_memory: self.lock_memory,
        }
    }

    /// Longest silence of a role's heartbeats.
    pub fn silence_ns(&self) -> u64 {
        u64::from(self.heartbeat_missed_max) * HEARTBEAT_PERIOD_NS
    }

    /// Age limit in nanoseconds.
    pub fn action_age_ns(&self) -> u64 {
        u64::from(self.action_age_limit_ms) * MS
    }
}

/// Period of the heartbeats: the stream's 50 Hz.
pub const HEARTBEAT_PERIOD_NS: u64 = 20 * MS;

/// Factor of a gripper's speed that its measured opening may have: fingers that meet something
/// are pushed and pop.
const GRIPPER_POP: f64 = 8.0;
/// Smallest movement back of a gripper's target that counts as a reversal (E10), metres.
const GRIPPER_STROKE_M: f64 = 0.005;

/// The robot as the guard knows it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Limits by degree of freedom.
    pub limits: Vec<Limits>,
    /// What a target or a measurement may be at all, by degree of freedom: beyond it the numbers
    /// are wrong, not the pose (E2, F41). Half a range beyond each end.
    pub plausible: Vec<Limits>,
    /// How far a gripper's command may lie beyond its measured opening, metres; unlimited for
    /// what is no gripper.
    pub squeeze_max: Vec<f64>,
    /// The park pose by degree of freedom.
    pub park: Vec<f64>,
    /// Where the arms may be.
    pub workspace: Workspace,
    /// Which degrees of freedom are grippers.
    pub gripper: Vec<bool>,
    /// What goes to each target at once, instead of being led along its targets: grippers, and axes
    /// that are described so.
    pub snaps: Vec<bool>,
    /// Slots by degree of freedom.
    pub slots: SlotMap,
    /// Rows that a chunk must have.
    pub horizon: usize,
    /// Servo periods of a policy tick.
    pub servo_per_tick: u32,
    /// Servo period.
    pub servo_ns: u64,
}

impl Shape {
    /// Takes the shape from a robot's description.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "the description has checked that servo_hz lies between 50 and 2000"
    )]
    pub fn new(robot: &RobotDescription) -> Self {
        let mut gripper = vec![false; robot.n_dofs()];
        let mut squeeze_max = vec![f64::INFINITY; robot.n_dofs()];
        for (arm, toml) in robot.arms().iter().zip(&robot.toml().arms) {
            let places = gripper
                .get_mut(arm.gripper_dof())
                .zip(squeeze_max.get_mut(arm.gripper_dof()));
            if let Some((is_gripper, squeeze_max)) = places {
                *is_gripper = true;
                *squeeze_max = toml.gripper.squeeze_max_m;
            }
        }
        let plausible = robot.limits().iter().zip(&gripper);
        // The plain axes are the last degrees of freedom.
        let mut snaps = gripper.clone();
        for (snaps, axis) in snaps.iter_mut().rev().zip(robot.toml().axes.iter().rev()) {
            *snaps = axis.snaps;
        }
        Self {
            plausible: plausible
                .map(|(limits, gripper)| widened(limits, *gripper))
                .collect(),
            limits: robot.limits().to_vec(),
            gripper,
            snaps,
            squeeze_max,
            park: robot.home().to_vec(),
            workspace: robot.workspace().clone(),
            slots: robot.slots().clone(),
            horizon: robot.toml().robot_type.horizon,
            servo_per_tick: robot.servo_per_tick(),
            servo_ns: (SECOND as f64 / robot.toml().servo_hz).round() as u64,
        }
    }

    /// What the envelope is made for.
    pub fn envelope(&self) -> envelope::Shape {
        envelope::Shape {
            limits: self.limits.clone(),
            workspace: self.workspace.clone(),
            dt_s: self.servo_s(),
        }
    }

    /// When the robot counts as not following.
    pub fn tolerance(&self, config: &GuardConfig) -> Tolerance {
        let ticks = |ms: u32| (u64::from(ms) * MS).div_ceil(self.servo_ns.max(1));
        Tolerance {
            error: config.following_rad,
            ticks: u32::try_from(ticks(config.following_ms)).unwrap_or(u32::MAX),
            lag: usize::try_from(ticks(config.following_lag_ms)).unwrap_or(usize::MAX),
        }
    }

    /// The filter against fluttering of a gripper that was found at `position`.
    pub fn flip_filter(&self, position: f64) -> FlipFilter {
        let second = SECOND.checked_div(self.servo_ns).unwrap_or(SECOND);
        FlipFilter::new(position, GRIPPER_STROKE_M, second)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a servo period has fewer than 2^53 nanoseconds"
    )]
    fn servo_s(&self) -> f64 {
        self.servo_ns as f64 / 1e9
    }
}

fn widened(limits: &Limits, gripper: bool) -> Limits {
    let half = (limits.max - limits.min) / 2.0;
    let pop = if gripper { GRIPPER_POP } else { 1.0 };
    Limits {
        min: limits.min - half,
        max: limits.max + half,
        speed_max: limits.speed_max * pop,
        ..*limits
    }
}
