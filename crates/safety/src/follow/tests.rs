use super::*;

const TOLERANCE: Tolerance = Tolerance {
    error: 0.125,
    ticks: 3,
    lag: 2,
};

fn limits(speed_max: f64) -> Limits {
    Limits {
        min: -1.0,
        max: 1.0,
        speed_max,
        acceleration_max: 1.0,
        jerk_max: 1.0,
    }
}

#[test]
fn a_robot_that_is_late_by_its_lag_follows() {
    let mut following = Following::new(TOLERANCE, 2);
    for tick in 0..50_u8 {
        let now = f64::from(tick);
        let commanded = [now, -now];
        let measured = [now - 2.0, 2.0 - now];
        assert_eq!(following.note(&commanded, &measured), None);
    }
    // One tick later than its lag: 1 rad off, three ticks in a row.
    for (tick, lost) in [(50_u8, None), (51, None), (52, Some(1)), (53, Some(1))] {
        let now = f64::from(tick);
        assert_eq!(following.note(&[now, -now], &[now - 2.0, 3.0 - now]), lost);
    }
}

#[test]
fn the_error_must_be_exceeded_for_ticks_in_a_row() {
    let mut following = Following::new(
        Tolerance {
            lag: 0,
            ..TOLERANCE
        },
        1,
    );
    let mut note = |measured: f64| following.note(&[1.0], &[measured]);
    // Exactly on the tolerance, on either side.
    for _ in 0..10 {
        assert_eq!(note(1.125), None);
        assert_eq!(note(0.875), None);
    }
    let beyond = 1.125_f64.next_up();
    assert_eq!([note(beyond), note(beyond), note(1.0)], [None; 3]);
    assert_eq!([note(beyond), note(beyond)], [None; 2]);
    assert_eq!(note(0.875_f64.next_down()), Some(0));
    assert_eq!(note(1.0), None);
}

#[test]
fn the_first_of_several_is_named_and_nothing_is_compared_before_the_lag_is_over() {
    let tolerance = Tolerance {
        ticks: 1,
        ..TOLERANCE
    };
    let mut following = Following::new(tolerance, 3);
    let note = |following: &mut Following| following.note(&[0.0; 3], &[0.0, 9.0, 9.0]);
    assert_eq!([note(&mut following), note(&mut following)], [None; 2]);
    assert_eq!(note(&mut following), Some(1));
    following.restart();
    assert_eq!([note(&mut following), note(&mut following)], [None; 2]);
    assert_eq!(note(&mut following), Some(1));
}

#[test]
fn a_restart_forgets_errors_and_commands() {
    let mut following = Following::new(TOLERANCE, 1);
    for _ in 0..4 {
        assert_eq!(following.note(&[0.0], &[9.0]), None);
    }
    following.restart();
    for _ in 0..4 {
        assert_eq!(following.note(&[5.0], &[9.0]), None);
    }
    assert_eq!(following.note(&[5.0], &[9.0]), Some(0));
    following.restart();
    for _ in 0..10 {
        assert_eq!(following.note(&[7.0], &[7.0]), None);
    }
}

#[test]
fn a_measurement_that_is_none_does_not_follow() {
    for measured in [&[f64::NAN][..], &[f64::INFINITY], &[]] {
        let mut following = Following::new(
            Tolerance {
                lag: 0,
                ..TOLERANCE
            },
            1,
        );
        let mut note = || following.note(&[1.0], measured);
        assert_eq!([note(), note(), note()], [None, None, Some(0)]);
    }
}

#[test]
fn a_joint_cannot_jump() {
    let both = [limits(2.0), limits(4.0)];
    // 1.5 · 2 rad/s · 1/8 s = 0.375 rad, and 0.75 rad.
    let possible = |now: [f64; 2]| plausible(&[0.5, 0.5], &now, &both, 0.125);
    assert!(possible([0.5, 0.5]));
    assert!(possible([0.875, -0.25]));
    assert!(possible([0.125, 1.25]));
    assert!(!possible([0.875_f64.next_up(), 0.5]));
    assert!(!possible([0.5, -0.25 - 1e-15]));
    for number in [f64::NAN, f64::INFINITY] {
        assert!(!possible([number, 0.5]));
        assert!(!plausible(&[number], &[0.5], &both, 0.125));
    }
    assert!(!plausible(&[0.5], &[0.5, 0.5], &both, 0.125));
}
