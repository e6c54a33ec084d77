//! What the guard accepted, by tick: the prefix is read from here.
//!
//! Each `accepted` message holds the future alone. A chunk begins at the tick of its observation,
//! which may be over when the decision is made; so the rows that were accepted for the last ticks
//! are kept as they stood when they became the past.

use std::collections::BTreeMap;

use vlad_wire::id::{Epoch, Tick};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::robot_type::HORIZON_MAX;

/// Ticks that are kept after they are over: longer than any observation that a decision may still
/// be made on.
const PAST_MAX: Tick = 256;

/// The accepted rows of one cell.
#[derive(Debug, Clone, Default)]
pub struct History {
    epoch: Epoch,
    now: Tick,
    rows: BTreeMap<Tick, Vec<f32>>,
}

impl History {
    /// Takes the newest buffer. What lies ahead is replaced by it; what is over stays. A new epoch
    /// or a tick that went back, which is a new guard, forgets everything.
    pub fn take(&mut self, accepted: &Accepted) {
        if accepted.epoch != self.epoch || accepted.tick < self.now {
            self.rows.clear();
        }
        self.epoch = accepted.epoch;
        self.now = accepted.tick;
        // Without rows nothing is planned: what lay ahead before a stop must not become a prefix.
        self.rows.split_off(&(accepted.tick.saturating_add(1)));
        self.rows = self
            .rows
            .split_off(&(accepted.tick.saturating_sub(PAST_MAX)));
        let width = usize::from(accepted.width).max(1);
        let rows = accepted.rows.chunks_exact(width).take(2 * HORIZON_MAX);
        let ticks = (1..).map(|ahead| accepted.tick.saturating_add(ahead));
        self.rows
            .extend(ticks.zip(rows).map(|(tick, row)| (tick, row.to_vec())));
    }

    /// Gives the accepted rows from `first` on, at most `len`, without a gap: the prefix of a chunk
    /// whose row 0 is for `first`. Empty where nothing is known of that tick. A chunk that begins
    /// from standstill has no prefix: nobody may ask for one then.
    pub fn rows(&self, first: Tick, len: usize) -> Vec<Vec<f32>> {
        let from = self.rows.range(first..).zip(first..);
        let whole = from.take_while(|((tick, _), expected)| *tick == expected);
        whole.take(len).map(|((_, row), _)| row.clone()).collect()
    }

    /// Forgets everything: nothing from before a standstill may be conditioned on.
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use vlad_safety::mode::Mode;
    use vlad_safety::reason::Reason;

    use super::*;

    fn accepted(epoch: Epoch, tick: Tick, rows: &[f32]) -> Accepted {
        Accepted {
            epoch,
            sampled_at_ns: 0,
            tick,
            mode: Mode::Running,
            reason: Reason::Playing,
            chunk: None,
            strategy: None,
            played: 0,
            width: 1,
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn a_row_is_known_after_its_tick_is_over() {
        let mut history = History::default();
        history.take(&accepted(1, 9, &[10.0, 11.0, 12.0]));
        history.take(&accepted(1, 11, &[12.5, 13.0]));
        assert_eq!(
            history.rows(10, 9),
            [vec![10.0], vec![11.0], vec![12.5], vec![13.0]]
        );
        assert_eq!(history.rows(11, 2), [vec![11.0], vec![12.5]]);
        assert!(history.rows(9, 3).is_empty() && history.rows(14, 3).is_empty());
    }

    #[test]
    fn a_gap_ends_the_prefix() {
        let mut history = History::default();
        history.take(&accepted(1, 0, &[1.0]));
        history.take(&accepted(1, 4, &[5.0]));
        assert_eq!(history.rows(1, 9), [vec![1.0]]);
    }

    #[test]
    fn a_new_epoch_an_older_tick_and_an_emptied_buffer_end_it_too() {
        let mut history = History::default();
        history.take(&accepted(1, 9, &[10.0, 11.0]));
        history.take(&accepted(2, 9, &[]));
        assert!(history.rows(10, 3).is_empty());
        history.take(&accepted(2, 9, &[10.0, 11.0]));
        history.take(&accepted(2, 9, &[]));
        assert!(history.rows(10, 3).is_empty(), "a stop empties the buffer");
        history.take(&accepted(2, 9, &[10.0]));
        history.take(&accepted(2, 3, &[4.0]));
        assert!(history.rows(10, 3).is_empty());
        assert_eq!(history.rows(4, 3), [vec![4.0]]);
    }
}
