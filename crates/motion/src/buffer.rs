//! The guard's chunk buffer: accepted targets by absolute tick.
//!
//! Every row carries its tick, so late, lost, duplicated and reordered chunks cannot make the tick
//! number go back: rows are taken in ascending order of tick and never twice. The buffer only
//! replaces what lies ahead, from `max(now + 1, k0 + prefix)` on (reference A.8).
//!
//! A chunk that was conditioned on a prefix and comes after it is over was made for another past:
//! where it meets what is played ([`seam`]) decides whether it is taken.
//!
//! All memory is taken at construction: the servo thread neither allocates nor frees here.

use vlad_wire::id::{ChunkId, Tick};
use vlad_wire::msg::think::{Chunk, Strategy};
use vlad_wire::robot_type::{HORIZON_MAX, SlotMap};

use seam::Seam;

pub mod seam;

/// Rows of the ring: twice the longest chunk, so that the rows of a tick and of the tick a chunk
/// later never share a place.
const ROWS: usize = 2 * HORIZON_MAX;
/// A late chunk whose jump is more than so many of its own large steps is dropped (reference A.8).
const JUMP_RATIO_MAX: f64 = 2.0;

/// One accepted action, but for its targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Action {
    /// The tick that it is for.
    pub tick: Tick,
    /// Chunk that it came from.
    pub chunk: ChunkId,
    /// Row of that chunk.
    pub index: u16,
    /// Strategy of that chunk.
    pub strategy: Strategy,
    /// Speed fraction that the chunk was made for.
    pub rate: f64,
    /// Earliest capture behind it.
    pub captured_at_ns: u64,
}

/// One accepted action with its targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// What it is for and where it came from.
    pub action: Action,
    /// Absolute targets by degree of freedom.
    pub target: &'a [f64],
}

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inserted {
    /// So many rows lie ahead now.
    Accepted(usize),
    /// It came after its prefix was over, and meets what is played all the same.
    Overrun {
        /// So many rows lie ahead now.
        rows: usize,
        /// Jump at the switch over the chunk's own large step.
        ratio: f64,
    },
    /// It came after its prefix was over, and would jump: nothing was changed. Holds the jump over
    /// the chunk's own large step.
    Dropped(f64),
    /// Every row of the chunk is for a tick that is over, or beyond a hole.
    Superseded,
}

/// Accepted actions, ascending by tick without gaps.
#[derive(Debug, Clone)]
pub struct ChunkBuffer {
    n_dofs: usize,
    /// By tick, modulo [`ROWS`].
    actions: Vec<Option<Action>>,
    /// Targets of `actions`, `n_dofs` each.
    targets: Vec<f64>,
    /// The first tick that is held, and the one after the last.
    front: Tick,
    end: Tick,
    /// What was taken last: where a chunk that comes to an empty buffer begins from.
    played: Option<Tick>,
    played_target: Vec<f64>,
    late_rule: bool,
    disagreement: Option<f64>,
    last: Option<(ChunkId, Strategy, f64)>,
}

impl ChunkBuffer {
    /// Takes all memory that it will ever need, for targets of `n_dofs` degrees of freedom.
    ///
    /// Without `late_rule` a chunk that comes after its prefix is over is taken as any other:
    /// benches compare strategies so.
    pub fn new(n_dofs: usize, late_rule: bool) -> Self {
        Self {
            n_dofs,
            actions: vec![None; ROWS],
            targets: vec![0.0; ROWS * n_dofs],
            front: 0,
            end: 0,
            played: None,
            played_target: vec![0.0; n_dofs],
            late_rule,
            disagreement: None,
            last: None,
        }
    }

    /// Takes the rows of `chunk` that lie ahead of tick `now`; row 0 is for tick `first`.
    ///
    /// Rows before `max(now + 1, first + prefix_len)` stay as they were accepted; what was accepted
    /// from there on is replaced. A hole before the first new row cannot be: then the chunk is for
    /// ticks that nobody has planned up to, and only its rows from the end of the buffer on fit.
    /// Rows more than the longest chunk ahead are left out.
    pub fn insert(&mut self, chunk: &Chunk, first: Tick, now: Tick, slots: &SlotMap) -> Inserted {
        let ahead = now.saturating_add(1);
        let prefix_end = first.saturating_add(Tick::from(chunk.head.prefix_len));
        let buffered_end = self.end_after(ahead);
        // Without accepted rows there is no prefix to keep: then the chunk's own rows are used.
        let from = ahead.max(prefix_end.min(buffered_end)).max(first);
        let longest = Tick::try_from(HORIZON_MAX).unwrap_or(Tick::MAX);
        let end = first
            .saturating_add(Tick::from(chunk.head.horizon))
            .min(now.saturating_add(longest).saturating_add(1));
        if end <= from || buffered_end < from {
            return Inserted::Superseded;
        }
        let late = 0 < chunk.head.prefix_len && prefix_end < from;
        let meets = self.peek(from).is_some();
        let seam = (late || meets).then(|| self.seam(chunk, (first, from), slots).ratio());
        let ratio = seam.filter(|_| late && self.late_rule);
        if let Some(ratio) = ratio
            && JUMP_RATIO_MAX < ratio
        {
            return Inserted::Dropped(ratio);
        }
        self.disagreement = seam.filter(|_| meets);
        self.forget_before(ahead);
        if self.front == self.end {
            (self.front, self.end) = (from, from);
        }
        self.end = from;
        for tick in from..end {
            if !self.put(chunk, (first, tick), slots) {
                break;
            }
            self.end = tick.saturating_add(1);
        }
        self.last = Some((chunk.head.id, chunk.head.strategy, chunk.head.rate));
        let rows = self.len();
        match ratio {
            Some(ratio) => Inserted::Overrun { rows, ratio },
            None => Inserted::Accepted(rows),
        }
    }

