use proptest::prelude::*;

use super::*;

const DT_S: f64 = 1.0 / 240.0;
const LIMITS: Limits = Limits {
    min: -3.0,
    max: 3.0,
    speed_max: 2.5,
    acceleration_max: 15.0,
    jerk_max: 150.0,
};

fn moving(position: f64, velocity: f64, acceleration: f64) -> Motion {
    Motion {
        position,
        velocity,
        acceleration,
    }
}

/// The motion after pieces of constant jerk: parts of a period, and shares of the limit.
fn driven(from: &Motion, pieces: &[(f64, f64)], dt_s: f64) -> Motion {
    pieces.iter().fold(*from, |motion, (part, share)| {
        let (t, jerk) = (part * dt_s, share * LIMITS.jerk_max);
        moving(
            motion.position
                + t * (motion.velocity + t * (motion.acceleration / 2.0 + t * jerk / 6.0)),
            motion.velocity + t * (motion.acceleration + t * jerk / 2.0),
            motion.acceleration + t * jerk,
        )
    })
}

fn allowed(from: &Motion, to: &Motion) -> bool {
    within(&LIMITS, from, to, DT_S)
}

#[test]
fn rest_may_stay_and_may_begin_to_move() {
    let rest = Motion::at_rest(1.0);
    assert!(allowed(&rest, &rest));
    for jerk in [-1.0, -0.5, 0.3, 1.0] {
        assert!(allowed(&rest, &driven(&rest, &[(1.0, jerk)], DT_S)));
    }
    for jerk in [-1.001, 1.001] {
        assert!(!allowed(&rest, &driven(&rest, &[(1.0, jerk)], DT_S)));
    }
}

/// At full jerk over the whole period the set of reachable motions is an edge: a millionth of the
/// limit inside passes, a millionth outside does not, at any position.
#[test]
fn the_edge_is_sharp_and_not_blurred_by_rounding() {
    for position in [0.0, 1e-3, 0.7, -3.0] {
        for sign in [-1.0, 1.0] {
            let from = moving(position, sign * 0.4, sign * 2.0);
            for (share, fits) in [(1.0, true), (1.0 - 1e-6, true), (1.0 + 1e-6, false)] {
                let to = driven(&from, &[(1.0, sign * share)], DT_S);
                assert_eq!(allowed(&from, &to), fits, "{position} {sign} {share}");
            }
        }
    }
}

#[test]
fn each_bound_refuses_what_the_others_let_through() {
    let cruise = moving(0.0, 1.0, 0.0);
    let next = moving(DT_S, 1.0, 0.0);
    assert!(allowed(&cruise, &next));
    let cube = LIMITS.jerk_max * DT_S * DT_S * DT_S;
    // Position alone: the largest change with neither velocity nor acceleration changed is that of
    // jerk +, −, +: `∫x²u` with both other moments zero is 1/3 − 1/4 − 1/48 = 1/16.
    for (part, fits) in [(1.0 / 32.0 - 1e-5, true), (1.0 / 32.0 + 1e-5, false)] {
        for sign in [-1.0, 1.0] {
            let to = moving(DT_S + sign * part * cube, 1.0, 0.0);
            assert_eq!(allowed(&cruise, &to), fits, "{part}");
        }
    }
    // Velocity alone, with the position that belongs to it: jerk + then −.
    let square = LIMITS.jerk_max * DT_S * DT_S;
    let swing = driven(&cruise, &[(0.5, 1.0), (0.5, -1.0)], DT_S);
    assert!((swing.velocity - 1.0 - square / 4.0).abs() < 1e-12);
    assert!(allowed(&cruise, &swing));
    let beyond = moving(swing.position, swing.velocity + 1e-4 * square, 0.0);
    assert!(!allowed(&cruise, &beyond));
    let beyond = moving(swing.position, 2.0 - swing.velocity - 1e-4 * square, 0.0);
    assert!(!allowed(&cruise, &beyond));
}

