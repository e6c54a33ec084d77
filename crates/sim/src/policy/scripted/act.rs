//! The action expert's half: rows from a plan.
//!
//! Each move becomes a path of joints with a minimum-jerk course (Flash and Hogan, "The coordination
//! of arm movements", 1985). What does not fit into the chunk is cut so that the chunk ends at rest.

use std::sync::Arc;

use vlad_cell::description::RobotDescription;
use vlad_motion::policy::{Act, ActRequest, ActRows, ContextFault, PolicyError};
use vlad_safety::kinematics::Vec3;

use super::inverse::{Reach, downward};
use super::plan::{Kind, Move, unpack};

/// Part of each speed limit that is used.
const SPEED_PART: f64 = 0.6;
/// Peak speed of a minimum-jerk course, in lengths by duration.
const PEAK: f64 = 1.875;
/// Shortest move, seconds: what is shorter would be a jump of a tick or two.
const SHORTEST_S: f64 = 0.15;
/// Time at a chunk's end that is too short to begin a move in, seconds.
const REST_S: f64 = 0.2;
/// Points of a straight path of the tool: 1 cm apart on the longest one.
const KNOTS: usize = 13;

pub(super) struct ScriptedAct {
    description: Arc<RobotDescription>,
}

impl ScriptedAct {
    pub(super) fn new(description: Arc<RobotDescription>) -> Self {
        Self { description }
    }

    fn rows(&self, request: &ActRequest) -> Result<ActRows, PolicyError> {
        let robot_type = &self.description.toml().robot_type;
        let odd = |problem: String| PolicyError::context(ContextFault::Unshaped, problem);
        let ours = super::model_hash();
        if request.context.head().model_hash != ours {
            let problem = "it is not of the policy scripted";
            return Err(PolicyError::context(ContextFault::OtherModel, problem));
        }
        let part = request.context.part(0)?;
        let moves = unpack(&part, self.description.arms().len()).map_err(odd)?;
        let slots = self.description.slots();
        let prefix = &request.prefix[..request.prefix.len().min(robot_type.horizon)];
        let first = prefix.last().unwrap_or(&request.state);
        let mut dofs: Vec<f64> = slots.to_dofs(first).collect();
        if !dofs.iter().all(|value| value.is_finite()) {
            return Err(odd("the state lacks a joint".to_owned()));
        }
        let n_free = robot_type.horizon - prefix.len();
        let tick_s = 1.0 / self.description.toml().policy_hz;
        let until_s = n_free as f64 * tick_s;
        let mut courses = Vec::new();
        for arm_idx in 0..self.description.arms().len() {
            let moves: Vec<&Move> = moves
                .iter()
                .filter(|each| each.arm_idx == arm_idx)
                .collect();
            courses.push(self.course(arm_idx, &moves, &dofs, until_s));
        }
        let mut rows: Vec<f32> = prefix.concat();
        for row in 1..=n_free {
            for course in &courses {
                course.at(row as f64 * tick_s, &mut dofs);
            }
            rows.extend(slots.to_slots(&dofs));
        }
        Ok(ActRows {
            horizon: robot_type.horizon as u16,
            width: robot_type.width as u16,
            rows,
        })
    }

    /// One arm's motion, at most `until_s` long.
    fn course(&self, arm_idx: usize, moves: &[&Move], dofs: &[f64], until_s: f64) -> Course {
        let arm = &self.description.arms()[arm_idx];
        let mut maker = Maker {
            reach: Reach::new(&self.description, arm_idx),
            gripper_speed: self.description.limits()[arm.gripper_dof()].speed_max * SPEED_PART,
            joints: dofs[arm.first_dof..arm.gripper_dof()].to_vec(),
            gripper_m: dofs[arm.gripper_dof()],
        };
        let mut course = Course {
            first_dof: arm.first_dof,
            start: (maker.joints.clone(), maker.gripper_m),
            segments: Vec::new(),
        };
        let mut now_s = 0.0;
        for each in moves {
            let Some(mut segment) = maker.segment(each, now_s) else {
                break;
            };
            let left_s = until_s - now_s;
            if left_s < segment.seconds {
                if REST_S < left_s || segment.still() {
                    segment.part = left_s / segment.seconds;
                    segment.seconds = left_s;
                    course.segments.push(segment);
                }
                break;
            }
            now_s += segment.seconds;
            course.segments.push(segment);
        }
        course
    }
}

impl Act for ScriptedAct {
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
        requests.iter().map(|request| self.rows(request)).collect()
    }
}

/// Makes one segment after the other, each from where the last one ends.
struct Maker<'a> {
    reach: Reach<'a>,
    gripper_speed: f64,
    joints: Vec<f64>,
    gripper_m: f64,
}

