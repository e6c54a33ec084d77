//! Moves tasks from state to state: transition, lease and audit row in one transaction.

use rusqlite::{Transaction, params};
use vlad_task::actor::Actor;
use vlad_task::record::{TaskRecord, VerdictRecord, VerdictResult};
use vlad_task::state::{Event, TaskState, transition};
use vlad_wire::id::{Role, TaskId};
use vlad_wire::text::Note;

use super::rows::{self, stored};
use super::{TaskStore, TaskStoreError};
use crate::audit::{self, Change};

/// Who did what to a task, why and when.
pub(super) struct Cause<'a> {
    pub(super) event: Event,
    pub(super) by: &'a Actor,
    pub(super) reason: &'a Note,
    pub(super) at_ms: i64,
}

impl TaskStore {
    /// Lets something happen to a task.
    ///
    /// `reason` becomes the task's own where its new state needs one (an end, `cancelling`,
    /// `interrupted`, `queued` again); the audit always has it.
    ///
    /// # Errors
    /// [`TaskStoreError::Refused`] if the state does not take it, [`TaskStoreError::NeedsOperator`]
    /// if only a person may do it, [`TaskStoreError::OwnCall`] for a lease or an intent.
    pub fn apply(
        &mut self,
        id: &TaskId,
        event: Event,
        by: &Actor,
        reason: &Note,
    ) -> Result<TaskRecord, TaskStoreError> {
        if matches!(event, Event::LeaseGranted | Event::MotionIntended) {
            return Err(TaskStoreError::OwnCall { event });
        }
        self.write(|tx, at_ms| {
            let task = rows::get(tx, id)?;
            change(
                tx,
                task,
                &Cause {
                    event,
                    by,
                    reason,
                    at_ms,
                },
            )
        })
    }

    /// Takes back what an earlier process left moving; called once, at boot; one transaction.
    ///
    /// A task that may have moved becomes `interrupted`. One that was leased without an intent is
    /// `queued` again, and one that was to be cancelled without an intent is `cancelled`: nothing
    /// moved for them. Gives the tasks that changed, as they are now.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails; nothing changed then.
    pub fn recover(&mut self) -> Result<Vec<TaskRecord>, TaskStoreError> {
        let by = Actor::System(Role::Gateway);
        let reason = Note::cleaned("the daemon stopped while the task held the cell");
        self.write(|tx, at_ms| {
            let mut changed = Vec::new();
            for task in rows::holders(tx)? {
                let event = match (
                    task.state,
                    super::lease::intent(tx, &task.id, task.attempt)?,
                ) {
                    (TaskState::Leased, None) => Event::LeaseLostBeforeIntent,
                    (TaskState::Cancelling, None) => Event::CancelDone,
                    _ => Event::Lost,
                };
                changed.push(change(
                    tx,
                    task,
                    &Cause {
                        event,
                        by: &by,
                        reason: &reason,
                        at_ms,
                    },
                )?);
            }
            Ok(changed)
        })
    }
}

/// Writes the first line of a task's audit.
pub(super) fn record_submission(
    tx: &Transaction<'_>,
    task: &TaskRecord,
    client: &Note,
) -> Result<(), TaskStoreError> {
    audit::append(
        tx,
        Change {
            at_ms: stored("a time", task.submitted_at_ms)?,
            by: &Actor::Operator(client.clone()),
            action: "submitted",
            object: format!("task:{}", task.id),
            from: "",
            to: task.state.name(),
            reason: &Note::cleaned("submitted"),
            epoch: None,
        },
    )
}

/// Moves a task and writes everything that goes with it.
pub(super) fn change(
    tx: &Transaction<'_>,
    mut task: TaskRecord,
    cause: &Cause<'_>,
) -> Result<TaskRecord, TaskStoreError> {
    let from = task.state;
    let to = transition(from, cause.event)?;
    let at_ms = u64::try_from(cause.at_ms).unwrap_or(0);
    match (cause.by, VerdictResult::of(cause.event)) {
        (Actor::System(_), _) if cause.event.needs_operator() => {
            return Err(TaskStoreError::NeedsOperator { event: cause.event });
        }
        (Actor::Operator(operator), Some(result)) => {
            let (operator, reason) = (operator.clone(), cause.reason.clone());
            task.verdict = Some(VerdictRecord {
                result,
                operator,
                reason,
                at_ms,
            });
        }
        _ => {}
    }
    task.state = to;
    task.reason = needs_reason(to).then(|| cause.reason.clone());
    task.ended_at_ms = to.terminal().then_some(at_ms);
    if to == TaskState::Running {
        task.started_at_ms = Some(at_ms);
    } else if to == TaskState::Queued {
        task.started_at_ms = None;
    }
    rows::update(tx, &task)?;
    if from.holds_cell() && !to.holds_cell() {
        release(tx, &task, cause.at_ms)?;
    }
    audit::append(
        tx,
        Change {
            at_ms: cause.at_ms,
            by: cause.by,
            action: cause.event.name(),
            object: format!("task:{}", task.id),
            from: from.name(),
            to: to.name(),
            reason: cause.reason,
            epoch: task.epoch,
        },
    )?;
    Ok(task)
}

fn needs_reason(state: TaskState) -> bool {
    let waits = matches!(
        state,
        TaskState::Queued | TaskState::Cancelling | TaskState::Interrupted
    );
    waits || state.terminal()
}

fn release(tx: &Transaction<'_>, task: &TaskRecord, at_ms: i64) -> Result<(), TaskStoreError> {
    let epoch = task
        .epoch
        .map(|epoch| stored("the epoch", epoch))
        .transpose()?;
    tx.prepare(
        "UPDATE leases SET released_at_ms = ?3 \
         WHERE cell = ?1 AND epoch = ?2 AND released_at_ms IS NULL",
    )?
    .execute(params![task.cell.as_str(), epoch, at_ms])?;
    Ok(())
}
