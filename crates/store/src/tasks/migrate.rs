//! Brings the task store's layout up to date.
//!
//! Each step runs once, in order, in one transaction that also sets `user_version`: a crash leaves
//! a step done or not begun.

use rusqlite::{Connection, TransactionBehavior};

use super::TaskStoreError;

/// Every step, in order; the number of a step is its place, from 1.
const STEPS: &[&str] = &[include_str!("../../../../migrations/0001_tasks.sql")];

/// Applies the steps that the database lacks.
///
/// # Errors
/// [`TaskStoreError::Newer`] if a newer build wrote it, [`TaskStoreError::Sqlite`] if a step fails.
pub(super) fn migrate(db: &mut Connection) -> Result<(), TaskStoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if known < found || found < 0 {
        return Err(TaskStoreError::Newer { found, known });
    }
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for (number, step) in (1_i64..).zip(STEPS).skip(done) {
        let step_tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step_tx.execute_batch(step)?;
        step_tx.pragma_update(None, "user_version", number)?;
        step_tx.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_step_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "sql"))
            .collect();
        files.sort();
        assert_eq!(files.len(), STEPS.len());
        for (place, (file, step)) in files.iter().zip(STEPS).enumerate() {
            let name = file.file_name().unwrap().to_string_lossy();
            assert!(name.starts_with(&format!("{:04}_", place + 1)), "{name}");
            assert_eq!(std::fs::read_to_string(file).unwrap(), *step);
        }
    }

    #[test]
    fn steps_run_once_and_a_newer_layout_is_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        migrate(&mut db).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        let text = migrate(&mut db).unwrap_err().to_string();
        assert!(
            text.contains("99") && text.contains(&STEPS.len().to_string()),
            "{text}"
        );
    }
}
