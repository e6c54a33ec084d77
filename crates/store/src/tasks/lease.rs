//! Epochs, leases and intents: what must be on the disk before anything moves.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use vlad_task::actor::Actor;
use vlad_task::record::TaskRecord;
use vlad_task::state::{Event, Refused, TaskState};
use vlad_wire::id::{CellId, Epoch, TaskId};
use vlad_wire::msg::DOFS_MAX;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::Note;

use super::moves::{Cause, change};
use super::rows::{self, stored};
use super::{TaskStore, TaskStoreError};

/// Longest hash of a plan in bytes: SHA-512.
const HASH_MAX: usize = 64;

/// What a try is about to do, written before the first command.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The task.
    pub task: TaskId,
    /// The try.
    pub attempt: u32,
    /// Epoch of its lease.
    pub epoch: Epoch,
    /// Where the robot stands, by dof; finite.
    pub pose: Vec<f64>,
    /// Hash of the first chunk, or of whatever the motion follows from.
    pub plan_hash: Digest,
}

/// The answer to an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intended {
    /// The task.
    pub record: TaskRecord,
    /// Whether the very same intent was there before: the call was repeated, not the motion.
    pub repeated: bool,
}

impl TaskStore {
    /// Gives a cell's next epoch; durable before it returns, above every one given before.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails; the epoch may then be lost, which does no harm.
    pub fn next_epoch(&mut self, cell: &CellId) -> Result<Epoch, TaskStoreError> {
        self.write(|tx, _| next_epoch(tx, cell))
    }

    /// Gives a queued task its cell: new epoch, lease row, next try, `queued → leased`.
    ///
    /// The record's `epoch` is what the guard must be told; `by` is the lease's holder.
    ///
    /// # Errors
    /// [`TaskStoreError::CellTaken`] if another task has it, [`TaskStoreError::Refused`] if the
    /// task does not wait.
    pub fn grant_lease(
        &mut self,
        id: &TaskId,
        ttl_ms: u32,
        by: &Actor,
    ) -> Result<TaskRecord, TaskStoreError> {
        self.write(|tx, at_ms| {
            let mut task = rows::get(tx, id)?;
            if let Some(holder) = rows::holder(tx, &task.cell)?
                && holder.id != task.id
            {
                return Err(TaskStoreError::CellTaken {
                    cell: task.cell,
                    by: holder.id,
                });
            }
            let epoch = next_epoch(tx, &task.cell)?;
            let attempt = task.attempt.checked_add(1);
            task.attempt = attempt.ok_or(TaskStoreError::OutOfBounds { what: "the try" })?;
            task.epoch = Some(epoch);
            let reason = Note::cleaned("the cell is free");
            let event = Event::LeaseGranted;
            let task = change(
                tx,
                task,
                &Cause {
                    event,
                    by,
                    reason: &reason,
                    at_ms,
                },
            )?;
            tx.prepare(
                "INSERT INTO leases (cell, epoch, holder, task, attempt, ttl_ms, granted_at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                task.cell.as_str(),
                stored("the epoch", epoch)?,
                by.name(),
                id.to_string(),
                task.attempt,
                ttl_ms,
                at_ms,
            ])?;
            Ok(task)
        })
    }

    /// Writes that a try is about to move, and `leased → running`; durable before it returns.
    ///
    /// The same intent again answers `repeated` while the task still runs.
    ///
    /// # Errors
    /// [`TaskStoreError::OtherIntent`] if the try has another one, [`TaskStoreError::OtherTry`] if
    /// try or epoch are not the task's newest, [`TaskStoreError::Refused`] if it is not leased.
    pub fn intend(&mut self, intent: &Intent, by: &Actor) -> Result<Intended, TaskStoreError> {
        let pose = &intent.pose;
        if DOFS_MAX < pose.len() || !pose.iter().all(|x| x.is_finite()) {
            return Err(TaskStoreError::OutOfBounds { what: "the pose" });
        }
        if HASH_MAX < intent.plan_hash.len() {
            return Err(TaskStoreError::OutOfBounds {
                what: "the plan's hash",
            });
        }
        self.write(|tx, at_ms| {
            let Intent {
                task: id,
                attempt,
                epoch,
                ..
            } = *intent;
            let task = rows::get(tx, &id)?;
            if (task.attempt, task.epoch) != (attempt, Some(epoch)) {
                return Err(TaskStoreError::OtherTry {
                    task: id,
                    attempt,
                    epoch,
                });
            }
            let event = Event::MotionIntended;
            match self::intent(tx, &id, attempt)? {
                Some(known) if known != *intent => {
                    Err(TaskStoreError::OtherIntent { task: id, attempt })
                }
                Some(_) if task.state == TaskState::Running => Ok(Intended {
                    record: task,
                    repeated: true,
                }),
                Some(_) => Err(Refused {
                    state: task.state,
                    event,
                }
                .into()),
                None => {
                    insert_intent(tx, intent, &task.cell, at_ms)?;
                    let reason = Note::cleaned("the intent is written");
                    let record = change(
                        tx,
                        task,
                        &Cause {
                            event,
                            by,
                            reason: &reason,
                            at_ms,
                        },
                    )?;
                    Ok(Intended {
                        record,
                        repeated: false,
                    })
                }
            }
        })
    }

    /// Gives the intent of a try, if it has one.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn intent(&self, id: &TaskId, attempt: u32) -> Result<Option<Intent>, TaskStoreError> {
        intent(&self.db, id, attempt)
    }
}

