//! The simulated cells. The demo cell: a world with arms, blocks, trays and cameras, and the policy
//! that solves its task from the scene's poses. TwoGate: a point between two gates, and an analytic
//! flow policy, to measure strategies with.
//!
//! One [`world::SimWorld`] owns the physics; robot, cameras and oracle are handles to it. It steps
//! by 1/240 s of virtual time, and the same seed and commands give bit-identical states and frames.
//! Frames: x away from the robot, y to its left, z up from the floor; metres, radians.
//!
//! | module | holds |
//! |---|---|
//! | [`scene`] | [`scene::Scene`]: the table `scene` of a cell's file, checked |
//! | [`world`] | [`world::SimWorld`], its one physics and its servo |
//! | [`robot`] | [`robot::SimRobot`]: the arms as the guard sees them |
//! | [`camera`] | [`camera::SimCamera`]: the cameras as perception sees them |
//! | [`render`] | the z-buffer renderer |
//! | [`realtime`] | [`realtime::RealtimeWorld`]: the thread that lets a world go with the clock |
//! | [`served`] | one world for several processes, over a local socket |
//! | [`task`] | the instructions that the scene understands |
//! | [`oracle`] | [`oracle::SimOracle`]: whether a task is done |
//! | [`twogate`] | TwoGate's cell: a point, two gates, a goal that jumps |
//! | [`latency`] | [`latency::Injector`]: how long messages travel, drawn or from a trace |
//! | [`statistics`] | how sure a comparison of strategies is |
//! | [`policy`] | the policies `scripted` and `twogate` |

#![forbid(unsafe_code)]
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "physics and renderer work in f32 on arrays of their own making; nothing here moves a real arm"
)]

pub mod camera;
pub mod latency;
pub mod oracle;
pub mod policy;
pub mod realtime;
pub mod render;
pub mod robot;
pub mod scene;
pub mod served;
pub mod statistics;
pub mod task;
pub mod twogate;
pub mod world;

#[cfg(test)]
mod tests;
