//! A Fourier transform of a signal whose length is a power of two: plain Cooley–Tukey, for the
//! report of one episode; nothing here is hot.

use std::f64::consts::TAU;

use crate::real::real;

/// Gives the amplitudes of all frequencies.
pub(crate) fn amplitudes(signal: &[f64]) -> Vec<f64> {
    let complex: Vec<_> = signal.iter().map(|x| (*x, 0.0)).collect();
    let spectrum = transform(&complex);
    spectrum.iter().map(|(re, im)| re.hypot(*im)).collect()
}

fn transform(signal: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if signal.len() < 2 {
        return signal.to_vec();
    }
    let half = |from| signal.iter().skip(from).step_by(2).copied();
    let even = transform(&half(0).collect::<Vec<_>>());
    let odd = transform(&half(1).collect::<Vec<_>>());
    let turned = odd.iter().enumerate().map(|(k, (re, im))| {
        let (sin, cos) = (-TAU * real(k) / real(signal.len())).sin_cos();
        (re * cos - im * sin, re * sin + im * cos)
    });
    let (mut low, high): (Vec<_>, Vec<_>) = even
        .iter()
        .zip(turned)
        .map(|(a, b)| ((a.0 + b.0, a.1 + b.1), (a.0 - b.0, a.1 - b.1)))
        .unzip();
    low.extend(high);
    low
}
