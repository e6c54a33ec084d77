//! The noise of a decision: a function of the task's seed and the observation's number alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Gives the seed of one decision's noise; it is written into the chunk's head.
pub fn decision_seed(task_seed: u64, obs_seq: u64) -> u64 {
    // SplitMix64's finaliser (Steele et al. 2014): neighbouring observations get unrelated seeds.
    let mut z = task_seed ^ obs_seq.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Gives `count` standard normal numbers from a decision's seed.
///
/// `ChaCha8` and the Box–Muller transform: the same numbers on every machine, unlike those of
/// `PyTorch`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "models read f32"
)]
pub fn standard_normal(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let radius = (-2.0 * unit(rng.next_u64()).ln()).sqrt();
        let angle = std::f64::consts::TAU * unit(rng.next_u64());
        numbers.push((radius * angle.cos()) as f32);
        numbers.push((radius * angle.sin()) as f32);
    }
    numbers.truncate(count);
    numbers
}

/// A number in (0, 1] from 53 random bits: never 0, whose logarithm is not finite.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "53 bits fit in an f64"
)]
fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        assert_eq!(standard_normal(7, 33), standard_normal(7, 33));
        assert_ne!(standard_normal(7, 33), standard_normal(8, 33));
        assert_eq!(standard_normal(7, 33).len(), 33);
        assert_eq!(standard_normal(7, 32), standard_normal(7, 33)[..32]);
    }

    #[test]
    fn the_numbers_are_standard_normal() {
        let numbers = standard_normal(1, 20_000);
        let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 20_000.0;
        // Five standard errors of 20 000 draws.
        assert!(mean.abs() < 0.036, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        assert!(numbers.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn neighbouring_observations_have_unrelated_seeds() {
        assert_ne!(decision_seed(1, 1), decision_seed(1, 2));
        assert_ne!(decision_seed(1, 1), decision_seed(2, 1));
        assert_eq!(decision_seed(3, 4), decision_seed(3, 4));
    }
}
