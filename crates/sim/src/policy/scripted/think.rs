//! The brain's half: what is left to do.

use std::f64::consts::{FRAC_PI_2, PI};
use std::sync::Arc;

use vlad_cell::description::RobotDescription;
use vlad_motion::policy::{ContextSink, PolicyError, Think, ThinkJob};
use vlad_safety::kinematics::Vec3;

use super::inverse::{Reach, downward};
use super::plan::{Kind, Move, pack};
use super::sight::Sight;
use crate::policy::handover;

/// Height of the tool above the table on the way: fingertips clear blocks and tray walls by 7 cm.
const TRAVEL_M: f64 = 0.13;
/// What is further off than this is not lined up yet: a finger has 2 cm beside a block.
const LINED_UP_M: f64 = 0.008;
/// Likewise for the turn, radians.
const LINED_UP_RAD: f64 = 0.08;
/// The tool is at its height within this, metres.
const LEVEL_M: f64 = 0.006;
/// How much closer than the block the gripper is told to be: the finger springs' 20 N, and within
/// the guard's 0.02 m of the measured opening.
const SQUEEZE_M: f64 = 0.010;
/// How much wider than the block the gripper lets go: no finger reaches a neighbour in the tray.
const RELEASE_M: f64 = 0.022;
/// A block is let go this high above the tray's floor: none is pressed into it.
const DROP_M: f64 = 0.003;
/// How long the fingers press before the arm moves, seconds.
const PRESS_S: f64 = 0.2;
/// A finger's middle is this far from a grasped block's centre when open: where others must not be.
const FINGER_M: f64 = 0.045;
/// Another hand nearer than this to the block must leave first, metres.
const CROWDED_M: f64 = 0.2;
/// Joints within this of home are home, radians.
const HOME_RAD: f64 = 0.02;

pub(super) struct ScriptedThink {
    description: Arc<RobotDescription>,
}

impl ScriptedThink {
    pub(super) fn new(description: Arc<RobotDescription>) -> Self {
        Self { description }
    }

    fn decide(&self, job: &ThinkJob) -> Result<Vec<Move>, String> {
        let head = &job.observation.head;
        let truth = head.truth.as_deref().ok_or(
            "the observation holds no object poses; scripted works on simulated cells only",
        )?;
        let dofs: Vec<f64> = self.description.slots().to_dofs(&head.state).collect();
        if !dofs.iter().all(|value| value.is_finite()) {
            return Err("the observation's state lacks a joint".to_owned());
        }
        let instruction = job.task.instruction.as_str();
        let sight = Sight::new(truth, instruction, &self.description, &dofs)?;
        let decision = Decision {
            description: &self.description,
            sight,
            dofs: &dofs,
        };
        decision.moves()
    }
}

impl Think for ScriptedThink {
    fn think(
        &mut self,
        jobs: &[ThinkJob],
        sink: &mut dyn ContextSink,
    ) -> Vec<Result<(), PolicyError>> {
        let each = |(idx, job)| self.context(job, idx, sink);
        jobs.iter().enumerate().map(each).collect()
    }
}

impl ScriptedThink {
    fn context(
        &self,
        job: &ThinkJob,
        idx: usize,
        sink: &mut dyn ContextSink,
    ) -> Result<(), PolicyError> {
        let moves = self.decide(job).map_err(PolicyError::Decide)?;
        let part =
            pack(job.request.id, &moves).map_err(|error| PolicyError::Decide(error.to_string()))?;
        sink.head(idx, handover::head(job, super::model_hash()));
        sink.part(idx, part);
        Ok(())
    }
}

/// Where a block is brought.
#[derive(Debug, Clone, Copy)]
struct Goal {
    spot: [f64; 2],
    /// Height of what it is put on.
    floor_m: f64,
    /// Whether another arm takes it from there.
    relay: bool,
}

impl Goal {
    fn over(&self, [x, y, _]: Vec3) -> bool {
        (x - self.spot[0]).hypot(y - self.spot[1]) < LINED_UP_M
    }
}

/// One decision under way.
struct Decision<'a> {
    description: &'a RobotDescription,
    sight: Sight,
    dofs: &'a [f64],
}

