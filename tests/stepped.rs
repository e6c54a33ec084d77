//! Stories in virtual time: all cores on one thread over the queue.
//!
//! The guard, the roles and the policies are the daemon's own; only the clock and the bus's link
//! differ. Cameras are small here: `scripted` reads the scene's poses, not pixels, and the network's
//! weights are random.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at the first thing that is not as it should be, and says what it counted"
)]

#[path = "stepped/gateway.rs"]
mod gateway;
#[path = "stepped/latency.rs"]
mod latency;
#[path = "stepped/network.rs"]
mod network;
#[path = "stepped/perception.rs"]
mod perception;
#[path = "stepped/success.rs"]
mod success;
