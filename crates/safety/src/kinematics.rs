//! The only forward kinematics of the project.
//!
//! Rotations are row-major 3×3 matrices, positions metres, angles radians. A transform is named
//! `a_from_b`: it takes coordinates in `b` to coordinates in `a`, so that
//! `base_from_tool.then(tool_from_camera)` reads.

/// A vector in metres, or a unit direction.
pub type Vec3 = [f64; 3];

/// A rigid transform: rotation, then translation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Row-major rotation matrix.
    pub rotation: [Vec3; 3],
    /// Translation in metres.
    pub position_m: Vec3,
}

impl Pose {
    /// The transform that changes nothing.
    pub const IDENTITY: Self = Self {
        rotation: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        position_m: [0.0; 3],
    };

    /// Gives a transform from a translation and fixed-axis roll, pitch, yaw (x, then y, then z).
    pub fn from_xyz_rpy(position_m: Vec3, rpy_rad: Vec3) -> Self {
        let [roll, pitch, yaw] = rpy_rad;
        let rotation = multiply(
            &about_axis([0.0, 0.0, 1.0], yaw),
            &multiply(
                &about_axis([0.0, 1.0, 0.0], pitch),
                &about_axis([1.0, 0.0, 0.0], roll),
            ),
        );
        Self {
            rotation,
            position_m,
        }
    }

    /// Gives a rotation by `angle_rad` about the unit vector `axis`.
    pub fn about(axis: Vec3, angle_rad: f64) -> Self {
        Self {
            rotation: about_axis(axis, angle_rad),
            position_m: [0.0; 3],
        }
    }

    /// Chains two transforms: `a_from_b.then(b_from_c)` is `a_from_c`.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self {
            rotation: multiply(&self.rotation, &next.rotation),
            position_m: self.apply(next.position_m),
        }
    }

    /// Takes a point from the inner frame to the outer one.
    pub fn apply(&self, point_m: Vec3) -> Vec3 {
        add(self.rotate(point_m), self.position_m)
    }

    /// Takes a direction from the inner frame to the outer one.
    pub fn rotate(&self, direction: Vec3) -> Vec3 {
        self.rotation.map(|row| dot(row, direction))
    }

    /// Gives the transform in the other direction.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let [[m00, m01, m02], [m10, m11, m12], [m20, m21, m22]] = self.rotation;
        let transposed = Self {
            rotation: [[m00, m10, m20], [m01, m11, m21], [m02, m12, m22]],
            position_m: [0.0; 3],
        };
        let position_m = transposed.rotate(self.position_m).map(|x| -x);
        Self {
            position_m,
            ..transposed
        }
    }

    /// Gives the rotation as a unit quaternion `[x, y, z, w]` with `w ≥ 0`.
    ///
    /// Shepperd's method (1978): the largest component comes from the diagonal, the others from
    /// sums and differences divided by it, so that half a turn is as exact as any other rotation.
    pub fn quaternion_xyzw(&self) -> [f64; 4] {
        let [[m00, m01, m02], [m10, m11, m12], [m20, m21, m22]] = self.rotation;
        let trace = m00 + m11 + m22;
        let largest = trace.max(m00).max(m11).max(m22);
        // Four times each component, times the largest one.
        let scaled = if largest <= trace {
            [m21 - m12, m02 - m20, m10 - m01, 1.0 + trace]
        } else if largest <= m00 {
            [1.0 + m00 - m11 - m22, m01 + m10, m02 + m20, m21 - m12]
        } else if largest <= m11 {
            [m01 + m10, 1.0 - m00 + m11 - m22, m12 + m21, m02 - m20]
        } else {
            [m02 + m20, m12 + m21, 1.0 - m00 - m11 + m22, m10 - m01]
        };
        let [qx, qy, qz, qw] = scaled;
        let length = (qx * qx + qy * qy + qz * qz + qw * qw).sqrt().copysign(qw);
        scaled.map(|component| component / length)
    }

    /// Gives the rotation vector (axis times angle, radians in `[0, π]`) of this rotation.
    pub fn rotation_vector(&self) -> Vec3 {
        let [x, y, z, w] = self.quaternion_xyzw();
        let sine = (x * x + y * y + z * z).sqrt();
        if sine < 1e-9 {
            return [2.0 * x, 2.0 * y, 2.0 * z];
        }
        let scale = 2.0 * sine.atan2(w) / sine;
        [x * scale, y * scale, z * scale]
    }
}

