//! What a motor may be told.
//!
//! The guard's rules as pure, total functions: every input, also NaN and infinities, has a defined
//! answer, nothing allocates after construction, nothing asks a clock. `vlad-safety` has no
//! dependency, so that it can be read, tested and proven alone.
//!
//! | module | holds |
//! |---|---|
//! | [`envelope`] | [`envelope::Envelope`], the only path from a target to a motor |
//! | [`stop`] | the closed-form, jerk-limited stop |
//! | [`workspace`] | boxes, keep-out boxes, distance between arms |
//! | [`breach`] | what a chunk or a pose violates, in words |
//! | [`gripper`] | flips and squeeze |
//! | [`follow`] | whether the robot goes where it is told, and measures what can be |
//! | [`mode`] | [`mode::Mode`], [`mode::Event`] and the one transition function |
//! | [`reason`] | [`reason::Reason`]: why the guard waits, and what to do about it |
//! | [`kinematics`] | the only forward kinematics |
//! | [`capsule`] | capsules around links, and their distance |

#![forbid(unsafe_code)]

pub mod breach;
pub mod capsule;
pub mod envelope;
pub mod follow;
pub mod gripper;
pub mod kinematics;
pub mod mode;
mod reach;
pub mod reason;
pub mod stop;
pub mod workspace;
