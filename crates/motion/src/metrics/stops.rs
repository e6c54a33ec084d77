//! Stops against what the mathematics of reference B.4 predicts (M12).

use serde::{Deserialize, Serialize};
use vlad_safety::mode::Mode;
use vlad_wire::msg::execute::Executed;

use super::{Log, ModeChange, millis, seconds};

/// What a stop may use, one degree of freedom.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StopLimits {
    /// Deceleration, per s².
    pub acceleration: f64,
    /// Jerk, per s³.
    pub jerk: f64,
}

/// A stop that was predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Until standstill, seconds.
    pub time_s: f64,
    /// Way until then, rad or m.
    pub distance: f64,
}

/// M12 of one stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// When its cause was found.
    pub detected_at_ns: u64,
    /// The mode that it led to.
    pub mode: String,
    /// Why.
    pub reason: String,
    /// Servo ticks from there to the first one that accelerates less; `None` if none does.
    pub decelerates_after: Option<usize>,
    /// From there to standstill, milliseconds; `None` if the log ends before.
    pub standstill_ms: Option<f64>,
    /// What B.4 predicts for the slowest degree of freedom; `None` without limits.
    pub predicted_ms: Option<f64>,
    /// Largest way to standstill over its prediction; `None` likewise.
    pub distance_ratio: Option<f64>,
}

/// Speeds below it are standstill, per second.
const STILL_SPEED: f64 = 1e-4;
/// Predicted ways below it are not compared: the quotient of two nothings means nothing.
const WAY_MIN: f64 = 1e-4;

/// Predicts a stop from `speed`, still accelerating by `acceleration` (both along the motion; less
/// than 0 counts as 0): reference B.4, worst case.
pub fn predict(speed: f64, acceleration: f64, limits: StopLimits) -> Prediction {
    let (a, j) = (limits.acceleration, limits.jerk);
    let (v, a0) = (speed.max(0.0), acceleration.max(0.0));
    let (t0, d0) = (a0 / j, v * a0 / j + a0.powi(3) / (3.0 * j * j));
    let v = v + a0 * a0 / (2.0 * j);
    let (time, way) = if a * a / j <= v {
        let time = v / a + a / j;
        (time, 0.5 * v * time)
    } else {
        let root = (v / j).sqrt();
        (2.0 * root, v * root)
    };
    Prediction {
        time_s: t0 + time,
        distance: d0 + way,
    }
}

/// M12 of one log: every change of mode that ends a motion.
pub fn of_log(log: &Log<'_>) -> Vec<Stop> {
    let ends = |mode: Mode| {
        matches!(
            mode,
            Mode::Hold | Mode::Stopping | Mode::Stopped | Mode::Estopped | Mode::Fault
        )
    };
    let pairs = log.modes.iter().zip(log.modes.iter().skip(1));
    pairs
        .filter(|(before, after)| before.mode == Mode::Running && ends(after.mode))
        .filter_map(|(_, change)| {
            let at = log
                .executed
                .partition_point(|one| one.sent_at_ns <= change.at_ns);
            let until = log.modes.iter().find(|later| {
                change.at_ns < later.at_ns && matches!(later.mode, Mode::Running | Mode::Armed)
            });
            let until = until.map_or(u64::MAX, |later| later.at_ns);
            let after = log.executed.get(at..)?;
            let n = after.partition_point(|one| one.sent_at_ns <= until);
            stop(log, change, (log.executed.get(..at)?, after.get(..n)?))
        })
        .collect()
}

/// What was commanded before and after the cause was found; `None` if nothing moved then.
fn stop(
    log: &Log<'_>,
    change: &ModeChange,
    (before, after): (&[Executed], &[Executed]),
) -> Option<Stop> {
    let dt_s = seconds(log.shape.servo_dt_ns);
    let [a, b, c] = before.last_chunk::<3>()?;
    let speed = |a: &Executed, b: &Executed| -> Vec<f64> {
        let pairs = a.command.iter().zip(&b.command);
        pairs.map(|(a, b)| (b - a) / dt_s).collect()
    };
    let (earlier, velocity) = (speed(a, b), speed(b, c));
    if velocity.iter().all(|v| v.abs() < STILL_SPEED) {
        return None;
    }
    let series: Vec<Vec<f64>> = std::iter::once(c)
        .chain(after)
        .zip(after)
        .map(|(a, b)| speed(a, b))
        .collect();
    let still = |v: &Vec<f64>| v.iter().all(|v| v.abs() < STILL_SPEED);
    let standing = series.iter().position(still);
    let accelerating = along(&velocity, &earlier) / dt_s;
    let mut last = velocity.clone();
    let decelerates_after = series.iter().position(|now| {
        let less = along(now, &last) / dt_s < accelerating - 1e-9;
        last.clone_from(now);
        less
    });
    let ns = |ticks: usize| u64::try_from(ticks).unwrap_or(0) * log.shape.servo_dt_ns;
    let end = standing.and_then(|at| after.get(at));
    let mut predicted_s: f64 = 0.0;
    let mut ratio: Option<f64> = None;
    for (dof, limits) in log.shape.stop_limits.iter().enumerate() {
        let at = |row: &[f64]| row.get(dof).copied().unwrap_or(0.0);
        let (v, was) = (at(&velocity), at(&earlier));
        let prediction = predict(v.abs(), (v - was) / dt_s * v.signum(), *limits);
        predicted_s = predicted_s.max(prediction.time_s);
        if let Some(end) = end.filter(|_| WAY_MIN < prediction.distance) {
            let way = (at(&end.command) - at(&c.command)).abs();
            ratio = Some(ratio.unwrap_or(0.0).max(way / prediction.distance));
        }
    }
    let predicts = !log.shape.stop_limits.is_empty();
    Some(Stop {
        detected_at_ns: change.at_ns,
        mode: change.mode.to_string(),
        reason: change.reason.name().to_owned(),
        decelerates_after: decelerates_after.map(|at| at + 1),
        standstill_ms: standing.map(|at| millis(ns(at))),
        predicted_ms: predicts.then_some(1e3 * predicted_s),
        distance_ratio: ratio,
    })
}

/// The change from `before` to `now` along `now`, or along `before` at standstill.
fn along(now: &[f64], before: &[f64]) -> f64 {
    let norm = super::seams::norm(before).max(1e-12);
    let change = now.iter().zip(before).map(|(n, b)| (n - b) * b);
    change.sum::<f64>() / norm
}
