use proptest::prelude::*;

use super::*;

fn limits(speed_max: f64, acceleration_max: f64, jerk_max: f64) -> Limits {
    Limits {
        min: -10.0,
        max: 10.0,
        speed_max,
        acceleration_max,
        jerk_max,
    }
}

const JOINT: Limits = Limits {
    min: -2.0,
    max: 2.0,
    speed_max: 2.5,
    acceleration_max: 5.0,
    jerk_max: 50.0,
};

fn moving(position: f64, velocity: f64, acceleration: f64) -> Motion {
    Motion {
        position,
        velocity,
        acceleration,
    }
}

/// Reference B.4's closed formulas, written down a second time.
fn table(v: f64, a0: f64, a: f64, j: f64) -> (f64, f64) {
    let (v_top, t0) = (v + a0 * a0 / (2.0 * j), a0 / j);
    let d0 = v * t0 + a0.powi(3) / (3.0 * j * j);
    if a * a / j <= v_top {
        let brake_s = v_top / a + a / j;
        (t0 + brake_s, d0 + v_top / 2.0 * brake_s)
    } else {
        let half_s = (v_top / j).sqrt();
        (t0 + 2.0 * half_s, d0 + v_top * half_s)
    }
}

#[test]
fn the_rows_of_the_reference_are_met() {
    let rows = [
        (0.25, 0.0, 2.0, 20.0, 0.225, 0.028),
        (0.5, 0.0, 2.5, 25.0, 0.300, 0.075),
        (1.0, 0.0, 5.0, 50.0, 0.300, 0.150),
        (1.0, 5.0, 5.0, 50.0, 0.450, 0.335),
        (2.62, 10.0, 10.0, 5000.0, 0.267, 0.354),
    ];
    for (v, a0, a, j, time_s, distance) in rows {
        let found = worst_case(v, a0, &limits(3.0, a, j));
        assert!((found.time_s - time_s).abs() < 1e-3, "{found:?}");
        assert!((found.distance - distance).abs() < 1e-3, "{found:?}");
        let (exact_s, exact) = table(v, a0, a, j);
        assert!((found.time_s - exact_s).abs() < 1e-12);
        assert!((found.distance - exact).abs() < 1e-12);
    }
}

#[test]
fn standstill_stays_exactly_where_it_is() {
    let stop = Stop::new(&JOINT, &Motion::at_rest(0.3));
    assert_eq!(stop.duration_s().to_bits(), 0.0_f64.to_bits());
    for t_s in [-1.0, 0.0, 1e-9, 1.0, f64::INFINITY] {
        assert_eq!(stop.at(t_s), Motion::at_rest(0.3));
    }
    assert_eq!(stop.span(), (0.3, 0.3));
}

#[test]
fn before_it_is_the_start_and_after_it_rest() {
    let start = moving(0.1, 1.0, 2.0);
    let stop = Stop::new(&JOINT, &start);
    assert_eq!(stop.at(0.0), start);
    assert_eq!(stop.at(-3.0), start);
    assert_eq!(stop.at(stop.duration_s()), Motion::at_rest(stop.end()));
    assert_eq!(stop.at(1e9), Motion::at_rest(stop.end()));
    let shortly_before = stop.at(stop.duration_s() - 1e-6);
    assert!(shortly_before.acceleration < 0.0 && 0.0 < shortly_before.velocity);
}

#[test]
fn a_turn_on_the_way_belongs_to_the_span() {
    // Backwards at 0.1 rad/s with 5 rad/s² forwards: it turns, overshoots, and comes to rest.
    let stop = Stop::new(&JOINT, &moving(0.0, -0.1, 5.0));
    let (low, high) = stop.span();
    // 0.1 = 5t − 25t² gives the turn at 0.02254 s.
    let turn_s = (5.0 - (25.0_f64 - 10.0).sqrt()) / 50.0;
    let turn = turn_s * (-0.1 + turn_s * (2.5 - turn_s * 50.0 / 6.0));
    assert!((low - turn).abs() < 1e-12);
    assert!((high - stop.end()).abs() < 1e-12 && 0.0 < high);
    let mirrored = Stop::new(&JOINT, &moving(0.0, 0.1, -5.0)).span();
    assert!((mirrored.0 + high).abs() < 1e-12 && (mirrored.1 + low).abs() < 1e-12);
}

#[test]
fn too_much_deceleration_is_taken_back_first() {
    let start = moving(0.0, 2.0, -8.0);
    let stop = Stop::new(&JOINT, &start);
    assert!((stop.at(0.06).acceleration + 5.0).abs() < 1e-12);
    assert!((stop.at(0.02).acceleration + 7.0).abs() < 1e-12);
    // 2 − 0.06·6.5 = 1.61 left; the last 0.1 s take 0.25 of it: 0.272 s held.
    assert!((stop.duration_s() - (0.06 + 0.272 + 0.1)).abs() < 1e-12);
}

