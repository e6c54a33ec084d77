//! What stands in the cell, as meshes with colours, each fixed to one pose of a snapshot.

use vlad_cell::description::{Arm, RobotDescription};
use vlad_safety::kinematics::{Pose, Vec3, norm, sub};

use super::mesh::{Mesh, tiles};
use crate::scene::Scene;
use crate::world::Snapshot;
use crate::world::physics::{FINGER_SIZE_M, HAND_CENTRE_M, HAND_SIZE_M, tray_boxes};

/// Towards the light; from the front left, high up, so that shadows fall short and to one side.
const LIGHT: Vec3 = [0.30, 0.38, 0.87];
/// Backdrop above and below.
const SKY: [[u8; 3]; 2] = [[226, 233, 240], [205, 214, 224]];
const FLOOR: [[u8; 3]; 2] = [[186, 193, 201], [174, 181, 190]];
const TABLE: [u8; 3] = [226, 214, 194];
const TABLE_EDGE: [u8; 3] = [150, 126, 98];
const TRAY: [u8; 3] = [88, 102, 122];
const TRAY_FLOOR: [u8; 3] = [120, 134, 152];
const LINK: [u8; 3] = [240, 241, 243];
const JOINT: [u8; 3] = [58, 64, 76];
const HAND: [u8; 3] = [76, 82, 94];
const FINGER: [u8; 3] = [46, 50, 58];
/// The arms' own colours, on their shoulders: left, right.
const ARMS: [[u8; 3]; 2] = [[64, 150, 190], [204, 120, 74]];

/// One mesh in one colour, fixed to one pose.
pub struct Item {
    pub(super) mesh: usize,
    pub(super) rgb: [u8; 3],
    pub(super) casts_shadow: bool,
    pub(super) takes_shadow: bool,
    /// Index in a snapshot's poses, or `None` for the cell.
    frame: Option<usize>,
}

impl Item {
    pub(super) fn pose(&self, at: &Snapshot) -> Pose {
        self.frame
            .and_then(|idx| at.poses.get(idx).copied())
            .unwrap_or(Pose::IDENTITY)
    }
}

/// Everything that is drawn, made once.
pub struct Stage {
    meshes: Vec<Mesh>,
    items: Vec<Item>,
    /// Index of each arm's hand in a snapshot's poses.
    hands: Vec<usize>,
    table_m: f64,
    light: Vec3,
}

impl Stage {
    /// Builds the stage of a scene and a robot.
    pub fn new(scene: &Scene, description: &RobotDescription) -> Self {
        let mut stage = Self {
            meshes: Vec::new(),
            items: Vec::new(),
            hands: Vec::new(),
            table_m: scene.toml().table.height_m,
            light: LIGHT.map(|x| x / norm(LIGHT)),
        };
        stage.add_room(scene);
        let mut first = 0;
        for (arm_idx, arm) in description.arms().iter().enumerate() {
            stage.add_arm(arm, arm_idx, first);
            first += arm.n_joints();
            stage.hands.push(first);
            stage.add_hand(first);
            first += 3;
        }
        for (idx, block) in scene.toml().blocks.iter().enumerate() {
            let cube = Mesh::cuboid([0.0; 3], [block.size_m; 3]);
            stage.add(cube, block.colour.rgb(), Some(first + idx));
        }
        stage
    }

