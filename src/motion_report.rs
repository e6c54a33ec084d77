//! How an episode moved: from its records in the log to the metrics of [`vlad_motion::metrics`].
//!
//! | | |
//! |---|---|
//! | in | executed ticks, chunks, the guard's states and events of one episode; its cell's settings |
//! | out | [`EpisodeMotion`]: the metrics of one episode (reference A.6), and the curves behind them |
//! | bounds | at most [`SERVO_TICKS_MAX`] servo ticks and [`CHUNKS_MAX`] chunks: the beginning of a longer episode |
//! | damage | a record that cannot be read is left out and counted |
//!
//! [`read`] asks the store; everything after it is pure. M7 (reaction) needs an event in the scene,
//! and M10 (throughput) many episodes: neither is a figure of one log.

use std::collections::{BTreeMap, BTreeSet};

use vlad_actors::actuator::guard::{CHUNK_LATE, CHUNK_REFUSED};
use vlad_actors::actuator::settings::Shape;
use vlad_motion::gate::Fate;
use vlad_motion::metrics::stops::StopLimits;
use vlad_motion::metrics::{ChunkRecord, Log, LogShape, ModeChange, MotionReport, report};
use vlad_safety::envelope::flag;
use vlad_store::episodes::{EpisodeError, EpisodeStore, PAGE_MAX};
use vlad_store::record::RecordKind;
use vlad_wire::codec::{Body, unpack};
use vlad_wire::id::{CellId, ChunkId, EpisodeId, Role, Tick};
use vlad_wire::msg::execute::{Accepted, Executed, ExecutedTicks, GuardState};
use vlad_wire::msg::health::Event;
use vlad_wire::msg::think::{Chunk, Digest, Start};

use crate::config::CellConfig;
use curves::Curves;

pub mod curves;

/// Most servo ticks that are looked at: seven minutes at 240 Hz, and some 40 MB of memory.
pub const SERVO_TICKS_MAX: usize = 100_000;
/// Most chunks that are looked at: more than ten a second over those seven minutes.
pub const CHUNKS_MAX: usize = 4096;
/// Most changes of the guard's mode, and events about chunks, that are looked at.
const CHANGES_MAX: usize = 20_000;
/// Kind of the event that says that a chunk was accepted.
const CHUNK_ACCEPTED: &str = "chunk_accepted";

/// Flags that say that the guard changed a command (M9), and their names in REST.
pub const INTERVENTIONS: [(u32, &str); 5] = [
    (flag::POSITION_CLAMPED, "position_clamped"),
    (flag::SPEED_CLAMPED, "speed_clamped"),
    (flag::NOT_FINITE, "not_finite"),
    (flag::OUTSIDE, "outside"),
    (flag::WORKSPACE, "workspace"),
];

/// One degree of freedom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dof {
    /// Such as `left_joint_1`.
    pub name: String,
    /// `rad`, or `m` of a gripper's opening.
    pub unit: &'static str,
}

/// What the log of an episode does not say: its cell's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct CellShape {
    /// For the metrics.
    pub log: LogShape,
    /// The degrees of freedom, in the robot's order.
    pub dofs: Vec<Dof>,
    /// Oldest action that the guard sends, nanoseconds.
    pub age_limit_ns: u64,
    /// Digest of the merged settings.
    pub config_hash: Digest,
}

/// The shapes of the cells that a process serves.
pub type CellShapes = BTreeMap<CellId, CellShape>;

