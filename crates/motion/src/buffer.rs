//! The guard's chunk buffer: accepted targets by absolute tick.
//!
//! Every row carries its tick, so late, lost, duplicated and reordered chunks cannot make the tick
//! number go back: rows are taken in ascending order of tick and never twice. The buffer only
//! replaces what lies ahead, from `max(now + 1, k0 + prefix)` on (reference A.8).

use std::collections::VecDeque;

use vlad_wire::id::{ChunkId, Tick};
use vlad_wire::msg::think::{Chunk, Strategy};
use vlad_wire::robot_type::SlotMap;

/// One accepted action.
#[derive(Debug, Clone, PartialEq)]
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
    /// Absolute targets by degree of freedom.
    pub target: Vec<f64>,
}

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// So many rows lie ahead now.
    Accepted(usize),
    /// Every row of the chunk is for a tick that is over.
    Superseded,
}

/// Accepted actions, ascending by tick without gaps.
#[derive(Debug, Clone, Default)]
pub struct ChunkBuffer {
    actions: VecDeque<Action>,
    last: Option<(Strategy, f64)>,
    last_chunk: Option<ChunkId>,
}

impl ChunkBuffer {
    /// Takes the rows of `chunk` that lie ahead of tick `now`; row 0 is for tick `first`.
    ///
    /// Rows before `max(now + 1, first + prefix_len)` stay as they were accepted; what was accepted
    /// from there on is replaced. A hole before the first new row cannot be: then the chunk is for
    /// ticks that nobody has planned up to, and only its rows from the end of the buffer on fit.
    pub fn insert(&mut self, chunk: &Chunk, first: Tick, now: Tick, slots: &SlotMap) -> Inserted {
        let ahead = now.saturating_add(1);
        let prefix_end = first.saturating_add(Tick::from(chunk.head.prefix_len));
        let buffered_end = self
            .actions
            .back()
            .map_or(ahead, |last| last.tick.saturating_add(1));
        // Without accepted rows there is no prefix to keep: then the chunk's own rows are used.
        let from = ahead.max(prefix_end.min(buffered_end)).max(first);
        let end = first.saturating_add(Tick::from(chunk.head.horizon));
        if end <= from || buffered_end < from {
            return Inserted::Superseded;
        }
        while self
            .actions
            .back()
            .is_some_and(|action| from <= action.tick)
        {
            self.actions.pop_back();
        }
        for tick in from..end {
            let index = usize::try_from(tick.saturating_sub(first)).unwrap_or(usize::MAX);
            let Some(row) = chunk.row(index) else { break };
            self.actions.push_back(Action {
                tick,
                chunk: chunk.head.id,
                index: u16::try_from(index).unwrap_or(u16::MAX),
                strategy: chunk.head.strategy,
                rate: chunk.head.rate,
                captured_at_ns: chunk.head.captured_at_ns,
                target: slots.to_dofs(row).collect(),
            });
        }
        self.last = Some((chunk.head.strategy, chunk.head.rate));
        self.last_chunk = Some(chunk.head.id);
        Inserted::Accepted(self.actions.len())
    }

