//! Formulas against signals whose values are known.

use std::f64::consts::{SQRT_2, TAU};

use proptest::prelude::*;

use super::*;
use crate::metrics::outcome::{Try, first_difference, throughput, uniformity, wilson};
use crate::metrics::smoothness::{ldlj, of_commands, sparc};
use crate::metrics::stops::{StopLimits, predict};
use crate::metrics::tracking::of_signals;
use crate::real::real;

fn sampled(n: usize, dt_s: f64, of: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..n).map(|at| of(real(at) * dt_s)).collect()
}

#[test]
fn the_jerk_of_a_cubic_and_of_a_sine_are_theirs() {
    let jerk = |signal: &[f64], dt_s: f64| {
        let rows: Vec<_> = signal.chunks(1).collect();
        of_commands(&rows, dt_s).unwrap()
    };
    let cubic = jerk(&sampled(100, 0.01, |t| t.powi(3)), 0.01);
    assert!(near(cubic.rms_jerk, 6.0, 1e-6) && near(cubic.max_jerk, 6.0, 1e-6));
    // A sine of 0.2 rad and 1 Hz over whole periods: A ω³ / √2.
    let sine = jerk(&sampled(2004, 0.001, |t| 0.2 * (TAU * t).sin()), 0.001);
    let want = 0.2 * TAU.powi(3) / SQRT_2;
    assert!(near(sine.rms_jerk / want, 1.0, 1e-3), "{}", sine.rms_jerk);
    let still = jerk(&[0.5; 20], 0.01);
    assert!(still.ldlj.is_none() && still.sparc.is_none() && still.rms_jerk < 1e-9);
}

/// Speed of a movement of 0.4 in 1 s with the least possible jerk: 30 D (t² − 2 t³ + t⁴).
fn minimum_jerk(t: f64) -> f64 {
    0.4 * 30.0 * (t.powi(2) - 2.0 * t.powi(3) + t.powi(4))
}

#[test]
fn a_minimum_jerk_movement_has_the_known_log_dimensionless_jerk() {
    // v_peak = 1.875 D/T and ∫ jerk² = 720 D²/T⁵: 720 / 1.875² = 204.8.
    let speeds = sampled(2001, 0.0005, minimum_jerk);
    let rows: Vec<_> = speeds.iter().map(|v| vec![*v]).collect();
    let found = ldlj(&rows, 0.0005).unwrap();
    assert!(near(found, -204.8_f64.ln(), 0.01), "{found}");
    // It is dimensionless: another size and another length change nothing.
    let rows: Vec<_> = speeds.iter().map(|v| vec![7.0 * *v]).collect();
    assert!(near(ldlj(&rows, 0.002).unwrap(), found, 1e-9));
}

#[test]
fn the_spectral_arc_length_is_the_published_one() {
    // The example in `smoothness.py` of its authors: exp(−5 t²), t from −1 to 1, 100 Hz.
    let speeds = sampled(200, 0.01, |t| (-5.0 * (t - 1.0).powi(2)).exp());
    let found = sparc(&speeds, 100.0).unwrap();
    assert!(near(found, -1.41403, 1e-5), "{found}");
    let twice = |t: f64| minimum_jerk(t % 1.0);
    let (smooth, halting) = (
        sparc(&sampled(100, 0.01, minimum_jerk), 100.0).unwrap(),
        sparc(&sampled(200, 0.01, twice), 100.0).unwrap(),
    );
    assert!(halting < smooth - 0.1, "{halting} {smooth}");
}

#[test]
fn the_lag_of_a_delayed_signal_is_found() {
    let commanded = sampled(1000, 0.004, |t| 0.3 * (TAU * 0.7 * t).sin() + 0.1 * t);
    let mut measured = vec![commanded[0]; 9];
    measured.extend(commanded.iter().map(|c| c + 0.002));
    measured.truncate(1000);
    let (lag, errors) = of_signals(&commanded, &measured);
    assert_eq!(lag, 9);
    assert!(errors[1..].iter().all(|error| near(*error, 0.002, 1e-9)));
    assert_eq!(of_signals(&[0.5; 50], &[0.5; 50]).0, 0);
}

#[test]
fn stops_are_predicted_as_in_the_reference() {
    // Speed, acceleration, limits, time and way of the table in B.4.
    let table = [
        (0.25, 0.0, (2.0, 20.0), 0.225, 0.028),
        (0.5, 0.0, (2.5, 25.0), 0.300, 0.075),
        (1.0, 0.0, (5.0, 50.0), 0.300, 0.150),
        (1.0, 5.0, (5.0, 50.0), 0.450, 0.335),
        (2.62, 10.0, (10.0, 5000.0), 0.267, 0.354),
    ];
    for (speed, acceleration, (a, j), time_s, way) in table {
        let limits = StopLimits {
            acceleration: a,
            jerk: j,
        };
        let found = predict(speed, acceleration, limits);
        assert!(near(found.time_s, time_s, 1e-3), "{found:?}");
        assert!(near(found.distance, way, 1e-3), "{found:?}");
    }
}

