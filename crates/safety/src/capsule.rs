//! Capsules around links, and the distance between two of them.

use crate::kinematics::{Pose, Vec3, add, dot, norm, sub};

/// A line segment with a radius, in the frame of one link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capsule {
    /// Index of the joint whose link carries the capsule; `0` is the first moving link.
    pub joint_idx: usize,
    /// One end of the segment, metres, in the link's frame.
    pub from_m: Vec3,
    /// The other end.
    pub to_m: Vec3,
    /// Radius in metres.
    pub radius_m: f64,
}

impl Capsule {
    /// Gives the capsule's segment in the cell's frame.
    pub fn segment(&self, world_from_link: &Pose) -> (Vec3, Vec3) {
        (
            world_from_link.apply(self.from_m),
            world_from_link.apply(self.to_m),
        )
    }
}

/// Gives the smallest distance between two segments, metres.
///
/// Source: the clamped closest-point solution of Ericson, Real-Time Collision Detection, §5.1.9.
pub fn segment_distance(a: (Vec3, Vec3), b: (Vec3, Vec3)) -> f64 {
    let (along_a, along_b, between) = (sub(a.1, a.0), sub(b.1, b.0), sub(a.0, b.0));
    let (aa, bb, ab) = (
        dot(along_a, along_a),
        dot(along_b, along_b),
        dot(along_a, along_b),
    );
    let (a_between, b_between) = (dot(along_a, between), dot(along_b, between));
    let unit = |x: f64| {
        if x.is_finite() {
            x.clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    let determinant = aa * bb - ab * ab;
    let first = unit((ab * b_between - a_between * bb) / determinant);
    let on_b = unit((ab * first + b_between) / bb);
    let on_a = unit((ab * on_b - a_between) / aa);
    let point_a = add(a.0, along_a.map(|x| x * on_a));
    let point_b = add(b.0, along_b.map(|x| x * on_b));
    norm(sub(point_a, point_b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector() -> impl Strategy<Value = Vec3> {
        prop::array::uniform3(-1.0..1.0)
    }

    proptest! {
        #[test]
        fn no_sampled_pair_of_points_is_closer(a in (vector(), vector()), b in (vector(), vector())) {
            let claimed = segment_distance(a, b);
            for i in 0..=10_u8 {
                for k in 0..=10_u8 {
                    let (s, t) = (f64::from(i) / 10.0, f64::from(k) / 10.0);
                    let point_a = add(a.0, sub(a.1, a.0).map(|x| x * s));
                    let point_b = add(b.0, sub(b.1, b.0).map(|x| x * t));
                    prop_assert!(claimed <= norm(sub(point_a, point_b)) + 1e-9);
                }
            }
        }

        #[test]
        fn distance_is_symmetric(a in (vector(), vector()), b in (vector(), vector())) {
            prop_assert!((segment_distance(a, b) - segment_distance(b, a)).abs() < 1e-9);
        }
    }

    #[test]
    fn crossing_and_parallel_segments() {
        let x = ([-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]);
        let y_above = ([0.0, -1.0, 0.5], [0.0, 1.0, 0.5]);
        let x_beside = ([-1.0, 0.25, 0.0], [1.0, 0.25, 0.0]);
        assert!((segment_distance(x, y_above) - 0.5).abs() < 1e-12);
        assert!((segment_distance(x, x_beside) - 0.25).abs() < 1e-12);
        assert!((segment_distance((x.0, x.0), (x.1, x.1)) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn segment_follows_its_link() {
        let capsule = Capsule {
            joint_idx: 0,
            from_m: [0.0; 3],
            to_m: [1.0, 0.0, 0.0],
            radius_m: 0.1,
        };
        let link = Pose::from_xyz_rpy([0.0, 0.0, 2.0], [0.0; 3]);
        assert_eq!(capsule.segment(&link), ([0.0, 0.0, 2.0], [1.0, 0.0, 2.0]));
    }
}
