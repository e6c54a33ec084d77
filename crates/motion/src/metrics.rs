//! How well a robot moved: the metrics M1 to M12 of reference A.6, from one log.
//!
//! Pure functions over what was logged; nothing is measured here. Percentiles are exact (nearest
//! rank over the sorted values): an episode has some ten thousand servo ticks. Percentiles of
//! several episodes are computed from their values, never from their percentiles.
//!
//! | metric | module |
//! |---|---|
//! | M1 stalls, M2 age, M6 lateness, M8 deadlines, M9 interventions | [`timing`] |
//! | M3 seams | [`seams`] |
//! | M4 smoothness | [`smoothness`] |
//! | M5 tracking | [`tracking`] |
//! | M7 reaction, M10 throughput | [`outcome`]: over events and episodes, not of one log |
//! | M11 inference economy | [`economy`] |
//! | M12 stops | [`stops`] |

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::id::{ChunkId, Tick};
use vlad_wire::msg::execute::Executed;
use vlad_wire::msg::think::ChunkHead;
use vlad_wire::robot_type::SlotMap;

use crate::gate::Fate;
use economy::Economy;
use seams::Seams;
use smoothness::Smoothness;
use stops::{Stop, StopLimits};
use timing::{Ages, Deadlines, Interventions, Lateness, Stalls};
use tracking::Tracking;

pub mod economy;
pub mod outcome;
pub mod seams;
pub mod smoothness;
pub mod spread;
pub mod stops;
pub mod timing;
pub mod tracking;

/// A chunk as it was logged.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRecord {
    /// Its head.
    pub head: ChunkHead,
    /// `(horizon, width)` absolute targets in slots, row-major.
    pub rows: Vec<f32>,
    /// The tick of row 0, as the guard assigned it.
    pub first: Tick,
    /// When the guard took or refused it.
    pub received_at_ns: u64,
    /// What became of it.
    pub fate: Fate,
}

/// A change of the guard's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeChange {
    /// When, which is when the cause was found.
    pub at_ns: u64,
    /// The new mode.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
}

/// What a log does not say by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct LogShape {
    /// Which slot each degree of freedom stands in.
    pub slots: SlotMap,
    /// Length of a tick at full speed.
    pub dt_ns: u64,
    /// Length of a servo tick.
    pub servo_dt_ns: u64,
    /// Ticks between two decisions (`T_e`).
    pub ticks_per_decision: u64,
    /// Bits of [`Executed::flags`] that mean that a command was changed.
    pub intervention_bits: u32,
    /// What a stop may use, by degree of freedom; empty where no prediction is wanted.
    pub stop_limits: Vec<StopLimits>,
}

/// One episode.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// Servo ticks, ascending.
    pub executed: &'a [Executed],
    /// Chunks, in the order of their arrival.
    pub chunks: &'a [ChunkRecord],
    /// Mode changes, ascending in time; the first one says the mode at the beginning.
    pub modes: &'a [ModeChange],
    /// What the log does not say.
    pub shape: &'a LogShape,
}

/// All metrics of one episode. A part is `None` where the log has nothing to compute it from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MotionReport {
    /// First to last servo tick, seconds.
    pub duration_s: f64,
    /// M1.
    pub stalls: Stalls,
    /// M2.
    pub age: Option<Ages>,
    /// M3.
    pub seams: Seams,
    /// M4.
    pub smoothness: Option<Smoothness>,
    /// M5, by degree of freedom.
    pub tracking: Vec<Tracking>,
    /// M6.
    pub lateness: Option<Lateness>,
    /// M8.
    pub deadlines: Deadlines,
    /// M9.
    pub interventions: Interventions,
    /// M11.
    pub economy: Economy,
    /// M12.
    pub stops: Vec<Stop>,
}

/// Computes everything.
pub fn report(log: &Log<'_>) -> MotionReport {
    let played = played(log);
    let times = log.executed.first().zip(log.executed.last());
    let duration_ns = times.map_or(0, |(a, b)| {
        b.scheduled_at_ns.saturating_sub(a.scheduled_at_ns)
    });
    MotionReport {
        duration_s: seconds(duration_ns),
        stalls: timing::stalls(log),
        age: timing::ages(&played),
        seams: seams::seams(log, &played),
        smoothness: smoothness::of_log(log),
        tracking: tracking::of_log(log),
        lateness: timing::lateness(log),
        deadlines: timing::deadlines(log),
        interventions: timing::interventions(log),
        economy: economy::of_log(log, played.len()),
        stops: stops::of_log(log),
    }
}

/// One policy tick that a chunk was played in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Played<'a> {
    pub(crate) tick: Tick,
    pub(crate) index: u16,
    pub(crate) sent_at_ns: u64,
    pub(crate) chunk: &'a ChunkRecord,
    /// The policy's own targets, by degree of freedom, before interpolation.
    pub(crate) target: Vec<f64>,
}

impl ChunkRecord {
    /// Targets for a tick by degree of freedom, if the chunk has them.
    pub(crate) fn at(&self, tick: Tick, slots: &SlotMap) -> Option<Vec<f64>> {
        let index = usize::try_from(tick.checked_sub(self.first)?).ok()?;
        let width = usize::from(self.head.width);
        let row = self.rows.get(index.checked_mul(width)?..)?.get(..width)?;
        Some(slots.to_dofs(row).collect())
    }
}

/// The policy ticks in which a known chunk was played, ascending.
pub(crate) fn played<'a>(log: &Log<'a>) -> Vec<Played<'a>> {
    let by_id: BTreeMap<ChunkId, &ChunkRecord> = log
        .chunks
        .iter()
        .map(|chunk| (chunk.head.id, chunk))
        .collect();
    let mut played: Vec<Played<'a>> = Vec::new();
    for one in log.executed {
        let (Some(id), Some(index)) = (one.chunk, one.index) else {
            continue;
        };
        if played.last().is_some_and(|last| one.tick <= last.tick) {
            continue;
        }
        let Some(chunk) = by_id.get(&id) else {
            continue;
        };
        if let Some(target) = chunk.at(one.tick, &log.shape.slots) {
            played.push(Played {
                tick: one.tick,
                index,
                sent_at_ns: one.sent_at_ns,
                chunk,
                target,
            });
        }
    }
    played
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(span_ns: u64) -> f64 {
    Duration::from_nanos(span_ns).as_secs_f64()
}

/// Nanoseconds as milliseconds.
pub(crate) fn millis(span_ns: u64) -> f64 {
    1e3 * seconds(span_ns)
}

#[cfg(test)]
mod tests;