    /// Takes the action for `tick`; older ones are dropped.
    pub fn take(&mut self, tick: Tick) -> Option<Action> {
        while self
            .actions
            .front()
            .is_some_and(|action| action.tick < tick)
        {
            self.actions.pop_front();
        }
        match self.actions.front() {
            Some(action) if action.tick == tick => self.actions.pop_front(),
            _ => None,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.last = None;
        self.last_chunk = None;
    }

    /// Whether no action is left.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// The accepted future, ascending by tick.
    pub fn ahead(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter()
    }

    /// Whether a gap after the last accepted chunk is part of its strategy.
    pub fn plans_gap(&self) -> bool {
        self.last
            .is_some_and(|(strategy, rate)| strategy.plans_gaps(rate))
    }

    /// The chunk and strategy that were accepted last.
    pub fn newest(&self) -> Option<(ChunkId, Strategy)> {
        self.last_chunk.zip(self.last.map(|(strategy, _)| strategy))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use vlad_wire::msg::think::Strategy;

    use crate::testing::chunk;

    fn slots() -> SlotMap {
        SlotMap::new(2, vec![0, 1]).unwrap()
    }

    #[test]
    fn rows_come_at_their_ticks() {
        let mut buffer = ChunkBuffer::default();
        assert_eq!(
            buffer.insert(&chunk(1, 3, 0), 10, 9, &slots()),
            Inserted::Accepted(3)
        );
        assert!(buffer.take(9).is_none());
        for tick in 10..13 {
            let action = buffer.take(tick).unwrap();
            assert_eq!((action.tick, i64::from(action.index)), (tick, tick - 10));
        }
        assert!(buffer.take(13).is_none() && buffer.is_empty());
    }

    #[test]
    fn a_later_chunk_replaces_only_what_lies_ahead() {
        let mut buffer = ChunkBuffer::default();
        buffer.insert(&chunk(1, 10, 0), 0, -1, &slots());
        buffer.take(3);
        buffer.insert(&chunk(2, 10, 0), 2, 3, &slots());
        let ahead: Vec<_> = buffer
            .ahead()
            .map(|a| (a.tick, a.chunk.request, a.index))
            .collect();
        assert_eq!(ahead.first(), Some(&(4, 2, 2)));
        assert_eq!(ahead.last(), Some(&(11, 2, 9)));
    }

    #[test]
    fn the_prefix_keeps_what_was_accepted() {
        let mut buffer = ChunkBuffer::default();
        buffer.insert(&chunk(1, 10, 0), 0, -1, &slots());
        buffer.insert(&chunk(2, 10, 4), 0, -1, &slots());
        let owners: Vec<_> = buffer.ahead().map(|a| a.chunk.request).collect();
        assert_eq!(owners, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn a_chunk_of_the_past_or_beyond_a_hole_is_superseded() {
        let mut buffer = ChunkBuffer::default();
        assert_eq!(
            buffer.insert(&chunk(1, 5, 0), 0, 10, &slots()),
            Inserted::Superseded
        );
        assert_eq!(
            buffer.insert(&chunk(1, 5, 0), 20, 10, &slots()),
            Inserted::Superseded
        );
        assert!(buffer.is_empty());
    }

    #[test]
    fn the_last_chunk_says_whether_a_gap_was_planned() {
        let mut buffer = ChunkBuffer::default();
        assert!(!buffer.plans_gap());
        buffer.insert(&chunk(1, 5, 0), 0, -1, &slots());
        assert!(!buffer.plans_gap());
        let mut sync = chunk(2, 5, 0);
        sync.head.strategy = Strategy::Sync;
        buffer.insert(&sync, 0, -1, &slots());
        assert!(buffer.plans_gap());
        buffer.clear();
        assert!(buffer.newest().is_none() && !buffer.plans_gap());
    }

    proptest! {
        /// Reference A.8, property 1: no order, loss or repetition of chunks turns ticks back.
        #[test]
        fn ticks_never_go_back(
            arrivals in prop::collection::vec((-5_i64..60, 1_u16..20, 0_u16..6, 0_usize..4), 1..40),
        ) {
            let mut buffer = ChunkBuffer::default();
            let (mut now, mut last) = (0, Tick::MIN);
            for (request, (first, horizon, prefix, idle)) in (0..).zip(arrivals) {
                buffer.insert(&chunk(request, horizon, prefix), first, now, &slots());
                let ticks: Vec<_> = buffer.ahead().map(|a| a.tick).collect();
                prop_assert!(ticks.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                prop_assert!(ticks.first().is_none_or(|tick| now < *tick));
                for _ in 0..idle {
                    now += 1;
                    if let Some(action) = buffer.take(now) {
                        prop_assert!(last < action.tick);
                        prop_assert_eq!(action.tick, now);
                        last = action.tick;
                    }
                }
            }
        }
    }
}