#[test]
fn limits_that_stop_nothing_end_the_stop_at_once() {
    for (a, j) in [
        (5.0, 0.0),
        (0.0, 50.0),
        (-1.0, 50.0),
        (5.0, -1.0),
        (f64::NAN, 50.0),
        (5.0, f64::NAN),
        (5.0, f64::INFINITY),
    ] {
        let stop = Stop::new(&limits(1.0, a, j), &moving(0.5, 1.0, 1.0));
        assert_eq!(stop.at(0.0), Motion::at_rest(0.5), "{a} {j}");
        assert_eq!(stop.span(), (0.5, 0.5));
        assert_eq!(stop.duration_s().to_bits(), 0.0_f64.to_bits());
    }
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0.1..5.0, 0.5..20.0, 1.0..1e3).prop_map(|(v, a, j)| limits(v, a, j))
}

fn any_start() -> impl Strategy<Value = (Limits, Motion)> {
    (any_limits(), -1.0..1.0, -1.0..=1.0, -1.0..=1.0).prop_map(
        |(limits, position, v, a): (Limits, f64, f64, f64)| {
            let motion = moving(position, v * limits.speed_max, a * limits.acceleration_max);
            (limits, motion)
        },
    )
}

/// The extreme values of a stop over many moments.
fn walk(stop: &Stop) -> Vec<Motion> {
    let part_s = stop.duration_s() / 2000.0;
    (0..=2000).map(|n| stop.at(f64::from(n) * part_s)).collect()
}

proptest! {
    #[test]
    fn the_worst_case_is_the_references((limits, start) in any_start()) {
        let (v, a0) = (start.velocity.abs(), start.acceleration.abs());
        let found = worst_case(v, a0, &limits);
        let (time_s, distance) = table(v, a0, limits.acceleration_max, limits.jerk_max);
        prop_assert!((found.time_s - time_s).abs() < 1e-9);
        prop_assert!((found.distance - distance).abs() < 1e-9 * (1.0 + distance));
    }

    #[test]
    fn a_stop_is_continuous_and_inside_its_limits((limits, start) in any_start()) {
        let stop = Stop::new(&limits, &start);
        let part_s = stop.duration_s() / 2000.0;
        let path = walk(&stop);
        for pair in path.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            prop_assert!(to.acceleration.abs() <= limits.acceleration_max * (1.0 + 1e-9));
            let jerk = (to.acceleration - from.acceleration).abs();
            prop_assert!(jerk <= limits.jerk_max * part_s * (1.0 + 1e-6) + 1e-9);
            let bend = (to.velocity - from.velocity).abs();
            prop_assert!(bend <= limits.acceleration_max * part_s * (1.0 + 1e-6) + 1e-9);
            // Trapezoids of the velocity, whose error is the jerk's.
            let mean = f64::midpoint(from.velocity, to.velocity) * part_s;
            let moved = to.position - from.position;
            prop_assert!((moved - mean).abs() <= limits.jerk_max * part_s.powi(3) / 6.0 + 1e-12);
        }
        let last = path.last().unwrap();
        prop_assert!((last.position - stop.end()).abs() < 1e-9);
        let almost = stop.at(stop.duration_s() * (1.0 - 1e-9));
        prop_assert!(almost.velocity.abs() < 1e-6 && almost.acceleration.abs() < 1e-4);
    }

    #[test]
    fn the_span_is_what_the_way_covers((limits, start) in any_start()) {
        let stop = Stop::new(&limits, &start);
        let (low, high) = stop.span();
        let path = walk(&stop);
        let lowest = path.iter().map(|m| m.position).fold(f64::INFINITY, f64::min);
        let highest = path.iter().map(|m| m.position).fold(f64::NEG_INFINITY, f64::max);
        let part_s = stop.duration_s() / 2000.0;
        let fine = limits.acceleration_max * part_s * part_s + 1e-12;
        prop_assert!(low <= lowest + 1e-12 && lowest <= low + fine);
        prop_assert!(highest <= high + 1e-12 && high <= highest + fine);
    }

    /// The speed on the way is nowhere above the larger of the start's and the coasting one.
    #[test]
    fn the_coasting_velocity_bounds_the_speed((limits, start) in any_start()) {
        let bound = start.velocity.abs().max(coasting_velocity(&limits, &start).abs());
        for motion in walk(&Stop::new(&limits, &start)) {
            prop_assert!(motion.velocity.abs() <= bound * (1.0 + 1e-9) + 1e-12);
        }
    }

    /// No course of jerk inside the limits stops sooner: after any first step, the rest takes at
    /// least what was left.
    #[test]
    fn no_first_step_stops_sooner((limits, start) in any_start(), u in -1.0..=1.0_f64, part in 0.0..0.2_f64) {
        let stop = Stop::new(&limits, &start);
        let dt_s = part * stop.duration_s();
        let other = after(&start, u * limits.jerk_max, dt_s);
        prop_assume!(other.acceleration.abs() <= limits.acceleration_max);
        let total_s = dt_s + Stop::new(&limits, &other).duration_s();
        prop_assert!(stop.duration_s() <= total_s * (1.0 + 1e-9) + 1e-9);
    }

    #[test]
    fn every_number_gives_a_stop(bits in prop::array::uniform5(any::<u64>())) {
        let [v, a, j, velocity, acceleration] = bits.map(f64::from_bits);
        let stop = Stop::new(&limits(v, a, j), &moving(0.25, velocity, acceleration));
        prop_assert!(stop.end().is_finite());
        let end = stop.at(f64::INFINITY);
        prop_assert_eq!(end, Motion::at_rest(stop.end()));
    }
}
