//! The description of a robot: `config/robots/*.toml`.
//!
//! The file's own units stand in its keys; [`RobotDescription::new`] checks everything and gives
//! the guard's types. The order of degrees of freedom is: arms in the file's order, of each arm its
//! joints from the base on, then its gripper; then the plain axes.

use serde::{Deserialize, Serialize};
use vlad_safety::capsule::Capsule;
use vlad_safety::envelope::Limits;
use vlad_safety::kinematics::{Chain, Joint, Pose, norm};
use vlad_safety::workspace::Workspace;
use vlad_wire::manifest::SlotLabel;
use vlad_wire::robot_type::{RobotType, SlotMap};
use vlad_wire::text::Name;

use axes::{AXES_MAX, AxisToml, axis_limits};
use limits::{gripper_limits, joint_limits};
use workspace::{WorkspaceToml, check_workspace};

pub mod axes;
mod limits;
pub mod workspace;

/// A transform in a file: metres, and fixed-axis roll, pitch, yaw in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoseToml {
    /// Translation, metres.
    #[serde(default)]
    pub xyz_m: [f64; 3],
    /// Roll, pitch, yaw, degrees.
    #[serde(default)]
    pub rpy_deg: [f64; 3],
}

/// One joint in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointToml {
    /// Name within the arm, such as `joint_1`.
    pub name: Name,
    /// Slot in the robot type's vectors.
    pub slot: usize,
    /// The joint's frame seen from the link before it.
    pub origin: PoseToml,
    /// Axis in the joint's frame; made a unit vector.
    pub axis: [f64; 3],
    /// Smallest and largest angle, degrees.
    pub range_deg: [f64; 2],
    /// Largest speed, degrees per second.
    pub speed_max_deg_s: f64,
    /// Largest acceleration, in motion and in a stop, degrees per second squared.
    pub acceleration_max_deg_s2: f64,
    /// Largest jerk, in motion and in a stop, degrees per second cubed.
    pub jerk_max_deg_s3: f64,
    /// Angle of the home pose, degrees.
    pub home_deg: f64,
}

/// A capsule in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapsuleToml {
    /// Name of the joint whose link carries it.
    pub joint: Name,
    /// One end, metres, in the link's frame.
    pub from_m: [f64; 3],
    /// The other end.
    pub to_m: [f64; 3],
    /// Radius, metres.
    pub radius_m: f64,
}

/// A parallel gripper in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GripperToml {
    /// Slot in the robot type's vectors.
    pub slot: usize,
    /// Smallest and largest opening, metres.
    pub range_m: [f64; 2],
    /// Largest speed of the opening, metres per second.
    pub speed_max_m_s: f64,
    /// Largest acceleration of the opening, metres per second squared.
    pub acceleration_max_m_s2: f64,
    /// Largest jerk of the opening, metres per second cubed.
    pub jerk_max_m_s3: f64,
    /// How far a command may lie beyond the measured opening, metres: what a closed gripper squeezes with (E10).
    pub squeeze_max_m: f64,
    /// Largest grip force, newtons.
    pub force_max_n: f64,
    /// Opening of the home pose, metres.
    pub home_m: f64,
}

/// One arm in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmToml {
    /// Name, such as `left`.
    pub name: Name,
    /// Where its base stands in the cell.
    pub base: PoseToml,
    /// Its joints, base first.
    pub joints: Vec<JointToml>,
    /// The tool centre point seen from the last link: between the fingertips.
    pub tool: PoseToml,
    /// Its gripper.
    pub gripper: GripperToml,
    /// Capsules around its links.
    pub capsules: Vec<CapsuleToml>,
}

/// What a camera is fixed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Mount {
    /// The cell.
    World,
    /// The tool frame of the named arm.
    Arm(Name),
}

/// One camera in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraToml {
    /// The view that it is.
    pub view: Name,
    /// What it is fixed to.
    pub mount: Mount,
    /// Its frame seen from the mount: x right, y down, z along the optical axis.
    pub extrinsics: PoseToml,
    /// Vertical field of view, degrees.
    pub fov_y_deg: f64,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Frames per second.
    pub rate_hz: f64,
    /// Serial number of the device that must give this view, as its driver reads it: cameras that a
    /// port's new numbering has swapped are then refused. Without one it is the number that the
    /// first frame came with.
    #[serde(default)]
    pub serial: Option<Name>,
}

