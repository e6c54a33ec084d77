//! Identifiers: bounded, printable, safe in keys and paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::text::{Name, via_text};

/// The id of a workcell.
pub type CellId = Name;
/// The name of a camera view, such as `ego`.
pub type View = Name;
/// Fencing number of the right to command a cell; each lease and each rearm has a new one.
pub type Epoch = u64;
/// Absolute number of a step of the policy rate, counted by the guard alone.
pub type Tick = i64;

/// A text that is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no valid id, such as {example}")]
pub struct IdError {
    pub(crate) example: &'static str,
}

/// The id of a task: 26 characters of Crockford's base 32, in order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub Ulid);

/// The id of an episode, the log of one attempt at a task: `TASK-ATTEMPT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpisodeId {
    /// The task.
    pub task: TaskId,
    /// The try, from 1.
    pub attempt: u32,
}

/// The id of a chunk: the epoch that it was made under and the request that it answers.
///
/// On the wire the two halves of one 128-bit number; in logs its 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkId {
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Id of the request.
    pub request: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            example: "01JD3V7Q4Y8B3T0V5Z6W9X2C1A",
        };
        let id = Ulid::from_string(text).map_err(|_| error.clone())?;
        // One spelling per id: lower case and ambiguous letters would make two keys of one task.
        if id.to_string() == text {
            Ok(Self(id))
        } else {
            Err(error)
        }
    }
}

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.task, self.attempt)
    }
}

impl FromStr for EpisodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            example: "01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1",
        };
        let (task, attempt) = text.split_once('-').ok_or_else(|| error.clone())?;
        let task = task.parse().map_err(|_: IdError| error.clone())?;
        let id = Self {
            task,
            attempt: attempt.parse().map_err(|_| error.clone())?,
        };
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(error)
        }
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.epoch, self.request)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        via_text::deserialize(deserializer)
    }
}

impl Serialize for EpisodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EpisodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        via_text::deserialize(deserializer)
    }
}

/// The parts of `vlad` that speak over the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Owns the cameras.
    Perception,
    /// Runs the VLM.
    Brain,
    /// Runs the action expert.
    ActionExpert,
    /// Runs the guard.
    Actuator,
    /// Writes the episode log.
    Recorder,
    /// Serves REST, schedules tasks, holds leases.
    Gateway,
}

impl Role {
    /// Every role, in the order of the data flow.
    pub const ALL: [Self; 6] = [
        Self::Perception,
        Self::Brain,
        Self::ActionExpert,
        Self::Actuator,
        Self::Recorder,
        Self::Gateway,
    ];

    /// The role's name on the command line, in keys and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perception => "perception",
            Self::Brain => "brain",
            Self::ActionExpert => "action-expert",
            Self::Actuator => "actuator",
            Self::Recorder => "recorder",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let known = Self::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or(IdError {
            example: "perception, brain, action-expert, actuator",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_have_one_spelling() {
        let task: TaskId = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse().unwrap();
        let episode = EpisodeId { task, attempt: 3 };
        assert_eq!(task.to_string().parse(), Ok(task));
        assert_eq!(episode.to_string().parse(), Ok(episode));
        assert!(task.to_string().to_lowercase().parse::<TaskId>().is_err());
        for bad in [
            "",
            "x",
            "../../etc",
            "01JD3V7Q4Y8B3T0V5Z6W9X2C1A-01",
            "-1",
            "a\0b",
        ] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad:?}");
            assert!(bad.parse::<EpisodeId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn roles_read_back() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("ceo".parse::<Role>().is_err());
    }

    #[test]
    fn a_chunk_prints_its_two_halves() {
        let id = ChunkId {
            epoch: 1,
            request: 255,
        };
        assert_eq!(id.to_string(), "000000000000000100000000000000ff");
    }
}
