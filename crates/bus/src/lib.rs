//! The two links of the bus behind one typed API.
//!
//! The only crate that sees zenoh. A [`bus::Bus`] runs over zenoh, inside one process or between
//! processes, or over an in-process queue with virtual delivery times; what is typed is written
//! once, on top of both. Keys, bounds and what a slow reader keeps come from the streams table of
//! `vlad-wire`. Nothing here blocks, and nothing queues without a bound.
//!
//! | module | holds |
//! |---|---|
//! | [`bus`] | [`bus::Bus`]: opens a link, gives out everything below |
//! | [`buffer`] | large raw bytes, filled in place and shared with the processes of this host |
//! | [`config`] | endpoints of the zenoh link, and which of them are refused |
//! | [`publisher`], [`subscriber`] | one stream, typed |
//! | [`command`] | queries with answers: [`command::Server`], [`command::Client`] |
//! | [`liveliness`] | tokens that vanish with their process |
//! | [`waker`] | how a reader waits for the next arrival |
//! | [`travel`] | how a message travels on the queue |
//! | [`counters`] | what was received, dropped and refused, by row |
#![forbid(unsafe_code)]

pub mod buffer;
pub mod bus;
pub mod command;
pub mod config;
pub mod counters;
pub mod error;
mod link;
pub mod liveliness;
pub mod publisher;
pub mod subscriber;
pub mod travel;
pub mod waker;