/// A robot in a file: the table `robot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotToml {
    /// Name, for people.
    pub name: Name,
    /// Shape of the model-facing vectors.
    pub robot_type: RobotType,
    /// Servo periods per second.
    pub servo_hz: f64,
    /// Policy ticks per second; divides `servo_hz`.
    pub policy_hz: f64,
    /// Arms, left first; none of a robot of plain axes.
    #[serde(default)]
    pub arms: Vec<ArmToml>,
    /// Plain linear axes.
    #[serde(default)]
    pub axes: Vec<AxisToml>,
    /// Where the arms may be; needed where there are arms.
    #[serde(default)]
    pub workspace: Option<WorkspaceToml>,
    /// Cameras, in the prompt's order of views.
    pub cameras: Vec<CameraToml>,
}

/// Something wrong in a description, with the field's path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DescriptionError {
    /// Path of the field, such as `arms.left.joints.joint_1.range_deg`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// One arm, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Name.
    pub name: Name,
    /// Kinematics.
    pub chain: Chain,
    /// Capsules around its links.
    pub capsules: Vec<Capsule>,
    /// Index of its first joint among the degrees of freedom; its gripper follows its joints.
    pub first_dof: usize,
    /// Largest grip force, newtons.
    pub force_max_n: f64,
}

impl Arm {
    /// Number of joints, without the gripper.
    pub fn n_joints(&self) -> usize {
        self.chain.joints.len()
    }

    /// Index of its gripper among the degrees of freedom.
    pub fn gripper_dof(&self) -> usize {
        self.first_dof + self.n_joints()
    }
}

/// A robot, checked: only [`RobotDescription::new`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct RobotDescription {
    toml: RobotToml,
    arms: Vec<Arm>,
    limits: Vec<Limits>,
    home: Vec<f64>,
    slots: SlotMap,
    labels: Vec<SlotLabel>,
    workspace: Workspace,
}

impl RobotDescription {
    /// Checks a description.
    ///
    /// # Errors
    /// [`DescriptionError`] with the path of the first field that is wrong.
    pub fn new(toml: RobotToml) -> Result<Self, DescriptionError> {
        check_rates(&toml)?;
        check_counts(&toml)?;
        let (mut arms, mut limits, mut home, mut labels) = (vec![], vec![], vec![], vec![]);
        for arm in &toml.arms {
            let path = format!("arms.{}", arm.name);
            if arms.iter().any(|known: &Arm| known.name == arm.name) {
                return Err(fault(&path, "is named twice"));
            }
            let first_dof = limits.len();
            for joint in &arm.joints {
                let path = format!("{path}.joints.{}", joint.name);
                limits.push(joint_limits(&path, joint)?);
                home.push(joint.home_deg.to_radians());
                labels.push(label(
                    joint.slot,
                    &format!("{}_{}", arm.name, joint.name),
                    "rad",
                )?);
            }
            limits.push(gripper_limits(&format!("{path}.gripper"), &arm.gripper)?);
            home.push(arm.gripper.home_m);
            labels.push(label(
                arm.gripper.slot,
                &format!("{}_gripper", arm.name),
                "m",
            )?);
            arms.push(check_arm(&path, arm, first_dof)?);
        }
        for (idx, axis) in toml.axes.iter().enumerate() {
            let path = format!("axes.{}", axis.name);
            if toml
                .axes
                .iter()
                .take(idx)
                .any(|known| known.name == axis.name)
            {
                return Err(fault(&path, "is named twice"));
            }
            limits.push(axis_limits(&path, axis)?);
            home.push(axis.home_m);
            labels.push(label(axis.slot, axis.name.as_str(), "m")?);
        }
        check_workspace(&toml)?;
        check_cameras(&toml)?;
        let place = if toml.arms.is_empty() { "axes" } else { "arms" };
        let workspace = workspace::workspace(toml.workspace.as_ref(), &arms);
        workspace
            .fits(limits.len())
            .map_err(|unfit| fault(place, &unfit.to_string()))?;
        let used = labels.iter().map(|label| label.slot).collect();
        let slots = SlotMap::new(toml.robot_type.width, used)
            .map_err(|error| fault(place, &error.to_string()))?;
        Ok(Self {
            toml,
            arms,
            limits,
            home,
            slots,
            labels,
            workspace,
        })
    }