/// One revolute joint of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Joint {
    /// The joint's frame at angle zero, seen from the link before it.
    pub parent_from_joint: Pose,
    /// The unit axis in the joint's own frame.
    pub axis: Vec3,
}

/// An arm: a fixed base, revolute joints, a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Where the arm stands in the cell.
    pub world_from_base: Pose,
    /// The joints, base first.
    pub joints: Vec<Joint>,
    /// The tool centre point, seen from the last link.
    pub flange_from_tool: Pose,
}

impl Chain {
    /// Gives the tool's pose in the cell for joint angles `position_rad` (base first).
    ///
    /// Missing angles count as zero, surplus ones are ignored.
    pub fn tool(&self, position_rad: &[f64]) -> Pose {
        let mut pose = self.world_from_base;
        self.visit(position_rad, |_, link| pose = link);
        pose.then(&self.flange_from_tool)
    }

    /// Calls `each(joint index, world_from_link)` for every link after its joint, base first.
    pub fn visit(&self, position_rad: &[f64], mut each: impl FnMut(usize, Pose)) {
        let mut pose = self.world_from_base;
        for (joint_idx, joint) in self.joints.iter().enumerate() {
            let angle_rad = position_rad.get(joint_idx).copied().unwrap_or(0.0);
            pose = pose
                .then(&joint.parent_from_joint)
                .then(&Pose::about(joint.axis, angle_rad));
            each(joint_idx, pose);
        }
    }
}

/// Adds two vectors.
pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    let ([ax, ay, az], [bx, by, bz]) = (a, b);
    [ax + bx, ay + by, az + bz]
}

/// Subtracts `b` from `a`.
pub fn sub(a: Vec3, b: Vec3) -> Vec3 {
    add(a, b.map(|x| -x))
}

/// Gives the inner product.
pub fn dot(a: Vec3, b: Vec3) -> f64 {
    let ([ax, ay, az], [bx, by, bz]) = (a, b);
    ax * bx + ay * by + az * bz
}

/// Gives the cross product.
pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    let ([ax, ay, az], [bx, by, bz]) = (a, b);
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

/// Gives the Euclidean length.
pub fn norm(a: Vec3) -> f64 {
    dot(a, a).sqrt()
}

fn about_axis(axis: Vec3, angle_rad: f64) -> [Vec3; 3] {
    let [x, y, z] = axis;
    let (sin, cos) = angle_rad.sin_cos();
    let rest = 1.0 - cos;
    [
        [
            cos + x * x * rest,
            x * y * rest - z * sin,
            x * z * rest + y * sin,
        ],
        [
            y * x * rest + z * sin,
            cos + y * y * rest,
            y * z * rest - x * sin,
        ],
        [
            z * x * rest - y * sin,
            z * y * rest + x * sin,
            cos + z * z * rest,
        ],
    ]
}

