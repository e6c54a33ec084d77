//! How long decisions take.

use std::collections::VecDeque;

/// Delays that percentiles are taken over: about a minute of decisions.
const WINDOW: usize = 200;
/// Newest delays whose largest counts as if it were usual: after a jump the percentile alone would
/// need two delays in the window to notice.
const NEWEST: usize = 10;

/// The delays of one policy on one route, newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DelayMeter {
    delays_ns: VecDeque<u64>,
}

impl DelayMeter {
    /// Takes one delay: from the observation's capture to the guard's buffer.
    pub fn push(&mut self, delay_ns: u64) {
        if self.delays_ns.len() == WINDOW {
            self.delays_ns.pop_front();
        }
        self.delays_ns.push_back(delay_ns);
    }

    /// How many delays are known, at most 200.
    pub fn count(&self) -> usize {
        self.delays_ns.len()
    }

    /// What to reckon with: the larger of the 99th percentile and the largest of the last ten; 0
    /// before the first delay.
    pub fn expected_ns(&self) -> u64 {
        let newest = self.delays_ns.iter().rev().take(NEWEST).max();
        self.percentile_ns(990).max(newest.copied().unwrap_or(0))
    }

    /// What to reckon with once in a thousand decisions; of 200 delays, the largest.
    pub fn rare_ns(&self) -> u64 {
        self.percentile_ns(999).max(self.expected_ns())
    }

    /// The percentile in thousandths, by nearest rank; 0 before the first delay.
    fn percentile_ns(&self, thousandths: usize) -> u64 {
        let mut sorted: Vec<_> = self.delays_ns.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * thousandths).div_ceil(1000);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

impl FromIterator<u64> for DelayMeter {
    fn from_iter<I: IntoIterator<Item = u64>>(delays_ns: I) -> Self {
        let mut meter = Self::default();
        for delay_ns in delays_ns {
            meter.push(delay_ns);
        }
        meter
    }
}
