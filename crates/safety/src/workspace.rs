//! Where arms may be: a box, keep-out boxes, and their distance from each other.
//!
//! Checked points of an arm are its tool centre point and its elbows: the origins of the joints
//! from the third on (the first two stand on the base). Distances between arms are those of the
//! capsules around their links.

use std::fmt;

use crate::breach::Breach;
use crate::capsule::{Capsule, segment_distance};
use crate::kinematics::{Chain, Pose, Vec3, norm, sub};

/// Most arms of a workspace: a check works in fixed memory.
pub const ARMS_MAX: usize = 4;
/// Most capsules of an arm.
pub const CAPSULES_MAX: usize = 16;
/// The first joint whose origin is an elbow.
const FIRST_ELBOW: usize = 2;
/// Lengths beyond this, metres, are mistakes; below it no product of a check overflows.
const LENGTH_MAX_M: f64 = 1e3;
/// What rounding of the kinematics may change in a distance, metres: about a thousand units in the
/// last place of a metre.
const ROUNDING_M: f64 = 2e-13;
/// Relative tolerance of a speed that is a difference of rounded positions.
const ROUNDING: f64 = 1e-9;

/// An arm: its kinematics, its place among the degrees of freedom, its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Base, joints, tool.
    pub chain: Chain,
    /// Degree of freedom of the first joint; the others follow.
    pub first_dof: usize,
    /// Capsules around the links.
    pub capsules: Vec<Capsule>,
}

/// A box along the cell's axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Box3 {
    /// Smallest coordinates, metres.
    pub min_m: Vec3,
    /// Largest coordinates, metres.
    pub max_m: Vec3,
}

impl Box3 {
    /// Metres from `point_m` to the nearest face; negative outside, by the axis that is worst.
    fn depth_m(&self, point_m: Vec3) -> f64 {
        let below = sub(point_m, self.min_m);
        let above = sub(self.max_m, point_m);
        below.into_iter().chain(above).fold(f64::INFINITY, f64::min)
    }
}

/// Where a cell's arms may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Workspace {
    /// The arms; none where a robot has no kinematics.
    pub arms: Vec<Arm>,
    /// Tool points and elbows must be inside.
    pub inside: Option<Box3>,
    /// Tool points and elbows must be outside.
    pub keep_out: Vec<Box3>,
    /// Smallest distance between capsules of two arms, metres (E9: 0.040).
    pub clearance_m: f64,
    /// Largest speed of a tool centre point over a policy tick, metres per second.
    pub tool_speed_max_m_s: f64,
}

/// Why a workspace cannot be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// More than [`ARMS_MAX`] arms.
    Arms,
    /// An arm has more than [`CAPSULES_MAX`] capsules.
    Capsules {
        /// Arm.
        arm: usize,
    },
    /// A capsule belongs to a joint that the arm does not have.
    Joint {
        /// Arm.
        arm: usize,
    },
    /// An arm's joints lie beyond the robot's degrees of freedom.
    Dofs {
        /// Arm.
        arm: usize,
    },
    /// A number is not finite, or larger than a kilometre.
    Numbers,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arms => write!(f, "it has more than {ARMS_MAX} arms"),
            Self::Capsules { arm } => {
                write!(f, "arm {arm} has more than {CAPSULES_MAX} capsules")
            }
            Self::Joint { arm } => {
                write!(
                    f,
                    "a capsule of arm {arm} names a joint that it does not have"
                )
            }
            Self::Dofs { arm } => {
                write!(f, "arm {arm} has joints beyond the degrees of freedom")
            }
            Self::Numbers => f.write_str("a length is not a number, or longer than a kilometre"),
        }
    }
}

impl std::error::Error for Unfit {}

/// What is left of one rule: metres, negative in breach, and the arm that is worst.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slack {
    metres: f64,
    arm: usize,
}

impl Slack {
    const UNBOUNDED: Self = Self {
        metres: f64::INFINITY,
        arm: 0,
    };

    fn lower(&mut self, metres: f64, arm: usize) {
        if metres < self.metres {
            *self = Self { metres, arm };
        }
    }

    /// Metres in breach, and farther than `floor`, which may be a breach itself.
    fn breach(&self, floor: &Self) -> Option<(usize, f64)> {
        (self.metres < floor.metres.min(0.0) - ROUNDING_M).then_some((self.arm, -self.metres))
    }
}

/// What a pose leaves of each rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clearance {
    inside: Slack,
    keep_out: Slack,
    arms: Slack,
}

impl Clearance {
    /// A pose that no rule knows.
    const UNBOUNDED: Self = Self {
        inside: Slack::UNBOUNDED,
        keep_out: Slack::UNBOUNDED,
        arms: Slack::UNBOUNDED,
    };

