//! The shipped robot is taken; each way to get it wrong is refused with its field's path.

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    robot: RobotToml,
}

const SHIPPED: &str = include_str!("../../../../config/robots/demo-dual-arm.toml");

fn shipped() -> RobotToml {
    toml::from_str::<File>(SHIPPED).unwrap().robot
}

/// A wrong value, and the path that the refusal must name.
type Row = (&'static str, fn(&mut RobotToml));

fn joint(robot: &mut RobotToml) -> &mut JointToml {
    &mut robot.arms[1].joints[2]
}

fn workspace(robot: &mut RobotToml) -> &mut WorkspaceToml {
    robot.workspace.as_mut().unwrap()
}

fn gripper(robot: &mut RobotToml) -> &mut GripperToml {
    &mut robot.arms[0].gripper
}

fn capsule(robot: &mut RobotToml) -> &mut CapsuleToml {
    &mut robot.arms[0].capsules[3]
}

fn camera(robot: &mut RobotToml) -> &mut CameraToml {
    &mut robot.cameras[1]
}

const WRONG: [Row; 64] = [
    ("servo_hz", |r| r.servo_hz = 49.0),
    ("servo_hz", |r| r.servo_hz = 2001.0),
    ("servo_hz", |r| r.servo_hz = f64::NAN),
    ("policy_hz", |r| r.policy_hz = 0.0),
    ("policy_hz", |r| r.policy_hz = 7.0),
    ("policy_hz", |r| r.policy_hz = 480.0),
    ("robot_type.horizon", |r| r.robot_type.horizon = 0),
    ("robot_type.horizon", |r| r.robot_type.horizon = 257),
    ("robot_type.width", |r| r.robot_type.width = 0),
    ("robot_type.width", |r| r.robot_type.width = 65),
    ("arms", |r| r.arms.clear()),
    ("arms", |r| r.arms.push(r.arms[0].clone())),
    ("arms", |r| r.robot_type.width = 26),
    ("arms", |r| r.arms[1].joints[0].slot = 7),
    ("arms", |r| r.arms[1].gripper.slot = 6),
    ("arms.left", |r| r.arms[1].name = r.arms[0].name.clone()),
    ("arms.left.joints", |r| r.arms[0].joints.clear()),
    ("arms.left.joints", |r| {
        let one = r.arms[0].joints[0].clone();
        r.arms[0].joints.extend((20..24).map(|slot| JointToml {
            slot,
            ..one.clone()
        }));
    }),
    ("arms.left.base.xyz_m", |r| r.arms[0].base.xyz_m[2] = 10.1),
    ("arms.left.base.rpy_deg", |r| {
        r.arms[0].base.rpy_deg[0] = f64::INFINITY;
    }),
    ("arms.right.tool.xyz_m", |r| {
        r.arms[1].tool.xyz_m[0] = f64::NAN;
    }),
    ("arms.right.tool.rpy_deg", |r| {
        r.arms[1].tool.rpy_deg[1] = -361.0;
    }),
    ("arms.right.joints.joint_3.range_deg", |r| {
        joint(r).range_deg = [90.0, -80.0];
    }),
    ("arms.right.joints.joint_3.range_deg", |r| {
        joint(r).range_deg = [18.2, 18.2];
    }),
    ("arms.right.joints.joint_3.range_deg", |r| {
        joint(r).range_deg = [-361.0, 90.0];
    }),
    ("arms.right.joints.joint_3.range_deg", |r| {
        joint(r).range_deg[0] = f64::NAN;
    }),
    ("arms.right.joints.joint_3.speed_max_deg_s", |r| {
        joint(r).speed_max_deg_s = 0.0;
    }),
    ("arms.right.joints.joint_3.speed_max_deg_s", |r| {
        joint(r).speed_max_deg_s = 721.0;
    }),
    ("arms.right.joints.joint_3.speed_max_deg_s", |r| {
        joint(r).speed_max_deg_s = f64::NAN;
    }),
    ("arms.right.joints.joint_3.acceleration_max_deg_s2", |r| {
        joint(r).acceleration_max_deg_s2 = -1.0;
    }),
    ("arms.right.joints.joint_3.acceleration_max_deg_s2", |r| {
        joint(r).acceleration_max_deg_s2 = 1e6;
    }),
    ("arms.right.joints.joint_3.jerk_max_deg_s3", |r| {
        joint(r).jerk_max_deg_s3 = 1.0;
    }),
    ("arms.right.joints.joint_3.jerk_max_deg_s3", |r| {
        joint(r).jerk_max_deg_s3 = 1e9;
    }),
    ("workspace.inside", |r| {
        workspace(r).inside.min_m[2] = 9.0;
    }),
    ("workspace.keep_out", |r| {
        let inside = workspace(r).inside;
        workspace(r).keep_out = vec![inside; 17];
    }),
    ("workspace.clearance_m", |r| {
        workspace(r).clearance_m = -0.1;
    }),
    ("workspace.tool_speed_max_m_s", |r| {
        workspace(r).tool_speed_max_m_s = 0.0;
    }),
    ("workspace", |r| {
        r.workspace = None;
    }),
    ("arms.right.joints.joint_3.home_deg", |r| {
        joint(r).home_deg = 90.1;
    }),
    ("arms.right.joints.joint_3.home_deg", |r| {
        joint(r).home_deg = f64::NAN;
    }),
    ("arms.right.joints.joint_3.axis", |r| {
        joint(r).axis = [0.0; 3];
    }),
    ("arms.right.joints.joint_3.axis", |r| {
        joint(r).axis = [f64::NAN, 0.0, 1.0];
    }),
    ("arms.right.joints.joint_3.origin.xyz_m", |r| {
        joint(r).origin.xyz_m[1] = -11.0;
    }),
    ("arms.left.gripper.range_m", |r| {
        gripper(r).range_m = [-0.01, 0.08];
    }),
    ("arms.left.gripper.range_m", |r| {
        gripper(r).range_m = [0.08, 0.08];
    }),
    ("arms.left.gripper.range_m", |r| {
        gripper(r).range_m = [0.0, 85.0];
    }),
    ("arms.left.gripper.speed_max_m_s", |r| {
        gripper(r).speed_max_m_s = 0.0;
    }),
    ("arms.left.gripper.acceleration_max_m_s2", |r| {
        gripper(r).acceleration_max_m_s2 = f64::NAN;
    }),
    ("arms.left.gripper.jerk_max_m_s3", |r| {
        gripper(r).jerk_max_m_s3 = f64::NAN;
    }),
    ("arms.left.gripper.squeeze_max_m", |r| {
        gripper(r).squeeze_max_m = 0.0;
    }),
    ("arms.left.gripper.force_max_n", |r| {
        gripper(r).force_max_n = 501.0;
    }),
    ("arms.left.gripper.home_m", |r| gripper(r).home_m = 0.09),
    ("arms.left.capsules[3].joint", |r| {
        capsule(r).joint = Name::new("elbow").unwrap();
    }),
    ("arms.left.capsules[3].radius_m", |r| {
        capsule(r).radius_m = 0.0;
    }),
    ("arms.left.capsules[3]", |r| {
        capsule(r).to_m[0] = f64::NEG_INFINITY;
    }),
    ("cameras", |r| r.cameras.clear()),
    ("cameras", |r| r.cameras = vec![r.cameras[0].clone(); 9]),
    ("cameras.ego.view", |r| {
        camera(r).view = Name::new("ego").unwrap();
    }),
    ("cameras.left_wrist.width", |r| camera(r).width = 15),
    ("cameras.left_wrist.width", |r| camera(r).height = 1081),
    ("cameras.left_wrist.rate_hz", |r| camera(r).rate_hz = 0.5),
    ("cameras.left_wrist.fov_y_deg", |r| {
        camera(r).fov_y_deg = f64::NAN;
    }),
    ("cameras.left_wrist.mount", |r| {
        camera(r).mount = Mount::Arm(Name::new("third").unwrap());
    }),
    ("cameras.left_wrist.extrinsics.xyz_m", |r| {
        camera(r).extrinsics.xyz_m[0] = 1e3;
    }),
];

#[test]
fn each_wrong_value_is_refused_with_its_fields_path() {
    for (row, (field, spoil)) in WRONG.iter().enumerate() {
        let mut robot = shipped();
        spoil(&mut robot);
        let error = RobotDescription::new(robot).expect_err(&format!("row {row}: {field}"));
        assert_eq!(error.field, *field, "row {row}: {error}");
        assert!(
            error.to_string().starts_with(&format!("{field}: ")),
            "{error}"
        );
    }
}

#[test]
fn values_on_their_bounds_are_taken() {
    let right: [fn(&mut RobotToml); 7] = [
        |r| joint(r).range_deg = [-360.0, 360.0],
        |r| joint(r).speed_max_deg_s = 720.0,
        |r| joint(r).home_deg = joint(r).range_deg[1],
        |r| gripper(r).range_m = [0.0, 0.5],
        |r| camera(r).width = 1920,
        |r| r.policy_hz = r.servo_hz,
        |r| r.robot_type.width = 27,
    ];
    for (row, change) in right.iter().enumerate() {
        let mut robot = shipped();
        change(&mut robot);
        RobotDescription::new(robot).unwrap_or_else(|error| panic!("row {row}: {error}"));
    }
}

#[test]
fn a_key_that_nobody_knows_is_refused() {
    for (known, unknown) in [
        ("servo_hz = 240.0", "servo_khz = 0.24"),
        ("range_m = ", "range_mm = "),
        ("home_deg = 25.0", "home_rad = 0.4"),
        ("fov_y_deg = ", "fov_x_deg = "),
    ] {
        let text = SHIPPED.replacen(known, unknown, 1);
        assert_ne!(text, SHIPPED, "{known}");
        assert!(toml::from_str::<File>(&text).is_err(), "{unknown}");
    }
}

#[test]
fn the_shipped_robot_has_the_dual_arm_layout() {
    let robot = RobotDescription::new(shipped()).unwrap();
    assert_eq!((robot.n_dofs(), robot.servo_per_tick()), (14, 8));
    // Joints at 7 to 12 and 21 to 26, grippers at 6 and 20; arms in the file's order.
    let want: Vec<_> = (7..=12).chain([6]).chain(21..=26).chain([20]).collect();
    assert_eq!(robot.slots().slots(), want);
    let grippers: Vec<_> = robot.arms().iter().map(Arm::gripper_dof).collect();
    assert_eq!(grippers, [6, 13]);
    let units: Vec<_> = robot
        .labels()
        .iter()
        .map(|label| label.unit.as_str())
        .collect();
    assert_eq!((units[5], units[6], units[13]), ("rad", "m", "m"));
    for (limits, home) in robot.limits().iter().zip(robot.home()) {
        assert!(limits.min <= *home && *home <= limits.max);
        assert!(0.0 < limits.speed_max && 0.0 < limits.acceleration_max);
    }
}

#[test]
fn angles_of_the_file_are_radians_of_the_guard() {
    let robot = RobotDescription::new(shipped()).unwrap();
    let waist = robot.limits()[0];
    assert!((waist.max - 150_f64.to_radians()).abs() < 1e-12);
    assert!((waist.speed_max - 150_f64.to_radians()).abs() < 1e-12);
    assert!((robot.home()[0] - 25_f64.to_radians()).abs() < 1e-12);
    // A joint of its own length as axis is the same joint.
    let mut long = shipped();
    long.arms[0].joints[0].axis = [0.0, 0.0, 7.0];
    let long = RobotDescription::new(long).unwrap();
    assert_eq!(long.arms()[0].chain, robot.arms()[0].chain);
}
