//! Tasks as clients send and see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, ToSchema};
use vlad_task::record::{TaskRecord, VerdictResult};
use vlad_task::state::TaskState;
use vlad_wire::id::{CellId, EpisodeId, TaskId};
use vlad_wire::msg::command::Signature;
use vlad_wire::text::{Note, via_text};

/// A new task, as [`vlad_task::submit::Submission`] reads it; this form only describes it.
#[derive(Debug, ToSchema)]
pub struct TaskSubmission {
    /// The cell that shall do it.
    #[schema(
        example = "demo",
        min_length = 1,
        max_length = 32,
        pattern = "^[a-z][a-z0-9_-]*$"
    )]
    pub cell: String,
    /// What to do, in plain language, without control characters.
    #[schema(
        example = "put the red block in the left tray",
        min_length = 1,
        max_length = 2048
    )]
    pub instruction: String,
    /// Longest run in seconds; 120 if left out.
    #[schema(minimum = 1, maximum = 86400, default = 120)]
    #[schema(required = false)]
    pub max_duration_s: u32,
    /// The client's own notes, at most 16; names of `a-z 0-9 _ -`, texts of at most 256 bytes.
    #[schema(required = false)]
    pub labels: BTreeMap<String, String>,
}

/// A task.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Task {
    /// Id; ids sort by time of submission.
    #[schema(example = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A")]
    pub id: String,
    /// The cell that shall do it.
    #[schema(example = "demo")]
    pub cell: String,
    /// What to do.
    pub instruction: String,
    /// Where it stands.
    #[schema(schema_with = task_states)]
    pub state: String,
    /// Why it stands there, such as `deadline`.
    pub reason: Option<String>,
    /// Tries begun so far.
    pub attempt: u32,
    /// The client's own notes.
    pub labels: BTreeMap<String, String>,
    /// Longest run, seconds.
    pub max_duration_s: u32,
    /// Seed of its noise.
    pub seed: u64,
    /// Epoch of its newest lease.
    pub epoch: Option<u64>,
    /// When it was submitted, milliseconds since 1970.
    pub submitted_at_ms: u64,
    /// When its newest try began to move, milliseconds since 1970.
    pub started_at_ms: Option<u64>,
    /// When it ended, milliseconds since 1970.
    pub ended_at_ms: Option<u64>,
    /// What a person said of it last.
    pub verdict: Option<TaskVerdict>,
    /// Ids of the episodes that log its tries, oldest first.
    pub episodes: Vec<String>,
}

/// What a person said of a task.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TaskVerdict {
    /// What became of it.
    #[schema(schema_with = verdicts)]
    pub result: String,
    /// Who says so.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TaskList {
    /// The tasks.
    pub items: Vec<Task>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskFilter {
    /// Of this cell only.
    #[param(value_type = Option<String>)]
    pub cell: Option<CellId>,
    /// In this state only.
    #[param(schema_with = task_states, required = false)]
    pub state: Option<TaskState>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    pub cursor: Option<TaskId>,
    /// At most so many, 1 to 1000; 50 if left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// A person's word on a task.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictRequest {
    /// What became of it; `requeue` tries it again.
    // By its text: a number in its place is then a wrong field, not broken JSON.
    #[serde(with = "via_text")]
    #[schema(schema_with = verdicts)]
    pub result: VerdictResult,
    /// Who says so.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub operator: Note,
    /// Why.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub reason: Note,
}

/// Who cancels a task, and why; all of it may be left out, the whole body too.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Who.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub operator: Option<Note>,
    /// Why.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub reason: Option<Note>,
}

impl CancelRequest {
    /// Gives the signature; what was left out is filled in so that the audit shows where it came
    /// from.
    pub fn signature(self) -> Signature {
        Signature {
            operator: self.operator.unwrap_or_else(|| Note::cleaned("rest")),
            reason: self
                .reason
                .unwrap_or_else(|| Note::cleaned("cancelled over REST")),
        }
    }
}

impl From<&TaskRecord> for Task {
    fn from(record: &TaskRecord) -> Self {
        let episode = |attempt| {
            EpisodeId {
                task: record.id,
                attempt,
            }
            .to_string()
        };
        let labels = record.labels.iter();
        Self {
            id: record.id.to_string(),
            cell: record.cell.to_string(),
            instruction: record.instruction.to_string(),
            state: record.state.to_string(),
            reason: record.reason.as_ref().map(ToString::to_string),
            attempt: record.attempt,
            labels: labels
                .map(|(name, text)| (name.to_string(), text.to_string()))
                .collect(),
            max_duration_s: record.max_duration_s,
            seed: record.seed,
            epoch: record.epoch,
            submitted_at_ms: record.submitted_at_ms,
            started_at_ms: record.started_at_ms,
            ended_at_ms: record.ended_at_ms,
            verdict: record.verdict.as_ref().map(|verdict| TaskVerdict {
                result: verdict.result.to_string(),
                operator: verdict.operator.to_string(),
                reason: verdict.reason.to_string(),
                at_ms: verdict.at_ms,
            }),
            episodes: (1..=record.attempt).map(episode).collect(),
        }
    }
}

/// Gives the schema of a word out of a list.
pub(super) fn words(words: impl IntoIterator<Item = &'static str>) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
        .into()
}

fn task_states() -> Schema {
    words(TaskState::ALL.map(TaskState::name))
}

fn verdicts() -> Schema {
    words(VerdictResult::ALL.map(VerdictResult::name))
}
