use proptest::prelude::*;

use super::*;
use crate::kinematics::Joint;

fn at(x: f64, y: f64, z: f64) -> Pose {
    Pose::from_xyz_rpy([x, y, z], [0.0; 3])
}

/// Three joints about z, links of 0.5, 0.5 and 0.25 m along x, a capsule of 0.0625 m around each.
fn arm(first_dof: usize, base: Pose) -> Arm {
    let joint = |x| Joint {
        parent_from_joint: at(x, 0.0, 0.0),
        axis: [0.0, 0.0, 1.0],
    };
    let capsule = |joint_idx, length_m| Capsule {
        joint_idx,
        from_m: [0.0; 3],
        to_m: [length_m, 0.0, 0.0],
        radius_m: 0.0625,
    };
    Arm {
        chain: Chain {
            world_from_base: base,
            joints: vec![joint(0.0), joint(0.5), joint(0.5)],
            flange_from_tool: at(0.25, 0.0, 0.0),
        },
        first_dof,
        capsules: vec![capsule(0, 0.5), capsule(1, 0.5), capsule(2, 0.25)],
    }
}

/// One arm along x at y = 0, one at y = 1.
fn two_arms() -> Workspace {
    Workspace {
        arms: vec![arm(0, Pose::IDENTITY), arm(3, at(0.0, 1.0, 0.0))],
        inside: None,
        keep_out: vec![],
        clearance_m: 0.25,
        tool_speed_max_m_s: 1.0,
    }
}

fn cube(min: f64, max: f64) -> Box3 {
    Box3 {
        min_m: [min; 3],
        max_m: [max; 3],
    }
}

const STRETCHED: [f64; 6] = [0.0; 6];

#[test]
fn arms_are_as_far_apart_as_their_capsules() {
    let workspace = two_arms();
    let distance_m = workspace.arm_distance(&STRETCHED).unwrap();
    assert!((distance_m - 0.875).abs() < 1e-12);
    assert_eq!(workspace.check(&STRETCHED), Ok(()));
    // The exact clearance passes; a picometre more does not.
    let clear = |clearance_m| {
        Workspace {
            clearance_m,
            ..two_arms()
        }
        .check(&STRETCHED)
    };
    assert_eq!(clear(0.875), Ok(()));
    let breach = clear(0.875 + 1e-12);
    assert!(
        matches!(breach, Err(Breach::TooNear { arm: 1, by_m }) if (by_m - 1e-12).abs() < 1e-15)
    );
    // The first arm turns its outer links towards the other one: its tip is at y = 0.75.
    let half_turn = std::f64::consts::FRAC_PI_2;
    let near = [0.0, half_turn, 0.0, 0.0, 0.0, 0.0];
    let distance_m = workspace.arm_distance(&near).unwrap();
    assert!((distance_m - 0.125).abs() < 1e-12);
    assert!(
        matches!(workspace.check(&near), Err(Breach::TooNear { arm: 1, by_m }) if (by_m - 0.125).abs() < 1e-12)
    );
}

#[test]
fn one_arm_or_none_has_no_distance_and_no_capsule_no_volume() {
    let mut workspace = two_arms();
    workspace.arms[0].capsules.clear();
    assert_eq!(workspace.arm_distance(&STRETCHED), None);
    workspace.arms.truncate(1);
    assert_eq!(workspace.arm_distance(&STRETCHED), None);
    workspace.arms.clear();
    assert_eq!(workspace.arm_distance(&STRETCHED), None);
    assert_eq!(workspace.check(&STRETCHED), Ok(()));
}

#[test]
fn the_last_of_sixteen_capsules_counts() {
    let mut workspace = two_arms();
    let thin = workspace.arms[0].capsules[0];
    let mut capsules = vec![thin; CAPSULES_MAX - 1];
    capsules.push(Capsule {
        radius_m: 0.5,
        ..thin
    });
    workspace.arms[0].capsules = capsules;
    assert_eq!(workspace.fits(6), Ok(()));
    let distance_m = workspace.arm_distance(&STRETCHED).unwrap();
    assert!((distance_m - 0.4375).abs() < 1e-12);
}

