//! How sure a comparison of two strategies is: intervals for shares, for differences of shares, and
//! for any statistic by the bootstrap; `McNemar`'s test for paired successes.
//!
//! | function | for |
//! |---|---|
//! | [`wilson`] | a share of successes |
//! | [`newcombe`] | the difference of two shares of different seeds |
//! | [`mcnemar`] | two strategies on the same seeds |
//! | [`kolmogorov_uniform`] | whether samples may be of a uniform distribution |
//! | [`bootstrap_paired`] | a statistic's difference on the same seeds |
//! | [`bootstrap_independent`] | a statistic's difference on different seeds, as against an oracle |
//!
//! Sources: E. B. Wilson 1927; R. G. Newcombe, Statistics in Medicine 17, 1998, 857–872 (method 3)
//! and 873–890 (method 10); Q. `McNemar` 1947; M. A. Stephens, Journal of the Royal Statistical Society
//! B 32, 1970, 115–122 (Kolmogorov's statistic of few samples); B. Efron and R. Tibshirani, An Introduction to the
//! Bootstrap, 1993 (percentile interval).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Quantile of the normal distribution that leaves 2.5 % on each side.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// An interval of 95 % confidence around an estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies within it.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A count of successes among trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    successes: u32,
    trials: u32,
}

impl Share {
    /// `None` without trials, or with more successes than trials.
    pub fn new(successes: u32, trials: u32) -> Option<Self> {
        (0 < trials && successes <= trials).then_some(Self { successes, trials })
    }

    fn part(self) -> f64 {
        f64::from(self.successes) / f64::from(self.trials)
    }
}

/// Wilson's score interval of a share, 95 %.
pub fn wilson(share: Share) -> Interval {
    let (p, n) = (share.part(), f64::from(share.trials));
    let z2 = Z_95 * Z_95;
    let centre = 2.0 * n * p + z2;
    let reach = Z_95 * (z2 + 4.0 * n * p * (1.0 - p)).sqrt();
    let scale = 2.0 * (n + z2);
    // At no and at all successes an end is the bound itself, but for rounding.
    let low = if share.successes == 0 {
        0.0
    } else {
        (centre - reach) / scale
    };
    let high = if share.successes == share.trials {
        1.0
    } else {
        (centre + reach) / scale
    };
    Interval {
        estimate: p,
        low,
        high,
    }
}

/// Newcombe's interval of the difference `first − second` of two independent shares, 95 %: his
/// method 10, from the two Wilson intervals.
pub fn newcombe(first: Share, second: Share) -> Interval {
    let (a, b) = (wilson(first), wilson(second));
    let estimate = a.estimate - b.estimate;
    let below = (a.estimate - a.low).hypot(b.high - b.estimate);
    let above = (a.high - a.estimate).hypot(b.estimate - b.low);
    Interval {
        estimate,
        low: estimate - below,
        high: estimate + above,
    }
}

/// `McNemar`'s exact test: the probability of a split at least as uneven among the pairs in which one
/// of two strategies alone succeeded, if both are equally good; two-sided.
pub fn mcnemar(only_first: u32, only_second: u32) -> f64 {
    let n = only_first + only_second;
    let fewer = only_first.min(only_second);
    // Sums of binomial terms by logarithms: 0.5^n is 0 from n = 1075 on.
    let mut log_term = -f64::from(n) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for k in 1..=fewer {
        log_term += (f64::from(n - k + 1) / f64::from(k)).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// A difference that was estimated by drawing again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Percentile interval, 95 %, around the difference.
    pub interval: Interval,
    /// Standard deviation of the drawn differences.
    pub standard_error: f64,
}

/// How a bootstrap draws: the same numbers give the same interval on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// Seed of the drawing.
    pub seed: u64,
    /// How often is drawn; 10 000 is usual.
    pub count: u32,
}

