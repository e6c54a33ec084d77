//! The controller of the simulated arms: a stiff position servo with a command watchdog.
//!
//! ```text
//!             command                      100 ms without command
//!  following ─────────► following ───────────────────────────────► braking ──► holding
//!      ▲                                                                          │
//!      └────────────────────────────── command ───────────────────────────────────┘
//! ```
//! When commands stop, joints brake with the description's largest acceleration and hold; grippers keep
//! their last target, and with it what they hold.

use std::time::Duration;

use vlad_cell::description::{Arm, RobotDescription};
use vlad_safety::envelope::Limits;

use super::physics::STEP_HZ;

/// Steps without a command after which the arm brakes, as vendors' controllers do.
const WATCHDOG_STEPS: u32 = STEP_HZ / 10;
/// How long that is.
pub(crate) const WATCHDOG: Duration = Duration::from_millis(100);
/// Time constant of the follower: a stiff arm is a few milliseconds behind its command.
const LAG_S: f64 = 0.008;
/// Length of a step, seconds.
const DT_S: f64 = 1.0 / STEP_HZ as f64;

/// One degree of freedom.
struct Axis {
    limits: Limits,
    gripper: bool,
    target: f64,
    position: f64,
    velocity: f64,
}

/// All degrees of freedom of the robot.
pub(crate) struct Servo {
    axes: Vec<Axis>,
    steps_since_command: u32,
}

impl Servo {
    /// Stands at the home pose.
    pub(crate) fn new(description: &RobotDescription) -> Self {
        let grippers: Vec<usize> = description.arms().iter().map(Arm::gripper_dof).collect();
        let axes = description.limits().iter().zip(description.home());
        let axes = axes.enumerate().map(|(dof, (limits, home))| Axis {
            limits: *limits,
            gripper: grippers.contains(&dof),
            target: *home,
            position: *home,
            velocity: 0.0,
        });
        Self {
            axes: axes.collect(),
            steps_since_command: WATCHDOG_STEPS,
        }
    }

    /// Takes a command, one finite position for each degree of freedom.
    pub(crate) fn command(&mut self, position: &[f64]) {
        self.steps_since_command = 0;
        for (axis, target) in self.axes.iter_mut().zip(position) {
            axis.target = target.clamp(axis.limits.min, axis.limits.max);
        }
    }

    /// Goes on by one step.
    pub(crate) fn step(&mut self) {
        let commanded = self.steps_since_command < WATCHDOG_STEPS;
        self.steps_since_command = self.steps_since_command.saturating_add(1);
        let gain = 1.0 - (-DT_S / LAG_S).exp();
        for axis in &mut self.axes {
            axis.velocity = if commanded || axis.gripper {
                let wanted = (axis.target - axis.position) * gain / DT_S;
                wanted.clamp(-axis.limits.speed_max, axis.limits.speed_max)
            } else {
                brake(&axis.limits, axis.velocity)
            };
            let next = axis.position + axis.velocity * DT_S;
            axis.position = next.clamp(axis.limits.min, axis.limits.max);
        }
    }

    /// Positions, and of grippers the openings that the fingers are driven to.
    pub(crate) fn positions(&self) -> impl Iterator<Item = f64> + '_ {
        self.axes.iter().map(|axis| axis.position)
    }

    /// Speeds, per second.
    pub(crate) fn velocities(&self) -> impl Iterator<Item = f64> + '_ {
        self.axes.iter().map(|axis| axis.velocity)
    }
}

/// Gives the speed after one step of braking, as a vendor's controller does it: a ramp, without a
/// limit of jerk.
fn brake(limits: &Limits, speed: f64) -> f64 {
    let slower = (speed.abs() - limits.acceleration_max * DT_S).max(0.0);
    slower.copysign(speed)
}
