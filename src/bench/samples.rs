//! Numbers of one measurement, and what is said of them.

use serde::Serialize;

/// All samples of one thing, in the order of measuring.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Samples {
    /// Nanoseconds each.
    pub ns: Vec<u64>,
}

impl Samples {
    /// Keeps one more.
    pub fn push(&mut self, ns: u64) {
        self.ns.push(ns);
    }

    /// Gives the value below which a share of the samples lies, `share` in [0, 1]; `None` of none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let mut sorted = self.ns.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        // Within the list for every share; a list is far shorter than 2⁵³.
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within the list"
        )]
        let at = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        sorted.get(at).copied()
    }

    /// Gives the middle one; `None` of none.
    pub fn median(&self) -> Option<u64> {
        self.quantile(0.5)
    }
}

/// Gives how many times `b` is in `a`; infinite where nothing was measured.
pub fn ratio(a: Option<u64>, b: Option<u64>) -> f64 {
    match (a, b) {
        (Some(a), Some(b)) if b != 0 => to_f64(a) / to_f64(b),
        _ => f64::INFINITY,
    }
}

/// Gives nanoseconds as milliseconds.
pub fn ms(ns: u64) -> f64 {
    to_f64(ns) / 1e6
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a time of less than 2⁵³ ns, 104 days"
)]
fn to_f64(ns: u64) -> f64 {
    ns as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ns: &[u64]) -> Samples {
        Samples { ns: ns.to_vec() }
    }

    #[test]
    fn the_median_is_the_middle_one_in_whatever_order() {
        assert_eq!(samples(&[9, 1, 5]).median(), Some(5));
        assert_eq!(samples(&[7]).median(), Some(7));
        assert_eq!(samples(&[]).median(), None);
    }

    #[test]
    fn quantiles_end_at_the_smallest_and_the_largest() {
        let all = samples(&[3, 2, 4, 1, 5]);
        assert_eq!(
            [-1.0, 0.0, 0.25, 1.0, 2.0].map(|share| all.quantile(share)),
            [1, 1, 2, 5, 5].map(Some)
        );
    }

    #[test]
    fn a_ratio_to_nothing_is_not_a_good_one() {
        assert_eq!(ratio(Some(3), Some(2)).to_bits(), 1.5_f64.to_bits());
        assert!(ratio(Some(3), None).is_infinite());
        assert!(ratio(None, Some(3)).is_infinite());
        assert!(ratio(Some(3), Some(0)).is_infinite());
    }
}
