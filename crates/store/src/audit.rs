//! Who changed what, and why: append-only rows, each with the hash of the one before it.
//!
//! A row that is changed, dropped or put in between afterwards breaks the chain at that row. What
//! was cut off at the end shows only against a copy of a later hash.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use sha2::{Digest, Sha256};
use vlad_task::actor::Actor;
use vlad_wire::id::Epoch;
use vlad_wire::text::Note;

use crate::tasks::TaskStoreError;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// When, wall time, milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// `operator` or `system`.
    pub role: String,
    /// What was done, such as `cancel_asked`.
    pub action: String,
    /// To what: `task:ID` or `cell:NAME`.
    pub object: String,
    /// State before.
    pub from: String,
    /// State after.
    pub to: String,
    /// Why.
    pub reason: String,
    /// Epoch that it happened under, if any.
    pub epoch: Option<i64>,
}

/// A change about to be written; it gets its place and time in the chain.
pub(crate) struct Change<'a> {
    pub(crate) at_ms: i64,
    pub(crate) by: &'a Actor,
    pub(crate) action: &'a str,
    pub(crate) object: String,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) reason: &'a Note,
    pub(crate) epoch: Option<Epoch>,
}

type Hash = [u8; 32];

/// Appends a change within the caller's transaction.
pub(crate) fn append(db: &Connection, change: Change<'_>) -> Result<(), TaskStoreError> {
    let newest = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
    let newest = db
        .prepare(newest)?
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Hash>(1)?))
        })
        .optional()?;
    let (seq, prev_hash) = newest.unwrap_or((0, [0; 32]));
    let row = AuditRow {
        seq: seq.saturating_add(1),
        at_ms: change.at_ms,
        actor: change.by.name().to_owned(),
        role: change.by.role().to_owned(),
        action: change.action.to_owned(),
        object: change.object,
        from: change.from.to_owned(),
        to: change.to.to_owned(),
        reason: change.reason.to_string(),
        epoch: change.epoch.and_then(|epoch| i64::try_from(epoch).ok()),
    };
    let insert = "INSERT INTO audit (seq, at_ms, actor, role, action, object, from_state, \
                  to_state, reason, epoch, prev_hash, hash) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    db.prepare(insert)?.execute(params![
        row.seq,
        row.at_ms,
        row.actor,
        row.role,
        row.action,
        row.object,
        row.from,
        row.to,
        row.reason,
        row.epoch,
        prev_hash,
        hash(&prev_hash, &row),
    ])?;
    Ok(())
}

/// Reads rows after `seq`, oldest first.
pub(crate) fn read(
    db: &Connection,
    after: i64,
    limit: u32,
) -> Result<Vec<AuditRow>, TaskStoreError> {
    let select = "SELECT * FROM audit WHERE ?1 < seq ORDER BY seq LIMIT ?2";
    let mut statement = db.prepare(select)?;
    let rows = statement.query_map(params![after, limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Walks the whole chain and gives its length.
///
/// # Errors
/// [`TaskStoreError::AuditBroken`] with the first row that does not follow from the one before it.
pub(crate) fn verify(db: &Connection) -> Result<u64, TaskStoreError> {
    let mut statement = db.prepare("SELECT * FROM audit ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let (mut prev, mut count) = ([0; 32], 0_u64);
    while let Some(row) = rows.next()? {
        let read = from_row(row)?;
        let (said_prev, said): (Hash, Hash) = (row.get("prev_hash")?, row.get("hash")?);
        let follows = u64::try_from(read.seq) == Ok(count + 1);
        if !follows || said_prev != prev || said != hash(&prev, &read) {
            return Err(TaskStoreError::AuditBroken { seq: read.seq });
        }
        (prev, count) = (said, count + 1);
    }
    Ok(count)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        seq: row.get("seq")?,
        at_ms: row.get("at_ms")?,
        actor: row.get("actor")?,
        role: row.get("role")?,
        action: row.get("action")?,
        object: row.get("object")?,
        from: row.get("from_state")?,
        to: row.get("to_state")?,
        reason: row.get("reason")?,
        epoch: row.get("epoch")?,
    })
}

/// SHA-256 over the hash before, then each field with its length.
fn hash(prev: &Hash, row: &AuditRow) -> Hash {
    let mut sha = Sha256::new();
    let mut part = |bytes: &[u8]| {
        sha.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        sha.update(bytes);
    };
    part(prev);
    part(&row.seq.to_be_bytes());
    part(&row.at_ms.to_be_bytes());
    for text in [
        &row.actor,
        &row.role,
        &row.action,
        &row.object,
        &row.from,
        &row.to,
        &row.reason,
    ] {
        part(text.as_bytes());
    }
    part(&row.epoch.unwrap_or(-1).to_be_bytes());
    sha.finalize().into()
}
