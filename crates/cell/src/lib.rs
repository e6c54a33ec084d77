//! The contract of robots and cameras, and the description of a robot.
//!
//! | module | holds |
//! |---|---|
//! | [`robot`] | [`robot::Robot`]: what a driver promises the guard |
//! | [`camera`] | [`camera::Camera`]: what a driver promises perception |
//! | [`oracle`] | [`oracle::Oracle`]: whether the running task is done; simulated cells only |
//! | [`description`] | `config/robots/*.toml`: chains, limits, capsules, gripper, tool, cameras |
//! | [`conformance`] | the suite that a driver's author runs |

#![forbid(unsafe_code)]

pub mod camera;
pub mod conformance;
pub mod description;
pub mod oracle;
pub mod robot;
