//! What a robot's driver promises the guard.
//!
//! * **One owner.** The guard alone opens the robot, on its own thread. No call may block for
//!   longer than a fifth of a servo period, allocate after the first call of each, lock or log.
//! * **Stamps.** [`Measured::sampled_at_ns`] is when the controller sampled its encoders, on the
//!   host's monotonic clock (or mapped to it), never when the packet arrived. It never goes back.
//! * **Rate.** [`Robot::read`] gives the newest sample; at the servo rate of the description each
//!   call gives a new one.
//! * **Commands** are positions by degree of freedom, already inside every limit. The driver passes
//!   them on; it does not smooth, queue or repeat them.
//! * **Watchdog.** The vendor's controller stops the arm by itself when commands stop;
//!   [`Robot::watchdog`] says after how long. A robot without one is moved at a crawl only.
//! * **Drop.** Dropping the driver sends nothing more: the vendor's watchdog stops the arm, and the
//!   grippers keep what they hold. It must not move the arm, open a gripper or release a brake.

use std::time::Duration;

/// What the robot measured, by degree of freedom of its description.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// When the controller sampled it, on the host's monotonic clock.
    pub sampled_at_ns: u64,
    /// Radians, and metres of gripper opening.
    pub position: Vec<f64>,
    /// The same per second.
    pub velocity: Vec<f64>,
}

/// Why a robot cannot be read or commanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RobotError {
    /// The link to the controller is gone.
    #[error("the robot is disconnected")]
    Disconnected,
    /// The controller stopped the arm by itself.
    #[error("the robot's controller stopped it: {0}")]
    ProtectiveStop(String),
    /// Anything else, in the driver's words.
    #[error("the robot's driver failed: {0}")]
    Driver(String),
}

/// A robot of one or two arms with grippers.
pub trait Robot: Send {
    /// Number of degrees of freedom, grippers included.
    fn n_dofs(&self) -> usize;

    /// Writes the newest sample into `measured`, whose lists have [`Robot::n_dofs`] entries.
    ///
    /// # Errors
    /// [`RobotError`] if there is no sample.
    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError>;

    /// Passes one position per degree of freedom to the controller.
    ///
    /// # Errors
    /// [`RobotError`] if it could not be sent.
    fn command(&mut self, position: &[f64]) -> Result<(), RobotError>;

    /// After how long without commands the controller stops the arm by itself.
    fn watchdog(&self) -> Option<Duration>;

    /// Whether this is a simulation; simulated robots are exempt from real-time tiers.
    fn simulated(&self) -> bool;
}
