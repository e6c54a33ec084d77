//! How the robot follows its commands (M5).

use serde::{Deserialize, Serialize};
use vlad_wire::msg::execute::Executed;

use super::spread::Spread;
use super::{Log, millis};
use crate::real::real;

/// Longest lag that is tried, servo ticks: a robot that is later is not following.
const LAG_MAX: usize = 120;
/// Variance below which a degree of freedom stands still and has no lag.
const STILL_VARIANCE: f64 = 1e-12;

/// M5 of one degree of freedom.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tracking {
    /// Lag at which commands and measurements correlate best, milliseconds.
    pub lag_ms: f64,
    /// Root of the mean square of measured − commanded a lag earlier, rad or m.
    pub rms: f64,
    /// Its absolute value.
    pub error: Option<Spread>,
}

/// M5 of one log, by degree of freedom: over its longest run of servo ticks without a hole.
pub fn of_log(log: &Log<'_>) -> Vec<Tracking> {
    let follows = |a: &Executed, b: &Executed| a.servo_tick.checked_add(1) == Some(b.servo_tick);
    let runs = log.executed.chunk_by(follows);
    let Some(run) = runs.max_by_key(|run| run.len()) else {
        return Vec::new();
    };
    let n_dofs = run.first().map_or(0, |one| one.command.len());
    let column = |dof: usize, of: fn(&Executed) -> &[f64]| -> Vec<f64> {
        let value = |one: &Executed| of(one).get(dof).copied().unwrap_or(f64::NAN);
        run.iter().map(value).collect()
    };
    (0..n_dofs)
        .map(|dof| {
            let commanded = column(dof, |one| &one.command);
            let measured = column(dof, |one| &one.measured);
            let (lag, errors) = of_signals(&commanded, &measured);
            let square: f64 = errors.iter().map(|error| error * error).sum();
            let lag_ns = u64::try_from(lag).unwrap_or(0) * log.shape.servo_dt_ns;
            Tracking {
                lag_ms: millis(lag_ns),
                rms: (square / real(errors.len().max(1))).sqrt(),
                error: Spread::of(errors.iter().map(|error| error.abs()).collect()),
            }
        })
        .collect()
}

/// Gives the lag in samples at which `commanded` and `measured` correlate best, and the errors
/// there.
pub fn of_signals(commanded: &[f64], measured: &[f64]) -> (usize, Vec<f64>) {
    let lags = 0..=LAG_MAX.min(commanded.len() / 2);
    let score = |lag: usize| {
        let later = measured.get(lag..).unwrap_or_default();
        correlation(commanded, later)
    };
    let mut best = (0, f64::NEG_INFINITY);
    for lag in lags {
        let score = score(lag).unwrap_or(f64::NEG_INFINITY);
        if best.1 < score {
            best = (lag, score);
        }
    }
    let later = measured.get(best.0..).unwrap_or_default();
    let errors = later.iter().zip(commanded).map(|(m, c)| m - c).collect();
    (best.0, errors)
}

/// Pearson's correlation of two signals, as long as the shorter one; `None` if one stands still.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = real(a.len().min(b.len()));
    let pairs = || a.iter().zip(b);
    let (sum_a, sum_b) = pairs().fold((0.0, 0.0), |(x, y), (a, b)| (x + a, y + b));
    let (mean_a, mean_b) = (sum_a / n, sum_b / n);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in pairs() {
        let (a, b) = (a - mean_a, b - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let moves = STILL_VARIANCE < aa / n && STILL_VARIANCE < bb / n;
    moves.then(|| ab / (aa * bb).sqrt())
}
