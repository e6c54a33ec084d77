//! Published values, and both ends of each range.

use proptest::prelude::{prop_assert, proptest};

use super::*;

fn share(successes: u32, trials: u32) -> Share {
    Share::new(successes, trials).unwrap()
}

#[track_caller]
fn ends(interval: Interval, low: f64, high: f64) {
    // Published to four digits.
    let near = |a: f64, b: f64| (a - b).abs() < 0.5001e-4;
    let fits = near(interval.low, low) && near(interval.high, high);
    assert!(fits, "{interval:?}, published {low} to {high}");
}

/// Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3.
#[test]
fn wilsons_interval_is_the_published_one() {
    ends(wilson(share(81, 263)), 0.2553, 0.3662);
    ends(wilson(share(15, 148)), 0.0624, 0.1605);
    ends(wilson(share(0, 20)), 0.0, 0.1611);
    ends(wilson(share(1, 29)), 0.0061, 0.1718);
}

/// Newcombe 1998, Statistics in Medicine 17, 873, table II, method 10.
#[test]
fn newcombes_interval_is_the_published_one() {
    let between = |a: (u32, u32), b: (u32, u32)| newcombe(share(a.0, a.1), share(b.0, b.1));
    ends(between((56, 70), (48, 80)), 0.0524, 0.3339);
    ends(between((9, 10), (3, 10)), 0.1705, 0.8090);
    ends(between((6, 7), (2, 7)), 0.0582, 0.8062);
    ends(between((5, 56), (0, 29)), -0.0381, 0.1926);
    ends(between((0, 10), (0, 20)), -0.1611, 0.2775);
    ends(between((0, 10), (0, 10)), -0.2775, 0.2775);
    ends(between((10, 10), (0, 20)), 0.6791, 1.0);
    ends(between((10, 10), (0, 10)), 0.6075, 1.0);
}

#[test]
fn a_share_has_trials_and_no_more_successes_than_these() {
    assert!(Share::new(0, 0).is_none());
    assert!(Share::new(3, 2).is_none());
    ends(wilson(share(2, 2)), 0.3424, 1.0);
}

/// M. P. Fay, vignette of the R package exact2x2: 2 and 9 discordant pairs give p = 0.06543.
#[test]
fn mcnemars_test_is_the_published_one() {
    assert!((mcnemar(9, 2) - 0.065_43).abs() < 1e-5);
    assert!((mcnemar(2, 9) - mcnemar(9, 2)).abs() < 1e-15);
    assert!((mcnemar(6, 0) - 0.031_25).abs() < 1e-12);
    assert!((mcnemar(0, 0) - 1.0).abs() < 1e-12);
    assert!((mcnemar(5, 5) - 1.0).abs() < 1e-12);
    // Normal approximation with continuity: z = 4.1, two-sided 4e-5 (Agresti's approval ratings).
    let approval = mcnemar(86, 150);
    assert!((2e-5..6e-5).contains(&approval), "{approval}");
    assert!(mcnemar(10_000, 10_000) > 0.99);
}

/// Efron and Tibshirani 1993, chapter 2: survival of treated mice, days. With ever more draws the
/// standard error of the mean tends to 23.36, of the control's to 13.33.
#[test]
fn the_bootstraps_standard_error_is_the_published_one() {
    let treated = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0];
    let control = [52.0, 104.0, 146.0, 10.0, 51.0, 30.0, 40.0, 27.0, 46.0];
    let draws = Draws {
        seed: 1,
        count: 20_000,
    };
    let pairs: Vec<_> = treated.iter().map(|x| (*x, 0.0)).collect();
    let alone = bootstrap_paired(&pairs, draws, mean).unwrap();
    assert!((alone.interval.estimate - 86.857).abs() < 1e-3);
    assert!((alone.standard_error - 23.36).abs() < 0.5, "{alone:?}");
    let between = bootstrap_independent(&treated, &control, draws, mean).unwrap();
    assert!((between.interval.estimate - 30.635).abs() < 1e-3);
    let want = 23.36_f64.hypot(13.33);
    assert!((between.standard_error - want).abs() < 0.6, "{between:?}");
    assert!(between.interval.contains(0.0));
}

