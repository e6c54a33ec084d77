//! What the expert remembers of the chunk that the guard accepted last.

use std::time::Duration;

use vlad_motion::overlap::Overlap;
use vlad_motion::policy::ActRows;
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::think::Start;

/// The gate slows the robot down to this at most.
const HALF: f64 = 0.5;
/// As slow as shipped guards go (`guard.speed_min`); the divisor is never zero.
const RATE_MIN: f64 = 0.05;

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

    /// For how many ticks its rows are young enough, at the speed fraction of the guard and that of the
    /// gate, which may become a half as soon as it is below 1.
    pub(super) fn young_ticks(&self, now_ns: u64, dt_ns: u64, (guard, gate): (f64, f64)) -> u64 {
        let slowest = if gate < 1.0 { HALF } else { 1.0 };
        // What is no number, from a bus that says so, counts as the slowest.
        let rate = guard.max(RATE_MIN).min(slowest);
        let tick = Duration::from_nanos(dt_ns).div_f64(rate);
        let left_ns = u128::from(self.old_at_ns.saturating_sub(now_ns));
        u64::try_from(left_ns / tick.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_young_for_whole_ticks_that_last_longer_when_slow() {
        let mut newest = Newest::NONE;
        assert!(1_000_000 < newest.young_ticks(5, 33, (1.0, 1.0)));
        newest.old_at_ns = 1000;
        let ticks = |now_ns, rates| newest.young_ticks(now_ns, 33, rates);
        assert_eq!(ticks(10, (1.0, 1.0)), 30);
        assert_eq!(ticks(11, (1.0, 1.0)), 29);
        assert_eq!(ticks(1001, (1.0, 1.0)), 0);
        // The gate's slowness is as good as half; the guard's own is what it is.
        assert_eq!(ticks(10, (1.0, 0.7)), 15);
        assert_eq!(ticks(10, (0.5, 1.0)), 15);
        assert_eq!(ticks(10, (0.1, 1.0)), 3);
        assert_eq!(ticks(10, (0.1, 0.7)), 3);
        assert_eq!(ticks(10, (0.0, 1.0)), 1);
        assert_eq!(ticks(10, (f64::NAN, 1.0)), 1);
    }
}
