//! Latched modes of cells: a restart of the daemon is no reset.

use rusqlite::{Connection, OptionalExtension, params};
use vlad_task::actor::Actor;
use vlad_wire::id::CellId;
use vlad_wire::text::{Name, Note};

use super::{TaskStore, TaskStoreError, rows};
use crate::audit::{self, Change};

/// A mode that only a named reset leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latch {
    /// The guard's mode: `estopped` or `fault`.
    pub mode: Name,
    /// Why, in the guard's word.
    pub reason: Name,
    /// Since when, wall time, milliseconds since 1970.
    pub at_ms: u64,
}

impl TaskStore {
    /// Remembers a cell's latched mode and its reason, or with `None` that it was reset.
    ///
    /// Setting what is set already changes nothing. `by` and `why` stand in the audit. The guard decides who may reset; this only remembers.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn set_latch(
        &mut self,
        cell: &CellId,
        latch: Option<(&Name, &Name)>,
        by: &Actor,
        why: &Note,
    ) -> Result<(), TaskStoreError> {
        self.write(|tx, at_ms| {
            let before = read(tx, cell)?;
            let known = before.as_ref().map(|latch| (&latch.mode, &latch.reason));
            if known == latch {
                return Ok(());
            }
            if let Some((mode, reason)) = latch {
                tx.prepare(
                    "INSERT INTO cells (cell, latched_mode, latched_reason, latched_at_ms) \
                     VALUES (?1, ?2, ?3, ?4) ON CONFLICT (cell) DO UPDATE SET \
                     latched_mode = ?2, latched_reason = ?3, latched_at_ms = ?4",
                )?
                .execute(params![
                    cell.as_str(),
                    mode.as_str(),
                    reason.as_str(),
                    at_ms
                ])?;
            } else {
                tx.prepare("DELETE FROM cells WHERE cell = ?1")?
                    .execute([cell.as_str()])?;
            }
            audit::append(
                tx,
                Change {
                    at_ms,
                    by,
                    action: if latch.is_some() { "latched" } else { "reset" },
                    object: format!("cell:{cell}"),
                    from: known.map_or("", |(mode, _)| mode.as_str()),
                    to: latch.map_or("", |(mode, _)| mode.as_str()),
                    reason: why,
                    epoch: None,
                },
            )
        })
    }

    /// Gives a cell's latched mode, if it has one.
    ///
    /// # Errors
    /// [`TaskStoreError`] if the store fails.
    pub fn latch(&self, cell: &CellId) -> Result<Option<Latch>, TaskStoreError> {
        read(&self.db, cell)
    }
}

fn read(db: &Connection, cell: &CellId) -> Result<Option<Latch>, TaskStoreError> {
    let select = "SELECT latched_mode, latched_reason, latched_at_ms FROM cells WHERE cell = ?1";
    let row: Option<(String, String, i64)> = db
        .prepare(select)?
        .query_row([cell.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    row.map(|(mode, reason, at_ms)| {
        Ok(Latch {
            mode: rows::parse("latched_mode", &mode)?,
            reason: rows::parse("latched_reason", &reason)?,
            at_ms: u64::try_from(at_ms).unwrap_or(0),
        })
    })
    .transpose()
}
