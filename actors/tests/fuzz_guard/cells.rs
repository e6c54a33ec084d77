//! The robots that stories are told about: the two that are shipped, and two of other sizes and rates.

use vlad_actors::actuator::settings::{GuardConfig, Shape};
use vlad_cell::description::{RobotDescription, RobotToml};
use vlad_safety::envelope::Limits;
use vlad_safety::workspace::Workspace;
use vlad_wire::robot_type::SlotMap;

use super::draw::Draw;

#[derive(serde::Deserialize)]
struct File {
    robot: RobotToml,
}

/// All of them. The dual arm costs most: it alone has kinematics to check.
pub(crate) fn shapes() -> Vec<Shape> {
    let shipped = |text: &str| {
        let file: File = toml::from_str(text).unwrap();
        Shape::new(&RobotDescription::new(file.robot).unwrap())
    };
    vec![
        shipped(include_str!("../../../config/robots/demo-dual-arm.toml")),
        shipped(include_str!("../../../config/robots/twogate.toml")),
        bench_robot(),
        fast_robot(),
    ]
}

/// Two joints with little jerk and a gripper, 240 Hz; a slot that belongs to no joint.
fn bench_robot() -> Shape {
    let joint = Limits {
        min: -2.0,
        max: 2.0,
        speed_max: 2.5,
        acceleration_max: 15.0,
        jerk_max: 300.0,
    };
    let gripper = Limits {
        min: 0.0,
        max: 0.08,
        speed_max: 0.25,
        acceleration_max: 4.0,
        jerk_max: 400.0,
    };
    shape(
        (vec![joint, joint, gripper], vec![false, false, true]),
        SlotMap::new(4, vec![1, 2, 0]).unwrap(),
        (8, 4_166_667),
    )
}

/// Seven joints as fast and as stiff as those of the Franka Research 3 (its data sheet's largest
/// joint speeds, accelerations and jerks are of this size), 1 kHz.
fn fast_robot() -> Shape {
    let joint = |speed_max| Limits {
        min: -2.7,
        max: 2.7,
        speed_max,
        acceleration_max: 10.0,
        jerk_max: 5000.0,
    };
    let speeds = [2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26];
    shape(
        (speeds.map(joint).to_vec(), vec![false; 7]),
        SlotMap::new(7, (0..7).collect()).unwrap(),
        (33, 1_000_000),
    )
}

fn shape(
    (limits, gripper): (Vec<Limits>, Vec<bool>),
    slots: SlotMap,
    (servo_per_tick, servo_ns): (u32, u64),
) -> Shape {
    let plausible = limits.iter().map(|limits| Limits {
        min: limits.min - (limits.max - limits.min) / 2.0,
        max: limits.max + (limits.max - limits.min) / 2.0,
        ..*limits
    });
    Shape {
        plausible: plausible.collect(),
        squeeze_max: gripper
            .iter()
            .map(|gripper| if *gripper { 0.03 } else { f64::INFINITY })
            .collect(),
        park: limits
            .iter()
            .map(|limits| limits.min / 4.0 + limits.max / 2.0)
            .collect(),
        workspace: Workspace {
            arms: Vec::new(),
            inside: None,
            keep_out: Vec::new(),
            clearance_m: 0.04,
            tool_speed_max_m_s: 1.0,
        },
        // A joint that snaps is told its targets at once: its limits hold all the same.
        snaps: gripper.clone(),
        gripper,
        slots,
        horizon: 30,
        servo_per_tick,
        servo_ns,
        limits,
    }
}

/// The default settings, with what decides about ages, lateness and seams drawn anew.
pub(crate) fn config(draw: &mut Draw) -> GuardConfig {
    GuardConfig {
        think_timeout_ms: draw.pick(&[300, 2000]),
        unfit_timeout_ms: draw.pick(&[200, 1000]),
        heartbeat_missed_max: 5,
        first_command_rad: 0.05,
        first_command_m: 0.02,
        pose_tolerance_deg: 2.0,
        action_age_limit_ms: draw.pick(&[150, 700, 700, 1100]),
        reset_after_ms: 500,
        overrun_max: draw.pick(&[1, 3, 100]),
        overrun_per_s_max: draw.pick(&[10, 100]),
        state_late_max: 3,
        following_rad: 0.1,
        following_ms: 50,
        following_lag_ms: draw.pick(&[0, 20]),
        speed_min: 0.05,
        late_chunk_rule: !draw.once_in(4),
        disagreement_max: 5,
        realtime_priority: 0,
        lock_memory: false,
    }
}
