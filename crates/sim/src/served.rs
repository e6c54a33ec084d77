//! One world for several processes, over a local socket.
//!
//! `vlad sim` owns the world and serves it ([`server::WorldServer`]); perception, the guard and
//! tests reach it with the drivers below, which keep the same contract as the in-process handles.
//! So a guard's process can die without its robot, whose watchdog then stops it. Both sides share
//! one host, and with it the monotonic clock of all stamps.
//!
//! ```text
//! connection   first words       then
//! command      Hello ─► Reply    commands, client to server; one such client at a time
//! watch        Hello ─► Reply    each step's sample, server to client
//! camera       Hello ─► Reply    frames at the camera's rate, server to client
//! oracle       Hello ─► Reply    questions and answers, one at a time
//! ```
//! A connection carries parcels ([`parcel`]): two lengths, a message in the bus's codec (version
//! byte first, no trailing bytes) and raw pixels. Lengths are bounded before anything is allocated.
//! Whatever cannot be read closes its connection and is counted; no client can end the server.
//! Who reads slowly gets the newest of what it missed, never a queue.
//!
//! | module | holds |
//! |---|---|
//! | [`words`] | the messages |
//! | [`parcel`] | how a message lies on the socket |
//! | [`server`] | the socket, its connections and their counts |
//! | [`remote`] | [`remote::RemoteWorld`]: reaches a served world and opens its drivers |
//! | [`robot`] | [`robot::RemoteRobot`] and [`robot::Watch`] |
//! | [`camera`] | [`camera::RemoteCamera`] |
//! | [`oracle`] | [`oracle::RemoteOracle`] |

pub mod camera;
pub mod oracle;
pub mod parcel;
pub mod remote;
pub mod robot;
pub mod server;
mod slate;
pub mod words;

#[cfg(test)]
mod tests;
