//! What `vlad` keeps: tasks and audit in SQLite, episodes in sled and segment files.
//!
//! A call of the task store that returned is on the disk (`synchronous=FULL`). The episode log is
//! on the disk after [`episodes::EpisodeStore::flush`], which its writer calls at least once a
//! second: a lost last second is allowed and said so. Whatever is read is checked; damage is an
//! error value, never garbage. This crate alone sees rusqlite and sled.
//!
//! | module | holds |
//! |---|---|
//! | [`lock`] | [`lock::DataDir`]: one daemon per data folder |
//! | [`tasks`] | [`tasks::TaskStore`]: tasks, keys, epochs, leases, intents, latches |
//! | [`audit`] | who changed what and why, as a hash chain |
//! | [`episodes`] | [`episodes::EpisodeStore`]: the log of each try |
//! | [`episode`] | what an episode is, as it is written and read |
//! | [`record`] | kinds of records, and the envelope that guards each |
//! | [`segment`] | append-only files of image bytes |
//! | [`jpeg`], [`png`] | images to bytes and back |

#![forbid(unsafe_code)]

pub mod audit;
pub mod episode;
pub mod episodes;
pub mod jpeg;
pub mod lock;
pub mod png;
pub mod record;
pub mod segment;
pub mod tasks;

#[cfg(test)]
mod kill;
#[cfg(test)]
mod temp;
