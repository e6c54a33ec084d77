//! Stories of tasks, each on a real file.

use std::collections::BTreeMap;
use std::sync::Arc;

use vlad_task::actor::Actor;
use vlad_task::record::VerdictResult;
use vlad_wire::clock::{ManualClock, SECOND};
use vlad_wire::id::Role;

use super::lease::Intent;
use super::*;
use crate::temp::TempDir;

struct Story {
    temp: TempDir,
    clock: Arc<ManualClock>,
    store: TaskStore,
}

impl Story {
    fn new() -> Self {
        let (temp, clock) = (TempDir::new(), Arc::new(ManualClock::default()));
        let store = TaskStore::open(temp.path(), clock.clone()).unwrap();
        Self { temp, clock, store }
    }

    /// What a restart of the daemon sees.
    fn reopen(self) -> Self {
        let Self { temp, clock, store } = self;
        drop(store);
        let store = TaskStore::open(temp.path(), clock.clone()).unwrap();
        Self { temp, clock, store }
    }

    /// A second pair of hands on the file.
    fn raw(&self) -> Connection {
        Connection::open(self.temp.path().join("tasks.sqlite")).unwrap()
    }

    fn submit(&mut self, cell: &str) -> TaskId {
        self.store
            .submit(&body(cell, "go"), None, &note("cli"))
            .unwrap()
            .record
            .id
    }

    fn lease(&mut self, cell: &str) -> TaskRecord {
        let id = self.submit(cell);
        self.store.grant_lease(&id, 1000, &system()).unwrap()
    }

    fn run(&mut self, cell: &str) -> TaskRecord {
        let intent = intent(&self.lease(cell));
        self.store.intend(&intent, &system()).unwrap().record
    }

    fn apply(&mut self, id: &TaskId, event: Event) -> Result<TaskRecord, TaskStoreError> {
        let by = if event.needs_operator() {
            operator()
        } else {
            system()
        };
        self.store.apply(id, event, &by, &note("because"))
    }
}

fn note(text: &str) -> Note {
    Note::new(text).unwrap()
}

fn system() -> Actor {
    Actor::System(Role::Gateway)
}

fn operator() -> Actor {
    Actor::Operator(note("ada"))
}

fn body(cell: &str, instruction: &str) -> Submission {
    Submission {
        cell: cell.parse().unwrap(),
        instruction: instruction.parse().unwrap(),
        max_duration_s: 60,
        labels: BTreeMap::from([("shift".parse().unwrap(), note("night \"7\""))]),
    }
}

fn intent(task: &TaskRecord) -> Intent {
    Intent {
        task: task.id,
        attempt: task.attempt,
        epoch: task.epoch.unwrap(),
        pose: vec![0.25, -1.5],
        plan_hash: vec![7; 32].into(),
    }
}

#[test]
fn a_submitted_task_is_there_after_a_reopen() {
    let mut story = Story::new();
    let submitted = story
        .store
        .submit(&body("demo", "go"), None, &note("cli"))
        .unwrap();
    assert!(!submitted.repeated);
    let story = story.reopen();
    let record = story.store.get(&submitted.record.id).unwrap();
    assert_eq!(record, submitted.record);
    assert_eq!(
        (record.state, record.attempt, record.epoch),
        (TaskState::Queued, 0, None)
    );
    assert_eq!(record.labels, body("demo", "go").labels);
    assert!(record.seed < 1 << 53);
    let unknown = TaskId(ulid::Ulid(1));
    assert!(
        matches!(story.store.get(&unknown), Err(TaskStoreError::NotFound(id)) if id == unknown)
    );
}

#[test]
fn one_key_is_one_task() {
    let mut story = Story::new();
    let (key, client): (IdempotencyKey, _) = ("k-1".parse().unwrap(), note("cli"));
    let first = story
        .store
        .submit(&body("demo", "go"), Some(&key), &client)
        .unwrap();
    let mut story = story.reopen();
    let again = story
        .store
        .submit(&body("demo", "go"), Some(&key), &client)
        .unwrap();
    assert_eq!((again.record.id, again.repeated), (first.record.id, true));
    let other = story
        .store
        .submit(&body("demo", "stop"), Some(&key), &client);
    assert!(matches!(other, Err(SubmitError::Conflict { task }) if task == first.record.id));
    let stranger = story
        .store
        .submit(&body("demo", "go"), Some(&key), &note("page"))
        .unwrap();
    assert!(!stranger.repeated);
    assert_eq!(
        story
            .store
            .list(&TaskFilter::default(), None, 10)
            .unwrap()
            .0
            .len(),
        2
    );
}

