//! Tasks with everything that must survive a crash: keys, epochs, leases, intents, latches, audit.
//!
//! | | |
//! |---|---|
//! | promise | a call that returned `Ok` is on the disk; one that returned `Err` changed nothing |
//! | order | ids grow with submission, epochs of a cell grow strictly, also over restarts |
//! | at most once | one key of a client: one task; one try of a task: one intent; one cell: one holder |
//! | cost | one fsync a writing call: about 0.1 ms on a fast disk, 1–20 ms on flash |
//! | threads | one writer; calls block, so that an actor runs them on a thread of their own |
//! | fails safe | a damaged or newer database is refused at open, with what to do |

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use vlad_task::record::TaskRecord;
use vlad_task::schedule::QUEUE_MAX;
use vlad_task::state::{Event, Refused, TaskState};
use vlad_task::submit::{
    BodyDigest, IdempotencyKey, KEY_LIFE_MS, SameKey, Submission, SubmissionError, same_key,
};
use vlad_wire::clock::{MS, SharedClock};
use vlad_wire::id::{CellId, Epoch, TaskId};
use vlad_wire::text::Note;

use crate::audit::{self, AuditRow};

pub mod latch;
pub mod lease;
mod migrate;
mod moves;
mod rows;

/// Most tasks of one page.
pub const PAGE_MAX: u32 = 500;

/// Why the task store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum TaskStoreError {
    /// The folder cannot be used.
    #[error("cannot use the folder {}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// SQLite failed: no space, a broken disk, a bug.
    #[error("the task database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer build wrote the database.
    #[error(
        "the task database has layout {found}, this build knows {known}; use the newer build, or \
         another data folder"
    )]
    Newer {
        /// The database's layout.
        found: i64,
        /// Newest layout of this build.
        known: i64,
    },
    /// The database would not keep what it acknowledges.
    #[error("the task database refuses {pragma}; keep the data folder on a local disk")]
    NotDurable {
        /// What it refused.
        pragma: &'static str,
    },
    /// Something stored cannot be read.
    #[error("the task database is damaged: {what}; restore it from a copy")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// The audit's chain is broken.
    #[error("row {seq} of the audit does not follow from the one before it")]
    AuditBroken {
        /// The first such row.
        seq: i64,
    },
    /// There is no such task.
    #[error("there is no task {0}")]
    NotFound(TaskId),
    /// The task's state does not take the event.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Only a person may do that.
    #[error("{event} needs a person")]
    NeedsOperator {
        /// What was asked.
        event: Event,
    },
    /// The event writes more than a state; `grant_lease` and `intend` raise it.
    #[error("{event} is raised by its own call")]
    OwnCall {
        /// What was asked.
        event: Event,
    },
    /// Another task has the cell.
    #[error("cell {cell} is held by task {by}")]
    CellTaken {
        /// The cell.
        cell: CellId,
        /// Its holder.
        by: TaskId,
    },
    /// The intent names another try or another lease than the task's newest.
    #[error("the intent is for try {attempt} under epoch {epoch}, which task {task} is not in")]
    OtherTry {
        /// The task.
        task: TaskId,
        /// The intent's try.
        attempt: u32,
        /// The intent's epoch.
        epoch: Epoch,
    },
    /// The try has an intent already, and it is another one.
    #[error("try {attempt} of task {task} has another intent; motion happens at most once a try")]
    OtherIntent {
        /// The task.
        task: TaskId,
        /// The try.
        attempt: u32,
    },
    /// A number or list out of the store's bounds.
    #[error("{what} is out of bounds")]
    OutOfBounds {
        /// Which.
        what: &'static str,
    },
}

/// Why a submission was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A field is out of bounds.
    #[error(transparent)]
    Invalid(#[from] SubmissionError),
    /// The key was used for another body.
    #[error("the key was used for another request, which is task {task}; use a new key")]
    Conflict {
        /// The task of that request.
        task: TaskId,
    },
    /// The cell has too many waiting tasks.
    #[error("cell {cell} has {QUEUE_MAX} queued tasks; wait, or cancel some")]
    QueueFull {
        /// The cell.
        cell: CellId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] TaskStoreError),
}