impl CellShape {
    /// Takes it from a cell's settings; `ticks_per_decision` is the expert's (`T_e`).
    pub fn new(cell: &CellConfig, ticks_per_decision: u32, config_hash: Digest) -> Self {
        let shape = Shape::new(&cell.robot);
        let arms = cell.robot.toml().arms.iter();
        let dofs = arms.flat_map(|arm| {
            let joints = arm.joints.iter().map(|joint| Dof {
                name: format!("{}_{}", arm.name, joint.name),
                unit: "rad",
            });
            let gripper = Dof {
                name: format!("{}_gripper", arm.name),
                unit: "m",
            };
            joints.chain(std::iter::once(gripper))
        });
        let stop_limits = cell.robot.limits().iter().map(|limits| StopLimits {
            acceleration: limits.acceleration_max,
            jerk: limits.jerk_max,
        });
        Self {
            dofs: dofs.collect(),
            age_limit_ns: cell.guard.action_age_ns(),
            config_hash,
            log: LogShape {
                slots: shape.slots.clone(),
                dt_ns: shape.servo_ns * u64::from(shape.servo_per_tick),
                servo_dt_ns: shape.servo_ns,
                ticks_per_decision: u64::from(ticks_per_decision),
                intervention_bits: INTERVENTIONS.iter().fold(0, |bits, (flag, _)| bits | flag),
                stop_limits: stop_limits.collect(),
            },
        }
    }
}

/// What an episode's log says about motion, as it was recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// Servo ticks.
    pub executed: Vec<Executed>,
    /// Chunks, in the order of their arrival.
    pub chunks: Vec<Chunk>,
    /// The guard's states.
    pub guards: Vec<GuardState>,
    /// Events.
    pub events: Vec<Event>,
    /// The guard's own count of played ticks at the episode's beginning and end.
    pub counted: Option<(u64, u64)>,
    /// Records that cannot be read.
    pub damaged: u64,
    /// Whether the episode is longer than what was read.
    pub cut: bool,
}

/// Reads an episode's records about motion. It reads some megabytes: not on a runtime's thread.
///
/// # Errors
/// [`EpisodeError`] if there is no such episode, or the store fails.
pub fn read(store: &EpisodeStore, id: &EpisodeId) -> Result<Recorded, EpisodeError> {
    let mut found = Recorded::default();
    let mut executed = Vec::new();
    let mut cut = false;
    let mut damaged = each(
        store,
        (id, RecordKind::Executed),
        |message: ExecutedTicks| {
            executed.extend(message.ticks);
            let full = SERVO_TICKS_MAX <= executed.len();
            cut |= full;
            !full
        },
    )?;
    found.executed = executed;
    damaged += each(
        store,
        (id, RecordKind::Chunk),
        taker(&mut found.chunks, CHUNKS_MAX),
    )?;
    // The same state ten times a second: only its changes are kept.
    let guards = &mut found.guards;
    damaged += each(store, (id, RecordKind::Guard), |state: GuardState| {
        let same = guards.last().is_some_and(|last: &GuardState| {
            (last.mode, last.reason, last.since_ns) == (state.mode, state.reason, state.since_ns)
        });
        if !same {
            guards.push(state);
        }
        guards.len() < CHANGES_MAX
    })?;
    let events = &mut found.events;
    damaged += each(store, (id, RecordKind::Event), |event: Event| {
        if event.role == Role::Actuator && event.chunk.is_some() {
            events.push(event);
        }
        events.len() < CHANGES_MAX
    })?;
    let count = store.get(id)?.counts.get(&RecordKind::Accepted).copied();
    let played = |from: u64| -> Result<Option<u64>, EpisodeError> {
        let page = store.records(id, RecordKind::Accepted, from, 1)?;
        let record = page.into_iter().next().and_then(Result::ok);
        let accepted = record.and_then(|record| unpack::<Accepted>(record.packet).ok());
        Ok(accepted.map(|accepted| accepted.played))
    };
    let last = count.map_or(0, |count| count.saturating_sub(1));
    found.counted = played(0)?.zip(played(last)?);
    found.cut = cut || CHUNKS_MAX <= found.chunks.len();
    found.damaged = damaged;
    Ok(found)
}

/// Takes messages into a list until it has `max` of them.
fn taker<B>(list: &mut Vec<B>, max: usize) -> impl FnMut(B) -> bool + '_ {
    move |message| {
        list.push(message);
        list.len() < max
    }
}

