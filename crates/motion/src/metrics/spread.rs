//! Percentiles.

use serde::{Deserialize, Serialize};

/// How values are spread: exact percentiles by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many values.
    pub n: usize,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile; of fewer than a thousand values, the largest.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Sorts and reads values; `None` without any.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let max = *values.last()?;
        let at = |thousandths| rank(&values, thousandths).unwrap_or(max);
        Some(Self {
            n: values.len(),
            p50: at(500),
            p95: at(950),
            p99: at(990),
            p999: at(999),
            max,
        })
    }
}

/// The percentile of sorted values in thousandths, by nearest rank.
fn rank(sorted: &[f64], thousandths: usize) -> Option<f64> {
    let rank = sorted.len().saturating_mul(thousandths).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}
