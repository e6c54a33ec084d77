//! What the policy sees: the task's block and tray among the true objects, and how the hands stand.

use vlad_cell::description::RobotDescription;
use vlad_safety::kinematics::{Pose, Vec3, norm, sub};
use vlad_wire::msg::sense::TrueObject;

use crate::scene::{TRAY_FLOOR_M, TRAY_WALL_M};
use crate::task;

/// A block whose centre is this near to the tool point is between the fingers, metres.
const BETWEEN_M: f64 = 0.018;
/// Fingers this much wider apart than a block do not touch it.
const TOUCH_M: f64 = 0.0015;
/// Fingers closer than this to each other hold something else, or nothing.
const CRUSHED_M: f64 = 0.014;
/// How far the centre of a block that lies may be from its height when flat.
const FLAT_M: f64 = 0.008;
/// Between the centres of two blocks in a tray: an opened finger fits in between.
const APART_M: f64 = 0.066;

/// A block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Block {
    pub(super) position_m: Vec3,
    /// Turn of a face about the vertical, radians, one of four.
    pub(super) yaw_rad: f64,
    pub(super) size_m: f64,
}

/// A tray: where its floor is, and how large inside.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(
    clippy::struct_field_names,
    reason = "all three are lengths, and units stand last"
)]
pub(super) struct Tray {
    pub(super) centre_m: [f64; 2],
    /// Edge lengths inside its walls.
    inner_m: [f64; 2],
    pub(super) floor_m: f64,
}

/// A hand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hand {
    pub(super) tool: Pose,
    pub(super) opening_m: f64,
}

/// All that a decision rests on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sight {
    pub(super) block: Block,
    /// All blocks but the task's.
    pub(super) others: Vec<Block>,
    pub(super) tray: Tray,
    /// Height of the table top.
    pub(super) table_m: f64,
    pub(super) hands: Vec<Hand>,
}

impl Sight {
    /// Looks; the reason if the instruction or the scene is not the policy's.
    pub(super) fn new(
        truth: &[TrueObject],
        instruction: &str,
        description: &RobotDescription,
        dofs: &[f64],
    ) -> Result<Self, String> {
        let of_kind = |kind: &'static str| truth.iter().filter(move |o| o.kind.as_str() == kind);
        let labels = |kind| of_kind(kind).map(|o| o.label.as_str()).collect::<Vec<_>>();
        let task = task::parse(instruction, &labels("block"), &labels("tray"))
            .map_err(|error| error.to_string())?;
        let labelled = |kind, label: &str| of_kind(kind).find(|o| o.label.as_str() == label);
        let (Some(target), Some(tray)) = (
            labelled("block", &task.colour),
            labelled("tray", &task.side),
        ) else {
            return Err("the scene has no such block or tray".to_owned());
        };
        let table_m = tray.pose.position_m[2] - tray.size_m[2] / 2.0;
        let hands = description.arms().iter().map(|arm| Hand {
            tool: arm.chain.tool(&dofs[arm.first_dof..arm.gripper_dof()]),
            opening_m: dofs[arm.gripper_dof()],
        });
        Ok(Self {
            block: block(target),
            others: of_kind("block")
                .filter(|other| other.name != target.name)
                .map(block)
                .collect(),
            tray: Tray {
                centre_m: [tray.pose.position_m[0], tray.pose.position_m[1]],
                inner_m: [0, 1].map(|axis| tray.size_m[axis] - 2.0 * TRAY_WALL_M),
                floor_m: table_m + TRAY_FLOOR_M,
            },
            table_m,
            hands: hands.collect(),
        })
    }

    /// Whether a block is between an arm's fingers, touched or not.
    pub(super) fn around(&self, arm_idx: usize, block: &Block) -> bool {
        let tool_m = self.hands[arm_idx].tool.position_m;
        norm(sub(block.position_m, tool_m)) < BETWEEN_M
    }

    /// Whether an arm's fingers press on a block.
    pub(super) fn holds(&self, arm_idx: usize, block: &Block) -> bool {
        let opening_m = self.hands[arm_idx].opening_m;
        let pressed = block.size_m - CRUSHED_M < opening_m && opening_m < block.size_m + TOUCH_M;
        pressed && self.around(arm_idx, block)
    }

    /// Whether the block lies in its tray.
    pub(super) fn in_tray(&self) -> bool {
        let [x, y, z] = self.block.position_m;
        let inside = |axis: usize, at: f64| {
            (at - self.tray.centre_m[axis]).abs() <= self.tray.inner_m[axis] / 2.0
        };
        let flat_m = self.tray.floor_m + self.block.size_m / 2.0;
        inside(0, x) && inside(1, y) && (z - flat_m).abs() < FLAT_M
    }

    /// The first of the tray's places that no block occupies; the middle row's first.
    pub(super) fn free_spot(&self) -> [f64; 2] {
        let clear = |[x, y]: [f64; 2]| {
            self.others.iter().all(|other| {
                let [other_x, other_y, _] = other.position_m;
                APART_M < (x - other_x).hypot(y - other_y)
            })
        };
        let room = self.tray.inner_m.map(|edge| (edge / 2.0 - 0.05).max(0.0));
        let [x, y] = self.tray.centre_m;
        let spots = [
            [0.0, 0.0],
            [-1.0, -1.0],
            [-1.0, 1.0],
            [1.0, -1.0],
            [1.0, 1.0],
            [-1.0, 0.0],
            [1.0, 0.0],
        ];
        let spots = spots.map(|[u, v]| [x + u * room[0], y + v * room[1]]);
        spots
            .into_iter()
            .find(|spot| clear(*spot))
            .unwrap_or([x, y])
    }
}

fn block(object: &TrueObject) -> Block {
    let [x, y, z, w] = object.pose.quaternion_xyzw;
    // The face's normal that lies flattest gives the turn, whichever way the cube came to lie.
    let axes = [
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y + w * z),
            2.0 * (x * z - w * y),
        ],
        [
            2.0 * (x * y - w * z),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z + w * x),
        ],
        [
            2.0 * (x * z + w * y),
            2.0 * (y * z - w * x),
            1.0 - 2.0 * (x * x + y * y),
        ],
    ];
    let flattest = axes
        .into_iter()
        .min_by(|a, b| a[2].abs().total_cmp(&b[2].abs()));
    let [across, along, _] = flattest.unwrap_or([1.0, 0.0, 0.0]);
    Block {
        position_m: object.pose.position_m,
        yaw_rad: along.atan2(across),
        size_m: object.size_m[0],
    }
}