/// Gives each readable record of one kind to `take`, until that says `false`; returns how many
/// could not be read.
fn each<B: Body>(
    store: &EpisodeStore,
    (id, kind): (&EpisodeId, RecordKind),
    mut take: impl FnMut(B) -> bool,
) -> Result<u64, EpisodeError> {
    let (mut from, mut damaged) = (0_u64, 0);
    loop {
        let page = store.records(id, kind, from, PAGE_MAX)?;
        let n = u64::try_from(page.len()).unwrap_or(u64::MAX);
        if n == 0 {
            return Ok(damaged);
        }
        // Places are consecutive; where a crash has left a hole, the last readable one leads on.
        let mut next = from.saturating_add(n);
        for record in page {
            let Ok(record) = record else {
                damaged += 1;
                continue;
            };
            next = next.max(record.seq.saturating_add(1));
            match unpack::<B>(record.packet) {
                Ok(message) => {
                    if !take(message) {
                        return Ok(damaged);
                    }
                }
                Err(_) => damaged += 1,
            }
        }
        from = next;
    }
}

/// A log in the form that the metrics read.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Servo ticks, ascending in time.
    pub executed: Vec<Executed>,
    /// Chunks that the guard took, or dropped as late.
    pub chunks: Vec<ChunkRecord>,
    /// Changes of the guard's mode, ascending in time.
    pub modes: Vec<ModeChange>,
    /// Policy ticks that a chunk was played in.
    pub ticks_played: usize,
    /// Chunks that the guard refused for any other reason than being late.
    pub refused: usize,
    /// Chunks of which the log does not say what became of them.
    pub unanswered: usize,
}

/// Where a chunk was played first.
#[derive(Debug, Clone, Copy)]
struct FirstPlay {
    first: Tick,
    index: u16,
    sent_at_ns: u64,
}

/// What the guard said about a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Accepted,
    Late,
    Refused,
}

impl Track {
    /// Puts records in order.
    ///
    /// A chunk's first tick follows from the row that was played at a tick; of one that was never
    /// played, from its start. When it was taken is when the guard said so, and before its first
    /// command. It overran if its first played row lies behind its prefix (the rule of
    /// `vlad_motion::buffer`).
    pub fn new(recorded: Recorded) -> Self {
        let mut executed = recorded.executed;
        executed.sort_by_key(|one| one.sent_at_ns);
        executed.dedup_by_key(|one| (one.sent_at_ns, one.servo_tick));
        let mut modes: Vec<ModeChange> = recorded.guards.iter().map(change).collect();
        modes.sort_by_key(|change| change.at_ns);
        modes.dedup();
        let (plays, ticks_played) = plays(&executed);
        let said = said(&recorded.events);
        let mut track = Self {
            executed,
            chunks: Vec::new(),
            modes,
            ticks_played,
            refused: 0,
            unanswered: 0,
        };
        let mut known = BTreeSet::new();
        for chunk in recorded.chunks {
            let id = chunk.head.id;
            if known.insert(id) {
                track.take(chunk, plays.get(&id).copied(), said.get(&id).copied());
            }
        }
        track
    }

    fn take(&mut self, chunk: Chunk, play: Option<FirstPlay>, said: Option<(Said, u64)>) {
        let head = &chunk.head;
        let overran = play.is_some_and(|p| 0 < head.prefix_len && head.prefix_len < p.index);
        let fate = match (said.map(|(said, _)| said), play) {
            (Some(Said::Late), None) => Fate::Discarded,
            (Some(Said::Refused), None) => {
                self.refused += 1;
                return;
            }
            (None, None) => {
                self.unanswered += 1;
                return;
            }
            (Some(Said::Accepted), _) | (_, Some(_)) if overran => Fate::Overrun,
            (Some(Said::Accepted), _) | (_, Some(_)) => Fate::Accepted,
        };
        let started = match head.start {
            Start::At(tick) => tick,
            Start::OnArrival => head.obs_tick,
        };
        let at_ns = said.map_or(head.acted_until_ns, |(_, at_ns)| at_ns);
        let before_ns = play.map_or(u64::MAX, |play| play.sent_at_ns.saturating_sub(1));
        self.chunks.push(ChunkRecord {
            first: play.map_or(started, |play| play.first),
            received_at_ns: at_ns.min(before_ns),
            fate,
            head: chunk.head,
            rows: chunk.rows,
        });
    }

