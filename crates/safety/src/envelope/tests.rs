use proptest::prelude::*;

use super::*;
use crate::capsule::Capsule;
use crate::kinematics::{Chain, Joint, Pose};
use crate::workspace::{Arm, Box3};

mod found;
mod rows;
mod walks;

const DT_S: f64 = 1.0 / 240.0;
const JOINT: Limits = Limits {
    min: -2.0,
    max: 1.5,
    speed_max: 2.5,
    acceleration_max: 15.0,
    jerk_max: 150.0,
};

fn open() -> Workspace {
    Workspace {
        arms: vec![],
        inside: None,
        keep_out: vec![],
        clearance_m: 0.04,
        tool_speed_max_m_s: 1.0,
    }
}

fn joints(count: usize, workspace: Workspace) -> Shape {
    Shape {
        limits: vec![JOINT; count],
        workspace,
        dt_s: DT_S,
    }
}

fn envelope(found: &[f64]) -> Envelope {
    Envelope::new(joints(found.len(), open()), found)
}

/// What constant jerk makes of a motion in one servo period.
fn driven(from: &Motion, jerk: f64) -> Motion {
    Motion {
        position: from.position
            + DT_S * (from.velocity + DT_S * (from.acceleration / 2.0 + DT_S * jerk / 6.0)),
        velocity: from.velocity + DT_S * (from.acceleration + DT_S * jerk / 2.0),
        acceleration: from.acceleration + DT_S * jerk,
    }
}

/// Drives the only degree of freedom with constant jerk; gives the flags of the last step.
fn drive(envelope: &mut Envelope, jerk: f64, ticks: u32) -> u32 {
    (0..ticks).fold(0, |_, _| {
        let wanted: Vec<_> = envelope.motion().iter().map(|m| driven(m, jerk)).collect();
        envelope.step(&wanted)
    })
}

/// The fastest change to a speed: the stop, seen by somebody who moves with it.
fn towards(now: &Motion, speed: f64) -> Motion {
    let seen = Motion {
        velocity: now.velocity - speed,
        ..*now
    };
    let next = Stop::new(&JOINT, &seen).at(DT_S);
    Motion {
        position: next.position + speed * DT_S,
        velocity: next.velocity + speed,
        ..next
    }
}

/// Goes at these speeds until something is refused; gives the flags.
fn cruise(envelope: &mut Envelope, speeds: &[f64]) -> u32 {
    loop {
        let motion = envelope.motion().iter().zip(speeds);
        let wanted: Vec<_> = motion.map(|(now, speed)| towards(now, *speed)).collect();
        let flags = envelope.step(&wanted);
        if flags != 0 {
            return flags;
        }
    }
}

/// An arm of one link of 1 m that turns about z, with a capsule of 5 cm along it.
fn turnstile(first_dof: usize, x: f64) -> Arm {
    let at = |x: f64| Pose::from_xyz_rpy([x, 0.0, 0.0], [0.0; 3]);
    Arm {
        chain: Chain {
            world_from_base: at(x),
            joints: vec![Joint {
                parent_from_joint: at(0.0),
                axis: [0.0, 0.0, 1.0],
            }],
            flange_from_tool: at(1.0),
        },
        first_dof,
        capsules: vec![Capsule {
            joint_idx: 0,
            from_m: [0.0; 3],
            to_m: [1.0, 0.0, 0.0],
            radius_m: 0.05,
        }],
    }
}

/// A wall at y = 0.5: a turnstile at x = 0 reaches it at 30°.
fn walled() -> Workspace {
    Workspace {
        arms: vec![turnstile(0, 0.0)],
        inside: Some(Box3 {
            min_m: [-2.0, -2.0, -2.0],
            max_m: [2.0, 0.5, 2.0],
        }),
        ..open()
    }
}