impl Decision<'_> {
    /// What each arm does: the working one its phase, the other one goes home.
    fn moves(&self) -> Result<Vec<Move>, String> {
        let arms = 0..self.description.arms().len();
        let holder = arms
            .clone()
            .find(|idx| self.sight.holds(*idx, &self.sight.block));
        let worker = if self.sight.in_tray() && holder.is_none() {
            None
        } else {
            Some(holder.map_or_else(|| self.worker(), Ok)?)
        };
        let mut moves = Vec::new();
        for arm_idx in arms {
            if worker != Some(arm_idx) {
                moves.extend(self.leave(arm_idx));
            } else if holder.is_some() {
                moves.extend(self.carry(arm_idx)?);
            } else if !self.crowded(arm_idx) {
                moves.extend(self.fetch(arm_idx)?);
            }
        }
        Ok(moves)
    }

    /// The arm that reaches block and tray, or else the block alone: it brings it to the middle.
    fn worker(&self) -> Result<usize, String> {
        let mut arms: Vec<usize> = (0..self.description.arms().len()).collect();
        let [tray_x, tray_y] = self.sight.tray.centre_m;
        let [block_x, block_y, _] = self.sight.block.position_m;
        let cost = |arm_idx: &usize| {
            let base = self.description.arms()[*arm_idx].chain.world_from_base;
            let [x, y, _] = base.position_m;
            let to_tray = (tray_x - x).hypot(tray_y - y);
            to_tray.max((block_x - x).hypot(block_y - y))
        };
        arms.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
        arms.retain(|arm_idx| self.grasp_yaw(*arm_idx).is_ok());
        let both = arms.iter().find(|arm_idx| !self.goal(**arm_idx).relay);
        let worker = both.or(arms.first()).copied();
        worker.ok_or_else(|| "no arm reaches the block".to_owned())
    }

    /// Whether another hand is still where this arm is to work.
    fn crowded(&self, arm_idx: usize) -> bool {
        let [x, y, _] = self.sight.block.position_m;
        let hands = self.sight.hands.iter().enumerate();
        hands.filter(|(idx, _)| *idx != arm_idx).any(|(idx, hand)| {
            let [hand_x, hand_y, _] = hand.tool.position_m;
            (hand_x - x).hypot(hand_y - y) < CROWDED_M && !self.at_home(idx)
        })
    }

    /// Where an arm brings the block: the tray, or the middle if it does not reach the tray.
    fn goal(&self, arm_idx: usize) -> Goal {
        let reach = Reach::new(self.description, arm_idx);
        let spot = self.sight.free_spot();
        let above = [spot[0], spot[1], self.travel_m()];
        let yaw = reach.azimuth(above) + base_yaw(&reach) + PI;
        if reach.afar(&downward(above, yaw)).is_some() {
            Goal {
                spot,
                floor_m: self.sight.tray.floor_m,
                relay: false,
            }
        } else {
            Goal {
                spot: self.middle_spot(),
                floor_m: self.sight.table_m,
                relay: true,
            }
        }
    }

    /// From wherever the arm is to a block that is held and lifted.
    fn fetch(&self, arm_idx: usize) -> Result<Vec<Move>, String> {
        let block = &self.sight.block;
        let hand = &self.sight.hands[arm_idx];
        let [x, y, z] = block.position_m;
        let yaw = self.grasp_yaw(arm_idx)?;
        let go = Go { arm_idx, yaw };
        let open_m = self.open(arm_idx);
        let closed_m = block.size_m - SQUEEZE_M;
        let [tool_x, tool_y, tool_z] = hand.tool.position_m;
        let above = [x, y, self.travel_m()];
        let lined_up = (tool_x - x).hypot(tool_y - y) < LINED_UP_M
            && turn_between(self.tool_yaw(arm_idx), yaw, PI).abs() < LINED_UP_RAD;
        let down = (tool_z - z).abs() < LEVEL_M && lined_up;
        let wide = block.size_m + 0.012 <= hand.opening_m;
        let mut moves = Vec::new();
        if !down || hand.opening_m < block.size_m - SQUEEZE_M / 2.0 {
            if !lined_up || !wide {
                moves.extend(self.rise(arm_idx, open_m));
                moves.push(go.reach(above, open_m));
            }
            moves.push(go.line([x, y, z], open_m));
        }
        moves.push(go.grip(closed_m, PRESS_S));
        moves.push(go.line(above, closed_m));
        // The same chunk may go on: what follows is the next decision's too, from a fresh look.
        moves.extend(self.deliver(go, [x, y, z], 0.0, closed_m)?);
        Ok(moves)
    }

    /// From a held block to one that lies where it is to be.
    fn carry(&self, arm_idx: usize) -> Result<Vec<Move>, String> {
        let block = &self.sight.block;
        let closed_m = self.pressing(arm_idx);
        let yaw = self.tool_yaw(arm_idx);
        let go = Go { arm_idx, yaw };
        let tool_m = self.sight.hands[arm_idx].tool.position_m;
        let goal = self.goal(arm_idx);
        let low_m = goal.floor_m + block.size_m / 2.0 + DROP_M;
        let over = goal.over(tool_m);
        if self.sight.in_tray() || over && block.position_m[2] - low_m < LEVEL_M {
            return Ok(self.let_go(go, tool_m));
        }
        let mut moves = Vec::new();
        if !over {
            let on_table = block.position_m[2] < self.sight.table_m + block.size_m / 2.0 + LEVEL_M;
            if on_table {
                moves.push(go.grip(closed_m, PRESS_S / 2.0));
            }
            moves.extend(self.rise(arm_idx, closed_m));
        }
        // How the block sits between the fingers stays as it is.
        let below_m = tool_m[2] - block.position_m[2];
        moves.extend(self.deliver(go, tool_m, below_m, closed_m)?);
        Ok(moves)
    }

    /// To above the goal, down, and away, from a tool at `from_m` that holds the block `below_m`
    /// under its point.
    fn deliver(
        &self,
        go: Go,
        from_m: Vec3,
        below_m: f64,
        closed_m: f64,
    ) -> Result<Vec<Move>, String> {
        let reach = Reach::new(self.description, go.arm_idx);
        let goal = self.goal(go.arm_idx);
        let [x, y] = goal.spot;
        let low = [
            x,
            y,
            goal.floor_m + self.sight.block.size_m / 2.0 + DROP_M + below_m,
        ];
        let above = [x, y, self.travel_m()];
        let mut moves = Vec::new();
        let mut go = go;
        if !goal.over(from_m) {
            // The wrist keeps its turn against the arm: only the waist turns the block.
            go.yaw += reach.azimuth(low) - reach.azimuth(from_m);
            moves.push(go.reach(above, closed_m));
        }
        if reach.afar(&downward(above, go.yaw)).is_none() {
            return Err("the arm does not reach the place for the block".to_owned());
        }
        moves.push(go.line(low, closed_m));
        moves.extend(self.let_go(go, low));
        Ok(moves)
    }

    /// Opens where the tool is, goes up and home.
    fn let_go(&self, go: Go, tool_m: Vec3) -> Vec<Move> {
        let release_m = self.sight.block.size_m + RELEASE_M;
        let [x, y, _] = tool_m;
        vec![
            go.grip(release_m, PRESS_S),
            go.line([x, y, self.travel_m()], release_m),
            go.home(release_m),
        ]
    }

    /// A free place between the bases, as far out as the tray.
    fn middle_spot(&self) -> [f64; 2] {
        let arms = self.description.arms();
        let bases = arms
            .iter()
            .map(|arm| arm.chain.world_from_base.position_m[1]);
        let middle = bases.sum::<f64>() / arms.len() as f64;
        let spots = [0.0, 0.08, -0.08, 0.16].map(|off| [self.sight.tray.centre_m[0] + off, middle]);
        let clear = |spot: &[f64; 2]| {
            self.sight.others.iter().all(|other| {
                0.08 < (spot[0] - other.position_m[0]).hypot(spot[1] - other.position_m[1])
            })
        };
        spots.into_iter().find(clear).unwrap_or(spots[0])
    }

    /// What an arm without work does: lets go of what it does not hold, goes up and home.
    fn leave(&self, arm_idx: usize) -> Vec<Move> {
        let hand = &self.sight.hands[arm_idx];
        let [x, y, z] = hand.tool.position_m;
        let go = Go {
            arm_idx,
            yaw: self.tool_yaw(arm_idx),
        };
        if self
            .sight
            .others
            .iter()
            .any(|other| self.sight.holds(arm_idx, other))
        {
            let closed_m = self.pressing(arm_idx);
            let mut moves: Vec<Move> = self.rise(arm_idx, closed_m).into_iter().collect();
            moves.push(go.home(closed_m));
            return moves;
        }
        if self.sight.around(arm_idx, &self.sight.block) {
            return self.let_go(go, [x, y, z]);
        }
        let open_m = self.open(arm_idx);
        let low = z < self.sight.table_m + TRAVEL_M - LEVEL_M && !self.at_home(arm_idx);
        let gripper_m = if low { hand.opening_m } else { open_m };
        let mut moves: Vec<Move> = Vec::new();
        if low {
            moves.extend(self.rise(arm_idx, gripper_m));
        }
        moves.push(go.home(open_m));
        moves
    }

    /// Straight up to travelling height, if the tool is below it.
    fn rise(&self, arm_idx: usize, gripper_m: f64) -> Option<Move> {
        let hand = &self.sight.hands[arm_idx];
        let [x, y, z] = hand.tool.position_m;
        let go = Go {
            arm_idx,
            yaw: self.tool_yaw(arm_idx),
        };
        let downward = hand.tool.rotation[2][2] < -0.95;
        (z < self.travel_m() - LEVEL_M && downward)
            .then(|| go.line([x, y, self.travel_m()], gripper_m))
    }

    /// The turn of the tool for a grasp: along the block's faces, no neighbour under a finger, the
    /// wrist as straight as may be.
    fn grasp_yaw(&self, arm_idx: usize) -> Result<f64, String> {
        let block = &self.sight.block;
        let reach = Reach::new(self.description, arm_idx);
        let straight = reach.azimuth(block.position_m) + base_yaw(&reach) + PI;
        let near = straight - turn_between(straight, block.yaw_rad, FRAC_PI_2);
        let cost = |yaw: &f64| {
            let across = [-yaw.sin(), yaw.cos()];
            let crowded = [1.0, -1.0].iter().any(|side| {
                self.sight.others.iter().any(|other| {
                    let finger =
                        |axis: usize| block.position_m[axis] + across[axis] * FINGER_M * side;
                    let off_x = finger(0) - other.position_m[0];
                    let off_y = finger(1) - other.position_m[1];
                    off_x.hypot(off_y) < 0.035
                })
            });
            // A wrist turned by a quarter is worth it only to keep off a neighbour.
            (yaw - straight).abs() + if crowded { PI } else { 0.0 }
        };
        [near, near + FRAC_PI_2, near - FRAC_PI_2]
            .into_iter()
            .filter(|yaw| reach.afar(&downward(block.position_m, *yaw)).is_some())
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .ok_or_else(|| "no arm reaches the block".to_owned())
    }

    fn travel_m(&self) -> f64 {
        self.sight.table_m + TRAVEL_M
    }

    /// How far the gripper opens to go around a block.
    fn open(&self, arm_idx: usize) -> f64 {
        let dof = self.description.arms()[arm_idx].gripper_dof();
        self.description.home()[dof]
    }

    /// The opening that keeps the pressure on what is held.
    fn pressing(&self, arm_idx: usize) -> f64 {
        (self.sight.hands[arm_idx].opening_m - SQUEEZE_M).max(0.0)
    }

    fn tool_yaw(&self, arm_idx: usize) -> f64 {
        let rotation = self.sight.hands[arm_idx].tool.rotation;
        rotation[1][0].atan2(rotation[0][0])
    }

    fn at_home(&self, arm_idx: usize) -> bool {
        let arm = &self.description.arms()[arm_idx];
        let joints = arm.first_dof..arm.gripper_dof();
        let home = &self.description.home()[joints.clone()];
        let away = self.dofs[joints]
            .iter()
            .zip(home)
            .map(|(a, b)| (a - b).abs());
        away.fold(0.0, f64::max) < HOME_RAD
    }
}