fn multiply(a: &[Vec3; 3], b: &[Vec3; 3]) -> [Vec3; 3] {
    let [b0, b1, b2] = *b;
    a.map(|[x, y, z]| add(add(b0.map(|v| v * x), b1.map(|v| v * y)), b2.map(|v| v * z)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: Vec3, b: Vec3) -> bool {
        norm(sub(a, b)) < 1e-9
    }

    fn any_pose() -> impl Strategy<Value = Pose> {
        (
            prop::array::uniform3(-2.0..2.0),
            prop::array::uniform3(-3.1..3.1),
        )
            .prop_map(|(xyz, rpy)| Pose::from_xyz_rpy(xyz, rpy))
    }

    proptest! {
        #[test]
        fn inverse_undoes(pose in any_pose(), point in prop::array::uniform3(-2.0..2.0)) {
            prop_assert!(close(pose.inverse().apply(pose.apply(point)), point));
        }

        #[test]
        fn chaining_applies_inner_first(a in any_pose(), b in any_pose(), p in prop::array::uniform3(-2.0..2.0)) {
            prop_assert!(close(a.then(&b).apply(p), a.apply(b.apply(p))));
        }

        #[test]
        fn rotation_vector_gives_the_rotation_back(pose in any_pose()) {
            let vector = pose.rotation_vector();
            let angle = norm(vector);
            prop_assume!(1e-6 < angle && angle < std::f64::consts::PI - 1e-3);
            let again = Pose::about(vector.map(|x| x / angle), angle);
            prop_assert!(close(again.rotate([1.0, 2.0, 3.0]), pose.rotate([1.0, 2.0, 3.0])));
        }

        #[test]
        fn quaternion_has_unit_length(pose in any_pose()) {
            let [x, y, z, w] = pose.quaternion_xyzw();
            prop_assert!((x * x + y * y + z * z + w * w - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn half_turns_have_the_axis_of_their_rotation() {
        for axis in [
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.6, 0.0, 0.8],
            [0.0, -0.6, 0.8],
        ] {
            let pose = Pose::about(axis, std::f64::consts::PI);
            let again = Pose::about(axis, norm(pose.rotation_vector()));
            assert!(close(
                again.rotate([1.0, 2.0, 3.0]),
                pose.rotate([1.0, 2.0, 3.0])
            ));
            let [qx, qy, qz, _] = pose.quaternion_xyzw();
            assert!(
                (dot([qx, qy, qz], axis).abs() - 1.0).abs() < 1e-9,
                "{axis:?}"
            );
        }
    }

    /// Below a billionth of a radian the angle cannot be told from its sine any more.
    #[test]
    fn a_tiny_turn_has_a_tiny_vector_along_its_axis() {
        for (idx, axis) in Pose::IDENTITY.rotation.into_iter().enumerate() {
            let vector = Pose::about(axis, 1e-10).rotation_vector();
            for (component, x) in vector.into_iter().enumerate() {
                let want = if component == idx { 1e-10 } else { 0.0 };
                assert!((x - want).abs() < 1e-20, "{axis:?}: {vector:?}");
            }
        }
        assert!(norm(Pose::IDENTITY.rotation_vector()) < 1e-300);
    }

    #[test]
    fn the_cross_product_is_that_of_the_hand_case() {
        let crossed = cross([2.0, 3.0, 5.0], [7.0, 11.0, 13.0]);
        assert!(close(crossed, [-16.0, 9.0, 1.0]), "{crossed:?}");
    }

    #[test]
    fn yaw_turns_x_into_y() {
        let pose = Pose::from_xyz_rpy([0.0; 3], [0.0, 0.0, std::f64::consts::FRAC_PI_2]);
        assert!(close(pose.rotate([1.0, 0.0, 0.0]), [0.0, 1.0, 0.0]));
    }

    #[test]
    fn two_link_arm_reaches_where_trigonometry_says() {
        let joint = |x| Joint {
            parent_from_joint: Pose::from_xyz_rpy([x, 0.0, 0.0], [0.0; 3]),
            axis: [0.0, 0.0, 1.0],
        };
        let chain = Chain {
            world_from_base: Pose::IDENTITY,
            joints: vec![joint(0.0), joint(1.0)],
            flange_from_tool: Pose::from_xyz_rpy([0.5, 0.0, 0.0], [0.0; 3]),
        };
        let (a, b) = (0.3_f64, 0.7_f64);
        let want = [
            a.cos() + 0.5 * (a + b).cos(),
            a.sin() + 0.5 * (a + b).sin(),
            0.0,
        ];
        assert!(close(chain.tool(&[a, b]).position_m, want));
        assert!(close(
            chain.tool(&[a]).position_m,
            chain.tool(&[a, 0.0]).position_m
        ));
    }
}
