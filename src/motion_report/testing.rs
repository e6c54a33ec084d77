//! A short episode for tests, as the recorder would have written it.
//!
//! Ticks 100 to 121 of 32 ms: a chunk, a second one with a prefix, a planned gap of three ticks, a
//! third one. Three further chunks are late, refused and without an answer.

use vlad_motion::metrics::LogShape;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_store::episode::Stamp;
use vlad_store::episodes::EpisodeStore;
use vlad_store::record::RecordKind;
use vlad_wire::codec::Body;
use vlad_wire::id::{ChunkId, EpisodeId, Role, Tick};
use vlad_wire::msg::execute::{
    Accepted, Executed, ExecutedTicks, GuardCounters, GuardState, Source,
};
use vlad_wire::msg::health::{Event, Severity};
use vlad_wire::msg::think::{Chunk, ChunkHead, Digest, Start, Strategy};
use vlad_wire::robot_type::SlotMap;
use vlad_wire::text::{Name, Note};

use super::{CellShape, Dof, Recorded};

pub(crate) const SERVO_NS: u64 = 4_000_000;
pub(crate) const TICK_NS: u64 = 8 * SERVO_NS;
/// First tick of the episode.
pub(crate) const BEGIN: Tick = 100;
/// The tick after its last one.
pub(crate) const END: Tick = 122;
/// Ticks without an action, in a planned gap.
pub(crate) const GAP: std::ops::Range<Tick> = 114..117;
/// Ticks that are played.
pub(crate) const PLAYED: usize = 19;

/// When a servo tick is.
pub(crate) fn at(tick: Tick, step: u64) -> u64 {
    1_000_000_000 + u64::try_from(tick - BEGIN + 10).unwrap() * TICK_NS + step * SERVO_NS
}

/// A cell with one joint in the second of two slots.
pub(crate) fn shape() -> CellShape {
    CellShape {
        log: LogShape {
            slots: SlotMap::new(2, vec![1]).unwrap(),
            dt_ns: TICK_NS,
            servo_dt_ns: SERVO_NS,
            ticks_per_decision: 5,
            intervention_bits: 0b11,
            stop_limits: vec![],
        },
        dofs: vec![Dof {
            name: "left_joint_1".to_owned(),
            unit: "rad",
        }],
        age_limit_ns: 700_000_000,
        config_hash: Digest::from(vec![7; 32]),
    }
}

/// Which chunk plays a tick, with the tick of its row 0.
fn owner(tick: Tick) -> Option<(u64, Tick)> {
    match tick {
        100..106 => Some((1, 100)),
        106..114 => Some((2, 104)),
        117..122 => Some((3, 117)),
        _ => None,
    }
}

/// All servo ticks of the episode.
pub(crate) fn executed() -> Vec<Executed> {
    let ticks = (BEGIN..END).flat_map(|tick| (0..8).map(move |step| (tick, step)));
    let mut position = 0.0;
    ticks
        .map(|(tick, step)| {
            let playing = owner(tick);
            position += if playing.is_some() { 1e-3 } else { 0.0 };
            Executed {
                tick,
                servo_tick: u64::try_from(tick).unwrap() * 8 + step,
                epoch: 1,
                scheduled_at_ns: at(tick, step),
                woke_at_ns: at(tick, step),
                sent_at_ns: at(tick, step),
                source: if playing.is_some() {
                    Source::Policy
                } else {
                    Source::Hold
                },
                chunk: playing.map(|(request, _)| ChunkId { epoch: 1, request }),
                index: playing.map(|(_, first)| u16::try_from(tick - first).unwrap()),
                command: vec![position],
                measured: vec![position],
                flags: 0,
                mode: if GAP.contains(&tick) {
                    Mode::Hold
                } else {
                    Mode::Running
                },
            }
        })
        .collect()
}