impl Maker<'_> {
    /// `None` if the move's place is out of reach from here: the next decision looks anew.
    fn segment(&mut self, each: &Move, from_s: f64) -> Option<Segment> {
        let knots = match each.kind {
            Kind::Grip => vec![self.joints.clone()],
            Kind::Home => vec![self.joints.clone(), self.reach.home.to_vec()],
            Kind::Reach => {
                let goal = downward(each.position_m, each.yaw_rad);
                vec![self.joints.clone(), self.reach.afar(&goal)?]
            }
            Kind::Line => self.line(each.position_m, each.yaw_rad)?,
        };
        let gripper_s = (each.gripper_m - self.gripper_m).abs() / self.gripper_speed;
        let held_s = if each.kind == Kind::Grip {
            gripper_s + each.seconds
        } else {
            gripper_s
        };
        let travel_s = self.travel_s(&knots);
        let shortest_s = if travel_s < 1e-3 { 0.0 } else { SHORTEST_S };
        let segment = Segment {
            from_s,
            seconds: travel_s.max(held_s).max(shortest_s),
            part: 1.0,
            gripper: [self.gripper_m, each.gripper_m],
            gripper_speed: self.gripper_speed,
            knots,
        };
        if let Some(last) = segment.knots.last() {
            self.joints.clone_from(last);
        }
        self.gripper_m = each.gripper_m;
        Some(segment)
    }

    /// Joints along a straight path of the tool.
    fn line(&self, to_m: Vec3, yaw_rad: f64) -> Option<Vec<Vec<f64>>> {
        let from = self.reach.arm.chain.tool(&self.joints);
        let [x_axis, y_axis, _] = from.rotation;
        let from_yaw = y_axis[0].atan2(x_axis[0]);
        // The shorter way round, with the fingers as they are: half a turn looks the same.
        let turn = (yaw_rad - from_yaw + std::f64::consts::FRAC_PI_2)
            .rem_euclid(std::f64::consts::PI)
            - std::f64::consts::FRAC_PI_2;
        let mut knots = vec![self.joints.clone()];
        for knot in 1..KNOTS {
            let part = knot as f64 / (KNOTS - 1) as f64;
            let at =
                std::array::from_fn(|i| from.position_m[i] + (to_m[i] - from.position_m[i]) * part);
            let goal = downward(at, from_yaw + turn * part);
            let joints = self.reach.near(&goal, knots.last()?)?;
            knots.push(joints);
        }
        Some(knots)
    }

    /// How long a path takes at the part of the speed limits that is used.
    fn travel_s(&self, knots: &[Vec<f64>]) -> f64 {
        let n_steps = (knots.len() - 1) as f64;
        let steepest = knots.windows(2).flat_map(|pair| {
            let joints = pair[0].iter().zip(&pair[1]).zip(self.reach.limits);
            joints.map(|((from, to), limits)| (to - from).abs() / limits.speed_max)
        });
        steepest.fold(0.0, f64::max) * n_steps * PEAK / SPEED_PART
    }
}

/// One move in time: a path of joints, run over from rest to rest.
struct Segment {
    from_s: f64,
    seconds: f64,
    /// How much of the path is run over; below 1 where the chunk ends before the move.
    part: f64,
    knots: Vec<Vec<f64>>,
    gripper: [f64; 2],
    gripper_speed: f64,
}

impl Segment {
    /// Whether only the gripper moves.
    fn still(&self) -> bool {
        self.knots.len() == 1
    }

    fn at(&self, now_s: f64, joints: &mut [f64]) -> f64 {
        let since_s = (now_s - self.from_s).max(0.0);
        let time = (since_s / self.seconds.max(1e-9)).min(1.0);
        let course = time * time * time * (10.0 - 15.0 * time + 6.0 * time * time);
        let along = course * self.part * (self.knots.len() - 1) as f64;
        let knot = (along as usize).min(self.knots.len().saturating_sub(2));
        let rest = along - knot as f64;
        let next = (knot + 1).min(self.knots.len() - 1);
        for (joint, (from, to)) in joints
            .iter_mut()
            .zip(self.knots[knot].iter().zip(&self.knots[next]))
        {
            *joint = from + (to - from) * rest;
        }
        let [from, to] = self.gripper;
        let most = self.gripper_speed * since_s.min(self.seconds);
        from + (to - from).clamp(-most, most)
    }
}

/// One arm's motion.
struct Course {
    first_dof: usize,
    start: (Vec<f64>, f64),
    segments: Vec<Segment>,
}

impl Course {
    /// Writes the arm's targets at a time after the start.
    fn at(&self, now_s: f64, dofs: &mut [f64]) {
        let n_joints = self.start.0.len();
        let joints = &mut dofs[self.first_dof..self.first_dof + n_joints];
        let running = self.segments.iter().rfind(|each| each.from_s < now_s);
        let gripper_m = if let Some(segment) = running {
            segment.at(now_s, joints)
        } else {
            joints.copy_from_slice(&self.start.0);
            self.start.1
        };
        dofs[self.first_dof + n_joints] = gripper_m;
    }
}
