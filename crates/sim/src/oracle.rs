//! Whether a task is done: a look at the blocks as they really are.
//!
//! Done: the block's centre is inside the tray's walls, it rests on the tray's floor, and no hand
//! holds it. Lost: it fell off the table, or the instruction is none of the scene's.

use vlad_cell::oracle::{Judgement, Oracle};
use vlad_safety::kinematics::{Pose, norm, sub};
use vlad_wire::msg::sense::{PoseQuat, TrueObject};
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::{Instruction, Name, Note};

use crate::scene::{BlockToml, Scene, TRAY_FLOOR_M, TRAY_WALL_M, TrayToml};
use crate::task;
use crate::world::physics::Motion;
use crate::world::{Grip, SimWorld, World};

/// Speed below which a block rests, metres per second: above the solver's own trembling.
const REST_M_S: f64 = 0.02;
/// How far a resting block's centre may stand above its height on the floor: it may lean a little.
const LEAN_M: f64 = 0.012;
/// A hand holds a block that is this near to its tool point, metres,
const HELD_M: f64 = 0.035;
/// and fits between its fingers with no more than this to spare.
const HELD_SLACK_M: f64 = 0.004;
/// A block this far below the table top fell off it, metres.
const FALLEN_M: f64 = 0.05;

/// The one who knows.
pub struct SimOracle {
    world: SimWorld,
}

impl SimOracle {
    pub(crate) fn new(world: SimWorld) -> Self {
        Self { world }
    }
}

impl Oracle for SimOracle {
    fn judge(&mut self, instruction: &Instruction) -> Judgement {
        let world = self.world.lock();
        let scene = world.scene().toml();
        let colours: Vec<&str> = scene
            .blocks
            .iter()
            .map(|block| block.colour.word())
            .collect();
        let sides: Vec<&str> = scene.trays.iter().map(|tray| tray.side.word()).collect();
        let task = match task::parse(instruction.as_str(), &colours, &sides) {
            Ok(task) => task,
            Err(error) => return judgement(Outcome::Lost, &error.to_string()),
        };
        let blocks = scene.blocks.iter().zip(world.blocks());
        let block = blocks
            .into_iter()
            .find(|(block, _)| block.colour.word() == task.colour);
        let tray = scene
            .trays
            .iter()
            .find(|tray| tray.side.word() == task.side);
        let (Some((block, motion)), Some(tray)) = (block, tray) else {
            return judgement(Outcome::Lost, "the scene has no such block or tray");
        };
        judge(&world, block, &motion, tray)
    }

    fn truth(&mut self) -> Vec<TrueObject> {
        let world = self.world.lock();
        truth(world.scene(), world.blocks())
    }
}

fn judge(world: &World, block: &BlockToml, motion: &Motion, tray: &TrayToml) -> Judgement {
    let table_m = world.scene().toml().table.height_m;
    let (colour, side) = (block.colour, tray.side);
    let [_, _, height] = motion.pose.position_m;
    if height < table_m - FALLEN_M {
        let reason = format!("the {colour} block fell off the table");
        return judgement(Outcome::Lost, &reason);
    }
    let open = |reason: String| judgement(Outcome::Open, &reason);
    if !inside(tray, motion) {
        return open(format!("the {colour} block is not in the {side} tray"));
    }
    if world.grips().any(|grip| holds(&grip, block, motion)) {
        return open(format!("a hand still holds the {colour} block"));
    }
    let floor_m = table_m + TRAY_FLOOR_M + block.size_m / 2.0;
    let rests = motion.speed_m_s < REST_M_S && (height - floor_m).abs() < LEAN_M;
    if !rests {
        return open(format!("the {colour} block does not rest yet"));
    }
    judgement(
        Outcome::Done,
        &format!("the {colour} block rests in the {side} tray"),
    )
}

fn inside(tray: &TrayToml, motion: &Motion) -> bool {
    (0..2).all(|axis| {
        let off = (motion.pose.position_m[axis] - tray.centre_m[axis]).abs();
        off <= tray.size_m[axis] / 2.0 - TRAY_WALL_M
    })
}

fn holds(grip: &Grip, block: &BlockToml, motion: &Motion) -> bool {
    let apart = norm(sub(grip.tool.position_m, motion.pose.position_m));
    apart < HELD_M && grip.opening_m < block.size_m + HELD_SLACK_M
}

fn judgement(outcome: Outcome, reason: &str) -> Judgement {
    Judgement {
        outcome,
        reason: Note::cleaned(reason),
    }
}

/// Every object of the scene: blocks, then trays. A tray's pose is the middle of its box, its size
/// the box's.
fn truth(scene: &Scene, blocks: impl Iterator<Item = Motion>) -> Vec<TrueObject> {
    let table_m = scene.toml().table.height_m;
    let blocks = scene
        .toml()
        .blocks
        .iter()
        .zip(blocks)
        .map(|(block, motion)| {
            let name = block.name.as_str();
            object(
                name,
                "block",
                block.colour.word(),
                &motion.pose,
                [block.size_m; 3],
            )
        });
    let trays = scene.toml().trays.iter().map(|tray| {
        let ([x, y], [size_x, size_y]) = (tray.centre_m, tray.size_m);
        let pose = Pose {
            position_m: [x, y, table_m + tray.wall_height_m / 2.0],
            ..Pose::IDENTITY
        };
        let side = tray.side.word();
        let size_m = [size_x, size_y, tray.wall_height_m];
        object(&format!("{side}_tray"), "tray", side, &pose, size_m)
    });
    blocks.chain(trays).flatten().collect()
}

/// `None` if a word is no name, which the scene's checks and the enums of its words exclude.
fn object(
    name: &str,
    kind: &str,
    label: &str,
    pose: &Pose,
    size_m: [f64; 3],
) -> Option<TrueObject> {
    Some(TrueObject {
        name: Name::new(name).ok()?,
        kind: Name::new(kind).ok()?,
        label: Name::new(label).ok()?,
        pose: PoseQuat {
            position_m: pose.position_m,
            quaternion_xyzw: pose.quaternion_xyzw(),
        },
        size_m,
    })
}