/// What two strategies share on a seed cancels in pairs, and only there.
#[test]
fn pairs_stay_together() {
    let pairs: Vec<(f64, f64)> = (0..50)
        .map(|i| (f64::from(i) * 10.0 + 1.0, f64::from(i) * 10.0))
        .collect();
    let draws = Draws {
        seed: 2,
        count: 1000,
    };
    let paired = bootstrap_paired(&pairs, draws, mean).unwrap();
    assert!((paired.interval.low - 1.0).abs() < 1e-9);
    assert!((paired.interval.high - 1.0).abs() < 1e-9);
    let (first, second): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let apart = bootstrap_independent(&first, &second, draws, mean).unwrap();
    assert!(apart.interval.low < -30.0 && 30.0 < apart.interval.high);
}

#[test]
fn the_same_draws_give_the_same_interval() {
    let pairs: Vec<(f64, f64)> = (0..20)
        .map(|i| (f64::from(i * i % 7), f64::from(i)))
        .collect();
    let p95 = |numbers: &[f64]| quantile(numbers, 0.95).unwrap();
    let run = |seed| bootstrap_paired(&pairs, Draws { seed, count: 500 }, p95);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn nothing_comes_of_nothing() {
    let draws = Draws { seed: 1, count: 10 };
    assert!(bootstrap_paired::<f64>(&[], draws, mean).is_none());
    assert!(bootstrap_independent(&[], &[1.0], draws, mean).is_none());
    assert!(bootstrap_independent(&[1.0], &[], draws, mean).is_none());
    let none = Draws { seed: 1, count: 0 };
    assert!(bootstrap_paired(&[(1.0, 2.0)], none, mean).is_none());
    assert_eq!(quantile(&[], 0.5), None);
}

/// numpy.percentile([1, 2, 4, 8], [0, 50, 95, 100]).
#[test]
fn quantiles_are_numpys() {
    let numbers = [8.0, 1.0, 4.0, 2.0];
    for (share, want) in [(0.0, 1.0), (0.5, 3.0), (0.95, 7.4), (1.0, 8.0)] {
        let got = quantile(&numbers, share).unwrap();
        assert!((got - want).abs() < 1e-12, "{share}: {got}");
    }
    assert_eq!(quantile(&[5.0], 0.3), Some(5.0));
}

proptest! {
    #[test]
    fn an_interval_holds_its_estimate_within_the_range(trials in 1_u32..5000, part in 0.0..=1.0) {
        let successes = (f64::from(trials) * part) as u32;
        let interval = wilson(share(successes, trials));
        prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
        prop_assert!(interval.contains(interval.estimate));
        let other = wilson(share(trials - successes, trials));
        prop_assert!((interval.low + other.high - 1.0).abs() < 1e-12);
    }
}

/// Table values of the statistic with n = 20: 0.294 at 5 %, 0.352 at 1 % (Massey 1951).
#[test]
fn kolmogorovs_test_has_the_tables_levels() {
    let shifted = |by: f64| -> Vec<f64> {
        let even = (0..20).map(|idx| (f64::from(idx) + 0.5) / 20.0);
        even.map(|x| (x + by).min(1.0)).collect()
    };
    // Moved by so much, the largest distance is by + 1/40, on the left.
    let level = |distance: f64| kolmogorov_uniform(&shifted(distance - 0.025), 0.0, 1.0).unwrap();
    assert!((level(0.294) - 0.05).abs() < 0.004, "{}", level(0.294));
    assert!((level(0.352) - 0.01).abs() < 0.002, "{}", level(0.352));
    assert!(0.999 < level(0.025));
}

#[test]
fn kolmogorovs_test_sees_a_wrong_range_and_needs_one() {
    let even: Vec<f64> = (0..200).map(|idx| f64::from(idx) / 200.0).collect();
    assert!(0.9 < kolmogorov_uniform(&even, 0.0, 1.0).unwrap());
    assert!(kolmogorov_uniform(&even, 0.0, 2.0).unwrap() < 1e-9);
    assert!(kolmogorov_uniform(&even, 0.5, 1.0).unwrap() < 1e-9);
    assert_eq!(kolmogorov_uniform(&[], 0.0, 1.0), None);
    assert_eq!(kolmogorov_uniform(&even, 1.0, 1.0), None);
}