/// A chunk of ten rows that was seen two ticks before `first`, asked for then, and ready half a tick
/// before it.
pub(crate) fn chunk(request: u64, (start, first): (Start, Tick), prefix_len: u16) -> Chunk {
    let head = ChunkHead {
        cell: Name::new("demo").unwrap(),
        epoch: 1,
        seq: request,
        id: ChunkId { epoch: 1, request },
        task: "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse().unwrap(),
        attempt: 1,
        obs_seq: request,
        obs_tick: first - 2,
        view_captured_ns: vec![],
        captured_at_ns: at(first - 2, 0),
        requested_at_ns: at(first - 2, 0),
        acted_from_ns: at(first - 1, 0),
        acted_until_ns: at(first - 1, 4),
        start,
        horizon: 10,
        width: 2,
        prefix_len,
        frozen_len: prefix_len,
        request_id: request,
        strategy: Strategy::CleanPrefix,
        rate: 1.0,
        dt_ns: TICK_NS,
        noise_seed: 0,
        model_hash: Digest::default(),
        normaliser_hash: Digest::default(),
        frame_convention: Name::new("joint_absolute").unwrap(),
        mac: None,
    };
    let from = u16::try_from(first - BEGIN).unwrap();
    let rows = (from..from + 10).flat_map(|row| [0.0, 8e-3 * f32::from(row)]);
    Chunk {
        rows: rows.collect(),
        head,
    }
}

/// What the guard says of a chunk.
pub(crate) fn event(kind: &str, request: u64, at_ns: u64) -> Event {
    Event {
        cell: Name::new("demo").unwrap(),
        role: Role::Actuator,
        severity: Severity::Info,
        kind: Name::new(kind).unwrap(),
        text: Note::new("a chunk").unwrap(),
        advice: None,
        task: None,
        chunk: Some(ChunkId { epoch: 1, request }),
        at_ns,
        wall_ns: 0,
    }
}

/// The guard's state, said at `tick`.
pub(crate) fn guard(mode: Mode, reason: Reason, (since, tick): (Tick, Tick)) -> GuardState {
    GuardState {
        mode,
        reason,
        since_ns: at(since, 0),
        sent_at_ns: at(tick, 0),
        epoch: 1,
        lease: None,
        tick,
        ticks_per_s: 30.0,
        counters: GuardCounters::default(),
        speed_limit: 1.0,
        stop_ms: 0.0,
    }
}

/// The episode as it is read.
pub(crate) fn recorded() -> Recorded {
    Recorded {
        executed: executed(),
        chunks: vec![
            chunk(1, (Start::OnArrival, 100), 0),
            chunk(2, (Start::At(104), 104), 2),
            chunk(4, (Start::At(106), 106), 2),
            chunk(5, (Start::At(107), 107), 0),
            chunk(3, (Start::OnArrival, 117), 0),
            chunk(6, (Start::At(121), 121), 0),
        ],
        guards: vec![
            guard(Mode::Running, Reason::Playing, (100, 100)),
            guard(Mode::Hold, Reason::Thinking, (114, 114)),
            guard(Mode::Running, Reason::Playing, (117, 117)),
        ],
        events: vec![
            event("chunk_accepted", 1, at(99, 7) + 1),
            event("chunk_accepted", 2, at(105, 5) + 1),
            event("chunk_late", 4, at(110, 0)),
            event("chunk_refused", 5, at(111, 0)),
            event("chunk_accepted", 3, at(118, 0)),
        ],
        counted: Some((40, 40 + u64::try_from(PLAYED).unwrap())),
        damaged: 0,
        cut: false,
    }
}

/// Writes the episode into an open one.
pub(crate) fn write(store: &EpisodeStore, id: &EpisodeId) {
    let put = |kind, at_ns, packet| {
        let stamp = Stamp { at_ns, tick: None };
        store.append(id, kind, stamp, &packet).unwrap();
    };
    let Recorded {
        executed,
        chunks,
        guards,
        events,
        counted,
        ..
    } = recorded();
    for ticks in executed.chunks(8) {
        let message = ExecutedTicks {
            ticks: ticks.to_vec(),
        };
        put(
            RecordKind::Executed,
            ticks[0].sent_at_ns,
            message.pack().unwrap(),
        );
    }
    for chunk in chunks {
        put(
            RecordKind::Chunk,
            chunk.head.acted_until_ns,
            chunk.pack().unwrap(),
        );
    }
    for state in guards {
        // Ten times a second, whether it changed or not.
        for _ in 0..3 {
            put(RecordKind::Guard, state.sent_at_ns, state.pack().unwrap());
        }
    }
    for event in events {
        put(RecordKind::Event, event.at_ns, event.pack().unwrap());
    }
    for played in counted.map_or(vec![], |(first, last)| vec![first, last]) {
        let accepted = Accepted {
            epoch: 1,
            sampled_at_ns: 0,
            tick: 0,
            mode: Mode::Running,
            reason: Reason::Playing,
            chunk: None,
            strategy: None,
            played,
            width: 0,
            rows: vec![],
        };
        put(RecordKind::Accepted, 0, accepted.pack().unwrap());
    }
}
