//! Stories with the real binary, real processes and real sockets.
//!
//! Each module tells one story; a test waits for events and states, and asserts orders and counts,
//! never wall-clock times. [`support`] starts daemons on folders and ports of their own, at most two
//! at a time: more would be late on a machine of two cores.
//!
//! | module | story |
//! |---|---|
//! | [`daemon`] | a task from the post to the browsable episode, over a restart |
//! | [`three_processes`] | brain, expert and the rest; one of them dies in mid-motion |
//! | [`guard_process`] | the guard in a process of its own: its death, its end |
//! | [`served_world`] | world, guard and cameras in processes of their own; the guard dies in mid-motion |
//! | [`operator`] | e-stop, reset, rearm and cancel in mid-motion |
//! | [`restart`] | `kill -9` of the whole daemon; what two daemons cannot share |
//! | [`refusals`] | mutated configurations end with 78, file, key and reason |
//! | [`cli`] | the client commands against a daemon |
//! | [`doctor`] | what is found on a machine, and the exit code that follows |
//! | [`model`] | checkpoints as files: verified, shown, made and tried |
//! | [`pull`] | a checkpoint from a hub: whole, verified and without code, or not at all |
//! | [`abuse`] | each endpoint of the served API with what it must refuse |
//! | [`malformed`] | bad bytes on each stream are dropped and counted |
//! | [`contexts`] | contexts that are damaged or of another brain are refused, said and never used |
//! | [`network`] | the network moves the arms; its brain dies in mid-motion |
//! | [`motion`] | a recorded task's motion, as REST, metrics and the command line report it |
//! | [`lost_model`] | the model's process is killed, stopped or cut off in mid-motion, and comes back |
//! | [`latency`] | decisions that take long: no stall, and what is late is explained |
//! | [`recorded`] | a recorded run of the network, decided again bit for bit |
//! | [`shared_memory`] | contexts between processes that are stopped and killed |
//! | [`page`] | the page in a browser |
#![cfg(test)]
#![forbid(unsafe_code)]

mod abuse;
mod cli;
mod contexts;
mod daemon;
mod doctor;
mod guard_process;
mod latency;
mod lost_model;
mod malformed;
mod model;
mod motion;
mod network;
mod operator;
mod page;
mod pull;
mod recorded;
mod refusals;
mod restart;
mod served_world;
mod shared_memory;
mod support;
mod three_processes;
