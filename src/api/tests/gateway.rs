//! A gateway in memory: one cell, tasks in a map, an episode log in a folder that goes with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};
use ulid::Ulid;
use vlad_actors::gateway::desk::{
    Desk, DeskError, DeskServer, GuardOrder, Order, Snapshot, TaskPage, desk,
};
use vlad_actors::gateway::view::{
    CameraView, CellView, FrameView, JointView, NumberedEvent, Readiness, RoleView, StreamView,
};
use vlad_bus::waker::Waker;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_store::episode::{Ending, EpisodeMeta, ImageData, StoredImage};
use vlad_store::episodes::EpisodeStore;
use vlad_store::tasks::Submitted;
use vlad_task::record::TaskRecord;
use vlad_task::state::{Event as TaskEvent, TaskState, transition};
use vlad_task::submit::{IdempotencyKey, Submission};
use vlad_wire::id::{EpisodeId, Role, TaskId};
use vlad_wire::msg::command::Answer;
use vlad_wire::msg::execute::GuardCounters;
use vlad_wire::msg::health::{Event, PolicyLabel, Severity};
use vlad_wire::msg::sense::{Frame, FrameHead};
use vlad_wire::msg::think::Digest;
use vlad_wire::text::{Name, Note};

/// The id of the episode that the log holds.
pub(super) const EPISODE: &str = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1";

