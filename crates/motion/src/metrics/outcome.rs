//! What shows over events and episodes: reaction (M7) and throughput (M10).

use serde::{Deserialize, Serialize};

use super::spread::Spread;
use super::timing::ratio;
use super::{Log, played, seconds};
use crate::real::real;

/// M7a: from an event to the first command of a chunk that had seen it; `None` if none came.
pub fn reaction_ns(log: &Log<'_>, event_ns: u64) -> Option<u64> {
    let played = played(log);
    let saw = played.iter().find(|one| {
        let captured = one.chunk.head.captured_at_ns;
        event_ns <= captured && event_ns <= one.sent_at_ns
    });
    saw.map(|one| one.sent_at_ns.saturating_sub(event_ns))
}

/// M7b: the first of two runs' paired rows that differ by more than `threshold`; both runs have the
/// same seeds, and the event in one of them alone.
pub fn first_difference(with: &[Vec<f64>], without: &[Vec<f64>], threshold: f64) -> Option<usize> {
    let apart = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        crate::buffer::seam::distance(a.iter().copied(), b.iter().copied())
    };
    let mut pairs = with.iter().zip(without);
    pairs.position(|pair| threshold < apart(pair))
}

/// How far reactions are from a uniform distribution over `[low, high]`: the statistic of
/// Kolmogorov and Smirnov, and the probability of one as large by chance (asymptotic).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Uniformity {
    /// Largest difference of both distribution functions.
    pub statistic: f64,
    /// Probability of it, if they are uniform.
    pub p_value: f64,
}

/// Compares values with a uniform distribution; `None` without values or width.
pub fn uniformity(values: &[f64], low: f64, high: f64) -> Option<Uniformity> {
    if values.is_empty() || high <= low {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = real(sorted.len());
    let statistic = sorted.iter().enumerate().fold(0.0_f64, |worst, (at, x)| {
        let expected = ((x - low) / (high - low)).clamp(0.0, 1.0);
        let (below, above) = (real(at) / n, (real(at) + 1.0) / n);
        worst.max(expected - below).max(above - expected)
    });
    // Marsaglia, Tsang, Wang 2003: the asymptotic series with Stephens' correction.
    let scaled = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * statistic;
    let term = |k: usize| {
        let sign = if k.is_multiple_of(2) { -1.0 } else { 1.0 };
        sign * (-2.0 * (real(k) * scaled).powi(2)).exp()
    };
    let p_value = if scaled < 0.2 {
        // The series converges too slowly there, and is 1 to twelve digits.
        1.0
    } else {
        (2.0 * (1..100).map(term).sum::<f64>()).clamp(0.0, 1.0)
    };
    Some(Uniformity { statistic, p_value })
}

/// One try at a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Try {
    /// Whether it was done.
    pub done: bool,
    /// How long it took.
    pub took_ns: u64,
}

/// M10.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Tries.
    pub n: usize,
    /// Part that was done.
    pub success: f64,
    /// Its interval of 95 % (Wilson).
    pub interval: (f64, f64),
    /// Done tries in an hour of trying.
    pub per_hour: f64,
    /// How long done tries took, seconds.
    pub cycle_s: Option<Spread>,
    /// How long the others took, seconds.
    pub failure_s: Option<Spread>,
}

/// M10 of tries; `None` without any.
pub fn throughput(tries: &[Try]) -> Option<Throughput> {
    if tries.is_empty() {
        return None;
    }
    let took = |done: bool| -> Vec<f64> {
        let such = tries.iter().filter(|one| one.done == done);
        such.map(|one| seconds(one.took_ns)).collect()
    };
    let (cycles, failures) = (took(true), took(false));
    let n_done = cycles.len();
    let hours = cycles.iter().chain(&failures).sum::<f64>() / 3600.0;
    Some(Throughput {
        n: tries.len(),
        success: ratio(n_done, tries.len()),
        interval: wilson(n_done, tries.len()),
        per_hour: if 0.0 < hours {
            real(n_done) / hours
        } else {
            0.0
        },
        cycle_s: Spread::of(cycles),
        failure_s: Spread::of(failures),
    })
}

/// Gives Wilson's interval of 95 % for `done` of `n`.
pub fn wilson(done: usize, n: usize) -> (f64, f64) {
    /// Of the standard normal distribution, both sides.
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (real(n), ratio(done, n));
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (
        ((middle - half) / scale).max(0.0),
        ((middle + half) / scale).min(1.0),
    )
}
