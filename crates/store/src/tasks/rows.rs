//! Rows of `tasks` to records and back.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use ulid::Ulid;
use vlad_task::record::{TaskRecord, VerdictRecord};
use vlad_task::state::TaskState;
use vlad_task::submit::Submission;
use vlad_wire::id::{CellId, TaskId};
use vlad_wire::text::Note;

use super::TaskStoreError;

/// Reads a stored text, naming its column if it is no such value.
pub(super) fn parse<T: FromStr<Err: Display>>(
    column: &str,
    text: &str,
) -> Result<T, TaskStoreError> {
    text.parse().map_err(|error| TaskStoreError::Damaged {
        what: format!("{column} {text:?} {error}"),
    })
}

fn number<I: Copy + Display, T: TryFrom<I>>(column: &str, value: I) -> Result<T, TaskStoreError> {
    T::try_from(value).map_err(|_| TaskStoreError::Damaged {
        what: format!("{column} is {value}"),
    })
}

/// Gives a number as SQLite has them.
pub(super) fn stored(what: &'static str, value: u64) -> Result<i64, TaskStoreError> {
    i64::try_from(value).map_err(|_| TaskStoreError::OutOfBounds { what })
}

fn record(row: &Row<'_>) -> Result<TaskRecord, TaskStoreError> {
    let text = |column: &str| row.get::<_, String>(column);
    let optional = |column: &str| -> Result<Option<u64>, TaskStoreError> {
        row.get::<_, Option<i64>>(column)?
            .map(|value| number(column, value))
            .transpose()
    };
    let labels =
        serde_json::from_str(&text("labels")?).map_err(|error| TaskStoreError::Damaged {
            what: format!("labels: {error}"),
        })?;
    let reason: Option<String> = row.get("reason")?;
    Ok(TaskRecord {
        id: parse("id", &text("id")?)?,
        cell: parse("cell", &text("cell")?)?,
        instruction: parse("instruction", &text("instruction")?)?,
        max_duration_s: number("max_duration_s", row.get::<_, i64>("max_duration_s")?)?,
        labels,
        state: parse("state", &text("state")?)?,
        reason: reason.map(|text| parse("reason", &text)).transpose()?,
        attempt: number("attempt", row.get::<_, i64>("attempt")?)?,
        epoch: optional("epoch")?,
        seed: number("seed", row.get::<_, i64>("seed")?)?,
        submitted_at_ms: number("submitted_at_ms", row.get::<_, i64>("submitted_at_ms")?)?,
        started_at_ms: optional("started_at_ms")?,
        ended_at_ms: optional("ended_at_ms")?,
        verdict: verdict(row)?,
    })
}

fn verdict(row: &Row<'_>) -> Result<Option<VerdictRecord>, TaskStoreError> {
    let Some(result) = row.get::<_, Option<String>>("verdict_result")? else {
        return Ok(None);
    };
    Ok(Some(VerdictRecord {
        result: parse("verdict_result", &result)?,
        operator: parse(
            "verdict_operator",
            &row.get::<_, String>("verdict_operator")?,
        )?,
        reason: parse("verdict_reason", &row.get::<_, String>("verdict_reason")?)?,
        at_ms: number("verdict_at_ms", row.get::<_, i64>("verdict_at_ms")?)?,
    }))
}

/// Gives the tasks of a query, in its order.
pub(super) fn select(
    db: &Connection,
    query: &str,
    values: impl Params,
) -> Result<Vec<TaskRecord>, TaskStoreError> {
    db.prepare(query)?.query_and_then(values, record)?.collect()
}

/// Gives a task.
pub(super) fn get(db: &Connection, id: &TaskId) -> Result<TaskRecord, TaskStoreError> {
    let found = select(db, "SELECT * FROM tasks WHERE id = ?1", [id.to_string()])?;
    found
        .into_iter()
        .next()
        .ok_or(TaskStoreError::NotFound(*id))
}

/// Gives the task that holds a cell; an index allows one at most.
pub(super) fn holder(db: &Connection, cell: &CellId) -> Result<Option<TaskRecord>, TaskStoreError> {
    let query = "SELECT * FROM tasks WHERE cell = ?1 \
                 AND state IN ('leased', 'running', 'pausing', 'paused', 'cancelling')";
    Ok(select(db, query, [cell.as_str()])?.into_iter().next())
}