#[test]
fn a_key_is_forgotten_after_its_life_and_not_before() {
    let mut story = Story::new();
    let (key, client): (IdempotencyKey, _) = ("k-1".parse().unwrap(), note("cli"));
    let submit = |story: &mut Story| {
        story
            .store
            .submit(&body("demo", "go"), Some(&key), &client)
            .unwrap()
            .repeated
    };
    assert!(!submit(&mut story));
    story.clock.advance_to(KEY_LIFE_MS * MS);
    assert!(submit(&mut story));
    story.clock.advance_to((KEY_LIFE_MS + 1) * MS);
    assert!(!submit(&mut story));
}

#[test]
fn what_is_out_of_bounds_is_not_taken() {
    let mut story = Story::new();
    let mut long = body("demo", "go");
    long.max_duration_s = 0;
    let refused = story.store.submit(&long, None, &note("cli"));
    assert!(matches!(refused, Err(SubmitError::Invalid(_))));
    for _ in 0..QUEUE_MAX {
        story.submit("demo");
    }
    let refused = story.store.submit(&body("demo", "go"), None, &note("cli"));
    assert!(matches!(refused, Err(SubmitError::QueueFull { .. })));
    assert!(
        story
            .store
            .submit(&body("other", "go"), None, &note("cli"))
            .is_ok()
    );
}

#[test]
fn lists_are_newest_first_and_pages_meet() {
    let mut story = Story::new();
    let ids: Vec<_> = (0..7)
        .map(|i| story.submit(if i == 3 { "b" } else { "a" }))
        .collect();
    assert!(ids.is_sorted());
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = story.store.list(&TaskFilter::default(), cursor, 3).unwrap();
        seen.extend(page.iter().map(|task| task.id));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    seen.reverse();
    assert_eq!(seen, ids);
    story.apply(&ids[0], Event::CancelAsked).unwrap();
    let count = |cell: Option<&str>, state| {
        let filter = TaskFilter {
            cell: cell.map(|cell| cell.parse().unwrap()),
            state,
        };
        story.store.list(&filter, None, 100).unwrap().0.len()
    };
    assert_eq!(count(Some("b"), None), 1);
    assert_eq!(count(Some("a"), Some(TaskState::Queued)), 5);
    assert_eq!(count(None, Some(TaskState::Cancelled)), 1);
    let queue = story.store.queue(&"a".parse().unwrap(), 2).unwrap();
    assert_eq!(
        queue.iter().map(|task| task.id).collect::<Vec<_>>(),
        ids[1..3]
    );
}

