//! Strategies that average chunks where they overlap: temporal ensemble and blend.
//!
//! Both work on absolute rows by tick and give the finished rows of the newest chunk, which then
//! replaces the future as any other. They need no more of a policy than chunks, and they fail where
//! two chunks decided differently: the mean of two ways around an obstacle leads into it.

use std::collections::VecDeque;

use vlad_wire::id::Tick;
use vlad_wire::msg::execute::Accepted;

use crate::real::real;

/// Chunks that an ensemble remembers; with one every ten ticks, more than overlap at 256 rows.
const CHUNKS_MAX: usize = 12;
/// How much less each younger chunk counts: `exp(−0.01 i)`, i = 0 the oldest (Zhao et al. 2023,
/// `temporal_agg` in `imitate_episodes.py`).
const DECAY: f64 = 0.01;
/// Weight of what was accepted, in `LeRobot`'s `weighted_average`.
const OLD_WEIGHT: f64 = 0.3;

/// Chunks of one cell that may still overlap a new one.
#[derive(Debug, Clone, Default)]
pub struct Overlap {
    chunks: VecDeque<Chunk>,
}

#[derive(Debug, Clone)]
struct Chunk {
    first: Tick,
    width: usize,
    rows: Vec<f32>,
}

impl Chunk {
    /// The row for a tick.
    fn at(&self, tick: Tick) -> Option<&[f32]> {
        let index = usize::try_from(tick.checked_sub(self.first)?).ok()?;
        let from = index.checked_mul(self.width)?;
        self.rows.get(from..from.checked_add(self.width)?)
    }

    /// The tick after the last row.
    fn end(&self) -> Tick {
        let n_rows = self.rows.len().checked_div(self.width).unwrap_or(0);
        let n_rows = Tick::try_from(n_rows).unwrap_or(Tick::MAX);
        self.first.saturating_add(n_rows)
    }
}

impl Overlap {
    /// Remembers a chunk that began from standstill, of which `accepted` holds what is still ahead:
    /// it overlapped nothing, but the next one will overlap it.
    pub fn begin(&mut self, accepted: &Accepted, rows: Vec<f32>) {
        self.chunks.clear();
        let width = usize::from(accepted.width);
        let n_rows = rows.len().checked_div(width).unwrap_or(0);
        let over = Tick::try_from(n_rows.saturating_sub(accepted.remaining()));
        let first = accepted.tick.saturating_add(1);
        let first = first.saturating_sub(over.unwrap_or(Tick::MAX));
        self.chunks.push_back(Chunk { first, width, rows });
    }

    /// Gives the temporal ensemble of a new chunk with those before it, and remembers the chunk.
    ///
    /// `rows` are `(horizon, width)` absolute targets, row 0 for tick `first`; so is the result.
    pub fn ensemble(&mut self, first: Tick, width: usize, rows: Vec<f32>) -> Vec<f32> {
        let newest = Chunk { first, width, rows };
        while CHUNKS_MAX <= self.chunks.len()
            || self.chunks.front().is_some_and(|old| old.end() <= first)
        {
            self.chunks.pop_front();
        }
        self.chunks.push_back(newest);
        let Some(newest) = self.chunks.back() else {
            return Vec::new();
        };
        let mut finished = Vec::with_capacity(newest.rows.len());
        for tick in first..newest.end() {
            let overlapping = self.chunks.iter().filter(|chunk| chunk.width == width);
            let rows = overlapping.filter_map(|chunk| chunk.at(tick));
            finished.extend(mean(width, rows));
        }
        finished
    }

    /// Gives the blend of a new chunk with the one before it: 0.3 of what was accepted and 0.7 of
    /// what is new where both have a row. Remembers the result, as `LeRobot`'s queue does.
    ///
    /// `rows` are `(horizon, width)` absolute targets, row 0 for tick `first`; so is the result.
    pub fn blend(&mut self, first: Tick, width: usize, rows: Vec<f32>) -> Vec<f32> {
        let new = Chunk { first, width, rows };
        let old = self.chunks.pop_back().filter(|old| old.width == width);
        self.chunks.clear();
        let mut finished = Vec::with_capacity(new.rows.len());
        for tick in first..new.end() {
            let Some(row) = new.at(tick) else { break };
            match old.as_ref().and_then(|old| old.at(tick)) {
                Some(before) => finished.extend(before.iter().zip(row).map(|(a, b)| blend(*a, *b))),
                None => finished.extend_from_slice(row),
            }
        }
        self.chunks.push_back(Chunk {
            rows: finished.clone(),
            ..new
        });
        finished
    }

