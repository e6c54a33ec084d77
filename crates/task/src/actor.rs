//! Who did something to a task: every transition names its actor.

use vlad_wire::id::Role;
use vlad_wire::text::Note;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A part of `vlad`, by itself.
    System(Role),
    /// A person, or a client in a person's name.
    Operator(Note),
}

impl Actor {
    /// The actor's name in the audit.
    pub fn name(&self) -> &str {
        match self {
            Self::System(role) => role.name(),
            Self::Operator(name) => name.as_str(),
        }
    }

    /// The actor's role in the audit: `system` or `operator`.
    pub fn role(&self) -> &'static str {
        match self {
            Self::System(_) => "system",
            Self::Operator(_) => "operator",
        }
    }
}