impl From<rusqlite::Error> for SubmitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The task.
    pub record: TaskRecord,
    /// Whether it was there before, by its key.
    pub repeated: bool,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only those of this cell.
    pub cell: Option<CellId>,
    /// Only those in this state.
    pub state: Option<TaskState>,
}

/// The task store.
pub struct TaskStore {
    db: Connection,
    clock: SharedClock,
}

impl TaskStore {
    /// Opens `tasks.sqlite` in `dir`, makes it if there is none, and brings its layout up to date.
    ///
    /// # Errors
    /// [`TaskStoreError`] if it cannot be opened, is damaged, newer, or would not be durable.
    pub fn open(dir: &Path, clock: SharedClock) -> Result<Self, TaskStoreError> {
        let io = |source| TaskStoreError::Io {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let mut db = Connection::open(dir.join("tasks.sqlite"))?;
        make_durable(&db)?;
        let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            return Err(TaskStoreError::Damaged { what: check });
        }
        migrate::migrate(&mut db)?;
        // The file's own name must survive a power cut as well.
        File::open(dir)
            .and_then(|folder| folder.sync_all())
            .map_err(io)?;
        Ok(Self { db, clock })
    }

    /// Takes a task, or gives the one that the same key gave before; one transaction.
    ///
    /// `client` is whose key it is: two clients may use the same key for different tasks.
    ///
    /// # Errors
    /// [`SubmitError`] if it is not taken.
    pub fn submit(
        &mut self,
        submission: &Submission,
        key: Option<&IdempotencyKey>,
        client: &Note,
    ) -> Result<Submitted, SubmitError> {
        submission.check()?;
        let digest = submission.digest();
        self.write(|tx, at_ms| {
            if let Some(key) = key {
                forget_old_keys(tx, at_ms)?;
                if let Some((task, stored)) = find_key(tx, client, key)? {
                    return match same_key(&stored, &digest) {
                        SameKey::Repeat => Ok(Submitted {
                            record: rows::get(tx, &task)?,
                            repeated: true,
                        }),
                        SameKey::Conflict => Err(SubmitError::Conflict { task }),
                    };
                }
            }
            let queued = "SELECT count(*) FROM tasks WHERE state = 'queued' AND cell = ?1";
            let queued: u32 = tx
                .prepare(queued)?
                .query_row([submission.cell.as_str()], |r| r.get(0))?;
            if QUEUE_MAX <= queued {
                return Err(SubmitError::QueueFull {
                    cell: submission.cell.clone(),
                });
            }
            let record = rows::insert(tx, submission, at_ms)?;
            if let Some(key) = key {
                let insert = "INSERT INTO idempotency_keys (client, key, body_digest, task, at_ms) \
                              VALUES (?1, ?2, ?3, ?4, ?5)";
                let id = record.id.to_string();
                let values = params![client.as_str(), key.as_str(), digest.0, id, at_ms];
                tx.prepare(insert)?.execute(values)?;
            }
            moves::record_submission(tx, &record, client)?;
            Ok(Submitted {
                record,
                repeated: false,
            })
        })
    }

    /// Gives a task.
    ///
    /// # Errors
    /// [`TaskStoreError::NotFound`], or the store fails.
    pub fn get(&self, id: &TaskId) -> Result<TaskRecord, TaskStoreError> {
        rows::get(&self.db, id)
    }

