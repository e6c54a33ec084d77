//! A task as it is stored and shown.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vlad_wire::id::{CellId, EpisodeId, Epoch, TaskId};
use vlad_wire::text::{Instruction, Name, Note};

use crate::state::{Event, TaskState};

/// A task. Times are wall time, milliseconds since 1970: for people, they decide nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Id; in order of submission.
    pub id: TaskId,
    /// The cell that shall do it.
    pub cell: CellId,
    /// What to do.
    pub instruction: Instruction,
    /// Longest run, seconds.
    pub max_duration_s: u32,
    /// The client's own notes.
    pub labels: BTreeMap<Name, Note>,
    /// Where it stands.
    pub state: TaskState,
    /// Why it stands there, where that needs a reason, such as `deadline`.
    pub reason: Option<Note>,
    /// Tries begun so far: 0 until its first lease, and one more with each lease.
    pub attempt: u32,
    /// Epoch of its newest lease.
    pub epoch: Option<Epoch>,
    /// Seed of its noise; fits into 53 bits, so that JSON readers keep it exact.
    pub seed: u64,
    /// When it was submitted.
    pub submitted_at_ms: u64,
    /// When its newest try began to move.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// What a person said of it last.
    pub verdict: Option<VerdictRecord>,
}

impl TaskRecord {
    /// The episode that logs the newest try, if there was one.
    pub fn episode(&self) -> Option<EpisodeId> {
        let attempt = self.attempt;
        (0 < attempt).then_some(EpisodeId {
            task: self.id,
            attempt,
        })
    }
}

/// What a person said of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// What became of it.
    pub result: VerdictResult,
    /// Who says so.
    pub operator: Note,
    /// Why.
    pub reason: Note,
    /// When.
    pub at_ms: u64,
}

/// What a person can say of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictResult {
    /// It is done.
    Succeeded,
    /// It is not done.
    Failed,
    /// Try it again.
    Requeue,
}

/// A word that is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no verdict: say succeeded, failed or requeue")]
pub struct UnknownVerdict;

impl VerdictResult {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Requeue];

    /// The verdict's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Requeue => "requeue",
        }
    }

    /// The event that the verdict is.
    pub fn event(self) -> Event {
        match self {
            Self::Succeeded => Event::VerdictSucceeded,
            Self::Failed => Event::VerdictFailed,
            Self::Requeue => Event::VerdictRequeue,
        }
    }

    /// The verdict that an event is, if it is one.
    pub fn of(event: Event) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.event() == event)
    }
}

impl fmt::Display for VerdictResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for VerdictResult {
    type Err = UnknownVerdict;

    fn from_str(text: &str) -> Result<Self, UnknownVerdict> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.name() == text)
            .ok_or(UnknownVerdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_events_of_a_person() {
        for verdict in VerdictResult::ALL {
            assert_eq!(verdict.to_string().parse(), Ok(verdict));
            assert_eq!(VerdictResult::of(verdict.event()), Some(verdict));
            assert!(verdict.event().needs_operator());
        }
        assert_eq!(VerdictResult::of(Event::Lost), None);
    }
}
