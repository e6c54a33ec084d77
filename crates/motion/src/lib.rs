//! From policies to targets: the `Policy` traits, the chunk buffer, strategies, interpolation.
//!
//! Pure: nothing here does I/O, asks a clock or knows a model.
//!
//! | module | holds |
//! |---|---|
//! | [`policy`] | [`policy::Think`], [`policy::Act`], [`policy::Policy`] |
//! | [`buffer`] | [`buffer::ChunkBuffer`]: accepted targets by absolute tick |
//! | [`planner`] | when to ask for the next decision, and where its chunk begins |
//! | [`interpolate`] | from policy ticks to servo ticks |
//! | [`gate`] | which strategy the measured delay allows |
//! | [`guidance`] | real-time chunking: weights and target |
//! | [`overlap`] | ensemble and blend |
//! | [`prefix`] | accepted targets as a policy's normalised rows, and back |
//! | [`progress`] | whether a robot that moves gets anywhere |
//! | [`metrics`] | how well a robot moved, from a log |
//! | [`noise`] | the noise of a decision, a function of seed and observation |

#![forbid(unsafe_code)]

pub mod buffer;
pub mod gate;
pub mod guidance;
pub mod interpolate;
pub mod metrics;
pub mod noise;
pub mod overlap;
pub mod planner;
pub mod policy;
pub mod prefix;
pub mod progress;
mod real;

#[cfg(test)]
mod testing;