#[test]
fn a_new_envelope_rests_where_the_robot_is() {
    let mut envelope = envelope(&[0.25, -1.0]);
    assert_eq!(
        envelope.motion(),
        [Motion::at_rest(0.25), Motion::at_rest(-1.0)]
    );
    assert_eq!(envelope.limits(), [JOINT; 2]);
    assert!(envelope.still());
    assert_eq!(envelope.stop_time_s().to_bits(), 0.0_f64.to_bits());
    for _ in 0..10 {
        assert_eq!(envelope.brake(), flag::STOP);
    }
    assert_eq!(
        envelope.motion(),
        [Motion::at_rest(0.25), Motion::at_rest(-1.0)]
    );
    assert_eq!(envelope.stop_end(1).to_bits(), (-1.0_f64).to_bits());
    assert!(envelope.stop_end(2).is_nan());
}

#[test]
fn a_wanted_motion_inside_the_limits_is_taken_as_it_is() {
    let mut envelope = envelope(&[0.0, 0.5]);
    let wanted = [driven(&Motion::at_rest(0.0), 150.0), Motion::at_rest(0.5)];
    assert_eq!(envelope.step(&wanted), 0);
    assert_eq!(envelope.motion(), wanted);
    assert!(!envelope.still());
    let stop = Stop::new(&JOINT, &wanted[0]);
    assert_eq!(envelope.stop_end(0).to_bits(), stop.end().to_bits());
    assert_eq!(
        envelope.stop_time_s().to_bits(),
        stop.duration_s().to_bits()
    );
}

#[test]
fn one_refused_degree_of_freedom_stops_all() {
    let moving = |bad: Motion| {
        let mut envelope = envelope(&[0.0, 0.5]);
        drive(&mut envelope, 100.0, 10);
        let before = envelope.motion().to_vec();
        let wanted = [driven(&before[0], 0.0), bad];
        let flags = envelope.step(&wanted);
        for (motion, before) in envelope.motion().iter().zip(&before) {
            assert_eq!(*motion, Stop::new(&JOINT, before).at(DT_S));
        }
        flags
    };
    let nan = Motion::at_rest(f64::NAN);
    assert_eq!(moving(nan), flag::STOP | flag::NOT_FINITE);
    let infinite = Motion {
        velocity: f64::INFINITY,
        ..Motion::at_rest(0.5)
    };
    assert_eq!(moving(infinite), flag::STOP | flag::NOT_FINITE);
    let unbounded = Motion {
        acceleration: f64::NAN,
        ..Motion::at_rest(0.5)
    };
    assert_eq!(moving(unbounded), flag::STOP | flag::NOT_FINITE);
    assert_eq!(moving(Motion::at_rest(0.5)), flag::STOP | flag::OUTSIDE);
    let mut envelope = envelope(&[0.0, 0.5]);
    assert_eq!(
        envelope.step(&[Motion::at_rest(0.0)]),
        flag::STOP | flag::OUTSIDE
    );
    assert_eq!(
        envelope.step(&[Motion::at_rest(0.0); 3]),
        flag::STOP | flag::OUTSIDE
    );
}

#[test]
fn the_stop_goes_by_time_and_ends_at_rest() {
    let mut envelope = envelope(&[0.0]);
    assert_eq!(drive(&mut envelope, 150.0, 24), 0);
    let stop = Stop::new(&JOINT, &envelope.motion()[0]);
    let mut ticks = 0_u32;
    while !envelope.still() {
        assert_eq!(envelope.brake(), flag::STOP);
        ticks += 1;
        assert_eq!(envelope.motion()[0], stop.at(f64::from(ticks) * DT_S));
        let left_s = (stop.duration_s() - f64::from(ticks) * DT_S).max(0.0);
        assert!((envelope.stop_time_s() - left_s).abs() < 1e-12);
    }
    assert!((stop.duration_s() / DT_S - f64::from(ticks)).abs() <= 1.0);
    assert_eq!(envelope.motion()[0], Motion::at_rest(stop.end()));
    envelope.brake();
    assert_eq!(envelope.motion()[0], Motion::at_rest(stop.end()));
    // From there it may move again, and the stop begins anew.
    assert_eq!(drive(&mut envelope, 150.0, 1), 0);
    let begun = Stop::new(&JOINT, &envelope.motion()[0]);
    envelope.brake();
    assert_eq!(envelope.motion()[0], begun.at(DT_S));
}

