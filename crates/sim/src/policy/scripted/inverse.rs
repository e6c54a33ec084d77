//! Inverse kinematics: damped least squares on the project's forward kinematics.
//!
//! Source: Wampler, "Manipulator inverse kinematic solutions based on vector formulations and damped
//! least-squares methods", 1986. Seeds are given, nothing is random: the same goal and seed give the
//! same joints.

use vlad_cell::description::{Arm, RobotDescription};
use vlad_safety::envelope::Limits;
use vlad_safety::kinematics::{Pose, Vec3, cross, norm, sub};

/// Iterations before a goal counts as out of reach; reachable ones take about ten.
const ITERATIONS_MAX: usize = 80;
/// Damping: small against the arm's length, large against a singular matrix.
const DAMPING: f64 = 0.02;
/// Largest change of a joint in one iteration, radians: the Jacobian holds no further.
const STEP_MAX_RAD: f64 = 0.25;
/// Where an iteration ends: 0.2 mm,
const CLOSE_M: f64 = 2e-4;
/// and 0.1 degrees.
const CLOSE_RAD: f64 = 2e-3;

/// An arm with the limits of its joints and its home angles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) arm: &'a Arm,
    pub(super) limits: &'a [Limits],
    pub(super) home: &'a [f64],
}

impl<'a> Reach<'a> {
    pub(super) fn new(description: &'a RobotDescription, arm_idx: usize) -> Self {
        let arm = &description.arms()[arm_idx];
        let joints = arm.first_dof..arm.gripper_dof();
        Self {
            arm,
            limits: &description.limits()[joints.clone()],
            home: &description.home()[joints],
        }
    }

    /// Gives joints that put the tool at `goal`, near `seed`, or `None` if they are not found.
    pub(super) fn near(&self, goal: &Pose, seed: &[f64]) -> Option<Vec<f64>> {
        let mut joints = seed.to_vec();
        for _ in 0..ITERATIONS_MAX {
            let tool = self.arm.chain.tool(&joints);
            let away = sub(goal.position_m, tool.position_m);
            let back = Pose {
                position_m: [0.0; 3],
                ..tool
            };
            let turn = goal.then(&back.inverse()).rotation_vector();
            if norm(away) < CLOSE_M && norm(turn) < CLOSE_RAD {
                return Some(joints);
            }
            let [ax, ay, az] = away;
            let [tx, ty, tz] = turn;
            let change = self.change(&joints, tool.position_m, [ax, ay, az, tx, ty, tz]);
            let largest = change.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            let scale = (STEP_MAX_RAD / largest.max(1e-12)).min(1.0);
            for (joint, (change, limits)) in joints.iter_mut().zip(change.iter().zip(self.limits)) {
                *joint = (*joint + change * scale).clamp(limits.min, limits.max);
            }
        }
        None
    }

    /// Gives joints for a goal from afar: from the home pose, turned towards the goal.
    pub(super) fn afar(&self, goal: &Pose) -> Option<Vec<f64>> {
        let mut seed = self.home.to_vec();
        if let (Some(waist), Some(limits)) = (seed.first_mut(), self.limits.first()) {
            *waist = self.azimuth(goal.position_m).clamp(limits.min, limits.max);
        }
        self.near(goal, &seed)
    }

    /// Direction of a point, seen from the base, radians.
    pub(super) fn azimuth(&self, point_m: Vec3) -> f64 {
        let [x, y, _] = self.arm.chain.world_from_base.inverse().apply(point_m);
        y.atan2(x)
    }

    /// `Jᵀ (J Jᵀ + λ² I)⁻¹ e`.
    fn change(&self, joints: &[f64], tool_m: Vec3, error: [f64; 6]) -> Vec<f64> {
        let mut columns: Vec<[f64; 6]> = Vec::with_capacity(joints.len());
        self.arm.chain.visit(joints, |joint_idx, link| {
            let axis = link.rotate(self.arm.chain.joints[joint_idx].axis);
            let [vx, vy, vz] = cross(axis, sub(tool_m, link.position_m));
            let [wx, wy, wz] = axis;
            columns.push([vx, vy, vz, wx, wy, wz]);
        });
        let mut matrix = [[0.0; 6]; 6];
        for column in &columns {
            for (row, a) in matrix.iter_mut().zip(column) {
                for (entry, b) in row.iter_mut().zip(column) {
                    *entry += a * b;
                }
            }
        }
        for (idx, row) in matrix.iter_mut().enumerate() {
            row[idx] += DAMPING * DAMPING;
        }
        let solved = solve(matrix, error);
        let project = |column: &[f64; 6]| column.iter().zip(&solved).map(|(a, b)| a * b).sum();
        columns.iter().map(project).collect()
    }
}

/// Solves a symmetric positive definite system by elimination; the damping keeps pivots positive.
fn solve(mut matrix: [[f64; 6]; 6], mut right: [f64; 6]) -> [f64; 6] {
    for pivot in 0..6 {
        for row in pivot + 1..6 {
            let factor = matrix[row][pivot] / matrix[pivot][pivot];
            let above = matrix[pivot];
            for (entry, above) in matrix[row].iter_mut().zip(above) {
                *entry -= factor * above;
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..6).rev() {
        for column in row + 1..6 {
            right[row] -= matrix[row][column] * right[column];
        }
        right[row] /= matrix[row][row];
    }
    right
}

/// A tool that points straight down, its x axis turned by `yaw_rad` about the vertical.
pub(super) fn downward(position_m: Vec3, yaw_rad: f64) -> Pose {
    Pose::from_xyz_rpy(position_m, [std::f64::consts::PI, 0.0, yaw_rad])
}
