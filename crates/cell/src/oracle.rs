//! Whether the running task is done, by someone who knows the scene: simulated cells only.

use vlad_wire::msg::sense::TrueObject;
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::{Instruction, Note};

/// What the oracle says about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// How it stands.
    pub outcome: Outcome,
    /// Why.
    pub reason: Note,
}

/// A scene that can be asked.
pub trait Oracle: Send {
    /// Judges the task from the scene as it is now.
    ///
    /// An instruction that the scene does not understand is `Lost`, with a reason that says which
    /// instructions it understands.
    fn judge(&mut self, instruction: &Instruction) -> Judgement;

    /// Gives the pose of every object.
    fn truth(&mut self) -> Vec<TrueObject>;
}