#[test]
fn four_arms_are_checked_with_each_other() {
    let mut workspace = two_arms();
    workspace.arms = [0.0, 2.0, 4.0, 4.5]
        .into_iter()
        .map(|y| arm(0, at(0.0, y, 0.0)))
        .collect();
    let distance_m = workspace.arm_distance(&STRETCHED).unwrap();
    assert!((distance_m - 0.375).abs() < 1e-12);
    workspace.clearance_m = 0.5;
    assert!(matches!(
        workspace.check(&STRETCHED),
        Err(Breach::TooNear { arm: 3, .. })
    ));
}

/// The tool of the first arm is at x = 1.25, its elbow at x = 1.
#[test]
fn tools_and_elbows_stay_in_the_box() {
    let workspace = |max_x: f64| Workspace {
        inside: Some(Box3 {
            min_m: [-2.0; 3],
            max_m: [max_x, 2.0, 2.0],
        }),
        ..two_arms()
    };
    assert_eq!(workspace(1.25).check(&STRETCHED), Ok(()));
    let breach = workspace(1.25 - 0.125).check(&STRETCHED);
    assert_eq!(
        breach,
        Err(Breach::OutsideBox {
            arm: 0,
            by_m: 0.125
        })
    );
    // Folded back, the tool is at 0.75 and the elbow alone is outside.
    let folded = [
        0.0,
        0.0,
        std::f64::consts::PI,
        0.0,
        0.0,
        std::f64::consts::PI,
    ];
    assert_eq!(workspace(1.0).check(&folded), Ok(()));
    assert!(
        matches!(workspace(0.875).check(&folded), Err(Breach::OutsideBox { arm: 0, by_m }) if (by_m - 0.125).abs() < 1e-12)
    );
    // The second joint, at 0.5, is no elbow.
    let low = Workspace {
        inside: Some(Box3 {
            min_m: [0.75, -2.0, -2.0],
            max_m: [2.0; 3],
        }),
        ..two_arms()
    };
    assert_eq!(low.check(&STRETCHED), Ok(()));
    // The second arm, at y = 1, is named too.
    let narrow = Workspace {
        inside: Some(Box3 {
            min_m: [-2.0; 3],
            max_m: [2.0, 0.5, 2.0],
        }),
        ..two_arms()
    };
    assert_eq!(
        narrow.check(&STRETCHED),
        Err(Breach::OutsideBox { arm: 1, by_m: 0.5 })
    );
}

#[test]
fn tools_and_elbows_stay_out_of_keep_out_boxes() {
    let workspace = |x: f64| Workspace {
        keep_out: vec![
            cube(5.0, 6.0),
            Box3 {
                min_m: [x, -0.5, -0.5],
                max_m: [x + 1.0, 0.5, 0.5],
            },
        ],
        ..two_arms()
    };
    assert_eq!(workspace(1.25).check(&STRETCHED), Ok(()));
    assert_eq!(
        workspace(1.125).check(&STRETCHED),
        Err(Breach::KeepOut {
            arm: 0,
            by_m: 0.125
        })
    );
    // A box around the second joint, which is no elbow, and one around the elbow.
    assert_eq!(workspace(-0.25).check(&STRETCHED), Ok(()));
    assert_eq!(
        workspace(0.125).check(&STRETCHED),
        Err(Breach::KeepOut {
            arm: 0,
            by_m: 0.125
        })
    );
}

#[test]
fn what_is_no_number_is_refused_by_name() {
    let mut pose = STRETCHED;
    for number in [f64::NAN, f64::INFINITY] {
        pose[4] = number;
        assert_eq!(two_arms().check(&pose), Err(Breach::NotFinite { dof: 4 }));
    }
}

