//! Policies that come with the simulated cells.
//!
//! | module | holds |
//! |---|---|
//! | [`scripted`] | [`scripted::ScriptedPolicy`]: solves the scene's task from its object poses |
//! | [`twogate`] | [`twogate::TwoGatePolicy`]: a flow policy in closed form, on a cell of its own |

mod handover;
pub mod scripted;
pub mod twogate;
