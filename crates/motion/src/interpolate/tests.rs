use proptest::prelude::*;

use super::*;

const TICK_S: f64 = 1.0 / 30.0;
const STEPS: u32 = 8;

fn limits() -> Limits {
    Limits {
        min: -10.0,
        max: 10.0,
        speed_max: 2.6,
        acceleration_max: 15.0,
        jerk_max: 1500.0,
    }
}

/// Plays targets from rest at the first one; gives the motion at each servo step.
fn play(targets: &[f64]) -> Vec<Motion> {
    let mut interpolator = Interpolator::new(&[limits()], &[false]);
    let mut motions = vec![Motion::at_rest(targets[0])];
    for tick in 1..targets.len() {
        let around = Targets {
            before: &targets[tick - 1..tick],
            target: &targets[tick..=tick],
            next: targets.get(tick + 1..tick + 2),
        };
        interpolator.begin(&motions[motions.len() - 1..], &around, TICK_S);
        for step in 1..=STEPS {
            motions.push(interpolator.at(0, TICK_S * f64::from(step) / f64::from(STEPS)));
        }
    }
    motions
}

/// Checks velocity, acceleration and jerk as the envelope will see them: by differences of what is
/// commanded.
fn assert_inside(motions: &[Motion]) {
    let dt_s = TICK_S / f64::from(STEPS);
    let limits = limits();
    let differences = |list: &[f64]| -> Vec<f64> {
        list.windows(2)
            .map(|pair| (pair[1] - pair[0]) / dt_s)
            .collect()
    };
    let position: Vec<f64> = motions.iter().map(|motion| motion.position).collect();
    let velocity = differences(&position);
    let acceleration = differences(&velocity);
    let jerk = differences(&acceleration);
    for (list, max) in [
        (velocity, limits.speed_max),
        (acceleration, limits.acceleration_max),
        (jerk, limits.jerk_max),
    ] {
        for x in list {
            assert!(x.abs() <= max * (1.0 + 1e-6), "{x} beyond {max}");
        }
    }
}

proptest! {
    #[test]
    fn no_targets_lead_out_of_the_limits(
        targets in prop::collection::vec(-1.0..1.0_f64, 3..40),
        scale in prop::sample::select(vec![0.001, 0.02, 0.3, 3.0]),
    ) {
        let targets: Vec<f64> = targets.iter().map(|target| target * scale).collect();
        let motions = play(&targets);
        prop_assert!(motions.iter().all(|motion| motion.position.is_finite()));
        assert_inside(&motions);
    }

    #[test]
    fn a_target_that_stays_is_reached_and_held(jump in -1.0..1.0_f64) {
        let mut targets = vec![jump; 60];
        targets[0] = 0.0;
        let motions = play(&targets);
        let last = motions[motions.len() - 1];
        prop_assert!((last.position - jump).abs() < 1e-9, "{last:?}");
        prop_assert!(last.velocity.abs() < 1e-9 && last.acceleration.abs() < 1e-6, "{last:?}");
    }

    #[test]
    fn a_way_begins_where_the_robot_is(
        position in -1.0..1.0_f64,
        velocity in -2.0..2.0_f64,
        acceleration in -5.0..5.0_f64,
        target in -1.0..1.0_f64,
    ) {
        let now = Motion { position, velocity, acceleration };
        let mut interpolator = Interpolator::new(&[limits()], &[false]);
        let around = Targets { before: &[position], target: &[target], next: None };
        interpolator.begin(&[now], &around, TICK_S);
        let at = interpolator.at(0, 0.0);
        prop_assert!((at.position - position).abs() < 1e-9);
        prop_assert!((at.velocity - velocity).abs() < 1e-9);
        prop_assert!((at.acceleration - acceleration).abs() < 1e-6);
    }
}

/// The largest jerk of the smooth reference motion over `duration_s` seconds and `distance`.
fn smooth(part: f64) -> f64 {
    part.powi(3) * (10.0 - 15.0 * part + 6.0 * part * part)
}

#[test]
fn a_smooth_motion_comes_through_as_it_is() {
    let (ticks, distance) = (45, 0.8);
    let targets: Vec<f64> = (0..=60)
        .map(|tick| distance * smooth((f64::from(tick) / f64::from(ticks)).min(1.0)))
        .collect();
    let motions = play(&targets);
    for (at, motion) in (0_u32..).zip(&motions) {
        let part = f64::from(at) / f64::from(ticks * 8);
        let wanted = distance * smooth(part.min(1.0));
        assert!((motion.position - wanted).abs() < 2e-5, "{at}: {motion:?}");
    }
    // A minimum-jerk motion's own largest jerk is 60 d / T³; where it begins and ends, differences
    // of targets know it badly. Straight lines between the targets would need no end of it.
    let largest = motions
        .windows(2)
        .map(|pair| (pair[1].acceleration - pair[0].acceleration) / (TICK_S / 8.0))
        .fold(0.0_f64, |most, jerk| most.max(jerk.abs()));
    assert!(
        largest < 5.0 * 60.0 * distance / 1.5_f64.powi(3),
        "{largest}"
    );
}