/// A gateway that answers from memory.
pub(super) struct Gateway {
    pub(super) desk: Desk,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) events: broadcast::Sender<NumberedEvent>,
    dir: PathBuf,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Gateway {
    pub(super) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(format!("vlad-api-{unique}"));
        let (desk, server) = desk(Waker::new());
        let DeskServer {
            mut orders,
            snapshot,
            events,
        } = server;
        snapshot.send_replace(first_snapshot());
        tokio::spawn(async move {
            let mut tasks = Tasks::default();
            while let Some(order) = orders.recv().await {
                tasks.take(order);
            }
        });
        Self {
            desk,
            snapshot,
            events,
            dir,
        }
    }

    /// Opens the log and writes one episode with some motion, a lossless image 3 and a JPEG 5.
    pub(super) fn episodes(&self) -> EpisodeStore {
        let store = EpisodeStore::open(&self.dir).unwrap();
        let id: EpisodeId = EPISODE.parse().unwrap();
        store.begin(&meta(id)).unwrap();
        crate::motion_report::testing::write(&store, &id);
        let frame = frame();
        let png = vlad_store::png::encode_fast(&frame).unwrap();
        let jpeg = vlad_store::jpeg::encode(&frame, 90).unwrap();
        for (n, data) in [
            (3, ImageData::Png(png.into())),
            (5, ImageData::Jpeg(jpeg.into())),
        ] {
            let head = frame.head.clone();
            let image = StoredImage {
                n,
                head,
                for_context: n == 3,
                data,
            };
            store.append_image(&id, &image).unwrap();
        }
        let ending = Ending {
            outcome: name("succeeded"),
            reason: Some(note("oracle")),
            ended_at_ns: 2_000_000_000,
            ended_at_ms: 2000,
            not_replayable_from_ns: None,
            dropped: 0,
        };
        store.finish(&id, &ending).unwrap();
        store
    }

    /// Says that something happened.
    pub(super) fn tell(&self, id: u64, text: &str) {
        let event = Event {
            cell: name("demo"),
            role: Role::Actuator,
            severity: Severity::Warn,
            kind: name("mode_changed"),
            text: note(text),
            advice: Some(note("nothing")),
            task: None,
            chunk: None,
            at_ns: 1,
            wall_ns: 2_000_000,
        };
        self.events.send(NumberedEvent { id, event }).unwrap();
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn note(text: &str) -> Note {
    Note::new(text).unwrap()
}

fn meta(id: EpisodeId) -> EpisodeMeta {
    EpisodeMeta {
        id,
        cell: name("demo"),
        instruction: "put the red block in the left tray".parse().unwrap(),
        epoch: 1,
        seed: 7,
        began_at_ns: 0,
        began_at_ms: 1000,
        policy: None,
        model_hash: None,
        normaliser_hash: None,
        config_hash: None,
        n_threads: None,
        package: note("0.0.0-test"),
    }
}

/// A small image with some structure.
pub(super) fn frame() -> Frame {
    let pixels: Vec<u8> = (0..16 * 8 * 3)
        .map(|i| u8::try_from(i % 256).unwrap())
        .collect();
    let head = FrameHead {
        view: name("ego"),
        seq: 42,
        captured_at_ns: 1,
        width: 16,
        height: 8,
    };
    Frame {
        head,
        pixels: Bytes::from(pixels),
    }
}

fn first_snapshot() -> Snapshot {
    let Frame { head, pixels } = frame();
    Snapshot {
        cells: vec![cell()],
        frames: vec![(name("demo"), name("ego"), FrameView { head, pixels })],
        readiness: Readiness::default(),
    }
}

/// A cell that is armed, with one brain, one joint, one camera.
pub(super) fn cell() -> CellView {
    CellView {
        id: name("demo"),
        robot: name("demo_arms"),
        simulated: true,
        mode: Some(Mode::Armed),
        reason: Some(Reason::Rearmed),
        mode_age_ms: 5.0,
        epoch: 3,
        tick: 9,
        ticks_per_s: 29.5,
        speed_limit: 1.0,
        counters: GuardCounters {
            accepted: 17,
            ..GuardCounters::default()
        },
        joints: vec![JointView {
            name: name("left_joint_1"),
            unit: name("rad"),
            position: 0.25,
            velocity: f64::NAN,
            commanded: 0.5,
        }],
        eef: Vec::new(),
        roles: vec![RoleView {
            role: Role::Brain,
            alive: true,
            unfit: None,
            policy: Some(PolicyLabel {
                name: name("scripted"),
                note: note("reads the scene's object poses; not a network"),
                model_hash: Digest::default(),
                normaliser_hash: Digest::default(),
            }),
            version: note("0.0.0-test"),
            age_ms: 12.0,
        }],
        streams: vec![StreamView {
            key: "joints".to_owned(),
            rate_hz: 240.0,
            age_ms: f64::INFINITY,
        }],
        cameras: vec![CameraView {
            view: name("ego"),
            width: 16,
            height: 8,
            rate_hz: 30.0,
        }],
        task: None,
        strategy: name("sync"),
        not_ready: Vec::new(),
        not_warm: Vec::new(),
    }
}

#[derive(Default)]
struct Tasks {
    records: BTreeMap<TaskId, TaskRecord>,
    keys: BTreeMap<IdempotencyKey, (Submission, TaskId)>,
    count: u64,
}

impl Tasks {
    fn take(&mut self, order: Order) {
        // Whether anybody still waits for an answer does not matter here.
        match order {
            Order::Submit(submission, key, reply) => {
                let _ = reply.send(self.submit(*submission, key));
            }
            Order::Show(id, reply) => {
                let _ = reply.send(self.get(id));
            }
            Order::List(query, reply) => {
                let fits = |task: &&TaskRecord| {
                    query.state.is_none_or(|state| state == task.state)
                        && query.cursor.is_none_or(|cursor| task.id < cursor)
                };
                let all: Vec<_> = self.records.values().rev().filter(fits).cloned().collect();
                let items: Vec<_> = all.iter().take(query.limit).cloned().collect();
                let more = items.len() < all.len();
                let next = items.last().filter(|_| more).map(|task| task.id);
                let _ = reply.send(Ok(TaskPage { items, next }));
            }
            Order::Cancel(id, by, reply) => {
                let _ = reply.send(self.apply(id, TaskEvent::CancelAsked, &by.reason));
            }
            Order::Verdict(id, result, by, reply) => {
                let _ = reply.send(self.apply(id, result.event(), &by.reason));
            }
            Order::Guard(cell, order, by, reply) => {
                let _ = reply.send(command(&cell, order, by.operator.as_str()));
            }
        }
    }

    fn submit(
        &mut self,
        submission: Submission,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, DeskError> {
        if let Some((before, id)) = key.as_ref().and_then(|key| self.keys.get(key)) {
            if *before != submission {
                return Err(DeskError::KeyReused);
            }
            return Ok(Submitted {
                record: self.get(*id)?,
                repeated: true,
            });
        }
        self.count += 1;
        let id = TaskId(Ulid::from_parts(self.count, 1));
        if let Some(key) = key {
            self.keys.insert(key, (submission.clone(), id));
        }
        let record = TaskRecord {
            id,
            cell: submission.cell,
            instruction: submission.instruction,
            max_duration_s: submission.max_duration_s,
            labels: submission.labels,
            state: TaskState::Queued,
            reason: None,
            attempt: 0,
            epoch: None,
            seed: 1,
            submitted_at_ms: 1000,
            started_at_ms: None,
            ended_at_ms: None,
            verdict: None,
        };
        self.records.insert(id, record.clone());
        Ok(Submitted {
            record,
            repeated: false,
        })
    }

    fn get(&self, id: TaskId) -> Result<TaskRecord, DeskError> {
        let missing = || DeskError::NotFound {
            kind: "task",
            id: id.to_string(),
        };
        self.records.get(&id).cloned().ok_or_else(missing)
    }

    fn apply(&mut self, id: TaskId, event: TaskEvent, why: &Note) -> Result<TaskRecord, DeskError> {
        let mut record = self.get(id)?;
        record.state = transition(record.state, event)
            .map_err(|refused| DeskError::Conflict(refused.to_string()))?;
        record.reason = Some(why.clone());
        self.records.insert(id, record.clone());
        Ok(record)
    }
}

/// A guard that refuses nobody but `mallory`.
fn command(cell: &Name, order: GuardOrder, operator: &str) -> Result<Answer, DeskError> {
    if cell.as_str() != "demo" {
        return Err(DeskError::NotFound {
            kind: "cell",
            id: cell.to_string(),
        });
    }
    let (mode, reason) = match order {
        GuardOrder::Estop => (Mode::Estopped, Reason::EmergencyStop),
        GuardOrder::Reset => (Mode::Disarmed, Reason::Reset),
        GuardOrder::Rearm => (Mode::Armed, Reason::Rearmed),
        GuardOrder::Park => (Mode::Running, Reason::Parking),
        GuardOrder::Speed(_) => (Mode::Running, Reason::Playing),
    };
    let done = operator != "mallory";
    let text = note(if done { "done" } else { "it is latched" });
    Ok(Answer {
        done,
        text,
        mode,
        reason,
        epoch: 4,
    })
}
