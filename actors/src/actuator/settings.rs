//! What the guard is built from: limits of time and the robot's shape.

use serde::{Deserialize, Serialize};
use vlad_cell::description::RobotDescription;
use vlad_safety::envelope::Limits;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::robot_type::SlotMap;

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
    /// Servo periods that the robot's newest sample may be old.
    pub state_late_max: u32,
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

/// The robot as the guard knows it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Limits by degree of freedom.
    pub limits: Vec<Limits>,
    /// Which degrees of freedom are grippers.
    pub gripper: Vec<bool>,
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
        for arm in robot.arms() {
            if let Some(is_gripper) = gripper.get_mut(arm.gripper_dof()) {
                *is_gripper = true;
            }
        }
        Self {
            limits: robot.limits().to_vec(),
            gripper,
            slots: robot.slots().clone(),
            horizon: robot.toml().robot_type.horizon,
            servo_per_tick: robot.servo_per_tick(),
            servo_ns: (SECOND as f64 / robot.toml().servo_hz).round() as u64,
        }
    }
}