fn next_epoch(tx: &Transaction<'_>, cell: &CellId) -> Result<Epoch, TaskStoreError> {
    let upsert = "INSERT INTO epochs (cell, epoch) VALUES (?1, 1) \
                  ON CONFLICT (cell) DO UPDATE SET epoch = epoch + 1 RETURNING epoch";
    let epoch: i64 = tx
        .prepare(upsert)?
        .query_row([cell.as_str()], |row| row.get(0))?;
    u64::try_from(epoch).map_err(|_| TaskStoreError::OutOfBounds { what: "the epoch" })
}

fn insert_intent(
    tx: &Transaction<'_>,
    intent: &Intent,
    cell: &CellId,
    at_ms: i64,
) -> Result<(), TaskStoreError> {
    let pose: Vec<u8> = intent.pose.iter().flat_map(|x| x.to_le_bytes()).collect();
    tx.prepare(
        "INSERT INTO intents (task, attempt, cell, epoch, plan_hash, pose, at_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        intent.task.to_string(),
        intent.attempt,
        cell.as_str(),
        stored("the epoch", intent.epoch)?,
        intent.plan_hash.as_slice(),
        pose,
        at_ms,
    ])?;
    Ok(())
}

/// Gives the intent of a try, if it has one.
pub(super) fn intent(
    db: &Connection,
    id: &TaskId,
    attempt: u32,
) -> Result<Option<Intent>, TaskStoreError> {
    let select = "SELECT epoch, plan_hash, pose FROM intents WHERE task = ?1 AND attempt = ?2";
    let row: Option<(i64, Vec<u8>, Vec<u8>)> = db
        .prepare(select)?
        .query_row(params![id.to_string(), attempt], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
        .optional()?;
    let Some((epoch, plan_hash, pose)) = row else {
        return Ok(None);
    };
    let damaged = || TaskStoreError::Damaged {
        what: format!("the intent of {id}-{attempt}"),
    };
    let (numbers, rest) = pose.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(damaged());
    }
    Ok(Some(Intent {
        task: *id,
        attempt,
        epoch: u64::try_from(epoch).map_err(|_| damaged())?,
        pose: numbers
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes))
            .collect(),
        plan_hash: Digest::from(plan_hash),
    }))
}