/// Makes moves of one arm with one turn of the tool.
#[derive(Clone, Copy)]
struct Go {
    arm_idx: usize,
    yaw: f64,
}

impl Go {
    fn reach(self, position_m: Vec3, gripper_m: f64) -> Move {
        self.make(Kind::Reach, position_m, gripper_m, 0.0)
    }

    fn line(self, position_m: Vec3, gripper_m: f64) -> Move {
        self.make(Kind::Line, position_m, gripper_m, 0.0)
    }

    fn grip(self, gripper_m: f64, seconds: f64) -> Move {
        self.make(Kind::Grip, [0.0; 3], gripper_m, seconds)
    }

    fn home(self, gripper_m: f64) -> Move {
        self.make(Kind::Home, [0.0; 3], gripper_m, 0.0)
    }

    fn make(self, kind: Kind, position_m: Vec3, gripper_m: f64, seconds: f64) -> Move {
        Move {
            arm_idx: self.arm_idx,
            kind,
            position_m,
            yaw_rad: self.yaw,
            gripper_m,
            seconds,
        }
    }
}

/// How far `a` is turned against `b`, where every `period` looks the same; in ± half a period.
fn turn_between(a: f64, b: f64, period: f64) -> f64 {
    let turn = (a - b).rem_euclid(period);
    if period / 2.0 < turn {
        turn - period
    } else {
        turn
    }
}

fn base_yaw(reach: &Reach<'_>) -> f64 {
    let rotation = reach.arm.chain.world_from_base.rotation;
    rotation[1][0].atan2(rotation[0][0])
}
