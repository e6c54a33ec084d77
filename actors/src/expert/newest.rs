//! What the expert remembers of the chunk that the guard accepted last.

use vlad_motion::overlap::Overlap;
use vlad_motion::policy::ActRows;
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::think::Start;

/// The chunk that was accepted last.
#[derive(Debug)]
pub(super) struct Newest {
    /// The chunk that was sent to begin from standstill: which ticks it has is the guard's to say.
    begun: Option<ActRows>,
    /// When its rows are too old to be played.
    old_at_ns: u64,
}

impl Newest {
    /// Before any.
    pub(super) const NONE: Self = Self {
        begun: None,
        old_at_ns: u64::MAX,
    };

    /// Takes a chunk that is sent.
    pub(super) fn sent(&mut self, start: Start, rows: &ActRows) {
        self.begun = (start == Start::OnArrival).then(|| rows.clone());
    }

    /// Takes its acceptance, and from when on it is too old.
    pub(super) fn accepted(&mut self, buffer: &Accepted, old_at_ns: u64, overlap: &mut Overlap) {
        self.old_at_ns = old_at_ns;
        if let Some(rows) = self.begun.take() {
            overlap.begin(buffer, rows.rows);
        }
    }

    /// For how many ticks its rows are young enough, at a speed of which the slowest is a half.
    pub(super) fn young_ticks(&self, now_ns: u64, (dt_ns, rate): (u64, f64)) -> u64 {
        let slow = if rate < 1.0 { 2 } else { 1 };
        let left_ns = self.old_at_ns.saturating_sub(now_ns);
        left_ns / dt_ns.saturating_mul(slow).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_young_for_whole_ticks_that_last_twice_as_long_when_slow() {
        let mut newest = Newest::NONE;
        assert!(1_000_000 < newest.young_ticks(5, (33, 1.0)));
        newest.old_at_ns = 1000;
        assert_eq!(newest.young_ticks(10, (33, 1.0)), 30);
        assert_eq!(newest.young_ticks(11, (33, 1.0)), 29);
        assert_eq!(newest.young_ticks(10, (33, 0.7)), 15);
        assert_eq!(newest.young_ticks(1001, (33, 1.0)), 0);
    }
}
