//! Hears one run, and makes figures of what was really played.
//!
//! | figure | from |
//! |---|---|
//! | target of a tick | the command of its last servo period, which the interpolation reaches exactly |
//! | stall | a tick between the first played row and the end in which no row is played |
//! | boundary | where an accepted chunk first replaces a row that was accepted before: the distance of the two rows for that tick |
//! | jerk | root mean square of the third difference of the targets over Δt³ |
//! | age | from the capture behind a row to the tick's first command (M2) |
//! | reaction | from the goal's jump to the first command that rests on a later capture (M7a) |
//!
//! As `episode` of the oracle defines them, but for the ages: the oracle counts ticks from the
//! request, which is what is left where nothing takes time.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use vlad_actors::stepped::Stepped;
use vlad_bus::error::BusError;
use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::latency::Trace;
use vlad_sim::statistics::mean;
use vlad_sim::twogate::episode::Episode;
use vlad_wire::id::{CellId, ChunkId, Tick};
use vlad_wire::msg::execute::{Accepted, Executed};
use vlad_wire::msg::think::{Chunk, Start};
use vlad_wire::stream::{AcceptedTargets, Chunks, ExecutedActions};

use super::figures::{Ran, millis};

/// Policy ticks a second.
const TICKS_PER_S: f64 = 30.0;

/// One policy tick as it was played.
#[derive(Debug)]
pub(in crate::bench) struct Played {
    pub(in crate::bench) tick: Tick,
    /// When its first command was sent.
    pub(in crate::bench) sent_at_ns: u64,
    /// The command of its last servo period, metres.
    pub(in crate::bench) target_m: Vec<f64>,
    /// The chunk whose row it was.
    pub(in crate::bench) chunk: Option<ChunkId>,
}

/// What was heard of a run.
pub(in crate::bench) struct Heard {
    /// Its ticks, in their order.
    pub(in crate::bench) played: Vec<Played>,
    /// The chunks that were sent.
    pub(in crate::bench) chunks: BTreeMap<ChunkId, Chunk>,
    /// In which tick a chunk was accepted.
    pub(in crate::bench) accepted_in: BTreeMap<ChunkId, Tick>,
    /// Why the guard stopped it, if it did.
    pub(in crate::bench) stopped: Option<Reason>,
}

/// Hears one run.
pub(in crate::bench) struct Ear {
    executed: Subscriber<ExecutedActions>,
    accepted: Subscriber<AcceptedTargets>,
    chunks: Subscriber<Chunks>,
    known: BTreeMap<ChunkId, Chunk>,
    accepted_in: BTreeMap<ChunkId, Tick>,
    before: Option<Accepted>,
    played: Vec<Played>,
    boundaries_mm: Vec<f64>,
    hasher: Sha256,
    stopped: Option<Reason>,
    jumped_ns: Option<u64>,
    over_ns: Option<u64>,
}

impl Ear {
    pub(super) fn new(stepped: &Stepped, cell: &CellId) -> Result<Self, BusError> {
        let bus = stepped.bus();
        Ok(Self {
            executed: bus.subscriber(cell, "", None)?,
            accepted: bus.subscriber(cell, "", None)?,
            chunks: bus.subscriber(cell, "", None)?,
            known: BTreeMap::new(),
            accepted_in: BTreeMap::new(),
            before: None,
            played: Vec::new(),
            boundaries_mm: Vec::new(),
            hasher: Sha256::new(),
            stopped: None,
            jumped_ns: None,
            over_ns: None,
        })
    }

    /// Takes what was said since the last time.
    pub(super) fn listen(&mut self) {
        while let Some(chunk) = self.chunks.try_next() {
            self.known.insert(chunk.head.id, chunk);
        }
        while let Some(accepted) = self.accepted.try_next() {
            self.boundaries_mm.extend(self.boundary_mm(&accepted));
            if let Some(chunk) = accepted.chunk {
                self.accepted_in.entry(chunk).or_insert(accepted.tick);
            }
            let stops = !matches!(accepted.mode, Mode::Armed | Mode::Running | Mode::Hold);
            // Before the first chunk it is disarmed.
            if stops && !self.known.is_empty() {
                self.stopped.get_or_insert(accepted.reason);
            }
            self.before = Some(accepted);
        }
        while let Some(executed) = self.executed.try_next() {
            for servo in &executed.ticks {
                self.hash(servo);
                self.take(servo);
            }
        }
    }

    /// Notes when the goal jumped and when all was over.
    pub(super) fn watch(&mut self, episode: &Episode, now_ns: u64) {
        if episode.jumped() {
            self.jumped_ns.get_or_insert(now_ns);
        }
        if episode.over() {
            self.over_ns.get_or_insert(now_ns);
        }
    }

    fn hash(&mut self, servo: &Executed) {
        self.hasher.update(servo.servo_tick.to_le_bytes());
        for position in &servo.command {
            self.hasher.update(position.to_bits().to_le_bytes());
        }
    }

