//! Policies that come with the demo cell.
//!
//! | module | holds |
//! |---|---|
//! | [`scripted`] | [`scripted::ScriptedPolicy`]: solves the scene's task from its object poses |

pub mod scripted;