    /// Metres to the nearest breach of any kind.
    pub(crate) fn room_m(&self) -> f64 {
        self.inside
            .metres
            .min(self.keep_out.metres)
            .min(self.arms.metres)
    }

    /// The first rule that is broken, and broken worse than in `floor`.
    pub(crate) fn breach(&self, floor: &Self) -> Option<Breach> {
        if let Some((arm, by_m)) = self.inside.breach(&floor.inside) {
            return Some(Breach::OutsideBox { arm, by_m });
        }
        if let Some((arm, by_m)) = self.keep_out.breach(&floor.keep_out) {
            return Some(Breach::KeepOut { arm, by_m });
        }
        let (arm, by_m) = self.arms.breach(&floor.arms)?;
        Some(Breach::TooNear { arm, by_m })
    }
}

/// The capsules of one arm in the cell's frame.
#[derive(Clone, Copy)]
struct Body {
    segments: [(Vec3, Vec3); CAPSULES_MAX],
    radii_m: [f64; CAPSULES_MAX],
    count: usize,
}

impl Body {
    const EMPTY: Self = Self {
        segments: [([0.0; 3], [0.0; 3]); CAPSULES_MAX],
        radii_m: [0.0; CAPSULES_MAX],
        count: 0,
    };

    fn add(&mut self, capsule: &Capsule, world_from_link: &Pose) {
        let mut slots = self.segments.iter_mut().zip(&mut self.radii_m);
        if let Some((segment, radius_m)) = slots.nth(self.count) {
            (*segment, *radius_m) = (capsule.segment(world_from_link), capsule.radius_m);
            self.count += 1;
        }
    }

    fn capsules(&self) -> impl Iterator<Item = ((Vec3, Vec3), f64)> {
        let all = self
            .segments
            .iter()
            .copied()
            .zip(self.radii_m.iter().copied());
        all.take(self.count)
    }

    /// The smallest distance between two surfaces, metres; negative where capsules overlap.
    fn distance_m(&self, other: &Self) -> f64 {
        let mut least_m = f64::INFINITY;
        for (segment, radius_m) in self.capsules() {
            for (other, other_radius_m) in other.capsules() {
                least_m = least_m.min(segment_distance(segment, other) - radius_m - other_radius_m);
            }
        }
        least_m
    }
}

impl Workspace {
    /// Says whether a robot of `dofs` degrees of freedom can be checked in fixed memory.
    ///
    /// # Errors
    /// [`Unfit`]: too many parts, or numbers that cannot be meant.
    pub fn fits(&self, dofs: usize) -> Result<(), Unfit> {
        if ARMS_MAX < self.arms.len() {
            return Err(Unfit::Arms);
        }
        for (arm, part) in self.arms.iter().enumerate() {
            let joints = part.chain.joints.len();
            if CAPSULES_MAX < part.capsules.len() {
                return Err(Unfit::Capsules { arm });
            }
            if part
                .capsules
                .iter()
                .any(|capsule| joints <= capsule.joint_idx)
            {
                return Err(Unfit::Joint { arm });
            }
            if dofs < part.first_dof.saturating_add(joints) {
                return Err(Unfit::Dofs { arm });
            }
        }
        let plausible = |x: f64| x.abs() <= LENGTH_MAX_M;
        let boxes = self.inside.iter().chain(&self.keep_out);
        let meant = plausible(self.clearance_m)
            && self.arms.iter().all(|arm| arm.numbers_are(plausible))
            && boxes
                .flat_map(|part| part.min_m.into_iter().chain(part.max_m))
                .all(plausible);
        if meant { Ok(()) } else { Err(Unfit::Numbers) }
    }

    /// Checks a pose: `position` by degree of freedom, radians.
    ///
    /// # Errors
    /// The first [`Breach`]: a number that is not finite, then E8, then E9.
    pub fn check(&self, position: &[f64]) -> Result<(), Breach> {
        self.compare(position, &Clearance::UNBOUNDED)
    }

    /// Gives the largest speed of a tool centre point on a straight way, metres per second.
    pub fn tool_speed(&self, from: &[f64], to: &[f64], dt_s: f64) -> f64 {
        let speeds = self.arms.iter().map(|arm| arm.tool_speed(from, to, dt_s));
        speeds.fold(0.0, f64::max)
    }

    /// Gives the smallest distance between two arms, metres; none where no two arms have capsules.
    pub fn arm_distance(&self, position: &[f64]) -> Option<f64> {
        let slack_m = self.clearance(position).arms.metres;
        slack_m.is_finite().then_some(slack_m + self.clearance_m)
    }