    /// Takes the action for `tick` and copies its targets; older ones are dropped.
    pub fn take(&mut self, tick: Tick, target: &mut [f64]) -> Option<Action> {
        self.forget_before(tick);
        let row = self.peek(tick)?;
        let action = row.action;
        for (place, value) in target.iter_mut().zip(row.target) {
            *place = *value;
        }
        let place = self.place(tick)?;
        let taken = self.targets.get(place..place.saturating_add(self.n_dofs));
        if let Some(taken) = taken {
            self.played_target.copy_from_slice(taken);
            self.played = Some(tick);
        }
        self.forget_before(tick.saturating_add(1));
        Some(action)
    }

    /// The accepted action for `tick`: interpolation looks ahead with it.
    pub fn peek(&self, tick: Tick) -> Option<Row<'_>> {
        if tick < self.front || self.end <= tick {
            return None;
        }
        let action = (*self.actions.get(index(tick))?)?;
        let place = self.place(tick)?;
        let target = self.targets.get(place..place.checked_add(self.n_dofs)?)?;
        Some(Row { action, target })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.front, self.end) = (0, 0);
        self.played = None;
        self.disagreement = None;
        self.last = None;
    }

    /// How far the chunk that was inserted last differs, at its first tick, from the row that it
    /// replaced there, over its own large step (M3a); `None` where it replaced nothing.
    pub fn disagreement(&self) -> Option<f64> {
        self.disagreement
    }

    /// How far a chunk that is not taken differs, at the tick from which on it would have been played,
    /// from what is played there or before, over its own large step; 0 where nothing was.
    pub fn contradiction(&self, chunk: &Chunk, first: Tick, now: Tick, slots: &SlotMap) -> f64 {
        let ahead = now.saturating_add(1);
        let prefix_end = first.saturating_add(Tick::from(chunk.head.prefix_len));
        let from = ahead.max(prefix_end.min(self.end_after(ahead))).max(first);
        self.seam(chunk, (first, from), slots).ratio()
    }

    /// Whether no action is left.
    pub fn is_empty(&self) -> bool {
        self.front == self.end
    }

    /// Actions that are left.
    pub fn len(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.front)).unwrap_or(0)
    }

    /// The accepted future, ascending by tick.
    pub fn ahead(&self) -> impl Iterator<Item = Row<'_>> {
        (self.front..self.end).filter_map(|tick| self.peek(tick))
    }

    /// Whether a gap after the last accepted chunk is part of its strategy.
    pub fn plans_gap(&self) -> bool {
        self.last
            .is_some_and(|(_, strategy, rate)| strategy.plans_gaps(rate))
    }

    /// The chunk and strategy that were accepted last.
    pub fn newest(&self) -> Option<(ChunkId, Strategy)> {
        self.last.map(|(chunk, strategy, _)| (chunk, strategy))
    }

    /// The first tick that nothing is accepted for, from `ahead` on: rows that nobody took in time
    /// are over.
    fn end_after(&self, ahead: Tick) -> Tick {
        if self.is_empty() {
            ahead
        } else {
            self.end.max(ahead)
        }
    }

    fn place(&self, tick: Tick) -> Option<usize> {
        index(tick).checked_mul(self.n_dofs)
    }

    fn forget_before(&mut self, tick: Tick) {
        self.front = self.front.max(tick).min(self.end);
    }

    /// Writes one row; says whether the chunk has it.
    fn put(&mut self, chunk: &Chunk, (first, tick): (Tick, Tick), slots: &SlotMap) -> bool {
        let row = usize::try_from(tick.saturating_sub(first)).unwrap_or(usize::MAX);
        let (Some(numbers), Some(place)) = (chunk.row(row), self.place(tick)) else {
            return false;
        };
        let places = place..place.saturating_add(self.n_dofs);
        let (Some(target), Some(action)) = (
            self.targets.get_mut(places),
            self.actions.get_mut(index(tick)),
        ) else {
            return false;
        };
        // A degree of freedom that the map lacks gets no number, never one of an older row.
        target.fill(f64::NAN);
        for (target, value) in target.iter_mut().zip(slots.to_dofs(numbers)) {
            *target = value;
        }
        *action = Some(Action {
            tick,
            chunk: chunk.head.id,
            index: u16::try_from(row).unwrap_or(u16::MAX),
            strategy: chunk.head.strategy,
            rate: chunk.head.rate,
            captured_at_ns: chunk.head.captured_at_ns,
        });
        true
    }

    /// How the chunk's row for tick `from` meets what was to be played then; after the end of the
    /// buffer, what was to be played before.
    fn seam(&self, chunk: &Chunk, (first, from): (Tick, Tick), slots: &SlotMap) -> Seam {
        let row = |tick: Tick| {
            let at = usize::try_from(tick.saturating_sub(first)).ok()?;
            chunk.row(at)
        };
        let played = self
            .played
            .map(|tick| (tick, self.played_target.as_slice()));
        let before = from.saturating_sub(1);
        let old = self.peek(from).map(|row| row.target);
        let last = self
            .peek(before)
            .map(|row| row.target)
            .or_else(|| played.and_then(|(tick, target)| (tick == before).then_some(target)));
        let jump = row(from).map_or(0.0, |new| {
            let old = old.or(last);
            old.map_or(0.0, |old| {
                seam::distance(old.iter().copied(), slots.to_dofs(new))
            })
        });
        Seam {
            jump,
            step: seam::large_step(chunk, slots),
        }
    }
}

/// The place of a tick in the ring.
fn index(tick: Tick) -> usize {
    let rows = Tick::try_from(ROWS).unwrap_or(Tick::MAX);
    usize::try_from(tick.rem_euclid(rows)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