#[test]
fn speed_is_bounded_now_and_after_the_acceleration_is_gone() {
    let top = LIMITS.speed_max;
    let at_top = moving(0.0, top, 0.0);
    assert!(allowed(&at_top, &moving(top * DT_S, top, 0.0)));
    for sign in [-1.0, 1.0] {
        // 3 rad/s² add 9/300 rad/s until they are gone.
        let gained = 9.0 / 300.0;
        for (short_of, fits) in [(1e-7, true), (-1e-7, false)] {
            let from = moving(
                0.0,
                sign * (top - gained - short_of - 3.0 * DT_S),
                sign * 3.0,
            );
            let to = driven(&from, &[(1.0, 0.0)], DT_S);
            assert_eq!(allowed(&from, &to), fits, "{sign} {short_of}");
        }
        // Braking from above the limit: only the speed itself is too large.
        for (over, fits) in [(0.0, true), (1e-7, false)] {
            let from = moving(0.0, sign * (top + over + 3.0 * DT_S), -sign * 3.0);
            let to = driven(&from, &[(1.0, 0.0)], DT_S);
            let far = (to.position - from.position).abs() / DT_S;
            assert!(top < far);
            assert!(!allowed(&from, &to), "moved too far in one period");
            assert_eq!(to.velocity.abs() <= top * (1.0 + TOLERANCE), fits);
        }
    }
}

#[test]
fn a_speed_just_above_the_limit_is_refused_even_where_the_way_is_short() {
    let top = LIMITS.speed_max;
    let limits = Limits {
        acceleration_max: 1e3,
        jerk_max: 1e6,
        ..LIMITS
    };
    // Jerk − then +: the acceleration is zero at the end, the speed the given one, the way short.
    let dip = |end: f64| {
        let dip = limits.jerk_max * DT_S.powi(3) / 64.0;
        (moving(0.0, end, 0.0), moving(end * DT_S - dip, end, 0.0))
    };
    let (from, to) = dip(top);
    assert!(within(&limits, &from, &to, DT_S));
    let (from, to) = dip(top * (1.0 + 1e-8));
    assert!(!within(&limits, &from, &to, DT_S));
}

/// Already braking again at the end of the period: neither the way nor the coasting speed tells.
#[test]
fn a_speed_above_the_limit_is_refused_even_while_it_falls() {
    let limits = Limits {
        acceleration_max: 1e3,
        jerk_max: 1e6,
        ..LIMITS
    };
    // From 400 to −100 rad/s² within the period: 150 rad/s² on the mean.
    let gained = 150.0 * DT_S;
    for sign in [-1.0, 1.0] {
        for (over, fits) in [(-1e-6, true), (1e-6, false), (0.004, false)] {
            let end = limits.speed_max + over;
            let moved = (end - gained + 200.0 * DT_S - 500.0 / 6.0 * DT_S) * DT_S;
            let from = moving(0.0, sign * (end - gained), sign * 400.0);
            let to = moving(sign * moved, sign * end, sign * -100.0);
            assert!(moved < limits.speed_max * DT_S);
            assert_eq!(within(&limits, &from, &to, DT_S), fits, "{over}");
        }
    }
}

#[test]
fn acceleration_is_bounded_at_the_end_and_in_both_halves_of_a_period() {
    let top = LIMITS.acceleration_max;
    for sign in [-1.0, 1.0] {
        let steady = moving(0.0, 0.0, sign * top);
        assert!(allowed(&steady, &driven(&steady, &[(1.0, 0.0)], DT_S)));
        let rising = moving(0.0, 0.0, sign * (top - 0.1));
        for (share, fits) in [(1.0, true), (1.01, false)] {
            let jerk = sign * share * 0.1 / (LIMITS.jerk_max * DT_S);
            assert_eq!(
                allowed(&rising, &driven(&rising, &[(1.0, jerk)], DT_S)),
                fits
            );
        }
        // A hump between two ends at the limit is above it.
        let hump = driven(&steady, &[(0.5, sign), (0.5, -sign)], DT_S);
        assert!(!allowed(&steady, &hump));
    }
}

#[test]
fn each_half_of_a_period_is_bounded_by_itself() {
    let limits = Limits {
        jerk_max: 1e6,
        speed_max: 1e3,
        ..LIMITS
    };
    let half = limits.acceleration_max * DT_S * DT_S / 2.0;
    let rest = Motion::at_rest(0.0);
    for sign in [-1.0, 1.0] {
        for (share, fits) in [(1.0 - 1e-6, true), (1.0 + 1e-6, false)] {
            let moved = sign * share * half;
            // The first half alone: from rest, to the velocity that leaves the second one empty.
            let to = moving(moved, moved / DT_S, 0.0);
            assert_eq!(within(&limits, &rest, &to, DT_S), fits, "first {share}");
            // The second half alone.
            let from = moving(0.0, 1.0, 0.0);
            let to = moving(DT_S, 1.0 + moved / DT_S, 0.0);
            assert_eq!(within(&limits, &from, &to, DT_S), fits, "second {share}");
        }
    }
}