#[test]
fn epochs_grow_strictly_over_restarts_and_each_cell_has_its_own() {
    let (mut story, demo, other) = (
        Story::new(),
        "demo".parse().unwrap(),
        "other".parse().unwrap(),
    );
    let mut epochs = Vec::new();
    for _ in 0..3 {
        epochs.push(story.store.next_epoch(&demo).unwrap());
        epochs.push(story.lease("demo").epoch.unwrap());
        let holder = story.store.holder(&demo).unwrap().unwrap();
        story
            .apply(&holder.id, Event::LeaseLostBeforeIntent)
            .unwrap();
        story.apply(&holder.id, Event::CancelAsked).unwrap();
        story = story.reopen();
    }
    assert_eq!(epochs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(story.store.next_epoch(&other).unwrap(), 1);
    let raw = story.raw();
    assert!(
        raw.execute("UPDATE epochs SET epoch = 2 WHERE cell = 'demo'", [])
            .is_err()
    );
    assert!(raw.execute("DELETE FROM epochs", []).is_err());
}

#[test]
fn one_task_has_the_cell() {
    let mut story = Story::new();
    let first = story.lease("demo");
    let second = story.submit("demo");
    let refused = story.store.grant_lease(&second, 1000, &system());
    assert!(matches!(refused, Err(TaskStoreError::CellTaken { by, .. }) if by == first.id));
    assert_eq!(story.store.get(&second).unwrap().attempt, 0);
    let raw = story.raw();
    let forced = raw.execute(
        "UPDATE tasks SET state = 'running' WHERE id = ?1",
        [second.to_string()],
    );
    assert!(forced.is_err());
    assert!(story.store.grant_lease(&first.id, 1000, &system()).is_err());
    assert_ne!(story.lease("other").id, first.id);
}

#[test]
fn a_try_moves_at_most_once() {
    let mut story = Story::new();
    let leased = story.lease("demo");
    let plan = intent(&leased);
    let wrong = Intent {
        epoch: plan.epoch + 1,
        ..plan.clone()
    };
    let refused = story.store.intend(&wrong, &system());
    assert!(matches!(refused, Err(TaskStoreError::OtherTry { .. })));
    let done = story.store.intend(&plan, &system()).unwrap();
    assert_eq!(
        (done.record.state, done.repeated),
        (TaskState::Running, false)
    );
    let mut story = story.reopen();
    assert_eq!(
        story.store.intent(&plan.task, 1).unwrap(),
        Some(plan.clone())
    );
    assert!(story.store.intend(&plan, &system()).unwrap().repeated);
    let other = Intent {
        plan_hash: vec![8; 32].into(),
        ..plan.clone()
    };
    let refused = story.store.intend(&other, &system());
    assert!(matches!(refused, Err(TaskStoreError::OtherIntent { .. })));
    story.apply(&plan.task, Event::Lost).unwrap();
    assert!(matches!(
        story.store.intend(&plan, &system()),
        Err(TaskStoreError::Refused(_))
    ));
    story.apply(&plan.task, Event::VerdictRequeue).unwrap();
    let second = story
        .store
        .grant_lease(&plan.task, 1000, &system())
        .unwrap();
    assert_eq!((second.attempt, second.epoch), (2, Some(2)));
    let refused = story.store.intend(&plan, &system());
    assert!(matches!(refused, Err(TaskStoreError::OtherTry { .. })));
    assert!(
        !story
            .store
            .intend(&intent(&second), &system())
            .unwrap()
            .repeated
    );
    assert_eq!(
        second.episode().unwrap().to_string(),
        format!("{}-2", plan.task)
    );
}

#[test]
fn an_intent_out_of_bounds_is_refused() {
    let mut story = Story::new();
    let plan = intent(&story.lease("demo"));
    for bad in [
        Intent {
            pose: vec![f64::NAN],
            ..plan.clone()
        },
        Intent {
            pose: vec![0.0; 33],
            ..plan.clone()
        },
        Intent {
            plan_hash: vec![0; 65].into(),
            ..plan.clone()
        },
    ] {
        let refused = story.store.intend(&bad, &system());
        assert!(matches!(refused, Err(TaskStoreError::OutOfBounds { .. })));
    }
    assert_eq!(
        story.store.get(&plan.task).unwrap().state,
        TaskState::Leased
    );
}

#[test]
fn a_run_has_its_times_reason_and_verdict() {
    let mut story = Story::new();
    story.clock.advance_to(SECOND);
    let running = story.run("demo");
    story.clock.advance_to(2 * SECOND);
    let done = story.apply(&running.id, Event::OracleDone).unwrap();
    assert_eq!(
        done.ended_at_ms.unwrap() - done.started_at_ms.unwrap(),
        1000
    );
    assert_eq!(
        (done.state, done.reason),
        (TaskState::Succeeded, Some(note("because")))
    );
    assert_eq!(done.verdict, None);
    let lost = story.run("demo");
    story.apply(&lost.id, Event::Lost).unwrap();
    let judged = story.apply(&lost.id, Event::VerdictFailed).unwrap();
    let verdict = judged.verdict.unwrap();
    assert_eq!(
        (verdict.result, verdict.operator),
        (VerdictResult::Failed, note("ada"))
    );
    assert!(matches!(
        story.apply(&lost.id, Event::CancelAsked),
        Err(TaskStoreError::Refused(_))
    ));
}

#[test]
fn a_refused_event_changes_nothing() {
    let mut story = Story::new();
    let running = story.run("demo");
    let rows = story.store.audit(0, 100).unwrap().len();
    for (event, by) in [
        (Event::Expired, system()),
        (Event::CancelAsked, system()),
        (Event::VerdictSucceeded, system()),
        (Event::LeaseGranted, operator()),
        (Event::MotionIntended, operator()),
    ] {
        assert!(
            story
                .store
                .apply(&running.id, event, &by, &note("no"))
                .is_err(),
            "{event}"
        );
    }
    assert_eq!(story.store.get(&running.id).unwrap(), running);
    assert_eq!(story.store.audit(0, 100).unwrap().len(), rows);
}

#[test]
fn a_boot_takes_back_what_moved_and_nothing_else() {
    let mut story = Story::new();
    let queued = story.submit("a");
    let leased = story.lease("b").id;
    let running = story.run("c").id;
    let cancelling = story.run("d").id;
    story.apply(&cancelling, Event::CancelAsked).unwrap();
    let unmoved = story.lease("e").id;
    story.apply(&unmoved, Event::CancelAsked).unwrap();
    let ended = story.run("f").id;
    story.apply(&ended, Event::OracleDone).unwrap();
    let interrupted = story.run("g").id;
    story.apply(&interrupted, Event::Lost).unwrap();
    let mut story = story.reopen();
    let changed = story.store.recover().unwrap();
    let table = [
        (leased, TaskState::Queued),
        (running, TaskState::Interrupted),
        (cancelling, TaskState::Interrupted),
        (unmoved, TaskState::Cancelled),
    ];
    let got: Vec<_> = changed.iter().map(|task| (task.id, task.state)).collect();
    assert_eq!(got, table);
    for (id, state) in table.into_iter().chain([
        (queued, TaskState::Queued),
        (ended, TaskState::Succeeded),
        (interrupted, TaskState::Interrupted),
    ]) {
        assert_eq!(story.store.get(&id).unwrap().state, state);
    }
    assert!(story.store.recover().unwrap().is_empty());
    let open = "SELECT count(*) FROM leases WHERE released_at_ms IS NULL";
    assert_eq!(
        story.raw().query_row(open, [], |row| row.get::<_, i64>(0)),
        Ok(0)
    );
}

#[test]
fn a_latch_outlives_the_daemon_until_a_reset() {
    let (mut story, cell): (_, CellId) = (Story::new(), "demo".parse().unwrap());
    let (mode, reason) = ("estopped".parse().unwrap(), "operator".parse().unwrap());
    story
        .store
        .set_latch(&cell, Some((&mode, &reason)), &operator(), &note("smoke"))
        .unwrap();
    story
        .store
        .set_latch(&cell, Some((&mode, &reason)), &operator(), &note("again"))
        .unwrap();
    let mut story = story.reopen();
    let latch = story.store.latch(&cell).unwrap().unwrap();
    assert_eq!((&latch.mode, &latch.reason), (&mode, &reason));
    story
        .store
        .set_latch(&cell, None, &operator(), &note("no more smoke"))
        .unwrap();
    assert_eq!(story.reopen().store.latch(&cell).unwrap(), None);
}

#[test]
fn the_audit_says_who_and_why_and_shows_a_change() {
    let mut story = Story::new();
    let id = story.submit("demo");
    story.apply(&id, Event::CancelAsked).unwrap();
    let rows = story.store.audit(0, 100).unwrap();
    assert_eq!(story.store.verify_audit().unwrap(), 2);
    let last = &rows[1];
    assert_eq!(last.object, format!("task:{id}"));
    let said = [
        &last.actor,
        &last.role,
        &last.action,
        &last.from,
        &last.to,
        &last.reason,
    ];
    assert_eq!(
        said,
        [
            "ada",
            "operator",
            "cancel_asked",
            "queued",
            "cancelled",
            "because"
        ]
    );
    let raw = story.raw();
    assert!(
        raw.execute("UPDATE audit SET actor = 'bob' WHERE seq = 2", [])
            .is_err()
    );
    assert!(raw.execute("DELETE FROM audit", []).is_err());
    raw.execute_batch("DROP TRIGGER audit_no_update; UPDATE audit SET actor = 'x' WHERE seq = 1")
        .unwrap();
    let broken = story.store.verify_audit();
    assert!(matches!(
        broken,
        Err(TaskStoreError::AuditBroken { seq: 1 })
    ));
}

#[test]
fn a_newer_or_damaged_database_is_refused() {
    let mut story = Story::new();
    for _ in 0..50 {
        story.submit("demo");
    }
    let file = story.temp.path().join("tasks.sqlite");
    story.raw().pragma_update(None, "user_version", 99).unwrap();
    let Story { temp, clock, store } = story;
    drop(store);
    let refused = TaskStore::open(temp.path(), clock.clone());
    assert!(matches!(
        refused,
        Err(TaskStoreError::Newer { found: 99, .. })
    ));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xAA);
    std::fs::write(&file, bytes).unwrap();
    let refused = TaskStore::open(temp.path(), clock);
    assert!(matches!(
        refused,
        Err(TaskStoreError::Damaged { .. } | TaskStoreError::Sqlite(_))
    ));
}

#[test]
fn what_is_over_stays_over_below_the_code_too() {
    let mut story = Story::new();
    let id = story.submit("demo");
    story.apply(&id, Event::CancelAsked).unwrap();
    let raw = story.raw();
    assert!(
        raw.execute("UPDATE tasks SET state = 'queued'", [])
            .is_err()
    );
    assert!(
        raw.execute("UPDATE tasks SET state = 'flying'", [])
            .is_err()
    );
}

#[test]
fn a_value_that_no_build_writes_is_an_error() {
    let mut story = Story::new();
    let id = story.submit("demo");
    story
        .raw()
        .execute("UPDATE tasks SET cell = '../etc'", [])
        .unwrap();
    let damaged = story.store.get(&id);
    assert!(matches!(damaged, Err(TaskStoreError::Damaged { .. })));
}