#[test]
fn tool_speed_is_the_fastest_arms() {
    let workspace = two_arms();
    let to = [0.0, 0.0, 0.0, 0.0, 0.0, std::f64::consts::PI];
    // The second tool goes 0.5 m, the first stays.
    assert!((workspace.tool_speed(&STRETCHED, &to, 0.25) - 2.0).abs() < 1e-12);
    assert!(workspace.tool_speed(&STRETCHED, &STRETCHED, 0.25).abs() < 1e-12);
    let none = Workspace {
        arms: vec![],
        ..two_arms()
    };
    assert!(none.tool_speed(&STRETCHED, &to, 0.25).abs() < 1e-12);
    assert_eq!(workspace.judge(&STRETCHED, &to, 0.5), Ok(()));
    let fast = workspace.judge(&STRETCHED, &to, 0.4999);
    assert!(
        matches!(fast, Err(Breach::ToolSpeed { arm: 1, ratio }) if (ratio - 0.5 / 0.4999).abs() < 1e-9)
    );
    let quick = Workspace {
        tool_speed_max_m_s: 2.0,
        ..two_arms()
    };
    let fast = quick.judge(&STRETCHED, &to, 0.125);
    assert!(matches!(fast, Err(Breach::ToolSpeed { arm: 1, ratio }) if (ratio - 2.0).abs() < 1e-9));
}

#[test]
fn a_tool_speed_that_is_no_number_allows_none() {
    let with = |tool_speed_max_m_s| Workspace {
        tool_speed_max_m_s,
        ..two_arms()
    };
    let moved = [0.0, 0.0, 0.1, 0.0, 0.0, 0.0];
    assert_eq!(with(0.0).judge(&STRETCHED, &STRETCHED, 1.0), Ok(()));
    for maximum in [0.0, f64::NAN] {
        let verdict = with(maximum).judge(&STRETCHED, &moved, 1.0);
        assert!(matches!(verdict, Err(Breach::ToolSpeed { arm: 0, .. })));
    }
    let verdict = two_arms().judge(&STRETCHED, &STRETCHED, 0.0);
    assert!(matches!(verdict, Err(Breach::ToolSpeed { arm: 0, .. })));
}