#[test]
fn a_stop_may_be_left_on_the_way() {
    let mut envelope = envelope(&[0.0]);
    drive(&mut envelope, 150.0, 24);
    for _ in 0..5 {
        envelope.brake();
    }
    assert!(!envelope.still());
    assert_eq!(drive(&mut envelope, 100.0, 3), 0);
}

/// Towards a limit the last step that is taken is the last whose stop ends inside.
#[test]
fn the_stop_ends_inside_the_position_limits_and_close_to_them() {
    for sign in [-1.0, 1.0] {
        let limit = if sign < 0.0 { JOINT.min } else { JOINT.max };
        let mut envelope = envelope(&[limit - sign * 0.2]);
        let flags = cruise(&mut envelope, &[sign * 0.5]);
        assert_eq!(flags, flag::STOP | flag::OUTSIDE);
        assert!(0.0 <= sign * (limit - envelope.stop_end(0)));
        assert!(sign * (limit - envelope.stop_end(0)) < 0.5 * DT_S * 1.1);
        while !envelope.still() {
            envelope.brake();
            assert!(JOINT.min <= envelope.motion()[0].position);
            assert!(envelope.motion()[0].position <= JOINT.max);
        }
    }
}

#[test]
fn a_stop_that_ends_on_the_limit_passes_and_one_ulp_more_does_not() {
    for sign in [-1.0, 1.0] {
        let first = driven(&Motion::at_rest(0.0), sign * 150.0);
        let end = Stop::new(&JOINT, &first).end();
        for (limit, flags) in [
            (end, 0),
            (
                if sign < 0.0 {
                    end.next_up()
                } else {
                    end.next_down()
                },
                flag::STOP | flag::OUTSIDE,
            ),
        ] {
            let limits = if sign < 0.0 {
                Limits {
                    min: limit,
                    ..JOINT
                }
            } else {
                Limits {
                    max: limit,
                    ..JOINT
                }
            };
            let shape = Shape {
                limits: vec![limits],
                ..joints(1, open())
            };
            assert_eq!(Envelope::new(shape, &[0.0]).step(&[first]), flags);
        }
    }
}

#[test]
fn the_arm_stops_before_the_wall() {
    let mut envelope = Envelope::new(joints(1, walled()), &[0.0]);
    let flags = cruise(&mut envelope, &[0.8]);
    assert_eq!(flags, flag::STOP | flag::WORKSPACE);
    while !envelope.still() {
        assert_eq!(envelope.brake(), flag::STOP);
    }
    let angle = envelope.motion()[0].position;
    let wall = 30.0_f64.to_radians();
    assert!(wall - 0.05 < angle && angle < wall, "{angle}");
    assert_eq!(envelope.shape.workspace.check(&[angle]), Ok(()));
}

/// Two turnstiles turn towards each other: neither alone is in a forbidden place.
#[test]
fn arms_stop_before_they_come_too_near() {
    let workspace = Workspace {
        arms: vec![turnstile(0, 0.0), turnstile(1, 1.1)],
        clearance_m: 0.1,
        ..open()
    };
    let mut envelope = Envelope::new(joints(2, workspace), &[1.4, 1.4]);
    let flags = cruise(&mut envelope, &[-0.5, 0.0]);
    assert_eq!(flags, flag::STOP | flag::WORKSPACE);
    while !envelope.still() {
        envelope.brake();
    }
    let pose = [0, 1].map(|dof| envelope.motion()[dof].position);
    let distance_m = envelope.shape.workspace.arm_distance(&pose).unwrap();
    assert!((0.1..0.15).contains(&distance_m), "{distance_m}");
}

