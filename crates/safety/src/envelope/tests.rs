#![expect(
    clippy::float_cmp,
    reason = "both sides of a limit are told apart to the last bit"
)]

use proptest::prelude::*;

use super::*;

/// The demo arm's slowest joint, at 240 Hz.
const JOINT: Limits = Limits {
    min: -2.0,
    max: 1.5,
    speed_max: 2.5,
    deceleration: 15.0,
};
const DT_S: f64 = 1.0 / 240.0;

fn any_limits() -> impl Strategy<Value = Limits> {
    (-10.0..10.0, 0.0..10.0, 0.0..20.0, 0.0..1e3).prop_map(
        |(min, range, speed_max, deceleration): (f64, f64, f64, f64)| Limits {
            min,
            max: min + range,
            speed_max,
            deceleration,
        },
    )
}

/// Every 64-bit pattern: NaN of both kinds, infinities, subnormals, both zeros.
fn any_number() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits)
}

fn flags_of(last: f64, target: f64) -> u32 {
    admit(&JOINT, last, target, DT_S).1
}

#[test]
fn a_target_on_the_limit_passes_and_one_beyond_is_clamped() {
    for limit in [JOINT.min, JOINT.max] {
        assert_eq!(admit(&JOINT, limit, limit, DT_S), (limit, 0));
    }
    let above = admit(&JOINT, JOINT.max, JOINT.max.next_up(), DT_S);
    assert_eq!(above, (JOINT.max, flag::POSITION_CLAMPED));
    let below = admit(&JOINT, JOINT.min, JOINT.min.next_down(), DT_S);
    assert_eq!(below, (JOINT.min, flag::POSITION_CLAMPED));
    assert_eq!(flags_of(JOINT.max, JOINT.max.next_down()), 0);
    assert_eq!(flags_of(JOINT.min, JOINT.min.next_up()), 0);
}

#[test]
fn a_step_as_long_as_the_reach_passes_and_a_longer_one_is_cut() {
    let reach = JOINT.speed_max * DT_S;
    for last in [0.0, 0.3, -0.7] {
        for (edge, beyond) in [
            (last + reach, (last + reach).next_up()),
            (last - reach, (last - reach).next_down()),
        ] {
            assert_eq!(admit(&JOINT, last, edge, DT_S), (edge, 0));
            assert_eq!(
                admit(&JOINT, last, beyond, DT_S),
                (edge, flag::SPEED_CLAMPED)
            );
        }
    }
}

#[test]
fn a_target_that_is_no_number_means_stay() {
    for target in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(admit(&JOINT, 0.25, target, DT_S), (0.25, flag::NOT_FINITE));
    }
}

#[test]
fn a_target_beyond_limit_and_reach_has_both_flags() {
    let (command, flags) = admit(&JOINT, 1.0, 1e9, DT_S);
    assert_eq!(command, 1.0 + JOINT.speed_max * DT_S);
    assert_eq!(flags, flag::POSITION_CLAMPED | flag::SPEED_CLAMPED);
}

#[test]
fn an_arm_found_outside_walks_back_at_the_speed_limit() {
    let reach = JOINT.speed_max * DT_S;
    for (found, limit) in [(JOINT.max + 0.1, JOINT.max), (JOINT.min - 0.1, JOINT.min)] {
        let mut last = found;
        let mut steps = 0;
        while last != limit {
            let (command, flags) = admit(&JOINT, last, found, DT_S);
            assert!(last - reach <= command && command <= last + reach);
            assert!((command - limit).abs() < (last - limit).abs());
            assert_ne!(flags & flag::POSITION_CLAMPED, 0);
            last = command;
            steps += 1;
        }
        // 0.1 rad at 2.5 rad/s are 40 ms: 9.6 periods.
        assert_eq!(steps, 10);
    }
}

#[test]
fn braking_ends_in_standstill_and_never_turns_round() {
    let per_step = JOINT.deceleration * DT_S;
    assert_eq!(brake(&JOINT, per_step, DT_S), 0.0);
    assert_eq!(brake(&JOINT, per_step.next_down(), DT_S), 0.0);
    assert!(0.0 < brake(&JOINT, per_step.next_up(), DT_S));
    assert!(brake(&JOINT, -per_step.next_up(), DT_S) < 0.0);
    for speed in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(brake(&JOINT, speed, DT_S), 0.0);
    }
}

proptest! {
    #[test]
    fn no_target_outruns_the_joint(
        limits in any_limits(),
        last in -20.0..20.0,
        target in any_number(),
        dt_s in 0.0..0.1,
    ) {
        let reach = limits.speed_max * dt_s;
        let (command, _) = admit(&limits, last, target, dt_s);
        prop_assert!(last - reach <= command && command <= last + reach);
    }

    #[test]
    fn a_command_from_inside_stays_inside(
        limits in any_limits(),
        part in 0.0..=1.0_f64,
        target in any_number(),
        dt_s in 0.0..0.1,
    ) {
        let last = (limits.min + part * (limits.max - limits.min)).clamp(limits.min, limits.max);
        let (command, _) = admit(&limits, last, target, dt_s);
        prop_assert!((limits.min..=limits.max).contains(&command));
    }

    #[test]
    fn an_admitted_target_is_reached_untouched(part in 0.0..=1.0_f64, step in -1.0..=1.0_f64) {
        let last = (JOINT.min + part * (JOINT.max - JOINT.min)).clamp(JOINT.min, JOINT.max);
        let reach = JOINT.speed_max * DT_S;
        let target = (last + step * reach).clamp(last - reach, last + reach);
        prop_assume!((JOINT.min..=JOINT.max).contains(&target));
        prop_assert_eq!(admit(&JOINT, last, target, DT_S), (target, 0));
    }

    #[test]
    fn flags_say_whether_the_target_was_changed(last in -2.0..1.5, target in any_number()) {
        let (command, flags) = admit(&JOINT, last, target, DT_S);
        let changed = !target.is_finite() || command < target || target < command;
        prop_assert_eq!(flags != 0, changed);
    }

    #[test]
    fn admit_answers_whatever_it_is_asked(
        limits in any_limits(),
        last in any_number(),
        target in any_number(),
        dt_s in any_number(),
    ) {
        let (command, flags) = admit(&limits, last, target, dt_s);
        if last.is_finite() {
            prop_assert!(command.is_finite());
        } else {
            prop_assert_eq!(command.to_bits(), last.to_bits());
            prop_assert_eq!(flags, flag::NOT_FINITE);
        }
    }

    #[test]
    fn brake_is_total_and_never_speeds_up(
        limits in any_limits(),
        speed in any_number(),
        dt_s in any_number(),
    ) {
        let slower = brake(&limits, speed, dt_s);
        prop_assert!(slower.is_finite());
        if speed.is_finite() {
            prop_assert!(slower.abs() <= speed.abs());
            prop_assert!(slower == 0.0 || slower.signum() == speed.signum());
        }
    }

    /// The closed form of a stop at constant deceleration, with one period for the step's own size.
    #[test]
    fn a_stop_is_as_short_as_its_closed_form(speed in -2.5..2.5_f64) {
        let (mut now, mut distance, mut steps) = (speed, 0.0, 0.0);
        while now != 0.0 {
            now = brake(&JOINT, now, DT_S);
            distance += now * DT_S;
            steps += 1.0;
        }
        let a = JOINT.deceleration;
        prop_assert!(steps <= (speed.abs() / (a * DT_S)).ceil() + 1.0);
        prop_assert!(distance.abs() <= speed * speed / (2.0 * a));
    }
}
