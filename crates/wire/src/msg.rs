//! The bodies of all streams and commands.
//!
//! Plain data with public fields, units in the field names. Stamps are monotonic nanoseconds of
//! when something was sampled, not sent. Degrees of freedom ("dofs") are the robot's own, in the
//! order of its description: radians for joints, metres of opening for grippers. Slots are the
//! model-facing vector of the robot type.

pub mod command;
pub mod execute;
pub mod health;
pub mod sense;
pub mod task;
pub mod think;

/// Most cameras of one cell.
pub const VIEWS_MAX: usize = 8;
/// Most degrees of freedom of one robot.
pub const DOFS_MAX: usize = 32;
/// Largest image: 1920 × 1080 RGB.
pub const FRAME_BYTES_MAX: usize = 1920 * 1080 * 3;
