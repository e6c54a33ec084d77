//! Events as clients see them.

use serde::Serialize;
use utoipa::ToSchema;
use vlad_actors::gateway::view::NumberedEvent;
use vlad_wire::msg::health::Severity;

/// Something worth a line.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Event {
    /// Number since the daemon started.
    pub id: u64,
    /// The cell.
    pub cell: String,
    /// Which part of the daemon says it.
    pub role: String,
    /// `info`, `warn` or `error`.
    #[schema(example = "info")]
    pub severity: String,
    /// What kind.
    #[schema(example = "mode_changed")]
    pub kind: String,
    /// For a person.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// The task, if it concerns one.
    pub task: Option<String>,
    /// The chunk, if it concerns one.
    pub chunk: Option<String>,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
}

impl From<&NumberedEvent> for Event {
    fn from(numbered: &NumberedEvent) -> Self {
        let event = &numbered.event;
        let severity = match event.severity {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        };
        Self {
            id: numbered.id,
            cell: event.cell.to_string(),
            role: event.role.to_string(),
            severity: severity.to_owned(),
            kind: event.kind.to_string(),
            text: event.text.to_string(),
            advice: event.advice.as_ref().map(ToString::to_string),
            task: event.task.map(|task| task.to_string()),
            chunk: event.chunk.map(|chunk| chunk.to_string()),
            at_ms: event.wall_ns / vlad_wire::clock::MS,
        }
    }
}
