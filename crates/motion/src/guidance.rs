//! Real-time chunking: how strongly each row of a new chunk is pulled to what was accepted.
//!
//! The weights and the target are made here; the vector-Jacobian product stays inside the policy
//! (Black et al. 2025, arXiv:2506.07339; reference A.3). With `d` rows frozen, `end` the first free
//! row, `H` rows in all:
//!
//! ```text
//!  weight 1 ─────────┐
//!                     ╲ linear: c = (d − 1 − i)/(end − d + 1) + 1
//!                      ╲ exp:   c (e^c − 1)/(e − 1)
//!  weight 0             └──────────────
//!         row 0 …   d        end    … H − 1
//! ```
//!
//! The hard mask has nothing between 1 and 0.

use crate::policy::Guidance;
use crate::real::real;
use serde::{Deserialize, Serialize};

/// Largest guidance weight of the paper's own experiments; more makes the integration with five
/// Euler steps overshoot.
pub const BETA: f32 = 5.0;

/// How the weights fall from frozen to free rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// At once: frozen rows alone are guided.
    Hard,
    /// In a straight line.
    Linear,
    /// The paper's: first slowly, then faster.
    Exponential,
}

/// Which rows are frozen, pulled and free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    /// Rows that will be over, or played, when the chunk arrives: the delay in ticks.
    pub frozen: usize,
    /// First row that is free; `H − T_e` at most, and no row that was never accepted.
    pub end: usize,
    /// How the weights fall between both.
    pub schedule: Schedule,
}

impl Mask {
    /// Gives the mask of a chunk of `horizon` rows that comes `delay` ticks after its observation,
    /// where `accepted` rows from its first tick on are known and `executed` rows (`T_e`) are played
    /// between two decisions.
    pub fn new(schedule: Schedule, horizon: usize, delay: usize, known: Known) -> Self {
        let end = known
            .accepted
            .min(horizon.saturating_sub(known.executed))
            .min(horizon);
        let frozen = delay.min(known.accepted).min(horizon);
        match schedule {
            Schedule::Hard => Self {
                frozen,
                end: frozen,
                schedule,
            },
            Schedule::Linear | Schedule::Exponential => Self {
                frozen: frozen.min(end),
                end,
                schedule,
            },
        }
    }

    /// Gives one weight a row, 0 to 1.
    pub fn weights(&self, horizon: usize) -> Vec<f32> {
        (0..horizon).map(|row| self.weight(row)).collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::as_conversions,
        reason = "policies read f32, and a weight lies in 0 to 1"
    )]
    fn weight(&self, row: usize) -> f32 {
        if row < self.frozen {
            return 1.0;
        }
        if self.end <= row {
            return 0.0;
        }
        let width = real(self.end - self.frozen) + 1.0;
        let c = 1.0 - (real(row - self.frozen) + 1.0) / width;
        let weight = match self.schedule {
            Schedule::Hard => 0.0,
            Schedule::Linear => c,
            Schedule::Exponential => c * c.exp_m1() / 1.0_f64.exp_m1(),
        };
        weight as f32
    }
}

/// What is known when a guided chunk is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Rows that were accepted, from the new chunk's first tick on.
    pub accepted: usize,
    /// Rows that are played between two decisions (`T_e`).
    pub executed: usize,
}

/// Gives the guidance of a chunk of `horizon` rows towards `accepted`: absolute targets in slots,
/// row 0 for the chunk's first tick. Beyond them the last one is repeated, whose weight is 0.
///
/// `None` without accepted rows or frozen ones: then there is nothing to be true to.
pub fn towards(accepted: &[Vec<f32>], horizon: usize, mask: &Mask) -> Option<Guidance> {
    let last = accepted.last()?;
    if mask.frozen == 0 && mask.end == 0 {
        return None;
    }
    let rows = accepted.iter().chain(std::iter::repeat(last));
    Some(Guidance {
        target: rows.take(horizon).flatten().copied().collect(),
        weights: mask.weights(horizon),
        beta: BETA,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(schedule: Schedule, delay: usize, accepted: usize) -> Mask {
        let known = Known {
            accepted,
            executed: 10,
        };
        Mask::new(schedule, 30, delay, known)
    }

    #[test]
    fn weights_are_the_papers() {
        // The formula of `twogate.py`, computed with numpy: d = 3, end = 20.
        let soft = mask(Schedule::Exponential, 3, 25).weights(30);
        assert_eq!((soft[0], soft[2]), (1.0, 1.0));
        let c: f64 = (3.0 - 1.0 - 3.0) / 18.0 + 1.0;
        let want = c * (c.exp() - 1.0) / (std::f64::consts::E - 1.0);
        assert!((f64::from(soft[3]) - want).abs() < 1e-7);
        assert!(soft[19] > 0.0 && soft[20..].iter().all(|w| *w == 0.0));
        let linear = mask(Schedule::Linear, 3, 25).weights(30);
        assert!((f64::from(linear[3]) - c).abs() < 1e-7);
        assert!((linear[19] - 1.0 / 18.0).abs() < 1e-6);
    }

    #[test]
    fn the_hard_mask_is_one_then_zero() {
        let hard = mask(Schedule::Hard, 5, 25).weights(30);
        assert_eq!(hard[..5], vec![1.0; 5]);
        assert!(hard[5..].iter().all(|w| *w == 0.0));
    }

    #[test]
    fn what_was_never_accepted_is_free() {
        let short = mask(Schedule::Exponential, 8, 4);
        assert_eq!((short.frozen, short.end), (4, 4));
        assert_eq!(
            mask(Schedule::Exponential, 25, 29).frozen,
            20,
            "never beyond H - T_e"
        );
    }

    #[test]
    fn the_last_accepted_row_is_repeated() {
        let accepted = vec![vec![1.0, 2.0], vec![3.0, 4.0]];
        let known = Known {
            accepted: 2,
            executed: 1,
        };
        let mask = Mask::new(Schedule::Exponential, 4, 1, known);
        let guidance = towards(&accepted, 4, &mask).unwrap();
        assert_eq!(guidance.target, [1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(guidance.weights.len(), 4);
        assert_eq!(towards(&[], 4, &mask), None);
        let nothing = Mask::new(Schedule::Hard, 4, 0, known);
        assert_eq!(towards(&accepted, 4, &nothing), None);
    }

    proptest! {
        #[test]
        fn weights_fall_and_stay_within_bounds(
            horizon in 1_usize..64, delay in 0_usize..80, accepted in 0_usize..80,
            executed in 0_usize..80, kind in 0_usize..3,
        ) {
            let schedule = [Schedule::Hard, Schedule::Linear, Schedule::Exponential][kind];
            let mask = Mask::new(schedule, horizon, delay, Known { accepted, executed });
            let weights = mask.weights(horizon);
            prop_assert_eq!(weights.len(), horizon);
            prop_assert!(weights.iter().all(|w| (0.0..=1.0).contains(w)));
            prop_assert!(weights.windows(2).all(|pair| pair[1] <= pair[0]));
            prop_assert!(weights.iter().skip(accepted).all(|w| *w == 0.0));
        }
    }
}