/// Gives every task that holds its cell, oldest first.
pub(super) fn holders(db: &Connection) -> Result<Vec<TaskRecord>, TaskStoreError> {
    let query = "SELECT * FROM tasks \
                 WHERE state IN ('leased', 'running', 'pausing', 'paused', 'cancelling') ORDER BY id";
    select(db, query, [])
}

/// Writes a new task under a new id.
pub(super) fn insert(
    db: &Connection,
    submission: &Submission,
    at_ms: i64,
) -> Result<TaskRecord, TaskStoreError> {
    let newest: Option<String> = db
        .prepare("SELECT id FROM tasks ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let newest = newest
        .map(|text| parse::<TaskId>("id", &text))
        .transpose()?;
    // SQLite's generator is seeded by the system: no second source of randomness for two numbers.
    let (random, seed): ([u8; 16], i64) = db
        .prepare("SELECT randomblob(16), random() & 9007199254740991")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let at_ms_u = u64::try_from(at_ms).unwrap_or(0);
    let id = next_id(at_ms_u, u128::from_be_bytes(random), newest)?;
    let labels = serde_json::to_string(&submission.labels)
        .map_err(|_| TaskStoreError::OutOfBounds { what: "labels" })?;
    let insert = "INSERT INTO tasks \
                  (id, cell, instruction, max_duration_s, labels, state, seed, submitted_at_ms) \
                  VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7)";
    db.prepare(insert)?.execute(params![
        id.to_string(),
        submission.cell.as_str(),
        submission.instruction.as_str(),
        submission.max_duration_s,
        labels,
        seed,
        at_ms,
    ])?;
    get(db, &id)
}

/// Gives an id above `newest`, also when two come in one millisecond or the wall clock went back.
fn next_id(at_ms: u64, random: u128, newest: Option<TaskId>) -> Result<TaskId, TaskStoreError> {
    let fresh = TaskId(Ulid::from_parts(at_ms, random));
    let Some(newest) = newest.filter(|newest| fresh.0.timestamp_ms() <= newest.0.timestamp_ms())
    else {
        return Ok(fresh);
    };
    let next = newest.0.0.checked_add(1);
    next.map(|next| TaskId(Ulid(next)))
        .ok_or(TaskStoreError::OutOfBounds {
            what: "the task's id",
        })
}

/// Writes what can change of a task.
pub(super) fn update(db: &Connection, task: &TaskRecord) -> Result<(), TaskStoreError> {
    let update = "UPDATE tasks SET state = ?2, reason = ?3, attempt = ?4, epoch = ?5, \
                  started_at_ms = ?6, ended_at_ms = ?7, verdict_result = ?8, \
                  verdict_operator = ?9, verdict_reason = ?10, verdict_at_ms = ?11 WHERE id = ?1";
    let time = |value: Option<u64>| value.map(|value| stored("a time", value)).transpose();
    let verdict = task.verdict.as_ref();
    db.prepare(update)?.execute(params![
        task.id.to_string(),
        TaskState::name(task.state),
        task.reason.as_ref().map(Note::as_str),
        task.attempt,
        task.epoch
            .map(|epoch| stored("the epoch", epoch))
            .transpose()?,
        time(task.started_at_ms)?,
        time(task.ended_at_ms)?,
        verdict.map(|verdict| verdict.result.name()),
        verdict.map(|verdict| verdict.operator.as_str()),
        verdict.map(|verdict| verdict.reason.as_str()),
        time(verdict.map(|verdict| verdict.at_ms))?,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_in_one_millisecond_and_when_the_clock_goes_back() {
        let first = next_id(1000, u128::MAX >> 48, None).unwrap();
        let second = next_id(1000, 0, Some(first)).unwrap();
        let third = next_id(500, 0, Some(second)).unwrap();
        let fourth = next_id(2000, 0, Some(third)).unwrap();
        let texts = [first, second, third, fourth].map(|id| id.to_string());
        assert!(texts.is_sorted_by(|a, b| a < b), "{texts:?}");
    }
}
