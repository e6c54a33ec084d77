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

impl Tolerance {
    /// The stricter of both, figure by figure.
    fn stricter(self, other: Self) -> Self {
        Self {
            cosine_min: self.cosine_min.max(other.cosine_min),
            largest_max: self.largest_max.min(other.largest_max),
        }
    }
}

/// This build's limit for weights of a type.
///
/// For f32 it is the reference's (fault F30): a cosine of 0.9999 and a hundredth of the numbers' size.
/// A GPU computes in bf16 too, which moves the tiny network's actions by 0.03. Eight and four bits cannot keep that, and the reference has no figure for them:
/// theirs are judgement, about ten times what they make on small networks, and far less than what a
/// wrong weight, prompt or image size makes.
fn limit(weights: WeightType) -> Tolerance {
    let (cosine_min, largest_max) = match weights {
        WeightType::F32 => (0.9999, 1e-2),
        WeightType::Bf16 => (0.999, 0.1),
        WeightType::Q8 => (0.99, 0.5),
        WeightType::Q4 => (0.9, 2.0),
    };
    Tolerance {
        cosine_min,
        largest_max,
    }
}

/// The same by the type of the weights, as a file lists it. The file only tightens what this build
/// allows: a wider figure, or a type that is not listed, leaves this build's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tolerances(BTreeMap<WeightType, Tolerance>);

impl Default for Tolerances {
    /// This build's, for every type.
    fn default() -> Self {
        let all = [
            WeightType::F32,
            WeightType::Bf16,
            WeightType::Q8,
            WeightType::Q4,
        ];
        let all = all.map(|weights| (weights, limit(weights)));
        Self(all.into())
    }
}

impl Tolerances {
    /// The limit of a type: this build's, or a listed one where that is stricter.
    fn limit(&self, weights: WeightType) -> Tolerance {
        let own = limit(weights);
        let listed = self.0.get(&weights);
        listed.map_or(own, |listed| own.stricter(*listed))
    }

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
        let Tolerance {
            cosine_min,
            largest_max,
        } = self.limit(weights);
        // A figure that is none is too large.
        if cosine_min <= deviation.cosine && deviation.largest <= largest_max {
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
            largest: 0.2,
        };
        let judged = |weights| tolerances.judge("the brain", deviation, weights);
        assert!(judged(WeightType::F32).is_err());
        assert!(judged(WeightType::Bf16).is_err());
        assert_eq!(judged(WeightType::Q8).unwrap(), deviation);
    }

    #[test]
    fn a_file_tightens_a_limit_and_never_widens_or_lifts_one() {
        let far = Deviation {
            cosine: 0.5,
            largest: 3.0,
        };
        let near = Deviation {
            cosine: 0.999_99,
            largest: 5e-3,
        };
        let listed = |json: &str| serde_json::from_str::<Tolerances>(json).unwrap();
        let wide = listed(r#"{"f32":{"cosine_min":-1.0,"largest_max":1e9}}"#);
        let strict = listed(r#"{"f32":{"cosine_min":0.9,"largest_max":1e-3}}"#);
        for (tolerances, passes) in [(wide, true), (listed("{}"), true), (strict, false)] {
            let judged = |deviation| tolerances.judge("the brain", deviation, WeightType::F32);
            assert!(judged(far).is_err(), "{tolerances:?}");
            assert_eq!(judged(near).is_ok(), passes, "{tolerances:?}");
        }
        for weights in [WeightType::Bf16, WeightType::Q8, WeightType::Q4] {
            let refused = listed("{}").judge("the brain", far, weights);
            assert!(refused.is_err(), "{weights}");
        }
    }
}
