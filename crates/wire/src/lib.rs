//! What is said on the bus.
//!
//! The words that the processes of `vlad` exchange, and nothing that does I/O: only types of this
//! crate cross a process.
//!
//! | module | holds |
//! |---|---|
//! | [`stream`] | the one table of streams and commands: key, rate, staleness, quality of service |
//! | [`msg`] | the bodies; units stand in the field names |
//! | [`codec`] | `encode` and `decode`: version byte, bounded sizes, no trailing bytes |
//! | [`id`], [`text`] | identifiers and texts, checked where they enter |
//! | [`clock`] | [`clock::Clock`], which is passed in |
//! | [`robot_type`] | slots of the model-facing state and action vectors |
//! | [`manifest`] | `vlad.toml` beside a checkpoint: type and checks |
//! | [`fail_point`] | the table of named fail points |

#![forbid(unsafe_code)]

pub mod clock;
pub mod codec;
pub mod fail_point;
pub mod id;
pub mod manifest;
pub mod msg;
pub mod robot_type;
pub mod stream;
pub mod text;
