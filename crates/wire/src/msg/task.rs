//! What the cell shall do, and how the scene's oracle sees it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::Small;
use crate::id::{EpisodeId, Epoch, IdError, TaskId, Tick};
use crate::text::{Instruction, Name, Note};

/// A task that holds the cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveTask {
    /// The task.
    pub id: TaskId,
    /// The try, from 1.
    pub attempt: u32,
    /// Epoch of the lease that it runs under.
    pub epoch: Epoch,
    /// What is asked.
    pub instruction: Instruction,
    /// Seed of the task's noise.
    pub seed: u64,
    /// When it times out, monotonic.
    pub deadline_ns: u64,
}

impl ActiveTask {
    /// The episode that logs this try.
    pub fn episode(&self) -> EpisodeId {
        EpisodeId {
            task: self.id,
            attempt: self.attempt,
        }
    }
}

/// How the cell's last task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedTask {
    /// The episode of that try.
    pub episode: EpisodeId,
    /// The task's state, such as `succeeded`.
    pub state: Name,
    /// Why.
    pub reason: Note,
}

/// What the cell does now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNow {
    /// When this was said.
    pub sent_at_ns: u64,
    /// The running task, or none.
    pub task: Option<ActiveTask>,
    /// How the task before it ended, if there was one since the gateway started.
    pub last: Option<EndedTask>,
}

impl Small for TaskNow {
    const MAX: usize = 4096;
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not decided.
    Open,
    /// Done.
    Done,
    /// Can no longer be done.
    Lost,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Lost => "lost",
        })
    }
}

impl FromStr for Outcome {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "open" => Ok(Self::Open),
            "done" => Ok(Self::Done),
            "lost" => Ok(Self::Lost),
            _ => Err(IdError {
                example: "open, done, lost",
            }),
        }
    }
}

/// The scene's oracle on the running task; simulated cells only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The task.
    pub task: TaskId,
    /// The try.
    pub attempt: u32,
    /// How it stands.
    pub outcome: Outcome,
    /// Why.
    pub reason: Note,
    /// When the scene was looked at.
    pub judged_at_ns: u64,
    /// Policy tick then.
    pub tick: Tick,
}

impl Small for Verdict {
    const MAX: usize = 1024;
}