    /// Index of an arm's hand in a snapshot's poses.
    pub(crate) fn hand(&self, arm_idx: usize) -> usize {
        self.hands[arm_idx]
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(super) fn meshes(&self) -> &[Mesh] {
        &self.meshes
    }

    pub(super) fn light(&self) -> Vec3 {
        self.light
    }

    pub(super) fn table_m(&self) -> f64 {
        self.table_m
    }

    #[expect(clippy::unused_self, reason = "the backdrop is part of the stage")]
    pub(super) fn sky(&self) -> [[u8; 3]; 2] {
        SKY
    }

    /// Adds something that throws a shadow.
    fn add(&mut self, mesh: Mesh, rgb: [u8; 3], frame: Option<usize>) -> &mut Item {
        self.meshes.push(mesh);
        let at = self.items.len();
        self.items.push(Item {
            mesh: self.meshes.len() - 1,
            rgb,
            casts_shadow: true,
            takes_shadow: false,
            frame,
        });
        &mut self.items[at]
    }

    fn add_room(&mut self, scene: &Scene) {
        let table = &scene.toml().table;
        let ([x, y], [size_x, size_y]) = (table.centre_m, table.size_m);
        for (rgb, odd) in [(FLOOR[0], false), (FLOOR[1], true)] {
            let floor = tiles([x, y, 0.0], 0.5, 16, odd);
            self.add(floor, rgb, None).casts_shadow = false;
        }
        let high = table.height_m;
        let mut plate = Mesh::cuboid([x, y, high - 0.021], [size_x, size_y, 0.04]);
        // Its own top is under the sheet that follows: filling it would cost half a picture.
        plate.keep_faces(|normal| normal[2] < 0.5);
        self.add(plate, TABLE_EDGE, None).casts_shadow = false;
        // The top is a sheet of its own, a millimetre above the plate: it alone takes shadows.
        let mut top = Mesh::cuboid([x, y, high - 0.0005], [size_x, size_y, 0.001]);
        top.keep_faces(|normal| 0.5 < normal[2]);
        let top = self.add(top, TABLE, None);
        (top.casts_shadow, top.takes_shadow) = (false, true);
        for (sign_x, sign_y) in [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)] {
            let leg_x = x + sign_x * (size_x / 2.0 - 0.04);
            let leg_y = y + sign_y * (size_y / 2.0 - 0.04);
            let half = (high - 0.04) / 2.0;
            let leg = Mesh::cuboid([leg_x, leg_y, half], [0.05, 0.05, 2.0 * half]);
            self.add(leg, JOINT, None).casts_shadow = false;
        }
        for tray in &scene.toml().trays {
            for (idx, (centre, size)) in tray_boxes(high, tray).into_iter().enumerate() {
                let rgb = if idx == 0 { TRAY_FLOOR } else { TRAY };
                self.add(Mesh::cuboid(centre, size), rgb, None);
            }
        }
    }

    /// Adds an arm's pedestal, links and joints; its links' poses begin at `first`.
    fn add_arm(&mut self, arm: &Arm, arm_idx: usize, first: usize) {
        let base = arm.chain.world_from_base.position_m;
        let under = |z: f64| [base[0], base[1], base[2] + z];
        self.add(Mesh::cylinder(under(0.0), under(0.02), 0.085), JOINT, None);
        self.add(Mesh::cylinder(under(0.02), under(0.06), 0.062), LINK, None);
        // The last link's capsule stands for hand and fingers, which are drawn as they are.
        let last_joint = arm.n_joints() - 1;
        for capsule in arm
            .capsules
            .iter()
            .filter(|capsule| capsule.joint_idx < last_joint)
        {
            let frame = Some(first + capsule.joint_idx);
            let (from, to, radius) = (capsule.from_m, capsule.to_m, capsule.radius_m);
            let rgb = if capsule.joint_idx == 0 {
                ARMS[arm_idx % ARMS.len()]
            } else {
                LINK
            };
            self.add(Mesh::capsule(from, to, radius), rgb, frame);
            // A joint shows as a dark drum across the link that it carries, unless it turns along it.
            let axis = arm.chain.joints[capsule.joint_idx].axis;
            let along = sub(to, from);
            let cosine = axis.iter().zip(&along).map(|(a, b)| a * b).sum::<f64>() / norm(along);
            if cosine.abs() < 0.9 {
                let end = axis.map(|x| x * radius * 1.25);
                let drum = Mesh::cylinder(end.map(|x| -x), end, radius * 1.06);
                self.add(drum, JOINT, frame);
            } else if 0 < capsule.joint_idx {
                let ring = |part: f64| [0, 1, 2].map(|i| from[i] + along[i] * part);
                let ring = Mesh::cylinder(ring(0.0), ring(0.12), radius * 1.12);
                self.add(ring, JOINT, frame);
            }
        }
        let flange = Mesh::cylinder([0.0, 0.0, -0.14], [0.0, 0.0, -0.10], 0.033);
        self.add(flange, LINK, Some(first + arm.n_joints()));
    }

    /// Adds a hand and its fingers, whose poses begin at `first`.
    fn add_hand(&mut self, first: usize) {
        self.add(Mesh::cuboid(HAND_CENTRE_M, HAND_SIZE_M), HAND, Some(first));
        for finger in 1..=2 {
            self.add(
                Mesh::cuboid([0.0; 3], FINGER_SIZE_M),
                FINGER,
                Some(first + finger),
            );
        }
    }
}