    /// Forgets all chunks: after a standstill, a new epoch, or a chunk that the guard refused,
    /// nothing lies ahead that a new chunk could meet.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "rows are f32"
)]
fn blend(old: f32, new: f32) -> f32 {
    (OLD_WEIGHT * f64::from(old) + (1.0 - OLD_WEIGHT) * f64::from(new)) as f32
}

/// The weighted mean of rows, oldest first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "rows are f32"
)]
fn mean<'a>(width: usize, rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let (mut sums, mut total) = (vec![0.0; width], 0.0);
    for (i, row) in rows.enumerate() {
        let weight = (-DECAY * real(i)).exp();
        total += weight;
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += weight * f64::from(*value);
        }
    }
    sums.into_iter().map(|sum| (sum / total) as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vlad_safety::mode::Mode;
    use vlad_safety::reason::Reason;

    use super::*;

    #[test]
    fn a_chunk_alone_stays_as_it_is() {
        let rows = vec![0.25, -1.5, 3.0, 4.0];
        assert_eq!(Overlap::default().ensemble(5, 2, rows.clone()), rows);
        assert_eq!(Overlap::default().blend(5, 2, rows.clone()), rows);
    }

    #[test]
    fn an_older_chunk_counts_more_in_the_ensemble() {
        let mut overlap = Overlap::default();
        overlap.ensemble(0, 1, vec![0.0; 4]);
        let finished = overlap.ensemble(2, 1, vec![1.0; 4]);
        let young = (-0.01_f64).exp();
        let both = young / (1.0 + young);
        for value in &finished[..2] {
            assert!((f64::from(*value) - both).abs() < 1e-7 && *value < 0.5);
        }
        assert_eq!(finished[2..], [1.0, 1.0]);
        let third = overlap.ensemble(4, 1, vec![2.0; 2]);
        // The first chunk is over; the second reaches to tick 5.
        assert!((f64::from(third[1]) - (1.0 + 2.0 * young) / (1.0 + young)).abs() < 1e-6);
    }

    #[test]
    fn a_blend_meets_the_blended_chunk_before_it() {
        let mut overlap = Overlap::default();
        overlap.blend(0, 1, vec![0.0; 4]);
        assert_eq!(overlap.blend(2, 1, vec![1.0; 4]), [0.7, 0.7, 1.0, 1.0]);
        let third = overlap.blend(3, 1, vec![0.0; 3]);
        assert!((third[0] - 0.21).abs() < 1e-6 && (third[1] - 0.3).abs() < 1e-6);
    }

    /// Two rows of three are still ahead of tick 7: the first was for tick 7.
    #[test]
    fn the_first_chunk_meets_the_second_one_at_its_ticks() {
        let accepted = Accepted {
            epoch: 1,
            sampled_at_ns: 0,
            tick: 7,
            mode: Mode::Running,
            reason: Reason::Playing,
            chunk: None,
            strategy: None,
            played: 1,
            width: 1,
            rows: vec![2.0, 3.0],
        };
        let mut overlap = Overlap::default();
        overlap.ensemble(0, 1, vec![9.0; 20]);
        overlap.begin(&accepted, vec![1.0, 2.0, 3.0]);
        let mut blended = overlap.clone();
        assert_eq!(blended.blend(9, 1, vec![13.0, 5.0]), [10.0, 5.0]);
        let both = overlap.ensemble(8, 1, vec![2.0, 3.0, 5.0]);
        assert!((both[0] - 2.0).abs() < 1e-6 && (both[1] - 3.0).abs() < 1e-6);
        assert!((both[2] - 5.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_left_after_a_clear() {
        let mut overlap = Overlap::default();
        overlap.ensemble(0, 1, vec![0.0; 4]);
        overlap.clear();
        assert_eq!(overlap.ensemble(0, 1, vec![1.0; 4]), [1.0; 4]);
    }

    proptest! {
        #[test]
        fn an_average_never_leaves_what_it_averages(
            chunks in prop::collection::vec((0_i64..12, prop::collection::vec(-2.0_f32..2.0, 1..12)), 1..20),
        ) {
            let (mut ensemble, mut blended) = (Overlap::default(), Overlap::default());
            let mut first = 0;
            for (step, rows) in chunks {
                first += step;
                for finished in [
                    ensemble.ensemble(first, 1, rows.clone()),
                    blended.blend(first, 1, rows.clone()),
                ] {
                    prop_assert_eq!(finished.len(), rows.len());
                    prop_assert!(finished.iter().all(|value| value.abs() <= 2.0 + 1e-5));
                }
                prop_assert!(ensemble.chunks.len() <= CHUNKS_MAX);
            }
        }
    }
}