#[test]
fn a_jump_is_followed_later_and_never_passed() {
    let mut targets = vec![0.5; 40];
    targets[0] = 0.0;
    let motions = play(&targets);
    assert!(
        0.05 < 0.5 - motions[8].position,
        "a tick is too short for it"
    );
    assert!(motions.iter().all(|motion| motion.position <= 0.5 + 1e-9));
}

#[test]
fn what_is_no_number_gives_no_number() {
    let mut interpolator = Interpolator::new(&[limits()], &[false]);
    for (now, target) in [(f64::NAN, 0.0), (0.0, f64::NAN), (0.0, f64::INFINITY)] {
        let around = Targets {
            before: &[0.0],
            target: &[target],
            next: None,
        };
        interpolator.begin(&[Motion::at_rest(now)], &around, TICK_S);
        assert!(interpolator.at(0, 0.01).position.is_nan());
    }
    let around = Targets {
        before: &[],
        target: &[],
        next: None,
    };
    interpolator.begin(&[Motion::at_rest(0.0)], &around, TICK_S);
    assert!(interpolator.at(0, 0.01).position.is_nan());
    assert!(interpolator.at(7, 0.01).position.is_nan());
}

#[test]
fn the_generator_agrees_with_the_reference_implementation() {
    let cases = include_str!("../../../../tests/fixtures/ruckig/cases.csv");
    let mut generator = Ruckig::<1, ThrowErrorHandler>::new(None, 0.0);
    let mut worst = [0.0_f64; 4];
    for line in cases.lines() {
        let x: Vec<f64> = line.split(',').map(|word| word.parse().unwrap()).collect();
        let mut input = InputParameter::<1>::new(None);
        input.current_position[0] = x[0];
        input.current_velocity[0] = x[1];
        input.current_acceleration[0] = x[2];
        input.target_position[0] = x[3];
        input.target_velocity[0] = x[4];
        input.target_acceleration[0] = x[5];
        input.max_velocity[0] = x[6];
        input.max_acceleration[0] = x[7];
        input.max_jerk[0] = x[8];
        input.minimum_duration = (0.0 < x[9]).then_some(x[9]);
        let mut way = Trajectory::<1>::new(None);
        generator.calculate(&input, &mut way).unwrap();
        worst[0] = worst[0].max((way.get_duration() - x[10]).abs());
        // Where several ways of one minimum duration exist, the two may take different ones.
        if way.get_duration() <= x[9] + 1e-9 {
            continue;
        }
        for (part, wanted) in [0.25, 0.5, 0.75].iter().zip(x[11..].chunks(3)) {
            let at = sample(&way, x[10] * part);
            worst[1] = worst[1].max((at.position - wanted[0]).abs());
            worst[2] = worst[2].max((at.velocity - wanted[1]).abs());
            worst[3] = worst[3].max((at.acceleration - wanted[2]).abs() / x[7]);
        }
    }
    assert_eq!(cases.lines().count(), 400);
    assert!(worst.iter().all(|off| *off < 1e-6), "{worst:?}");
}

#[test]
fn what_snaps_goes_to_its_target_at_once_and_rests_there() {
    let mut interpolator = Interpolator::new(&[limits()], &[true]);
    let mut now = Motion::at_rest(0.0);
    let mut arrived = None;
    for tick in 0..60 {
        let around = Targets {
            before: &[now.position],
            target: &[1.0],
            next: Some(&[1.0]),
        };
        interpolator.begin(&[now], &around, TICK_S);
        now = interpolator.at(0, TICK_S);
        assert!(now.velocity.abs() <= limits().speed_max && now.position <= 1.0 + 1e-9);
        if arrived.is_none() && (now.position - 1.0).abs() < 1e-9 {
            arrived = Some(tick);
        }
    }
    // 1 rad at 2.6 rad/s, with 0.2 s to speed up and down: 17 ticks.
    assert!(
        arrived.is_some_and(|tick| (15..20).contains(&tick)),
        "{arrived:?}"
    );
    assert!(now.velocity.abs() < 1e-9);
}

/// At three quarters of the speed a tick has 13 1/3 of ten servo ticks: the last one ends behind it.
#[test]
fn a_way_goes_on_where_its_tick_ends_within_a_servo_tick() {
    let mut interpolator = Interpolator::new(&[limits()], &[false]);
    let now = Motion {
        position: 0.0,
        velocity: 0.45,
        acceleration: 0.0,
    };
    let step_m = 0.45 * TICK_S;
    let around = Targets {
        before: &[0.0],
        target: &[step_m],
        next: Some(&[2.0 * step_m]),
    };
    interpolator.begin(&[now], &around, TICK_S);
    for part in [0.5, 1.0, 1.05] {
        let at = interpolator.at(0, part * TICK_S);
        assert!((at.position - part * step_m).abs() < 1e-12, "{at:?}");
        assert!((at.velocity - 0.45).abs() < 1e-9, "{at:?}");
    }
}