    /// Checks one row of a chunk: the pose, no worse than `before`, and the tools' speed.
    pub(crate) fn judge(&self, before: &[f64], row: &[f64], tick_s: f64) -> Result<(), Breach> {
        for (arm, part) in self.arms.iter().enumerate() {
            let speed_m_s = part.tool_speed(before, row, tick_s);
            let slow_enough = speed_m_s <= self.tool_speed_max_m_s * (1.0 + ROUNDING);
            if !slow_enough {
                return Err(Breach::ToolSpeed {
                    arm,
                    ratio: speed_m_s / self.tool_speed_max_m_s,
                });
            }
        }
        self.compare(row, &self.clearance(before))
    }

    fn compare(&self, position: &[f64], floor: &Clearance) -> Result<(), Breach> {
        if let Some(dof) = position.iter().position(|x| !x.is_finite()) {
            return Err(Breach::NotFinite { dof });
        }
        self.fits(position.len()).map_err(Breach::Unchecked)?;
        let breach = self.clearance(position).breach(floor);
        breach.map_or(Ok(()), Err)
    }

    /// What a pose leaves of each rule; of a workspace that [fits](Self::fits).
    pub(crate) fn clearance(&self, position: &[f64]) -> Clearance {
        let mut left = Clearance::UNBOUNDED;
        let mut bodies = [Body::EMPTY; ARMS_MAX];
        for (idx, (arm, body)) in self.arms.iter().zip(&mut bodies).enumerate() {
            let mut flange = arm.chain.world_from_base;
            arm.chain.visit(arm.angles(position), |joint_idx, link| {
                if FIRST_ELBOW <= joint_idx {
                    self.point(link.position_m, idx, &mut left);
                }
                for capsule in arm.capsules.iter().filter(|c| c.joint_idx == joint_idx) {
                    body.add(capsule, &link);
                }
                flange = link;
            });
            let tool_m = flange.apply(arm.chain.flange_from_tool.position_m);
            self.point(tool_m, idx, &mut left);
        }
        for (idx, body) in bodies.iter().enumerate() {
            for earlier in bodies.iter().take(idx) {
                left.arms
                    .lower(body.distance_m(earlier) - self.clearance_m, idx);
            }
        }
        left
    }

    fn point(&self, point_m: Vec3, arm: usize, left: &mut Clearance) {
        if let Some(inside) = &self.inside {
            left.inside.lower(inside.depth_m(point_m), arm);
        }
        for keep_out in &self.keep_out {
            left.keep_out.lower(-keep_out.depth_m(point_m), arm);
        }
    }

    /// Metres that a checked point or a capsule's end moves at most per radian, by degree of
    /// freedom: the length of the links beyond the joint, stretched out.
    pub(crate) fn reaches_m(&self, dofs: usize) -> Vec<f64> {
        let mut all = vec![0.0; dofs];
        for arm in &self.arms {
            let chain = &arm.chain;
            let mut reach_m = norm(chain.flange_from_tool.position_m);
            for (joint_idx, joint) in chain.joints.iter().enumerate().rev() {
                for capsule in arm.capsules.iter().filter(|c| c.joint_idx == joint_idx) {
                    reach_m = reach_m.max(norm(capsule.from_m)).max(norm(capsule.to_m));
                }
                if let Some(of_dof) = all.get_mut(arm.first_dof.saturating_add(joint_idx)) {
                    *of_dof = reach_m;
                }
                reach_m += norm(joint.parent_from_joint.position_m);
            }
        }
        all
    }
}

impl Arm {
    fn angles<'p>(&self, position: &'p [f64]) -> &'p [f64] {
        position.get(self.first_dof..).unwrap_or_default()
    }

    fn tool_speed(&self, from: &[f64], to: &[f64], dt_s: f64) -> f64 {
        let tool = |position| self.chain.tool(self.angles(position)).position_m;
        norm(sub(tool(to), tool(from))) / dt_s
    }

    fn numbers_are(&self, plausible: impl Fn(f64) -> bool) -> bool {
        let pose = |pose: &Pose| {
            let rotation = pose.rotation.iter().flatten();
            rotation.chain(&pose.position_m).all(|x| plausible(*x))
        };
        pose(&self.chain.world_from_base)
            && pose(&self.chain.flange_from_tool)
            && self.chain.joints.iter().all(|joint| {
                pose(&joint.parent_from_joint) && joint.axis.into_iter().all(&plausible)
            })
            && self.capsules.iter().all(|capsule| {
                let ends = capsule.from_m.into_iter().chain(capsule.to_m);
                ends.chain([capsule.radius_m]).all(&plausible)
            })
    }
}

#[cfg(test)]
mod tests;