/// A log that moves with 1 rad/s and stops from the servo tick `delay` after the cause on, with the
/// given deceleration.
fn stopping(delay: usize, deceleration: f64) -> stops::Stop {
    let mut executed = play(1, 0, (0, 30));
    let (dt, mut at, mut speed) = (seconds(SERVO_NS), 0.0, 1.0);
    for (step, one) in executed.iter_mut().enumerate() {
        if 40 + delay <= step {
            speed = f64::max(0.0, speed - deceleration * dt);
        }
        at += speed * dt;
        one.command = vec![at];
    }
    let mut shape = shape();
    shape.stop_limits = vec![StopLimits {
        acceleration: 5.0,
        jerk: 1e6,
    }];
    let modes = [
        START[0],
        ModeChange {
            at_ns: at_ns(4, 7),
            mode: Mode::Stopping,
            reason: Reason::BrainLost,
        },
    ];
    let log = Log {
        modes: &modes,
        ..log(&executed, &[], &shape)
    };
    stops::of_log(&log).pop().unwrap()
}

#[test]
fn a_stop_is_compared_with_its_prediction() {
    let good = stopping(0, 5.0);
    assert_eq!(
        (good.mode.as_str(), good.reason.as_str()),
        ("stopping", "brain_lost")
    );
    assert_eq!(good.decelerates_after, Some(1));
    assert!(near(good.predicted_ms.unwrap(), 200.0, 0.1));
    assert!(near(good.standstill_ms.unwrap(), 200.0, 5.0));
    assert!(near(good.distance_ratio.unwrap(), 1.0, 0.05));
    let bad = stopping(3, 2.5);
    assert_eq!(bad.decelerates_after, Some(4));
    assert!(2.0 < bad.distance_ratio.unwrap());
    assert!(400.0 < bad.standstill_ms.unwrap());
}

#[test]
fn reaction_is_the_first_command_that_had_seen_the_event() {
    let chunks = [record(1, (0, 0), 0, |_| 0.0), record(2, (6, 9), 0, |_| 0.0)];
    let mut executed = play(1, 0, (0, 10));
    executed.extend(play(2, 6, (10, 20)));
    let shape = shape();
    let log = log(&executed, &chunks, &shape);
    // Chunk 2 was captured at the beginning of tick 4.
    let event_ns = at_ns(3, 2);
    let want = at_ns(10, 0) - event_ns;
    assert_eq!(outcome::reaction_ns(&log, event_ns), Some(want));
    assert_eq!(outcome::reaction_ns(&log, at_ns(5, 0)), None);
    let rows = |at: usize| -> Vec<Vec<f64>> {
        (0..9)
            .map(|i| vec![if at <= i { 1.0 } else { 0.0 }])
            .collect()
    };
    assert_eq!(first_difference(&rows(4), &rows(9), 0.5), Some(4));
    assert_eq!(first_difference(&rows(4), &rows(4), 0.5), None);
}

#[test]
fn uniform_reactions_are_told_from_others() {
    let even: Vec<f64> = (0..200_u16).map(|i| (f64::from(i) + 0.5) / 200.0).collect();
    let found = uniformity(&even, 0.0, 1.0).unwrap();
    assert!(near(found.statistic, 0.0025, 1e-9) && 0.99 < found.p_value);
    let squeezed: Vec<f64> = even.iter().map(|x| 0.8 * x).collect();
    let found = uniformity(&squeezed, 0.0, 1.0).unwrap();
    assert!(near(found.statistic, 0.2, 1e-2) && found.p_value < 1e-5);
    // The 5 % point of the asymptotic distribution is 1.358.
    let shifted: Vec<f64> = even.iter().map(|x| x + 0.0920).collect();
    let p = uniformity(&shifted, 0.0, 1.0).unwrap().p_value;
    assert!((0.03..0.08).contains(&p), "{p}");
    assert_eq!(uniformity(&[], 0.0, 1.0), None);
}

#[test]
fn throughput_counts_what_was_done_in_the_time_of_all_tries() {
    let one = |done, seconds: u64| Try {
        done,
        took_ns: seconds * 1_000_000_000,
    };
    let tries = [one(true, 10), one(true, 20), one(false, 30)];
    let found = throughput(&tries).unwrap();
    assert!(near(found.per_hour, 120.0, 1e-9) && near(found.success, 2.0 / 3.0, 1e-12));
    assert!(near(found.cycle_s.unwrap().p50, 10.0, 1e-12));
    assert_eq!(throughput(&[]), None);
    let (low, high) = wilson(8, 10);
    assert!(
        near(low, 0.490_16, 1e-4) && near(high, 0.943_32, 1e-4),
        "{low} {high}"
    );
}

proptest! {
    /// The spectrum of a sampled cosine is one line of half its length.
    #[test]
    fn a_cosine_has_one_frequency(bin in 1_usize..32) {
        let signal: Vec<f64> = (0..64)
            .map(|at| (TAU * real(bin) * real(at) / 64.0).cos())
            .collect();
        let found = smoothness::fourier::amplitudes(&signal);
        for (at, amplitude) in found.iter().enumerate() {
            let want = if at == bin || at == 64 - bin { 32.0 } else { 0.0 };
            prop_assert!(near(*amplitude, want, 1e-9));
        }
    }

    #[test]
    fn percentiles_are_values_in_order(values in prop::collection::vec(-1e3_f64..1e3, 1..200)) {
        let spread = Spread::of(values.clone()).unwrap();
        let order = [spread.p50, spread.p95, spread.p99, spread.p999, spread.max];
        prop_assert!(order.windows(2).all(|pair| pair[0] <= pair[1]));
        prop_assert!(order.iter().all(|x| values.contains(x)));
    }
}
