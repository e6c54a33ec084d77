//! What a motor may be told.
//!
//! The guard's rules as pure, total functions: every input, also NaN and infinities, has a defined
//! answer, nothing allocates after construction, nothing asks a clock. `vlad-safety` has no
//! dependency, so that it can be read, tested and proven alone.
//!
//! | module | holds |
//! |---|---|
//! | [`envelope`] | [`envelope::admit`], the only path from a target to a motor; the velocity-ramp stop |
//! | [`mode`] | [`mode::Mode`], [`mode::Event`] and the one transition function |
//! | [`reason`] | [`reason::Reason`]: why the guard waits, and what to do about it |
//! | [`kinematics`] | the only forward kinematics |
//! | [`capsule`] | capsules around links, and their distance |

#![forbid(unsafe_code)]

pub mod capsule;
pub mod envelope;
pub mod kinematics;
pub mod mode;
pub mod reason;