    fn take(&mut self, servo: &Executed) {
        match self.played.last_mut() {
            Some(last) if last.tick == servo.tick => {
                last.target_m.clone_from(&servo.command);
                last.chunk = servo.chunk;
            }
            _ => self.played.push(Played {
                tick: servo.tick,
                sent_at_ns: servo.sent_at_ns,
                target_m: servo.command.clone(),
                chunk: servo.chunk,
            }),
        }
    }

    /// The distance of the old and the new row where a chunk takes over from the one before it; none
    /// where it begins from standstill, or after all that was accepted.
    fn boundary_mm(&self, accepted: &Accepted) -> Option<f64> {
        let before = self.before.as_ref()?;
        let moves = before.mode == Mode::Running && accepted.mode == Mode::Running;
        if before.chunk == accepted.chunk || !moves {
            return None;
        }
        let chunk = self.known.get(&accepted.chunk?)?;
        let Start::At(first) = chunk.head.start else {
            return None;
        };
        let ahead = before.tick.saturating_add(1);
        let switch = ahead.max(first.saturating_add(Tick::from(chunk.head.prefix_len)));
        let width = usize::from(before.width);
        let old = usize::try_from(switch.checked_sub(ahead)?).ok()?;
        let old = before.rows.chunks_exact(width.max(1)).nth(old)?;
        let new = usize::try_from(switch.checked_sub(first)?).ok()?;
        let new = chunk.row(new)?;
        let squares = old.iter().zip(new);
        let squares = squares.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        Some(squares.sum::<f64>().sqrt() * 1e3)
    }

    /// Everything that was heard.
    pub(in crate::bench) fn heard(self) -> Heard {
        Heard {
            played: self.played,
            chunks: self.known,
            accepted_in: self.accepted_in,
            stopped: self.stopped,
        }
    }

    /// What became of it. `given` are the latencies that it met.
    pub(super) fn conclude(self, episode: &Episode, given: Trace) -> Ran {
        let end_ns = self.over_ns.unwrap_or(u64::MAX);
        let until = self.played.iter().take_while(|t| t.sent_at_ns <= end_ns);
        let ticks: Vec<&Played> = until.skip_while(|tick| tick.chunk.is_none()).collect();
        let captured = |tick: &Played| {
            let chunk = self.known.get(&tick.chunk?)?;
            Some(chunk.head.captured_at_ns)
        };
        let aged = ticks.iter().filter_map(|tick| {
            let captured_ns = captured(tick)?;
            Some(millis(tick.sent_at_ns.saturating_sub(captured_ns)))
        });
        let reaction_ms = self.jumped_ns.and_then(|jumped_ns| {
            let after = |tick: &&&Played| captured(tick).is_some_and(|at_ns| jumped_ns <= at_ns);
            let first = ticks.iter().find(after)?;
            Some(millis(first.sent_at_ns.saturating_sub(jumped_ns)))
        });
        let heads = self.known.values().map(|chunk| &chunk.head);
        let moving = heads.filter(|head| matches!(head.start, Start::At(_)));
        let prefixes = moving.map(|head| head.prefix_len).collect();
        let targets: Vec<&[f64]> = ticks.iter().map(|tick| &*tick.target_m).collect();
        let rests = |tick: &&&Played| tick.chunk.is_none();
        Ran {
            succeeded: episode.succeeded(),
            collided: episode.collided(),
            stopped: self.stopped,
            stalls: ticks.iter().filter(rests).count(),
            rms_jerk: rms_jerk(&targets),
            ages_ms: aged.collect(),
            reaction_ms,
            prefixes,
            boundaries_mm: self.boundaries_mm,
            commands: self.hasher.finalize().into(),
            given,
        }
    }
}

/// Root mean square of the third difference of the targets, m/s³; 0 of fewer than four.
fn rms_jerk(targets: &[&[f64]]) -> f64 {
    let thirds = targets.windows(4).map(|four| match four {
        [a, b, c, d] => {
            let axes = a.iter().zip(*b).zip(c.iter().zip(*d));
            let jerk = |((a, b), (c, d)): ((&f64, &f64), (&f64, &f64))| {
                ((d - 3.0 * c + 3.0 * b - a) * TICKS_PER_S.powi(3)).powi(2)
            };
            axes.map(jerk).sum::<f64>()
        }
        _ => 0.0,
    });
    let thirds: Vec<f64> = thirds.collect();
    mean(&thirds).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jerk_is_that_of_a_cubic_and_nothing_of_a_straight_line() {
        let of = |f: fn(f64) -> f64| {
            let rows: Vec<Vec<f64>> = (0..10_u8)
                .map(|n| vec![f(f64::from(n) / TICKS_PER_S), 0.0])
                .collect();
            let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
            rms_jerk(&rows)
        };
        assert!((of(|t| 2.0 * t.powi(3)) - 12.0).abs() < 1e-6);
        assert!(of(|t| 0.45 * t).abs() < 1e-6);
        assert!(rms_jerk(&[&[1.0], &[2.0], &[9.0]]).abs() < 1e-12);
    }
}
