//! Robots that are found where they should not be, or are moved by hand.

use super::*;

#[test]
fn what_is_found_outside_may_come_back_and_not_go_farther() {
    for (sign, limit) in [(-1.0, JOINT.min), (1.0, JOINT.max)] {
        let found = limit + sign * 0.2;
        let mut farther = envelope(&[found]);
        assert_eq!(
            drive(&mut farther, sign * 150.0, 1),
            flag::STOP | flag::OUTSIDE
        );
        assert_eq!(farther.motion(), [Motion::at_rest(found)]);
        let mut back = envelope(&[found]);
        assert_eq!(drive(&mut back, 0.0, 1), 0);
        assert_eq!(drive(&mut back, -sign * 150.0, 10), 0);
        assert_eq!(drive(&mut back, sign * 150.0, 1), 0);
        // Half way back, the way out is closed at where it is.
        while !back.still() {
            back.brake();
        }
        let half_way = back.motion()[0].position;
        assert!(0.0 < sign * (half_way - limit) && sign * (half_way - found) < 0.0);
        assert_eq!(
            drive(&mut back, sign * 150.0, 1),
            flag::STOP | flag::OUTSIDE
        );
    }
}

#[test]
fn arms_found_in_a_forbidden_place_may_leave_it() {
    // 10 cm behind the wall.
    let found = 0.6_f64.asin();
    let mut envelope = Envelope::new(joints(1, walled()), &[found]);
    assert_eq!(drive(&mut envelope, 150.0, 1), flag::STOP | flag::WORKSPACE);
    assert_eq!(drive(&mut envelope, 0.0, 1), 0);
    assert_eq!(drive(&mut envelope, -150.0, 5), 0);
    while !envelope.still() {
        envelope.brake();
    }
    assert_eq!(drive(&mut envelope, 150.0, 1), flag::STOP | flag::WORKSPACE);
}

#[test]
fn a_joint_moved_by_hand_is_placed_only_while_all_stand() {
    let mut envelope = envelope(&[0.0, 0.5]);
    assert!(envelope.place(1, 0.75));
    assert_eq!(
        envelope.motion(),
        [Motion::at_rest(0.0), Motion::at_rest(0.75)]
    );
    assert_eq!(envelope.stop_end(1).to_bits(), 0.75_f64.to_bits());
    envelope.brake();
    assert_eq!(envelope.motion()[1], Motion::at_rest(0.75));
    for (dof, position) in [(1, f64::NAN), (1, f64::INFINITY), (2, 0.0)] {
        assert!(!envelope.place(dof, position));
    }
    assert_eq!(envelope.motion()[1], Motion::at_rest(0.75));
    let wanted = [driven(&Motion::at_rest(0.0), 150.0), Motion::at_rest(0.75)];
    assert_eq!(envelope.step(&wanted), 0);
    assert!(!envelope.place(1, 0.5));
    assert_eq!(envelope.motion(), wanted);
}

/// The clearance of where the robot is now counts, not that of where it was placed before.
#[test]
fn a_placed_arm_is_judged_where_it_is() {
    let mut envelope = Envelope::new(joints(1, walled()), &[0.0]);
    assert!(envelope.place(0, 0.6_f64.asin()));
    assert_eq!(drive(&mut envelope, -150.0, 1), 0);
    let mut other = Envelope::new(joints(1, walled()), &[0.6_f64.asin()]);
    assert!(other.place(0, 0.45));
    assert_eq!(drive(&mut other, 150.0, 30), flag::STOP | flag::WORKSPACE);
}

#[test]
fn standing_is_no_velocity_and_no_acceleration() {
    for motion in [
        Motion {
            velocity: 1e-300,
            ..Motion::at_rest(0.0)
        },
        Motion {
            acceleration: -1e-300,
            ..Motion::at_rest(0.0)
        },
    ] {
        let mut envelope = envelope(&[0.0]);
        envelope.motion[0] = motion;
        assert!(!envelope.still());
    }
}

#[test]
fn the_shorter_list_counts_and_what_is_no_number_stays() {
    let mut envelope = Envelope::new(joints(3, open()), &[0.0, f64::NAN]);
    assert_eq!(envelope.motion().len(), 2);
    assert_eq!(
        envelope.step(&[Motion::at_rest(0.0); 2]),
        flag::STOP | flag::OUTSIDE
    );
    assert!(envelope.place(1, 0.0));
    assert_eq!(envelope.step(&[Motion::at_rest(0.0); 2]), 0);
}

#[test]
fn limits_that_are_none_let_nothing_move() {
    for limits in [
        Limits {
            jerk_max: 0.0,
            ..JOINT
        },
        Limits {
            jerk_max: f64::NAN,
            ..JOINT
        },
        Limits {
            jerk_max: f64::INFINITY,
            ..JOINT
        },
        Limits {
            acceleration_max: -1.0,
            ..JOINT
        },
        Limits {
            speed_max: f64::NAN,
            ..JOINT
        },
        Limits {
            min: 1.0,
            max: -1.0,
            ..JOINT
        },
    ] {
        let shape = Shape {
            limits: vec![limits],
            ..joints(1, open())
        };
        let mut envelope = Envelope::new(shape, &[0.0]);
        for jerk in [-150.0, 150.0] {
            assert_ne!(drive(&mut envelope, jerk, 1), 0, "{limits:?}");
            assert_eq!(envelope.motion(), [Motion::at_rest(0.0)]);
        }
    }
}
