//! Plain linear axes of a robot: a carriage, or a point that a benchmark moves. They have limits and
//! a slot, and no kinematics.

use serde::{Deserialize, Serialize};
use vlad_safety::envelope::Limits;
use vlad_wire::text::Name;

use super::{DescriptionError, demand};

/// Most axes: as many as an arm has joints.
pub(super) const AXES_MAX: usize = 8;

/// One linear axis in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisToml {
    /// Name, such as `x`.
    pub name: Name,
    /// Slot in the robot type's vectors.
    pub slot: usize,
    /// Smallest and largest position, metres.
    pub range_m: [f64; 2],
    /// Largest speed, metres per second.
    pub speed_max_m_s: f64,
    /// Largest acceleration, and the deceleration of a stop, metres per second squared.
    pub acceleration_max_m_s2: f64,
    /// Largest jerk, metres per second cubed.
    pub jerk_max_m_s3: f64,
    /// Position of the home pose, metres.
    pub home_m: f64,
    /// Whether it goes to each target as fast as its limits let it, and rests there, as a gripper
    /// does. Else it is led along its targets, and reaches each when its tick ends.
    #[serde(default)]
    pub snaps: bool,
}

/// Checks an axis and gives its limits.
pub(super) fn axis_limits(path: &str, axis: &AxisToml) -> Result<Limits, DescriptionError> {
    let [min, max] = axis.range_m;
    let field = |name: &str| format!("{path}.{name}");
    demand(
        -10.0 <= min && min < max && max <= 10.0,
        &field("range_m"),
        "must be ascending within -10 to 10 m",
    )?;
    let within = |value: f64, most: f64| 0.0 < value && value <= most;
    demand(
        within(axis.speed_max_m_s, 100.0),
        &field("speed_max_m_s"),
        "must lie above 0 and at most at 100",
    )?;
    demand(
        within(axis.acceleration_max_m_s2, 10_000.0),
        &field("acceleration_max_m_s2"),
        "must lie above 0 and at most at 1e4",
    )?;
    demand(
        within(axis.jerk_max_m_s3, 10_000_000.0),
        &field("jerk_max_m_s3"),
        "must lie above 0 and at most at 1e7",
    )?;
    demand(
        min <= axis.home_m && axis.home_m <= max,
        &field("home_m"),
        "must lie within range_m",
    )?;
    Ok(Limits {
        min,
        max,
        speed_max: axis.speed_max_m_s,
        acceleration_max: axis.acceleration_max_m_s2,
        jerk_max: axis.jerk_max_m_s3,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{RobotDescription, RobotToml};
    use super::*;

    const POINT: &str = include_str!("../../../../config/robots/twogate.toml");

    #[derive(Deserialize)]
    struct File {
        robot: RobotToml,
    }

    /// The path that a refusal must name, and a wrong value.
    type Row = (&'static str, fn(&mut RobotToml));

    fn point() -> RobotToml {
        toml::from_str::<File>(POINT).unwrap().robot
    }

    #[test]
    fn a_robot_of_axes_alone_is_one() {
        let robot = RobotDescription::new(point()).unwrap();
        assert_eq!((robot.n_dofs(), robot.arms().len()), (2, 0));
        assert_eq!(robot.slots().slots(), [0, 1]);
        assert_eq!((robot.toml().servo_hz, robot.servo_per_tick()), (300.0, 10));
        let labels = robot.labels().iter();
        let labels: Vec<_> = labels
            .map(|l| (l.joint.as_str(), l.unit.as_str()))
            .collect();
        assert_eq!(labels, [("x", "m"), ("y", "m")]);
        assert_eq!(robot.home(), [0.0, 0.0]);
        assert!(robot.limits()[0].min < 0.0 && 1.6 < robot.limits()[0].max);
    }

    #[test]
    fn each_wrong_axis_is_refused_with_its_fields_path() {
        let wrong: [Row; 12] = [
            ("arms", |r| r.axes.clear()),
            ("axes", |r| r.axes = vec![r.axes[0].clone(); 9]),
            ("axes.x", |r| r.axes[1].name = r.axes[0].name.clone()),
            ("axes", |r| r.axes[1].slot = 0),
            ("axes", |r| r.axes[1].slot = 2),
            ("axes.y.range_m", |r| r.axes[1].range_m = [0.1, 0.1]),
            ("axes.y.range_m", |r| r.axes[1].range_m[1] = 10.1),
            ("axes.y.speed_max_m_s", |r| r.axes[1].speed_max_m_s = 0.0),
            ("axes.y.speed_max_m_s", |r| {
                r.axes[1].speed_max_m_s = f64::NAN;
            }),
            ("axes.y.acceleration_max_m_s2", |r| {
                r.axes[1].acceleration_max_m_s2 = -1.0;
            }),
            ("axes.y.jerk_max_m_s3", |r| r.axes[1].jerk_max_m_s3 = 2e7),
            ("axes.y.home_m", |r| r.axes[1].home_m = 9.9),
        ];
        for (row, (field, spoil)) in wrong.iter().enumerate() {
            let mut robot = point();
            spoil(&mut robot);
            let error = RobotDescription::new(robot).expect_err(field);
            assert_eq!(error.field, *field, "row {row}: {error}");
        }
    }
}
