//! What is done to a guard once at daemon start: arm it, or latch again what was latched.

use vlad_bus::command::Pending;
use vlad_safety::mode::State;
use vlad_store::tasks::{TaskStore, TaskStoreError};
use vlad_wire::clock::SECOND;
use vlad_wire::msg::command::{Answer, Estop, Rearm, Signature};
use vlad_wire::stream::{EstopCommand, RearmCommand};
use vlad_wire::text::Note;

use super::{ANSWER, CellGate, Start};

/// Pause between two tries.
const RETRY_NS: u64 = SECOND;

/// What remains to be done to the guard at start.
pub(super) enum AtStart {
    Nothing,
    Arm {
        not_before_ns: u64,
        answer: Option<Pending<RearmCommand>>,
    },
    Latch {
        not_before_ns: u64,
        answer: Option<Pending<EstopCommand>>,
    },
}

impl AtStart {
    /// Latches the guard, and tries again until it is.
    pub(super) fn latch() -> Self {
        Self::Latch {
            not_before_ns: 0,
            answer: None,
        }
    }

    /// Decides by the configuration and by what the store remembers; a latch wins.
    pub(super) fn new(arm_at_start: bool, start: &Start) -> Self {
        if start.latched {
            Self::latch()
        } else if arm_at_start && start.may_arm {
            Self::Arm {
                not_before_ns: 0,
                answer: None,
            }
        } else {
            Self::Nothing
        }
    }
}

impl CellGate {
    /// Arms once at daemon start, or latches again what was latched before it.
    pub(super) fn follow_start(
        &mut self,
        store: &mut TaskStore,
        now_ns: u64,
    ) -> Result<(), TaskStoreError> {
        let found = self.last_state;
        match &mut self.at_start {
            AtStart::Nothing => {}
            _ if found.is_none() => {}
            AtStart::Arm {
                not_before_ns,
                answer,
            } => {
                let done = answer.as_mut().and_then(Pending::try_take);
                if done.is_some() {
                    *answer = None;
                }
                let settled = found.is_some_and(|state| state != State::START);
                if settled || matches!(done, Some(Ok(Answer { done: true, .. }))) {
                    self.at_start = AtStart::Nothing;
                } else if answer.is_none() && *not_before_ns <= now_ns {
                    *not_before_ns = now_ns + RETRY_NS;
                    let epoch = store.next_epoch(&self.spec.id)?;
                    let by = signature("arm_at_start of a simulated cell");
                    let ask = Rearm {
                        epoch,
                        by,
                        expected_pose: Vec::new(),
                    };
                    *answer = Some(self.rearm.ask(&ask, ANSWER));
                }
            }
            AtStart::Latch {
                not_before_ns,
                answer,
            } => {
                let done = answer.as_mut().and_then(Pending::try_take);
                if done.is_some() {
                    *answer = None;
                }
                if found.is_some_and(|state| state.mode.latched()) {
                    self.at_start = AtStart::Nothing;
                } else if answer.is_none() && *not_before_ns <= now_ns {
                    *not_before_ns = now_ns + RETRY_NS;
                    let by = signature("latched before the daemon was restarted");
                    *answer = Some(self.estop.ask(&Estop { by }, ANSWER));
                }
            }
        }
        Ok(())
    }
}

fn signature(reason: &str) -> Signature {
    Signature {
        operator: Note::cleaned("gateway"),
        reason: Note::cleaned(reason),
    }
}