    /// The log that the metrics read.
    pub fn log<'a>(&'a self, shape: &'a LogShape) -> Log<'a> {
        Log {
            executed: &self.executed,
            chunks: &self.chunks,
            modes: &self.modes,
            shape,
        }
    }
}

fn change(state: &GuardState) -> ModeChange {
    ModeChange {
        at_ns: state.since_ns,
        mode: state.mode,
        reason: state.reason,
    }
}

/// Where each chunk was played first, and in how many policy ticks any was.
fn plays(executed: &[Executed]) -> (BTreeMap<ChunkId, FirstPlay>, usize) {
    let mut plays = BTreeMap::new();
    let (mut ticks, mut last) = (0, None);
    for one in executed {
        let (Some(id), Some(index)) = (one.chunk, one.index) else {
            continue;
        };
        ticks += usize::from(last != Some(one.tick));
        last = Some(one.tick);
        plays.entry(id).or_insert(FirstPlay {
            first: one.tick.saturating_sub(Tick::from(index)),
            index,
            sent_at_ns: one.sent_at_ns,
        });
    }
    (plays, ticks)
}

/// What the guard said first about each chunk, and when.
fn said(events: &[Event]) -> BTreeMap<ChunkId, (Said, u64)> {
    let mut all = BTreeMap::new();
    for event in events {
        let said = match event.kind.as_str() {
            CHUNK_ACCEPTED => Said::Accepted,
            CHUNK_LATE => Said::Late,
            CHUNK_REFUSED => Said::Refused,
            _ => continue,
        };
        if let Some(chunk) = event.chunk {
            all.entry(chunk).or_insert((said, event.at_ns));
        }
    }
    all
}

/// Whether an episode was made under the settings that its cell has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settings {
    /// It was.
    Same,
    /// It was made under others: what depends on lengths, limits and slots may be wrong.
    Other,
    /// The episode does not say.
    Unknown,
}

impl Settings {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Same, Self::Other, Self::Unknown];

    /// Compares the digests of both.
    pub fn of(episode: Option<&Digest>, cell: &Digest) -> Self {
        match episode {
            None => Self::Unknown,
            Some(episode) if episode == cell => Self::Same,
            Some(_) => Self::Other,
        }
    }

    /// The name in REST.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}

/// How an episode moved.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeMotion {
    /// The metrics.
    pub report: MotionReport,
    /// Policy ticks that a chunk was played in.
    pub ticks_played: usize,
    /// The same as the guard has counted it; `None` where the log does not say.
    pub ticks_counted: Option<u64>,
    /// Chunks that the guard refused for any other reason than being late.
    pub refused: usize,
    /// Chunks of which the log does not say what became of them.
    pub unanswered: usize,
    /// Records that cannot be read.
    pub damaged: u64,
    /// Whether only the beginning was looked at.
    pub cut: bool,
    /// The curves, if they were asked for.
    pub curves: Option<Curves>,
}

impl EpisodeMotion {
    /// Computes all metrics, and curves of at most `points` points.
    pub fn of(recorded: Recorded, shape: &LogShape, points: usize) -> Self {
        let (damaged, cut) = (recorded.damaged, recorded.cut);
        let counted = recorded.counted;
        let track = Track::new(recorded);
        let log = track.log(shape);
        Self {
            report: report(&log),
            ticks_played: track.ticks_played,
            ticks_counted: counted.map(|(first, last)| last.saturating_sub(first)),
            refused: track.refused,
            unanswered: track.unanswered,
            damaged,
            cut,
            curves: (0 < points).then(|| Curves::of(&log, points)),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