    /// The file that it was made from.
    pub fn toml(&self) -> &RobotToml {
        &self.toml
    }

    /// The arms, in the file's order.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// The cameras, in the prompt's order of views.
    pub fn cameras(&self) -> &[CameraToml] {
        &self.toml.cameras
    }

    /// Limits by degree of freedom.
    pub fn limits(&self) -> &[Limits] {
        &self.limits
    }

    /// Where the arms may be, as the guard knows it.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The home pose by degree of freedom: radians, metres of gripper opening and of plain axes.
    pub fn home(&self) -> &[f64] {
        &self.home
    }

    /// Which slot each degree of freedom stands in.
    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    /// Name, slot and unit of each degree of freedom.
    pub fn labels(&self) -> &[SlotLabel] {
        &self.labels
    }

    /// Number of degrees of freedom.
    pub fn n_dofs(&self) -> usize {
        self.limits.len()
    }

    /// Servo periods of a policy tick at full speed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::as_conversions,
        reason = "checked at construction: a whole number between 1 and 1000"
    )]
    pub fn servo_per_tick(&self) -> u32 {
        (self.toml.servo_hz / self.toml.policy_hz).round() as u32
    }
}

fn fault(field: &str, problem: &str) -> DescriptionError {
    DescriptionError {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn demand(holds: bool, field: &str, problem: &str) -> Result<(), DescriptionError> {
    if holds {
        Ok(())
    } else {
        Err(fault(field, problem))
    }
}

fn check_rates(toml: &RobotToml) -> Result<(), DescriptionError> {
    let servo_fits = 50.0 <= toml.servo_hz && toml.servo_hz <= 2000.0;
    demand(servo_fits, "servo_hz", "must lie between 50 and 2000")?;
    let policy_fits = 1.0 <= toml.policy_hz && toml.policy_hz <= toml.servo_hz;
    demand(policy_fits, "policy_hz", "must lie between 1 and servo_hz")?;
    let ratio = toml.servo_hz / toml.policy_hz;
    demand(
        (ratio - ratio.round()).abs() < 1e-9,
        "policy_hz",
        "must divide servo_hz",
    )?;
    let horizon_fits = (1..=vlad_wire::robot_type::HORIZON_MAX).contains(&toml.robot_type.horizon);
    demand(
        horizon_fits,
        "robot_type.horizon",
        "must lie between 1 and 256",
    )?;
    let width_fits = (1..=vlad_wire::robot_type::WIDTH_MAX).contains(&toml.robot_type.width);
    demand(width_fits, "robot_type.width", "must lie between 1 and 64")
}

fn check_counts(toml: &RobotToml) -> Result<(), DescriptionError> {
    let moves = !(toml.arms.is_empty() && toml.axes.is_empty());
    demand(
        moves && toml.arms.len() <= 2,
        "arms",
        "must list one or two arms, or none beside axes",
    )?;
    demand(
        toml.axes.len() <= AXES_MAX,
        "axes",
        "must list 8 axes at most",
    )
}

fn check_arm(path: &str, arm: &ArmToml, first_dof: usize) -> Result<Arm, DescriptionError> {
    let joints_fit = !arm.joints.is_empty() && arm.joints.len() <= 8;
    demand(
        joints_fit,
        &format!("{path}.joints"),
        "must list 1 to 8 joints",
    )?;
    check_pose(&format!("{path}.base"), &arm.base)?;
    check_pose(&format!("{path}.tool"), &arm.tool)?;
    let mut capsules = Vec::with_capacity(arm.capsules.len());
    for (idx, capsule) in arm.capsules.iter().enumerate() {
        let path = format!("{path}.capsules[{idx}]");
        let joint_idx = arm
            .joints
            .iter()
            .position(|joint| joint.name == capsule.joint);
        let joint_idx = joint_idx
            .ok_or_else(|| fault(&format!("{path}.joint"), "names no joint of the arm"))?;
        let radius_fits = 0.0 < capsule.radius_m && capsule.radius_m <= 1.0;
        demand(
            radius_fits,
            &format!("{path}.radius_m"),
            "must lie above 0 and at most at 1",
        )?;
        let ends = capsule.from_m.iter().chain(&capsule.to_m);
        demand(
            ends.into_iter().all(|x| x.is_finite()),
            &path,
            "must have finite ends",
        )?;
        capsules.push(Capsule {
            joint_idx,
            from_m: capsule.from_m,
            to_m: capsule.to_m,
            radius_m: capsule.radius_m,
        });
    }
    let joints = arm.joints.iter().map(|joint| Joint {
        parent_from_joint: joint.origin.pose(),
        axis: joint.axis.map(|x| x / norm(joint.axis)),
    });
    Ok(Arm {
        name: arm.name.clone(),
        chain: Chain {
            world_from_base: arm.base.pose(),
            joints: joints.collect(),
            flange_from_tool: arm.tool.pose(),
        },
        capsules,
        first_dof,
        force_max_n: arm.gripper.force_max_n,
    })
}

fn check_cameras(toml: &RobotToml) -> Result<(), DescriptionError> {
    let count_fits = !toml.cameras.is_empty() && toml.cameras.len() <= vlad_wire::msg::VIEWS_MAX;
    demand(count_fits, "cameras", "must list 1 to 8 cameras")?;
    for (idx, camera) in toml.cameras.iter().enumerate() {
        let field = |name: &str| format!("cameras.{}.{name}", camera.view);
        let earlier = toml
            .cameras
            .iter()
            .take(idx)
            .any(|other| other.view == camera.view);
        demand(!earlier, &field("view"), "is used twice")?;
        let size_fits = (16..=1920).contains(&camera.width) && (16..=1080).contains(&camera.height);
        demand(
            size_fits,
            &field("width"),
            "the size must lie between 16×16 and 1920×1080",
        )?;
        let rate_fits = 1.0 <= camera.rate_hz && camera.rate_hz <= 120.0;
        demand(rate_fits, &field("rate_hz"), "must lie between 1 and 120")?;
        let fov_fits = 5.0 <= camera.fov_y_deg && camera.fov_y_deg <= 150.0;
        demand(fov_fits, &field("fov_y_deg"), "must lie between 5 and 150")?;
        if let Mount::Arm(arm) = &camera.mount {
            let known = toml.arms.iter().any(|known| known.name == *arm);
            demand(known, &field("mount"), "names no arm of the robot")?;
        }
        check_pose(&field("extrinsics"), &camera.extrinsics)?;
    }
    Ok(())
}

fn check_pose(path: &str, pose: &PoseToml) -> Result<(), DescriptionError> {
    let near = pose.xyz_m.iter().all(|x| x.is_finite() && x.abs() <= 10.0);
    demand(near, &format!("{path}.xyz_m"), "must lie within 10 m")?;
    let turned = pose
        .rpy_deg
        .iter()
        .all(|x| x.is_finite() && x.abs() <= 360.0);
    demand(
        turned,
        &format!("{path}.rpy_deg"),
        "must lie within -360 to 360 degrees",
    )
}

fn label(slot: usize, joint: &str, unit: &str) -> Result<SlotLabel, DescriptionError> {
    let name = |text: &str| Name::new(text).map_err(|error| fault(joint, &error.to_string()));
    Ok(SlotLabel {
        slot,
        joint: name(joint)?,
        unit: name(unit)?,
    })
}

impl PoseToml {
    /// The transform.
    pub fn pose(&self) -> Pose {
        Pose::from_xyz_rpy(self.xyz_m, self.rpy_deg.map(f64::to_radians))
    }
}

#[cfg(test)]
mod tests;
