//! Heartbeats and events.

use serde::{Deserialize, Serialize};

use super::think::Digest;
use crate::codec::Small;
use crate::id::{CellId, ChunkId, Role, TaskId};
use crate::text::{Name, Note};

/// Whether a role can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fitness {
    /// It can.
    Fit,
    /// It cannot, and why.
    Unfit(Note),
}

/// Which build speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Layout of the messages; peers with another one are refused.
    pub layout: u8,
    /// Package version, for people.
    pub package: Note,
}

/// A role's policy, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLabel {
    /// Name, such as `scripted`.
    pub name: Name,
    /// What a person must know about it, such as that it reads the scene's poses.
    pub note: Note,
    /// Its checkpoint, as in each chunk.
    pub model_hash: Digest,
    /// Its normaliser, as in each chunk.
    pub normaliser_hash: Digest,
}

/// A heartbeat, 50 times a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Who.
    pub role: Role,
    /// Random per start of the role: a change is a restart.
    pub session: u64,
    /// Grows by one.
    pub seq: u64,
    /// A fresh number that the peers echo.
    pub challenge: u64,
    /// The guard's newest challenge that the sender has seen; 0 before the first.
    pub echo: u64,
    /// Which build.
    pub version: Version,
    /// The decision that is under way, from waiting for standstill to the finished chunk.
    pub in_flight: Option<u64>,
    /// Whether it can work.
    pub fitness: Fitness,
    /// Its policy, if it runs one.
    pub policy: Option<PolicyLabel>,
    /// When it was sent, on the sender's clock.
    pub sent_at_ns: u64,
}

impl Small for Alive {
    const MAX: usize = 2048;
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A fact.
    Info,
    /// Degraded, still going.
    Warn,
    /// Someone must act.
    Error,
}

/// Something worth a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The cell.
    pub cell: CellId,
    /// Who says it.
    pub role: Role,
    /// How bad.
    pub severity: Severity,
    /// What kind, such as `mode_changed`.
    pub kind: Name,
    /// For a person.
    pub text: Note,
    /// What to do about it.
    pub advice: Option<Note>,
    /// The task, if it concerns one.
    pub task: Option<TaskId>,
    /// The chunk, if it concerns one.
    pub chunk: Option<ChunkId>,
    /// When, monotonic.
    pub at_ns: u64,
    /// When, wall time.
    pub wall_ns: u64,
}

impl Small for Event {
    const MAX: usize = 2048;
}
