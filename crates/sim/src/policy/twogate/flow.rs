//! Rectified flow of a mixture of two Gaussians with one covariance, in closed form.
//!
//! Sign: `t = 0` is noise, `t = 1` is data. With `S = t²C + (1−t)²I` and `G = tCS⁻¹`, a mode's
//! estimate of the clean actions is `μ + G(x − tμ)`, and the mixture's is their mean, weighted by how
//! likely each mode made `x`. The velocity is `(x̂ − x)/(1 − t)`. Guidance adds the vector-Jacobian
//! product of the estimate (Black et al. 2025, real-time chunking; ΠGDM, Song et al. 2023). Behind a
//! prefix the mixture is the conditional one, which is again one of two Gaussians.

use super::matrix::Matrix;
use super::{HORIZON, Row, WIDTH};
use crate::policy::twogate::plan::{Mixture, SCALE_M};

/// Standard deviation of a demonstrator around its plan, metres, reached after a few rows.
const SPREAD_M: f64 = 0.012;
/// Rows over which deviations stay alike.
const LENGTH_ROWS: f64 = 6.0;
/// Rows over which the spread grows from the observed position on.
const RAMP_ROWS: f64 = 5.0;
/// Added to the diagonal, square metres: the kernel alone is nearly singular.
const NUGGET_M2: f64 = 1e-7;
/// Added to the prefix's covariance, normalised: what the guard accepted is no draw of this policy.
const PREFIX_NOISE: f64 = 1e-4;
/// Least likely mode behind a prefix: its logarithm stays finite.
const LEAST_LIKELY: f64 = 1e-12;

/// Towards what a flow is pulled, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pull {
    /// Normalised actions.
    pub(super) target: Vec<Row>,
    /// One weight a row, 0 to 1.
    pub(super) weights: Vec<f64>,
    /// Largest guidance weight.
    pub(super) beta: f64,
}

/// A mixture whose first rows may be given: log weights, and means of the rows that are left.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Modes {
    log_weights: [f64; 2],
    means: [Vec<Row>; 2],
}

impl Modes {
    pub(super) fn of(mixture: &Mixture) -> Self {
        Self {
            log_weights: mixture.weights.map(f64::ln),
            means: mixture.means.map(|rows| rows.to_vec()),
        }
    }
}

/// Covariance of the normalised actions, the same in x and y.
pub(super) fn covariance() -> Matrix {
    let ramp = |row: usize| 1.0 - (-(row as f64 + 1.0) / RAMP_ROWS).exp();
    Matrix::from_fn(HORIZON, HORIZON, |row, column| {
        let apart = (row as f64 - column as f64) / LENGTH_ROWS;
        let alike = (-0.5 * apart * apart).exp() * ramp(row) * ramp(column) * SPREAD_M * SPREAD_M;
        let nugget = if row == column { NUGGET_M2 } else { 0.0 };
        (alike + nugget) / (SCALE_M * SCALE_M)
    })
}

/// What a step at one time needs of the covariance.
pub(super) struct Step {
    t: f64,
    /// `S⁻¹`.
    precision: Matrix,
    /// `G`.
    gain: Matrix,
    /// `Gᵀ`.
    back: Matrix,
}

impl Step {
    /// `None` if the covariance is none.
    pub(super) fn new(covariance: &Matrix, t: f64) -> Option<Self> {
        let n = covariance.n_rows();
        let noise = (1.0 - t) * (1.0 - t);
        let spread = Matrix::from_fn(n, n, |row, column| {
            let unit = if row == column { noise } else { 0.0 };
            t * t * covariance.at(row, column) + unit
        });
        let precision = spread.inverse()?;
        let scaled = Matrix::from_fn(n, n, |row, column| t * covariance.at(row, column));
        let gain = scaled.times(&precision);
        Some(Self {
            t,
            precision,
            back: gain.transposed(),
            gain,
        })
    }

    /// Estimates the clean actions behind `x`.
    pub(super) fn estimate(&self, x: &[Row], modes: &Modes) -> Estimate {
        let mode = |log_weight: f64, mean: &[Row]| {
            let off: Vec<Row> = zip(x, mean, |x, m| x - self.t * m);
            let pulled = self.precision.apply(&off);
            Mode {
                likely: log_weight - 0.5 * dot(&off, &pulled),
                clean: zip(mean, &self.gain.apply(&off), |m, g| m + g),
                score: pulled.iter().map(|row| row.map(|v| -v)).collect(),
            }
        };
        let [first, second] = [0, 1].map(|i| mode(modes.log_weights[i], &modes.means[i]));
        let likely = shares([first.likely, second.likely]);
        let clean = mean_of(likely, &first.clean, &second.clean);
        Estimate {
            likely,
            clean,
            modes: [first, second],
        }
    }

    /// The vector-Jacobian product of the estimate with `e`.
    pub(super) fn pull_back(&self, estimate: &Estimate, e: &[Row]) -> Vec<Row> {
        let [first, second] = &estimate.modes;
        let score = mean_of(estimate.likely, &first.score, &second.score);
        let mut product = self.back.apply(e);
        for (likely, mode) in estimate.likely.iter().zip(&estimate.modes) {
            let along = likely * dot(&mode.clean, e);
            for (row, (own, mean)) in product.iter_mut().zip(mode.score.iter().zip(&score)) {
                row[0] += along * (own[0] - mean[0]);
                row[1] += along * (own[1] - mean[1]);
            }
        }
        product
    }

