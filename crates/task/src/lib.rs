//! The task engine's decisions, pure: no clock, no file, no network.
//!
//! | module | holds |
//! |---|---|
//! | [`state`] | [`state::TaskState`], [`state::Event`] and the one transition function |
//! | [`actor`] | who did something: a part of `vlad`, or a person |
//! | [`submit`] | what a client asks for, its bounds, and the idempotency rule |
//! | [`record`] | [`record::TaskRecord`], a task as it is stored and shown |
//! | [`schedule`] | which queued task comes next |

#![forbid(unsafe_code)]

pub mod actor;
pub mod record;
pub mod schedule;
pub mod state;
pub mod submit;