/// Arms that are found too near may go apart, or stay, and not come nearer.
#[test]
fn a_breach_may_not_become_worse() {
    let workspace = Workspace {
        clearance_m: 0.9,
        ..two_arms()
    };
    assert!(workspace.check(&STRETCHED).is_err());
    assert_eq!(workspace.judge(&STRETCHED, &STRETCHED, 1.0), Ok(()));
    let apart = [-0.1, 0.0, 0.0, 0.0, 0.0, 0.0];
    let nearer = [0.1, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert!(matches!(
        workspace.judge(&STRETCHED, &nearer, 1.0),
        Err(Breach::TooNear { arm: 1, .. })
    ));
    assert_eq!(workspace.judge(&nearer, &STRETCHED, 1.0), Ok(()));
    assert_eq!(workspace.judge(&nearer, &apart, 1.0), Ok(()));
    // Outside of the box and in a keep-out box alike.
    let boxed = Workspace {
        inside: Some(cube(-1.0, 1.0)),
        keep_out: vec![cube(0.9, 1.5)],
        ..two_arms()
    };
    assert_eq!(boxed.judge(&STRETCHED, &STRETCHED, 1.0), Ok(()));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_clear_there() {
    let mut crowd = two_arms();
    crowd.arms = vec![arm(0, Pose::IDENTITY); ARMS_MAX + 1];
    let mut bristly = two_arms();
    bristly.arms[1].capsules = vec![bristly.arms[1].capsules[0]; CAPSULES_MAX + 1];
    let mut loose = two_arms();
    loose.arms[1].capsules[0].joint_idx = 3;
    let mut late = two_arms();
    late.arms[1].first_dof = 4;
    let mut far_late = two_arms();
    far_late.arms[0].first_dof = usize::MAX;
    for (workspace, unfit, words) in [
        (crowd, Unfit::Arms, "it has more than 4 arms"),
        (
            bristly,
            Unfit::Capsules { arm: 1 },
            "arm 1 has more than 16 capsules",
        ),
        (
            loose,
            Unfit::Joint { arm: 1 },
            "a capsule of arm 1 names a joint that it does not have",
        ),
        (
            late,
            Unfit::Dofs { arm: 1 },
            "arm 1 has joints beyond the degrees of freedom",
        ),
        (
            far_late,
            Unfit::Dofs { arm: 0 },
            "arm 0 has joints beyond the degrees of freedom",
        ),
    ] {
        assert_eq!(workspace.fits(6), Err(unfit));
        assert_eq!(unfit.to_string(), words);
        assert_eq!(workspace.check(&STRETCHED), Err(Breach::Unchecked(unfit)));
    }
    assert_eq!(two_arms().fits(6), Ok(()));
    assert_eq!(two_arms().fits(5), Err(Unfit::Dofs { arm: 1 }));
}

#[test]
fn every_number_of_a_workspace_is_looked_at() {
    let changes: [fn(&mut Workspace, f64); 10] = [
        |w, x| w.clearance_m = x,
        |w, x| w.inside = Some(cube(x, 1.0)),
        |w, x| w.keep_out = vec![cube(-1.0, x)],
        |w, x| w.arms[0].chain.world_from_base.position_m[1] = x,
        |w, x| w.arms[1].chain.flange_from_tool.rotation[2][1] = x,
        |w, x| w.arms[1].chain.joints[2].parent_from_joint.position_m[0] = x,
        |w, x| w.arms[0].chain.joints[1].axis[2] = x,
        |w, x| w.arms[0].capsules[2].from_m[0] = x,
        |w, x| w.arms[0].capsules[2].to_m[1] = x,
        |w, x| w.arms[1].capsules[1].radius_m = x,
    ];
    for change in changes {
        for (number, fits) in [
            (f64::NAN, Err(Unfit::Numbers)),
            (f64::NEG_INFINITY, Err(Unfit::Numbers)),
            (1e3_f64.next_up(), Err(Unfit::Numbers)),
            (1e3, Ok(())),
        ] {
            let mut workspace = two_arms();
            change(&mut workspace, number);
            assert_eq!(workspace.fits(6), fits);
        }
    }
    assert!(Unfit::Numbers.to_string().contains("kilometre"));
}

#[test]
fn reach_is_the_stretched_arm_beyond_the_joint() {
    let mut workspace = two_arms();
    assert_eq!(
        workspace.reaches_m(8),
        [1.25, 0.75, 0.25, 1.25, 0.75, 0.25, 0.0, 0.0]
    );
    // A capsule longer than the tool counts, by either end.
    workspace.arms[0].capsules[2].to_m = [1.0, 0.0, 0.0];
    workspace.arms[1].capsules[1].from_m = [0.0, 2.0, 0.0];
    assert_eq!(workspace.reaches_m(6), [2.0, 1.5, 1.0, 2.5, 2.0, 0.25]);
}

proptest! {
    /// No checked distance changes by more than the reaches say.
    #[test]
    fn room_shrinks_by_at_most_the_travel(
        from in prop::array::uniform6(-3.0..3.0_f64),
        change in prop::array::uniform6(-0.5..0.5_f64),
    ) {
        let workspace = Workspace {
            inside: Some(cube(-1.0, 1.5)),
            keep_out: vec![cube(0.2, 0.6)],
            ..two_arms()
        };
        let mut to = from;
        let mut travel_m = 0.0;
        for ((to, change), reach_m) in to.iter_mut().zip(change).zip(workspace.reaches_m(6)) {
            *to += change;
            travel_m += change.abs() * reach_m;
        }
        let (before, after) = (workspace.clearance(&from), workspace.clearance(&to));
        prop_assert!(before.room_m() - travel_m <= after.room_m() + 1e-12);
        prop_assert_eq!(workspace.check(&to).is_ok(), -ROUNDING_M <= after.room_m());
    }
}

/// A breach begins one rounding below zero, or below what the pose before had already.
#[test]
fn slack_is_in_breach_from_beyond_its_rounding_on() {
    let slack = |metres| Slack { metres, arm: 1 };
    let edge = -ROUNDING_M;
    assert_eq!(slack(edge).breach(&Slack::UNBOUNDED), None);
    let beyond = edge.next_down();
    assert_eq!(slack(beyond).breach(&Slack::UNBOUNDED), Some((1, -beyond)));
    let floor = slack(-0.25);
    assert_eq!(slack(-0.25 - ROUNDING_M).breach(&floor), None);
    let beyond = (-0.25 - ROUNDING_M).next_down();
    assert_eq!(slack(beyond).breach(&floor), Some((1, -beyond)));
}