/// At 2.4 rad/s across a keep-out box narrower than a stop, the end is clear and the way is not.
#[test]
fn poses_on_the_way_are_looked_at() {
    let narrow = Box3 {
        min_m: [0.9, 0.05, -0.1],
        max_m: [1.1, 0.10, 0.1],
    };
    let workspace = Workspace {
        arms: vec![turnstile(0, 0.0)],
        keep_out: vec![narrow],
        ..open()
    };
    let mut envelope = Envelope::new(joints(1, workspace), &[-1.0]);
    let flags = cruise(&mut envelope, &[2.4]);
    assert_eq!(flags, flag::STOP | flag::WORKSPACE);
    while !envelope.still() {
        envelope.brake();
        let pose = [envelope.motion()[0].position];
        assert_eq!(envelope.shape.workspace.check(&pose), Ok(()), "{pose:?}");
    }
    assert!(-0.2 < envelope.motion()[0].position);
}

/// A stop at 2.4 rad/s, begun at angle 0.
fn stop_from_zero() -> (Motion, Vec<f64>) {
    let start = Motion {
        velocity: 2.4,
        ..Motion::at_rest(0.0)
    };
    let stop = Stop::new(&JOINT, &start);
    let part_s = stop.duration_s() / f64::from(POSES);
    let poses = (0..=POSES).map(|part| stop.at(f64::from(part) * part_s).position);
    (start, poses.collect())
}

/// A rod of 1 cm that is in mid-motion from an angle on, with an obstacle of 4 mm before its tip at
/// another angle: what a step of no jerk gives.
fn rod_before_obstacle(start: Motion, angle: f64) -> u32 {
    let mut arm = turnstile(0, 0.0);
    arm.capsules[0].radius_m = 0.01;
    let (x, y) = (angle.cos(), angle.sin());
    let workspace = Workspace {
        arms: vec![arm],
        keep_out: vec![Box3 {
            min_m: [x - 0.002, y - 0.002, -0.1],
            max_m: [x + 0.002, y + 0.002, 0.1],
        }],
        tool_speed_max_m_s: 9.0,
        ..open()
    };
    let mut envelope = Envelope::new(joints(1, workspace), &[start.position]);
    envelope.motion[0] = start;
    drive(&mut envelope, 0.0, 1)
}

/// The way between two poses is longer than the obstacle is thick: only the pose itself meets it.
/// Wherever the angles' zero lies: before, between and at the poses.
#[test]
fn every_pose_of_a_stop_is_looked_at() {
    let (start, poses) = stop_from_zero();
    // The step before the stop is a part of the first way.
    let step = start.velocity * DT_S;
    for nth in 1..poses.len() - 2 {
        for zero in [
            0.0,
            f64::midpoint(poses[nth], poses[nth - 1]) + step,
            poses[nth] + step,
        ] {
            let from = Motion {
                position: -zero,
                ..start
            };
            let hit = rod_before_obstacle(from, poses[nth] + step - zero);
            assert_eq!(hit, flag::STOP | flag::WORKSPACE, "pose {nth}, zero {zero}");
            let behind = poses.last().unwrap() + step + 0.1 - zero;
            assert_eq!(rod_before_obstacle(from, behind), 0);
        }
    }
}

#[test]
fn a_workspace_that_cannot_be_checked_lets_nothing_move() {
    let mut workspace = walled();
    workspace.arms[0].capsules[0].joint_idx = 1;
    let mut envelope = Envelope::new(joints(1, workspace), &[0.0]);
    let wanted = [Motion::at_rest(0.0)];
    assert_eq!(envelope.step(&wanted), flag::STOP | flag::WORKSPACE);
}

/// The log keeps them: a bit never changes its meaning.
#[test]
fn flags_are_the_bits_of_the_log() {
    let flags = [
        flag::POSITION_CLAMPED,
        flag::SPEED_CLAMPED,
        flag::NOT_FINITE,
        flag::STOP,
        flag::LATE,
        flag::OUTSIDE,
        flag::WORKSPACE,
    ];
    assert_eq!(flags, [1, 2, 4, 8, 16, 32, 64]);
}
