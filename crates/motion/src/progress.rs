//! Whether a robot that moves gets anywhere (F32): one that stands still in the middle of a task, or
//! goes the same way round and round, does not.

use std::collections::VecDeque;

use vlad_wire::clock::{MS, SECOND};

/// Period of the samples.
const SAMPLE_NS: u64 = 100 * MS;
/// How long the motion must have repeated itself.
const WINDOW: usize = 400;
/// Longest loop that is known, samples: three rounds of it fit into the window.
const LOOP_MAX: usize = WINDOW / 3;
/// How alike two rounds are, radians or metres: what half a sample's phase makes of slow motion.
const ALIKE: f64 = 0.03;
/// A gap in the samples after which all begins anew.
const GAP_NS: u64 = SECOND;

/// Watches positions.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    samples: VecDeque<Vec<f64>>,
    next_ns: u64,
    last_ns: u64,
}

impl Progress {
    /// Takes the positions of all degrees of freedom while a task is being done; gives the length of
    /// the loop, seconds, when the last forty seconds were nothing but a loop: 0 is standing still.
    pub fn note(&mut self, now_ns: u64, position: &[f64]) -> Option<f64> {
        if self.last_ns + GAP_NS < now_ns {
            self.samples.clear();
        }
        self.last_ns = now_ns;
        if now_ns < self.next_ns {
            return None;
        }
        self.next_ns = now_ns + SAMPLE_NS;
        if WINDOW <= self.samples.len() {
            self.samples.pop_front();
        }
        self.samples.push_back(position.to_vec());
        if self.samples.len() < WINDOW {
            return None;
        }
        if self.stands() {
            return Some(0.0);
        }
        let lag = (1..=LOOP_MAX).find(|lag| self.repeats(*lag))?;
        Some(f64::from(u32::try_from(lag).ok()?) * 0.1)
    }

    /// Begins anew: another task, or a person moved on.
    pub fn restart(&mut self) {
        self.samples.clear();
    }

    fn stands(&self) -> bool {
        let first = self.samples.front();
        first.is_some_and(|first| self.samples.iter().all(|now| alike(now, first)))
    }

    /// Whether each round of so many samples is like the one before, goes somewhere, and has not crept
    /// away from the first one: slow motion too differs little from a moment to the next.
    fn repeats(&self, lag: usize) -> bool {
        let later = self.samples.iter().skip(lag);
        let each = later
            .zip(&self.samples)
            .all(|(now, before)| alike(now, before));
        each && self.goes(lag) && self.returns(lag)
    }

    /// Whether a round is no standing still.
    fn goes(&self, lag: usize) -> bool {
        let Some(first) = self.samples.front() else {
            return false;
        };
        let away = |now: &Vec<f64>| {
            let mut dofs = now.iter().zip(first);
            dofs.any(|(now, first)| 2.0 * ALIKE < (now - first).abs())
        };
        self.samples.iter().take(lag).any(away)
    }

    /// Whether the last round is the first one, from whichever of its samples.
    fn returns(&self, lag: usize) -> bool {
        let begin = self.samples.len().saturating_sub(2 * lag);
        let last = |shift: usize| self.samples.iter().skip(begin + shift).take(lag);
        (0..lag).any(|shift| {
            let mut pairs = self.samples.iter().zip(last(shift));
            pairs.all(|(first, now)| alike(now, first))
        })
    }
}

fn alike(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ALIKE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When something is found, seconds, in a minute of motion.
    fn found(motion: impl Fn(f64) -> Vec<f64>) -> Option<(u64, f64)> {
        let mut progress = Progress::default();
        (0..600_u32).find_map(|nth| {
            let now_ns = SECOND + u64::from(nth) * SAMPLE_NS;
            let length_s = progress.note(now_ns, &motion(f64::from(nth) * 0.1))?;
            Some((now_ns / SECOND, length_s))
        })
    }

    #[test]
    fn standing_still_is_found_within_a_minute() {
        let (at_s, length_s) = found(|_| vec![0.3, -0.2]).unwrap();
        assert!(at_s <= 60);
        assert!(length_s < 1e-9);
    }

    #[test]
    fn going_somewhere_is_progress() {
        for speed in [0.002, 0.01, 0.05, 0.1, 0.3] {
            assert_eq!(found(|t_s| vec![speed * t_s]), None, "{speed}");
        }
        // Around, and a little farther each time.
        let spiral = |t_s: f64| vec![(0.3 + 0.02 * t_s) * t_s.sin(), 0.02 * t_s];
        assert_eq!(found(spiral), None);
    }

    #[test]
    fn a_gap_or_a_restart_begins_anew() {
        let mut progress = Progress::default();
        for nth in 0..390_u64 {
            assert_eq!(progress.note(nth * SAMPLE_NS, &[0.0]), None);
        }
        assert_eq!(progress.note(60 * SECOND, &[0.0]), None);
        for nth in 1..390_u64 {
            assert_eq!(progress.note(60 * SECOND + nth * SAMPLE_NS, &[0.0]), None);
        }
        progress.restart();
        assert_eq!(progress.note(100 * SECOND, &[0.0]), None);
    }

    proptest! {
        #[test]
        fn loops_are_found_whatever_their_length(length_s in 1.0_f64..13.0, by in 0.05_f64..0.3) {
            let round = |t_s: f64| {
                let phase = std::f64::consts::TAU * t_s / length_s;
                // Slow enough that half a sample's phase is alike.
                let by = by.min(0.03 * length_s / 0.4);
                vec![by * phase.sin(), by * phase.cos()]
            };
            let (at_s, _) = found(round).expect("found");
            prop_assert!(at_s <= 60);
        }
    }
}
