//! Which queued task comes next: first in, first out. Ids grow with submission.

use vlad_wire::id::TaskId;

use crate::record::TaskRecord;
use crate::state::TaskState;

/// Most queued tasks of one cell: hours of work; beyond it a client floods.
pub const QUEUE_MAX: u32 = 1000;

/// Gives the task that shall have the cell next, if the cell is free.
///
/// Tasks of `queued` that are not `queued` any more are passed over.
pub fn next_for(cell_free: bool, queued: &[TaskRecord]) -> Option<TaskId> {
    let waiting = queued.iter().filter(|task| task.state == TaskState::Queued);
    waiting.map(|task| task.id).min().filter(|_| cell_free)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn task(n: u128, state: TaskState) -> TaskRecord {
        TaskRecord {
            id: format!("{n:026}").parse().unwrap(),
            cell: "demo".parse().unwrap(),
            instruction: "go".parse().unwrap(),
            max_duration_s: 1,
            labels: BTreeMap::new(),
            state,
            reason: None,
            attempt: 0,
            epoch: None,
            seed: 0,
            submitted_at_ms: 0,
            started_at_ms: None,
            ended_at_ms: None,
            verdict: None,
        }
    }

    #[test]
    fn the_oldest_waiting_task_has_a_free_cell() {
        let tasks = [
            task(3, TaskState::Queued),
            task(1, TaskState::Interrupted),
            task(2, TaskState::Queued),
        ];
        assert_eq!(next_for(true, &tasks), Some(tasks[2].id));
        assert_eq!(next_for(false, &tasks), None);
        assert_eq!(next_for(true, &tasks[1..2]), None);
        assert_eq!(next_for(true, &[]), None);
    }
}
