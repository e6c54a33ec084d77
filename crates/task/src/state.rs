//! The states of a task and their one transition function.
//!
//! ```text
//!            lease                  intent            done ──────────► succeeded
//!  queued ──────────► leased ──────────────► running ─┤
//!   │ │ ▲               │ │                   │ │     └ lost, deadline ► failed
//!   │ │ └── lease lost ─┘ │ cancel     cancel │ │
//!   │ │   before intent   └─────► cancelling ◄┘ │ crash, epoch loss, e-stop, lease loss
//!   │ │ cancel                     │   │        ▼
//!   │ └──────────► cancelled ◄─────┘   └───► interrupted ── verdict or cancel ──► succeeded,
//!   │ expired                          crash      │          by a person          failed,
//!   └──────────► expired                          └─ requeue by a person ► queued cancelled
//! ```
//!
//! `pausing` and `paused` lie between `running` and `running`; they end as `running` does. The
//! intent is written in the same transaction as `leased → running`: a task that is `leased` has
//! moved nothing, and one in any state after it may have. `interrupted` is parked: it holds no cell,
//! and nobody but a person takes it out of there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vlad_wire::text::via_text;

/// A word that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no state of a task, such as queued, running, succeeded or interrupted")]
pub struct UnknownState;

/// Where a task stands; the same words in code, in the store and in REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Waits for its cell.
    Queued,
    /// Holds the cell; nothing has moved yet.
    Leased,
    /// Its intent is durable, and the robot may move for it.
    Running,
    /// On the way to a safe point.
    Pausing,
    /// Holds the cell at a safe point.
    Paused,
    /// On the way to a standstill, to be cancelled.
    Cancelling,
    /// Ended by a person.
    Cancelled,
    /// Done, by a verdict.
    Succeeded,
    /// Not done.
    Failed,
    /// Waited for too long.
    Expired,
    /// Something was lost while the robot may have moved; a person must say what became of it.
    Interrupted,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Leased,
        Self::Running,
        Self::Pausing,
        Self::Paused,
        Self::Cancelling,
        Self::Cancelled,
        Self::Succeeded,
        Self::Failed,
        Self::Expired,
        Self::Interrupted,
    ];

    /// The state's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the task is over for good.
    pub fn terminal(self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::Succeeded | Self::Failed | Self::Expired
        )
    }

    /// Whether no other task may have the cell.
    pub fn holds_cell(self) -> bool {
        matches!(
            self,
            Self::Leased | Self::Running | Self::Pausing | Self::Paused | Self::Cancelling
        )
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or(UnknownState)
    }
}

impl Serialize for TaskState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        via_text::deserialize(deserializer)
    }
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The cell is its own, under a new epoch.
    LeaseGranted,
    /// Its intent is durable.
    MotionIntended,
    /// The scene's oracle says done.
    OracleDone,
    /// The scene's oracle says that it can no longer be done.
    OracleLost,
    /// It ran for too long.
    DeadlinePassed,
    /// A person wants it cancelled.
    CancelAsked,
    /// The robot stands still.
    CancelDone,
    /// The lease was lost while nothing had moved.
    LeaseLostBeforeIntent,
    /// Crash, epoch loss, e-stop or lease loss while the robot may have moved.
    Lost,
    /// A person says that it is done.
    VerdictSucceeded,
    /// A person says that it is not done.
    VerdictFailed,
    /// A person wants it tried again.
    VerdictRequeue,
    /// It waited for too long.
    Expired,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 13] = [
        Self::LeaseGranted,
        Self::MotionIntended,
        Self::OracleDone,
        Self::OracleLost,
        Self::DeadlinePassed,
        Self::CancelAsked,
        Self::CancelDone,
        Self::LeaseLostBeforeIntent,
        Self::Lost,
        Self::VerdictSucceeded,
        Self::VerdictFailed,
        Self::VerdictRequeue,
        Self::Expired,
    ];

    /// The event's name in the audit.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaseGranted => "lease_granted",
            Self::MotionIntended => "motion_intended",
            Self::OracleDone => "oracle_done",
            Self::OracleLost => "oracle_lost",
            Self::DeadlinePassed => "deadline_passed",
            Self::CancelAsked => "cancel_asked",
            Self::CancelDone => "cancel_done",
            Self::LeaseLostBeforeIntent => "lease_lost_before_intent",
            Self::Lost => "lost",
            Self::VerdictSucceeded => "verdict_succeeded",
            Self::VerdictFailed => "verdict_failed",
            Self::VerdictRequeue => "verdict_requeue",
            Self::Expired => "expired",
        }
    }

    /// Whether only a person may raise it.
    pub fn needs_operator(self) -> bool {
        matches!(
            self,
            Self::CancelAsked | Self::VerdictSucceeded | Self::VerdictFailed | Self::VerdictRequeue
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An event that a state does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {state} does not take {event}: {}", advice(*.state))]
pub struct Refused {
    /// Where the task stands.
    pub state: TaskState,
    /// What was asked.
    pub event: Event,
}

fn advice(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued => "wait until it runs, or cancel it",
        TaskState::Leased => "wait until it moves, or cancel it",
        TaskState::Running | TaskState::Pausing | TaskState::Paused => {
            "wait until it ends, or cancel it"
        }
        TaskState::Cancelling => "it is being cancelled, wait until it ends",
        TaskState::Interrupted => "look at the cell, then give a verdict or cancel it",
        TaskState::Cancelled | TaskState::Succeeded | TaskState::Failed | TaskState::Expired => {
            "it is over, submit a new one"
        }
    }
}

/// Gives the state after an event.
///
/// # Errors
/// [`Refused`] if the state does not take the event; nothing happens then.
pub fn transition(state: TaskState, event: Event) -> Result<TaskState, Refused> {
    use TaskState as S;
    let next = match (state, event) {
        (S::Queued, Event::LeaseGranted) => S::Leased,
        (S::Queued, Event::Expired) => S::Expired,
        (S::Queued | S::Interrupted, Event::CancelAsked) | (S::Cancelling, Event::CancelDone) => {
            S::Cancelled
        }
        (S::Leased, Event::MotionIntended) => S::Running,
        (S::Leased, Event::LeaseLostBeforeIntent) | (S::Interrupted, Event::VerdictRequeue) => {
            S::Queued
        }
        (S::Leased | S::Running | S::Pausing | S::Paused, Event::CancelAsked) => S::Cancelling,
        (S::Leased | S::Running | S::Pausing | S::Paused, Event::DeadlinePassed)
        | (S::Running, Event::OracleLost)
        | (S::Running | S::Interrupted, Event::VerdictFailed) => S::Failed,
        (S::Running, Event::OracleDone)
        | (S::Running | S::Interrupted, Event::VerdictSucceeded) => S::Succeeded,
        (S::Running | S::Pausing | S::Paused | S::Cancelling, Event::Lost) => S::Interrupted,
        _ => return Err(Refused { state, event }),
    };
    Ok(next)
}

#[cfg(test)]
mod tests;