    /// Gives a page of tasks, newest first, and the cursor of the next page if there is one.
    ///
    /// A page has 1 to [`PAGE_MAX`] tasks; another `limit` is taken as the nearest.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn list(
        &self,
        filter: &TaskFilter,
        cursor: Option<TaskId>,
        limit: u32,
    ) -> Result<(Vec<TaskRecord>, Option<TaskId>), TaskStoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let select = "SELECT * FROM tasks WHERE (?1 IS NULL OR cell = ?1) \
                      AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR id < ?3) \
                      ORDER BY id DESC LIMIT ?4";
        let values = params![
            filter.cell.as_ref().map(CellId::as_str),
            filter.state.map(TaskState::name),
            cursor.map(|id| id.to_string()),
            limit.saturating_add(1),
        ];
        let mut page = rows::select(&self.db, select, values)?;
        let more = usize::try_from(limit).is_ok_and(|limit| limit < page.len());
        if more {
            page.pop();
        }
        let next = page.last().map(|task| task.id).filter(|_| more);
        Ok((page, next))
    }

    /// Gives a cell's queued tasks, oldest first, at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn queue(&self, cell: &CellId, limit: u32) -> Result<Vec<TaskRecord>, TaskStoreError> {
        let select =
            "SELECT * FROM tasks WHERE state = 'queued' AND cell = ?1 ORDER BY id LIMIT ?2";
        rows::select(
            &self.db,
            select,
            params![cell.as_str(), limit.min(PAGE_MAX)],
        )
    }

    /// Gives the task that holds a cell, if one does.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn holder(&self, cell: &CellId) -> Result<Option<TaskRecord>, TaskStoreError> {
        rows::holder(&self.db, cell)
    }

    /// Gives the audit's rows after place `after` (0: from the first), oldest first.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn audit(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, TaskStoreError> {
        audit::read(&self.db, after, limit.min(PAGE_MAX))
    }

    /// Walks the audit's chain and gives its length.
    ///
    /// # Errors
    /// [`TaskStoreError::AuditBroken`] if a row was changed, or the store fails.
    pub fn verify_audit(&self) -> Result<u64, TaskStoreError> {
        audit::verify(&self.db)
    }

    /// Runs `work` in one transaction, with the wall time in milliseconds; durable before `Ok`.
    fn write<T, E: From<rusqlite::Error>>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, i64) -> Result<T, E>,
    ) -> Result<T, E> {
        let at_ms = i64::try_from(self.clock.wall_ns() / MS).unwrap_or(i64::MAX);
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&tx, at_ms)?;
        tx.commit()?;
        Ok(done)
    }
}

/// Sets what durability rests on, and believes only what it reads back.
fn make_durable(db: &Connection) -> Result<(), TaskStoreError> {
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(TaskStoreError::NotDurable {
            pragma: "journal_mode = WAL",
        });
    }
    db.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON; \
         PRAGMA trusted_schema = OFF;",
    )?;
    for (pragma, name, wanted) in [
        ("synchronous = FULL", "synchronous", 2),
        ("foreign_keys = ON", "foreign_keys", 1),
    ] {
        let got: i64 = db.pragma_query_value(None, name, |row| row.get(0))?;
        if got != wanted {
            return Err(TaskStoreError::NotDurable { pragma });
        }
    }
    Ok(())
}

fn forget_old_keys(tx: &Transaction<'_>, at_ms: i64) -> rusqlite::Result<()> {
    let life_ms = i64::try_from(KEY_LIFE_MS).unwrap_or(i64::MAX);
    tx.prepare("DELETE FROM idempotency_keys WHERE at_ms < ?1")?
        .execute([at_ms.saturating_sub(life_ms)])?;
    Ok(())
}

fn find_key(
    tx: &Transaction<'_>,
    client: &Note,
    key: &IdempotencyKey,
) -> Result<Option<(TaskId, BodyDigest)>, TaskStoreError> {
    let select = "SELECT task, body_digest FROM idempotency_keys WHERE client = ?1 AND key = ?2";
    let found: Option<(String, [u8; 32])> = tx
        .prepare(select)?
        .query_row([client.as_str(), key.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    found
        .map(|(task, digest)| Ok((rows::parse("task", &task)?, BodyDigest(digest))))
        .transpose()
}

#[cfg(test)]
mod tests;
