//! Limits of joints and grippers, checked and in radians.

use vlad_safety::envelope::Limits;
use vlad_safety::kinematics::norm;

use super::{DescriptionError, GripperToml, JointToml, check_pose, demand};

/// Fastest joint that any arm in this size has; more is degrees taken for radians, or a typo.
const JOINT_SPEED_MAX_DEG_S: f64 = 720.0;

/// Checks a joint and gives its limits.
pub(super) fn joint_limits(path: &str, joint: &JointToml) -> Result<Limits, DescriptionError> {
    let [min_deg, max_deg] = joint.range_deg;
    let field = |name: &str| format!("{path}.{name}");
    demand(
        min_deg < max_deg,
        &field("range_deg"),
        "its minimum must lie below its maximum",
    )?;
    let range_fits = -360.0 <= min_deg && max_deg <= 360.0;
    demand(
        range_fits,
        &field("range_deg"),
        "must lie within -360 to 360 degrees",
    )?;
    let speed = joint.speed_max_deg_s;
    let speed_fits = 0.0 < speed && speed <= JOINT_SPEED_MAX_DEG_S;
    demand(
        speed_fits,
        &field("speed_max_deg_s"),
        "must lie above 0 and at most at 720",
    )?;
    let acceleration = joint.acceleration_max_deg_s2;
    demand(
        0.0 < acceleration && acceleration <= 100_000.0,
        &field("acceleration_max_deg_s2"),
        "must lie above 0, at most at 1e5",
    )?;
    let jerk = joint.jerk_max_deg_s3;
    demand(
        acceleration <= jerk && jerk <= 1e7,
        &field("jerk_max_deg_s3"),
        "must be at least acceleration_max_deg_s2 (a second to it) and at most 1e7",
    )?;
    let home_fits = min_deg <= joint.home_deg && joint.home_deg <= max_deg;
    demand(home_fits, &field("home_deg"), "must lie within range_deg")?;
    let length = norm(joint.axis);
    demand(
        length.is_finite() && 1e-6 < length,
        &field("axis"),
        "must not be zero",
    )?;
    check_pose(&field("origin"), &joint.origin)?;
    Ok(Limits {
        min: min_deg.to_radians(),
        max: max_deg.to_radians(),
        speed_max: speed.to_radians(),
        acceleration_max: acceleration.to_radians(),
        jerk_max: jerk.to_radians(),
    })
}

/// Checks a gripper and gives its limits.
pub(super) fn gripper_limits(
    path: &str,
    gripper: &GripperToml,
) -> Result<Limits, DescriptionError> {
    let [min, max] = gripper.range_m;
    let field = |name: &str| format!("{path}.{name}");
    let range_fits = 0.0 <= min && min < max && max <= 0.5;
    demand(
        range_fits,
        &field("range_m"),
        "must be ascending within 0 to 0.5 m",
    )?;
    let speed_fits = 0.0 < gripper.speed_max_m_s && gripper.speed_max_m_s <= 2.0;
    demand(
        speed_fits,
        &field("speed_max_m_s"),
        "must lie above 0 and at most at 2",
    )?;
    demand(
        0.0 < gripper.acceleration_max_m_s2 && gripper.acceleration_max_m_s2 <= 1000.0,
        &field("acceleration_max_m_s2"),
        "must lie above 0, at most at 1000",
    )?;
    demand(
        gripper.acceleration_max_m_s2 <= gripper.jerk_max_m_s3 && gripper.jerk_max_m_s3 <= 1e5,
        &field("jerk_max_m_s3"),
        "must be at least acceleration_max_m_s2 (a second to it) and at most 1e5",
    )?;
    demand(
        0.0 < gripper.squeeze_max_m && gripper.squeeze_max_m <= gripper.range_m[1],
        &field("squeeze_max_m"),
        "must lie above 0 and at most at the largest opening",
    )?;
    let force_fits = 0.0 < gripper.force_max_n && gripper.force_max_n <= 500.0;
    demand(
        force_fits,
        &field("force_max_n"),
        "must lie above 0 and at most at 500",
    )?;
    let home_fits = min <= gripper.home_m && gripper.home_m <= max;
    demand(home_fits, &field("home_m"), "must lie within range_m")?;
    Ok(Limits {
        min,
        max,
        speed_max: gripper.speed_max_m_s,
        acceleration_max: gripper.acceleration_max_m_s2,
        jerk_max: gripper.jerk_max_m_s3,
    })
}