    /// The guidance weight at this time, at most `beta`.
    fn strength(&self, beta: f64) -> f64 {
        let rest = 1.0 - self.t;
        let odds = if 0.0 < self.t { rest / self.t } else { 1e9 };
        (odds * ((self.t * self.t + rest * rest) / (rest * rest))).min(beta)
    }
}

/// One mode's part in an estimate.
struct Mode {
    /// Logarithm, not normalised.
    likely: f64,
    clean: Vec<Row>,
    /// Gradient of the logarithm of its density.
    score: Vec<Row>,
}

/// What a noisy chunk probably is.
pub(super) struct Estimate {
    likely: [f64; 2],
    /// The clean actions.
    pub(super) clean: Vec<Row>,
    modes: [Mode; 2],
}

/// Euler steps behind a prefix of a given length; depends on nothing else, so it is kept.
pub(super) struct Sampler {
    /// Of a prefix: the inverse of its covariance, and what it says about the rest.
    prefix: Option<(Matrix, Matrix)>,
    n_prefix: usize,
    steps: Vec<Step>,
}

impl Sampler {
    /// Makes the sampler behind `n_prefix` rows, below [`HORIZON`]; `None` if the covariance is none.
    pub(super) fn new(n_prefix: usize, n_steps: u16) -> Option<Self> {
        let all = covariance();
        let n_free = HORIZON - n_prefix;
        let (prefix, covariance) = if n_prefix == 0 {
            (None, all)
        } else {
            let known = Matrix::from_fn(n_prefix, n_prefix, |row, column| {
                let noise = if row == column { PREFIX_NOISE } else { 0.0 };
                all.at(row, column) + noise
            });
            let cross = Matrix::from_fn(n_free, n_prefix, |row, column| {
                all.at(n_prefix + row, column)
            });
            let inverse = known.inverse()?;
            let gain = cross.times(&inverse);
            let explained = gain.times(&cross.transposed());
            let left = Matrix::from_fn(n_free, n_free, |row, column| {
                all.at(n_prefix + row, n_prefix + column) - explained.at(row, column)
            });
            (Some((inverse, gain)), left)
        };
        let dt = 1.0 / f64::from(n_steps);
        let mut t = 0.0;
        let mut steps = Vec::with_capacity(usize::from(n_steps));
        for _ in 0..n_steps {
            steps.push(Step::new(&covariance, t)?);
            t += dt;
        }
        Some(Self {
            prefix,
            n_prefix,
            steps,
        })
    }

    /// Integrates from noise of all [`HORIZON`] rows, of which those behind the prefix are used.
    /// Gives the rows behind the prefix. `prefix` has the sampler's length, `pull` that of the result.
    pub(super) fn sample(
        &self,
        mixture: &Mixture,
        noise: &[Row],
        prefix: &[Row],
        pull: Option<&Pull>,
    ) -> Vec<Row> {
        let modes = self.behind(mixture, prefix);
        let mut x = noise[self.n_prefix..].to_vec();
        let dt = 1.0 / self.steps.len() as f64;
        for step in &self.steps {
            let estimate = step.estimate(&x, &modes);
            let mut velocity = zip(&estimate.clean, &x, |clean, x| (clean - x) / (1.0 - step.t));
            if let Some(pull) = pull {
                let error = error(pull, &estimate.clean);
                let correction = step.pull_back(&estimate, &error);
                let strength = step.strength(pull.beta);
                velocity = zip(&velocity, &correction, |v, c| v + strength * c);
            }
            x = zip(&x, &velocity, |x, v| x + dt * v);
        }
        x
    }

    /// The mixture of what is left to decide.
    fn behind(&self, mixture: &Mixture, prefix: &[Row]) -> Modes {
        let Some((inverse, gain)) = &self.prefix else {
            return Modes::of(mixture);
        };
        let mode = |i: usize| {
            let (known, free) = mixture.means[i].split_at(self.n_prefix);
            let off = zip(prefix, known, |p, m| p - m);
            let likely = mixture.weights[i].ln() - 0.5 * dot(&off, &inverse.apply(&off));
            (likely, zip(free, &gain.apply(&off), |m, g| m + g))
        };
        let ((first, first_mean), (second, second_mean)) = (mode(0), mode(1));
        Modes {
            log_weights: shares([first, second]).map(|share| share.max(LEAST_LIKELY).ln()),
            means: [first_mean, second_mean],
        }
    }
}

fn error(pull: &Pull, clean: &[Row]) -> Vec<Row> {
    let rows = zip(&pull.target, clean, |target, clean| target - clean);
    let weighted = rows.iter().zip(&pull.weights);
    weighted
        .map(|(row, weight)| row.map(|v| v * weight))
        .collect()
}

/// Probabilities from logarithms.
fn shares(logarithms: [f64; 2]) -> [f64; 2] {
    let largest = logarithms[0].max(logarithms[1]);
    let parts = logarithms.map(|logarithm| (logarithm - largest).exp());
    parts.map(|part| part / (parts[0] + parts[1]))
}

fn mean_of(shares: [f64; 2], first: &[Row], second: &[Row]) -> Vec<Row> {
    zip(first, second, |a, b| shares[0] * a + shares[1] * b)
}

fn dot(a: &[Row], b: &[Row]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| a[0] * b[0] + a[1] * b[1])
        .sum()
}

fn zip(a: &[Row], b: &[Row], each: impl Fn(f64, f64) -> f64) -> Vec<Row> {
    a.iter()
        .zip(b)
        .map(|(a, b)| -> [f64; WIDTH] { std::array::from_fn(|i| each(a[i], b[i])) })
        .collect()
}
