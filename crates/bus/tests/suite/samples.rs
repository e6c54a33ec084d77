//! One valid body of every stream and command, and how tests wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vlad_bus::bus::Bus;
use vlad_bus::counters::StreamCounters;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_wire::clock::ManualClock;
use vlad_wire::id::{CellId, ChunkId, Role, TaskId};
use vlad_wire::msg::command::{
    Answer, Estop, Lease, Park, Pause, Rearm, Reset, Resume, Signature, Speed,
};
use vlad_wire::msg::execute::{Accepted, ExecutedTicks, GuardCounters, GuardState};
use vlad_wire::msg::health::{Alive, Event, Fitness, Severity, Version};
use vlad_wire::msg::sense::{Echo, Frame, FrameHead, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{Outcome, TaskNow, Verdict};
use vlad_wire::msg::think::{
    Chunk, ChunkHead, Context, ContextPart, DType, Digest, PartData, PartHead, Start, Strategy,
    ThinkRequest,
};
use vlad_wire::stream::Stream;
use vlad_wire::text::{Name, Note};

/// Far above what any test takes: only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn cell() -> CellId {
    name("demo")
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn note(text: &str) -> Note {
    Note::new(text).unwrap()
}

/// A queue whose messages take no time, so that it behaves as a link in real time.
pub(crate) fn prompt_queue() -> Bus {
    Bus::queue(Arc::new(ManualClock::default()), |_| 0)
}

/// Waits for the next body.
pub(crate) async fn next<S: Stream>(subscriber: &mut Subscriber<S>, waker: &Waker) -> S::Body {
    let wait = async {
        loop {
            if let Some(body) = subscriber.try_next() {
                return body;
            }
            waker.woken().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("nothing arrived")
}

/// Lets other tasks run until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// The counters of one row.
pub(crate) fn counters(bus: &Bus, key: &str) -> StreamCounters {
    bus.counters()
        .into_iter()
        .find(|(row, _)| *row == key)
        .unwrap()
        .1
}

/// A valid body.
pub(crate) trait Sample {
    fn sample() -> Self;
}

fn task() -> TaskId {
    "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse().unwrap()
}

fn by() -> Signature {
    Signature {
        operator: note("ada"),
        reason: note("test"),
    }
}

pub(crate) fn frame(view: &str, seq: u64, width: u16, height: u16) -> Frame {
    let head = FrameHead {
        view: name(view),
        seq,
        captured_at_ns: 5,
        width,
        height,
    };
    let pixels: Vec<u8> = (0..=250).cycle().take(head.n_bytes()).collect();
    Frame {
        head,
        pixels: pixels.into(),
    }
}

pub(crate) fn event(at_ns: u64) -> Event {
    Event {
        cell: cell(),
        role: Role::Gateway,
        severity: Severity::Info,
        kind: name("mode_changed"),
        text: note("armed"),
        advice: None,
        task: None,
        chunk: None,
        at_ns,
        wall_ns: 0,
    }
}

impl Sample for Frame {
    fn sample() -> Self {
        frame("ego", 1, 4, 2)
    }
}

impl Sample for JointState {
    fn sample() -> Self {
        Self {
            tick: 1,
            servo_tick: 8,
            sampled_at_ns: 5,
            position: vec![0.5; 14],
            velocity: vec![0.0; 14],
            commanded: vec![0.5; 14],
            eef: Vec::new(),
            standstill: true,
            still_since_ns: 4,
            rate: 1.0,
            echo: Echo {
                challenge: u64::MAX,
                heard_at_ns: 5,
            },
        }
    }
}

impl Sample for TaskNow {
    fn sample() -> Self {
        Self {
            sent_at_ns: 1,
            last: None,
            task: None,
        }
    }
}

impl Sample for Observation {
    fn sample() -> Self {
        let frames = [frame("ego", 1, 4, 2), frame("left", 1, 2, 2)];
        let head = ObservationHead {
            seq: 1,
            tick: 1,
            captured_at_ns: 5,
            views: frames.iter().map(|frame| frame.head.clone()).collect(),
            state: vec![0.0; 32],
            state_at_ns: 5,
            truth: None,
        };
        Self {
            head,
            images: frames.into_iter().map(|frame| frame.pixels).collect(),
        }
    }
}

impl Sample for ThinkRequest {
    fn sample() -> Self {
        Self {
            id: 1,
            epoch: 1,
            task: task(),
            attempt: 1,
            requested_at_ns: 1,
            earliest_tick: 0,
            earliest_captured_ns: 0,
        }
    }
}

impl Sample for Context {
    fn sample() -> Self {
        let head = PartHead {
            request_id: 1,
            index: 0,
            name: name("plan"),
            dtype: DType::Bytes,
            shape: vec![3],
            thinking: 1,
            ready_at_ns: 1,
        };
        Self::Part(ContextPart {
            head,
            data: PartData::Bytes(Bytes::from_static(b"abc")),
        })
    }
}

impl Sample for Chunk {
    fn sample() -> Self {
        let head = ChunkHead {
            cell: cell(),
            epoch: 1,
            seq: 1,
            id: ChunkId {
                epoch: 1,
                request: 1,
            },
            task: task(),
            attempt: 1,
            obs_seq: 1,
            obs_tick: 1,
            view_captured_ns: vec![(name("ego"), 5)],
            captured_at_ns: 5,
            requested_at_ns: 6,
            acted_from_ns: 7,
            acted_until_ns: 8,
            start: Start::OnArrival,
            horizon: 2,
            width: 3,
            prefix_len: 0,
            frozen_len: 0,
            request_id: 1,
            strategy: Strategy::Sync,
            rate: 1.0,
            dt_ns: 33_333_333,
            noise_seed: 1,
            model_hash: Digest::default(),
            normaliser_hash: Digest::default(),
            frame_convention: name("joint_absolute"),
            mac: None,
        };
        Self {
            head,
            rows: vec![0.25; 6],
        }
    }
}

impl Sample for Accepted {
    fn sample() -> Self {
        Self {
            epoch: 1,
            sampled_at_ns: 1,
            tick: 1,
            mode: "running".parse().unwrap(),
            reason: "playing".parse().unwrap(),
            chunk: None,
            strategy: None,
            played: 1,
            width: 2,
            rows: vec![0.5; 4],
        }
    }
}

impl Sample for ExecutedTicks {
    fn sample() -> Self {
        Self { ticks: Vec::new() }
    }
}

impl Sample for Verdict {
    fn sample() -> Self {
        Self {
            task: task(),
            attempt: 1,
            outcome: Outcome::Done,
            reason: note("the block is in the tray"),
            judged_at_ns: 1,
            tick: 1,
        }
    }
}

impl Sample for GuardState {
    fn sample() -> Self {
        Self {
            mode: "running".parse().unwrap(),
            reason: "playing".parse().unwrap(),
            since_ns: 1,
            sent_at_ns: 2,
            epoch: 1,
            lease: None,
            tick: 1,
            ticks_per_s: 30.0,
            counters: GuardCounters::default(),
            speed_limit: 1.0,
            stop_ms: 0.0,
        }
    }
}

impl Sample for Event {
    fn sample() -> Self {
        event(1)
    }
}

impl Sample for Alive {
    fn sample() -> Self {
        Self {
            role: Role::Brain,
            session: 7,
            seq: 1,
            challenge: 3,
            echo: 0,
            version: Version {
                layout: 1,
                package: note("0.1.0"),
            },
            in_flight: None,
            fitness: Fitness::Fit,
            policy: None,
            sent_at_ns: 1,
        }
    }
}

impl Sample for Lease {
    fn sample() -> Self {
        Self::Grant {
            epoch: 2,
            task: task(),
            attempt: 1,
            ttl_ms: 1000,
        }
    }
}

impl Sample for Rearm {
    fn sample() -> Self {
        Self {
            epoch: 2,
            by: by(),
            expected_pose: vec![0.0; 14],
        }
    }
}

impl Sample for Resume {
    fn sample() -> Self {
        Self {
            epoch: 2,
            by: by(),
            expected_pose: vec![0.0; 14],
        }
    }
}

impl Sample for Pause {
    fn sample() -> Self {
        Self { by: by() }
    }
}

impl Sample for Park {
    fn sample() -> Self {
        Self { epoch: 2, by: by() }
    }
}

impl Sample for Speed {
    fn sample() -> Self {
        Self {
            rate: 0.5,
            by: by(),
        }
    }
}

impl Sample for Estop {
    fn sample() -> Self {
        Self { by: by() }
    }
}

impl Sample for Reset {
    fn sample() -> Self {
        Self { epoch: 2, by: by() }
    }
}

impl Sample for Answer {
    fn sample() -> Self {
        Self {
            done: true,
            text: note("stopped"),
            mode: "estopped".parse().unwrap(),
            reason: "playing".parse().unwrap(),
            epoch: 2,
        }
    }
}
