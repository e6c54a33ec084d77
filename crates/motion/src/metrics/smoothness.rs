//! Smoothness (M4) of the commands at servo rate.

use serde::{Deserialize, Serialize};
use vlad_wire::msg::execute::Executed;

use super::seams::norm;
use super::{Log, seconds};
use crate::real::real;

pub mod fourier;

/// M4. Units are those of the degrees of freedom (rad, m), all together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Smoothness {
    /// Root of the mean square of the jerk, per s³.
    pub rms_jerk: f64,
    /// Largest jerk, per s³.
    pub max_jerk: f64,
    /// Log dimensionless jerk: 0 and below, nearer to 0 is smoother; `None` if nothing moved.
    pub ldlj: Option<f64>,
    /// Spectral arc length of the speed: below 0, nearer to 0 is smoother; `None` likewise.
    pub sparc: Option<f64>,
}

/// Speeds below it are standing still, per second: what stands around a motion is not part of it.
const STILL_SPEED: f64 = 1e-6;
/// Highest frequency that arm movements have (Balasubramanian et al. 2015).
const CUTOFF_HZ: f64 = 10.0;
/// Amplitude below which a frequency is noise (the same).
const AMPLITUDE_MIN: f64 = 0.05;
/// Zero padding: the spectrum is sampled `2^4` times finer than the signal gives it (the same).
const PAD_LEVEL: u32 = 4;

/// M4 of one log: over its longest run of servo ticks without a hole.
pub fn of_log(log: &Log<'_>) -> Option<Smoothness> {
    let follows = |a: &Executed, b: &Executed| a.servo_tick.checked_add(1) == Some(b.servo_tick);
    let run = log.executed.chunk_by(follows).max_by_key(|run| run.len())?;
    let commands: Vec<&[f64]> = run.iter().map(|one| one.command.as_slice()).collect();
    of_commands(&commands, seconds(log.shape.servo_dt_ns))
}

/// M4 of commands that are `dt_s` apart; `None` for fewer than four.
pub fn of_commands(commands: &[&[f64]], dt_s: f64) -> Option<Smoothness> {
    let commands: Vec<_> = commands.iter().map(|row| row.to_vec()).collect();
    let velocities = derivative(&commands, dt_s);
    let jerks = derivative(&derivative(&velocities, dt_s), dt_s);
    let jerks: Vec<f64> = jerks.iter().map(|row| norm(row)).collect();
    if jerks.is_empty() {
        return None;
    }
    let square: f64 = jerks.iter().map(|jerk| jerk * jerk).sum();
    let speeds: Vec<f64> = velocities.iter().map(|row| norm(row)).collect();
    let moves = |speed: &f64| STILL_SPEED < *speed;
    let first = speeds.iter().position(moves);
    let last = speeds.iter().rposition(moves);
    let motion = first.zip(last).and_then(|(a, b)| velocities.get(a..=b));
    let speed = first.zip(last).and_then(|(a, b)| speeds.get(a..=b));
    Some(Smoothness {
        rms_jerk: (square / real(jerks.len())).sqrt(),
        max_jerk: jerks.iter().copied().fold(0.0, f64::max),
        ldlj: motion.and_then(|velocities| ldlj(velocities, dt_s)),
        sparc: speed.and_then(|speeds| sparc(speeds, 1.0 / dt_s)),
    })
}

/// Gives the log dimensionless jerk of velocities that are `dt_s` apart:
/// `−ln( (T³ / v_peak²) ∫ ‖v̈‖² dt )`; a minimum-jerk movement has −ln 204.8 = −5.32.
pub fn ldlj(velocities: &[Vec<f64>], dt_s: f64) -> Option<f64> {
    let peak = velocities.iter().map(|row| norm(row)).fold(0.0, f64::max);
    let jerks = derivative(&derivative(velocities, dt_s), dt_s);
    let integral: f64 = jerks.iter().map(|row| norm(row).powi(2) * dt_s).sum();
    let duration_s = real(velocities.len()) * dt_s;
    let dimensionless = duration_s.powi(3) / (peak * peak) * integral;
    let defined = dimensionless.is_finite() && 0.0 < dimensionless;
    defined.then(|| -dimensionless.ln())
}

/// Gives the spectral arc length of speeds at `rate_hz` (Balasubramanian, Melendez-Calderon,
/// Roby-Brami, Burdet 2015): cut-off 10 Hz, threshold 0.05.
pub fn sparc(speeds: &[f64], rate_hz: f64) -> Option<f64> {
    let shift = PAD_LEVEL;
    let n = speeds
        .len()
        .checked_next_power_of_two()?
        .checked_shl(shift)?;
    let padded = speeds.iter().copied().chain(std::iter::repeat(0.0));
    let spectrum = fourier::amplitudes(&padded.take(n).collect::<Vec<_>>());
    let largest = spectrum.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 || speeds.len() < 2 {
        return None;
    }
    let step_hz = rate_hz / real(n);
    let bins = spectrum.iter().enumerate();
    let bins = bins.take_while(|(bin, _)| real(*bin) * step_hz <= CUTOFF_HZ);
    let low: Vec<f64> = bins.map(|(_, amplitude)| amplitude / largest).collect();
    let counts = |amplitude: &f64| AMPLITUDE_MIN <= *amplitude;
    let (first, last) = low
        .iter()
        .position(counts)
        .zip(low.iter().rposition(counts))?;
    let kept = low.get(first..=last)?;
    let width = 1.0 / real(last - first);
    let lengths = kept.iter().zip(kept.iter().skip(1));
    let length: f64 = lengths.map(|(a, b)| width.hypot(b - a)).sum();
    Some(-length)
}

/// Differences of consecutive rows over `dt_s`.
fn derivative(rows: &[Vec<f64>], dt_s: f64) -> Vec<Vec<f64>> {
    rows.iter()
        .zip(rows.iter().skip(1))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (b - a) / dt_s).collect())
        .collect()
}