/// Bootstrap of `statistic(first) − statistic(second)` over pairs, which stay together.
///
/// A pair is what two strategies gave on one seed. `None` without pairs or draws.
pub fn bootstrap_paired<T: Clone>(
    pairs: &[(T, T)],
    draws: Draws,
    statistic: impl Fn(&[T]) -> f64,
) -> Option<Bootstrap> {
    let difference = |picked: &[usize]| {
        let first: Vec<T> = picked.iter().map(|idx| pairs[*idx].0.clone()).collect();
        let second: Vec<T> = picked.iter().map(|idx| pairs[*idx].1.clone()).collect();
        statistic(&first) - statistic(&second)
    };
    let all: Vec<usize> = (0..pairs.len()).collect();
    if pairs.is_empty() {
        return None;
    }
    let mut picker = Picker::new(draws.seed);
    let drawn = (0..draws.count).map(|_| difference(&picker.pick(pairs.len())));
    summary(drawn.collect(), difference(&all))
}

/// Bootstrap of `statistic(first) − statistic(second)` over two independent samples. `None` where
/// one of them is empty, or without draws.
pub fn bootstrap_independent<T: Clone>(
    first: &[T],
    second: &[T],
    draws: Draws,
    statistic: impl Fn(&[T]) -> f64,
) -> Option<Bootstrap> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let mut picker = Picker::new(draws.seed);
    let mut one = |sample: &[T]| {
        let picked = picker.pick(sample.len());
        let picked: Vec<T> = picked.iter().map(|idx| sample[*idx].clone()).collect();
        statistic(&picked)
    };
    let drawn = (0..draws.count).map(|_| one(first) - one(second));
    summary(drawn.collect(), statistic(first) - statistic(second))
}

/// Kolmogorov's test: the probability of samples at least as far from the uniform distribution on
/// `[low, high]`, if they are of it; two-sided, by Stephens' approximation, good from eight samples on.
///
/// `None` without samples, or where `low` is not below `high`. A sample outside makes it small.
pub fn kolmogorov_uniform(samples: &[f64], low: f64, high: f64) -> Option<f64> {
    if samples.is_empty() || high <= low || !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let farthest = sorted.iter().enumerate().map(|(idx, sample)| {
        let expected = ((sample - low) / (high - low)).clamp(0.0, 1.0);
        let (before, after) = (idx as f64 / n, (idx as f64 + 1.0) / n);
        (expected - before).abs().max((after - expected).abs())
    });
    let distance = farthest.fold(0.0, f64::max);
    let scaled = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    // Kolmogorov's series: alternating, of fast falling terms. Near 0 it converges slowly, to 1.
    let term = |k: i32| {
        let sign = if k % 2 == 0 { -1.0 } else { 1.0 };
        sign * (-2.0 * (f64::from(k) * scaled).powi(2)).exp()
    };
    let tail: f64 = (1..=100).map(term).sum();
    Some(if scaled < 0.2 {
        1.0
    } else {
        (2.0 * tail).clamp(0.0, 1.0)
    })
}

/// The value below which a share of the numbers lies, by linear interpolation between order
/// statistics, as numpy's `percentile` does; `None` of no numbers.
pub fn quantile(numbers: &[f64], share: f64) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    of_sorted(&sorted, share)
}

fn of_sorted(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = (place as usize).min(last);
    let above = (below + 1).min(last);
    let part = place - below as f64;
    Some(sorted[below] + (sorted[above] - sorted[below]) * part)
}

/// The mean; 0 of no numbers.
pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / (numbers.len().max(1) as f64)
}

fn summary(mut drawn: Vec<f64>, estimate: f64) -> Option<Bootstrap> {
    let centre = mean(&drawn);
    let squares: Vec<f64> = drawn.iter().map(|x| (x - centre).powi(2)).collect();
    drawn.sort_by(f64::total_cmp);
    Some(Bootstrap {
        interval: Interval {
            estimate,
            low: of_sorted(&drawn, 0.025)?,
            high: of_sorted(&drawn, 0.975)?,
        },
        standard_error: mean(&squares).sqrt(),
    })
}

/// Draws indices with replacement.
struct Picker {
    rng: ChaCha8Rng,
}

impl Picker {
    fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn pick(&mut self, n: usize) -> Vec<usize> {
        // The upper half of a product (Lemire 2019): uneven by less than n in 2^64.
        let draw = |bits: u64| ((u128::from(bits) * n as u128) >> 64) as usize;
        (0..n).map(|_| draw(self.rng.next_u64())).collect()
    }
}

#[cfg(test)]
mod tests;