#[test]
fn nothing_moves_under_limits_or_periods_that_are_none() {
    let rest = Motion::at_rest(0.5);
    for jerk_max in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let limits = Limits { jerk_max, ..LIMITS };
        assert!(!within(&limits, &rest, &moving(0.5001, 0.0, 0.0), DT_S));
    }
    for dt_s in [0.0, -DT_S, f64::NAN, f64::INFINITY] {
        assert!(!within(&LIMITS, &rest, &moving(0.5001, 0.0, 0.0), dt_s));
    }
    for limits in [
        Limits {
            speed_max: f64::NAN,
            ..LIMITS
        },
        Limits {
            acceleration_max: f64::NAN,
            ..LIMITS
        },
    ] {
        assert!(!within(&limits, &rest, &rest, DT_S));
    }
}

fn any_motion() -> impl Strategy<Value = Motion> {
    (-3.0..3.0, -1.5..1.5, -10.0..10.0).prop_map(|(q, v, a)| moving(q, v, a))
}

proptest! {
    /// Whatever jerk within the limit does in a period is allowed.
    #[test]
    fn every_course_of_jerk_passes(
        from in any_motion(),
        cuts in prop::array::uniform3(0.0..1.0_f64),
        shares in prop::array::uniform4(-1.0..=1.0_f64),
        full in any::<bool>(),
    ) {
        let mut cuts = cuts;
        cuts.sort_by(f64::total_cmp);
        let [a, b, c] = cuts;
        let widths = [a, b - a, c - b, 1.0 - c];
        let shares = if full { shares.map(f64::signum) } else { shares };
        let pieces: Vec<_> = widths.into_iter().zip(shares).collect();
        prop_assert!(allowed(&from, &driven(&from, &pieces, DT_S)));
        // At 1 kHz rounding weighs fourteen times as much.
        prop_assert!(within(&LIMITS, &from, &driven(&from, &pieces, 1e-3), 1e-3));
    }

    /// What is allowed has a course of jerk: three steps in a row, chosen by an adversary among
    /// all that is allowed, keep third differences of the positions within the limit.
    #[test]
    fn third_differences_never_exceed_the_limit(
        start in any_motion(),
        wanted in prop::collection::vec(prop::array::uniform3(-1.2..1.2_f64), 60),
    ) {
        let mut path = vec![start];
        for [e, f, g] in wanted {
            let from = *path.last().unwrap();
            let free = driven(&from, &[(1.0, 0.0)], DT_S);
            let jerk = LIMITS.jerk_max;
            let to = moving(
                free.position + e * jerk * DT_S.powi(3) / 6.0,
                free.velocity + f * jerk * DT_S * DT_S / 2.0,
                free.acceleration + g * jerk * DT_S,
            );
            if allowed(&from, &to) {
                path.push(to);
            }
        }
        for four in path.windows(4) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|n| four[n].position);
            let third = d - 3.0 * c + 3.0 * b - a;
            let limit = LIMITS.jerk_max * DT_S.powi(3);
            prop_assert!(third.abs() <= limit * (1.0 + 1e-6), "{}", third / limit);
        }
    }
}

/// With the first moment zero `u` is −1 on half of the period, whose middle lies in 1/4 to 3/4; the
/// second moment is 1/2 less that middle.
#[test]
fn first_moments_that_no_course_has_are_refused() {
    for (second, fits) in [(0.25, true), (0.26, false), (-0.25, true), (-0.26, false)] {
        assert_eq!(largest_third([0.0, second, -1.0]), fits, "{second}");
    }
}

/// Limits so small that only the rounding of positions is left of them: what rounding can do passes,
/// near zero as far from it, and twice as much does not.
#[test]
fn rounding_is_forgiven_as_far_as_it_goes() {
    let none = Limits {
        acceleration_max: 1e-18,
        jerk_max: 1e-18,
        ..LIMITS
    };
    for position in [0.0, 1e4] {
        let noise = ROUNDED_ULPS * f64::EPSILON * (2.0 * position + 3.0 * DT_S);
        let from = moving(position, 1.0, 0.0);
        for (share, fits) in [(0.0, true), (0.5, true), (2.0, false)] {
            for sign in [-1.0, 1.0] {
                let to = moving(position + DT_S + sign * share * noise, 1.0, 0.0);
                assert_eq!(within(&none, &from, &to, DT_S), fits, "{position} {share}");
            }
        }
    }
}

#[test]
fn top_speed_is_allowed_far_from_zero() {
    let top = LIMITS.speed_max;
    let next = moving(1e4 + top * DT_S, top, 0.0);
    assert!(allowed(&moving(1e4, top, 0.0), &next));
}
