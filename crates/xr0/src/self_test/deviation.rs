//! How far results are apart, and how far they may be.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::weights::WeightType;

/// How far some numbers are from those that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Deviation {
    /// Cosine of the angle between both; 1 is none.
    pub cosine: f64,
    /// Largest difference over the size of the wanted numbers (their root mean square, at least
    /// 1e-3); 0 is none.
    pub largest: f64,
}

impl Default for Deviation {
    /// None at all.
    fn default() -> Self {
        Self {
            cosine: 1.0,
            largest: 0.0,
        }
    }
}

/// Numbers as small as this are as good as none.
const SIZE_MIN: f64 = 1e-3;

impl Deviation {
    /// Compares numbers with those that they should be. Others in number, or some that are not
    /// finite, are infinitely far.
    pub fn of(want: &[f32], got: &[f32]) -> Self {
        let far = Self {
            cosine: -1.0,
            largest: f64::INFINITY,
        };
        if want.len() != got.len() || got.iter().any(|x| !x.is_finite()) {
            return far;
        }
        let (mut dot, mut wants, mut gots, mut largest) = (0.0, 0.0, 0.0, 0.0_f64);
        for (want, got) in want.iter().zip(got) {
            let (want, got) = (f64::from(*want), f64::from(*got));
            dot += want * got;
            wants += want * want;
            gots += got * got;
            largest = largest.max((want - got).abs());
        }
        let size = (wants / (want.len().max(1)) as f64).sqrt().max(SIZE_MIN);
        let lengths = (wants * gots).sqrt();
        Self {
            cosine: if 0.0 < lengths { dot / lengths } else { 1.0 },
            largest: largest / size,
        }
    }

    /// The worse of both, figure by figure.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            cosine: self.cosine.min(other.cosine),
            largest: self.largest.max(other.largest),
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cosine, largest } = self;
        write!(
            formatter,
            "cosine {cosine:.6}, largest difference {largest:.1e}"
        )
    }
}

/// How far results may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Smallest cosine.
    pub cosine_min: f64,
    /// Largest difference, as [`Deviation::largest`].
    pub largest_max: f64,
}

/// The same by the type of the weights; one that is not listed is not held to anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tolerances(BTreeMap<WeightType, Tolerance>);

impl Default for Tolerances {
    /// A hundred times what other orders of summation make in f32, and about ten times what each
    /// coarser type makes on small networks: enough for every device, and far less than what a wrong
    /// weight, prompt or image size makes.
    fn default() -> Self {
        let all = [
            (WeightType::F32, 0.9999, 1e-2),
            (WeightType::Bf16, 0.999, 0.2),
            (WeightType::Q8, 0.99, 0.5),
            (WeightType::Q4, 0.9, 2.0),
        ];
        let all = all.map(|(weights, cosine_min, largest_max)| {
            let tolerance = Tolerance {
                cosine_min,
                largest_max,
            };
            (weights, tolerance)
        });
        Self(all.into())
    }
}

impl Tolerances {
    /// Gives a deviation back if it is small enough for weights of this type.
    ///
    /// # Errors
    /// One that is too large, with all figures.
    pub(super) fn judge(
        &self,
        half: &str,
        deviation: Deviation,
        weights: WeightType,
    ) -> Result<Deviation> {
        let Some(tolerance) = self.0.get(&weights) else {
            return Ok(deviation);
        };
        let Tolerance {
            cosine_min,
            largest_max,
        } = tolerance;
        // A figure that is none is too large.
        if *cosine_min <= deviation.cosine && deviation.largest <= *largest_max {
            return Ok(deviation);
        }
        Err(Error::input(format!(
            "the self-test of {half} fails: {deviation}, allowed for {weights} are {cosine_min} and \
             {largest_max:.1e}; the checkpoint's files, its manifest or this device are not what the \
             test was made with"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_deviate_by_nothing() {
        let numbers = [1.0, -2.0, 0.5];
        let none = Deviation::of(&numbers, &numbers);
        assert!((none.cosine - 1.0).abs() < 1e-12 && none.largest < 1e-12);
    }

    #[test]
    fn a_difference_counts_against_the_size_of_the_wanted() {
        let deviation = Deviation::of(&[10.0, -10.0], &[10.0, -9.0]);
        assert!((deviation.largest - 0.1).abs() < 1e-9);
        assert!(deviation.cosine < 1.0);
    }

    #[test]
    fn what_cannot_be_compared_is_infinitely_far() {
        let tolerances = Tolerances::default();
        for got in [&[1.0][..], &[1.0, f32::NAN], &[f32::INFINITY, 0.0]] {
            let far = Deviation::of(&[1.0, 2.0], got);
            let refused = tolerances.judge("the brain", far, WeightType::Q4);
            assert!(refused.unwrap_err().to_string().contains("the brain"));
        }
    }

    #[test]
    fn coarser_weights_may_be_farther_away() {
        let tolerances = Tolerances::default();
        let deviation = Deviation {
            cosine: 0.9995,
            largest: 0.1,
        };
        let judged = |weights| tolerances.judge("the brain", deviation, weights);
        assert!(judged(WeightType::F32).is_err());
        assert_eq!(judged(WeightType::Bf16).unwrap(), deviation);
    }
}
