//! The rigid bodies: table, trays, blocks, hands that follow the arms, fingers that grasp.
//!
//! Hands are kinematic: they go where forward kinematics says. Fingers are dynamic, slide along the
//! hand's y axis and are driven by one spring each with a bounded force, so that a block is held by
//! friction alone. The links of the arms have no body: they are drawn, and collide with nothing.

use rapier3d::dynamics::{
    ImpulseJointHandle, JointAxis, MotorModel, PrismaticJointBuilder, RigidBodyBuilder,
    RigidBodyHandle, SpringCoefficients,
};
use rapier3d::geometry::ColliderBuilder;
use rapier3d::math::{Matrix, Pose as BodyPose, Rotation, Vector};
use rapier3d::pipeline::PhysicsWorld;
use vlad_cell::description::{Arm, RobotDescription};
use vlad_safety::kinematics::{Pose, Vec3};

use crate::scene::{Scene, TRAY_FLOOR_M, TRAY_WALL_M, TrayToml};

/// Physics steps a second: one for each servo period of the demo robot.
pub(crate) const STEP_HZ: u32 = 240;

/// Edge lengths of a hand's box, metres, in the tool frame.
pub(crate) const HAND_SIZE_M: Vec3 = [0.05, 0.125, 0.05];
/// Centre of a hand's box in the tool frame.
pub(crate) const HAND_CENTRE_M: Vec3 = [0.0, 0.0, -0.08];
/// Edge lengths of a finger, metres, in the tool frame.
pub(crate) const FINGER_SIZE_M: Vec3 = [0.022, 0.012, 0.066];
/// Height of a finger's centre in the tool frame: its tip stands 12 mm beyond the tool point.
const FINGER_CENTRE_Z_M: f64 = -0.021;

/// Mass of a finger, kilograms.
const FINGER_MASS_KG: f32 = 0.05;
/// Rubber pads.
const FINGER_FRICTION: f32 = 1.1;
/// Spring between a finger and its place, newtons per metre: 25 N at 6 mm.
const FINGER_STIFFNESS_N_M: f32 = 4000.0;
/// About critical for a finger's mass.
const FINGER_DAMPING_N_S_M: f32 = 28.0;
/// Friction of table and trays.
const TABLE_FRICTION: f32 = 0.7;
/// Extra iterations for what is grasped and what grasps: four left blocks creeping out of a grip.
const EXTRA_ITERATIONS: usize = 8;

/// One finger.
struct Finger {
    body: RigidBodyHandle,
    joint: ImpulseJointHandle,
    /// Which way it opens along the hand's y axis: 1 or -1.
    side: f64,
}

/// One hand with its two fingers.
struct Hand {
    body: RigidBodyHandle,
    fingers: [Finger; 2],
    force_max_n: f64,
}

/// A block's state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Motion {
    /// Where it is.
    pub(crate) pose: Pose,
    /// Speed of its centre, metres per second.
    pub(crate) speed_m_s: f64,
}

/// All bodies.
pub(crate) struct Physics {
    world: PhysicsWorld,
    hands: Vec<Hand>,
    blocks: Vec<RigidBodyHandle>,
}

impl Physics {
    /// Puts the scene together: the arms at `tools`, fingers at `openings_m`.
    pub(crate) fn new(
        scene: &Scene,
        description: &RobotDescription,
        block_poses: &[Pose],
        tools: &[Pose],
    ) -> Self {
        let mut world = PhysicsWorld {
            gravity: Vector::new(0.0, 0.0, -9.81),
            ..PhysicsWorld::default()
        };
        let parameters = &mut world.integration_parameters;
        parameters.dt = 1.0 / STEP_HZ as f32;
        // Blocks are centimetres: tolerances of a metre-sized scene would be as large as a grasp.
        parameters.length_unit = 0.1;
        // The default contact is so soft that fingers would sink into a block by millimetres.
        parameters.contact_softness = SpringCoefficients::new(120.0, 5.0);
        add_table(&mut world, scene);
        for tray in &scene.toml().trays {
            add_tray(&mut world, scene.toml().table.height_m, tray);
        }
        let blocks = scene.toml().blocks.iter().zip(block_poses);
        let blocks = blocks
            .map(|(block, pose)| {
                let half = (block.size_m / 2.0) as f32;
                let body = RigidBodyBuilder::dynamic()
                    .pose(to_body(pose))
                    .additional_solver_iterations(EXTRA_ITERATIONS)
                    .can_sleep(false);
                let shape = ColliderBuilder::cuboid(half, half, half)
                    .friction(block.friction as f32)
                    .mass(block.mass_kg as f32);
                world.insert(body, shape).0
            })
            .collect();
        let arms = description.arms().iter().zip(tools);
        let hands = arms
            .map(|(arm, tool)| {
                let range = description.limits()[arm.gripper_dof()];
                let opening_m = description.home()[arm.gripper_dof()];
                add_hand(&mut world, arm, tool, [range.min, range.max, opening_m])
            })
            .collect();
        Self {
            world,
            hands,
            blocks,
        }
    }

    /// Goes on by one step: hands to `tools`, fingers towards `openings_m`.
    pub(crate) fn step(&mut self, tools: &[Pose], openings_m: &[f64]) {
        for (idx, (tool, opening_m)) in tools.iter().zip(openings_m).enumerate() {
            let measured_m = self.opening(idx);
            let hand = &self.hands[idx];
            // Both springs pull from one place within reach of the force, as a rack would: the
            // fingers stay centred, and each presses with at most the largest force.
            let reach_m = 2.0 * hand.force_max_n / f64::from(FINGER_STIFFNESS_N_M);
            let place_m = opening_m.clamp(measured_m - reach_m, measured_m + reach_m) / 2.0;
            for finger in &hand.fingers {
                if let Some(joint) = self.world.impulse_joints.get_mut(finger.joint, false) {
                    joint.data.set_motor_position(
                        JointAxis::LinX,
                        place_m as f32,
                        FINGER_STIFFNESS_N_M,
                        FINGER_DAMPING_N_S_M,
                    );
                }
            }
            if let Some(body) = self.world.bodies.get_mut(self.hands[idx].body) {
                let mut next = to_body(tool);
                // Of the two quaternions of a rotation the nearer one: a hand that points down is
                // half a turn from the cell's frame, where they change places, and the solver would
                // see a full turn in one step.
                if next.rotation.dot(body.position().rotation) < 0.0 {
                    next.rotation = -next.rotation;
                }
                body.set_next_kinematic_position(next);
            }
        }
        self.world.step();
    }

    /// Opening between the inner faces of an arm's fingers, metres, from where they really are.
    pub(crate) fn opening(&self, arm_idx: usize) -> f64 {
        let hand = &self.hands[arm_idx];
        let hand_from_world = self.pose(hand.body).inverse();
        let travel = |finger: &Finger| {
            let [_, y, _] = hand_from_world.apply(self.pose(finger.body).position_m);
            y * finger.side - FINGER_SIZE_M[1] / 2.0
        };
        hand.fingers.iter().map(travel).sum()
    }

    /// Poses of an arm's hand (its tool frame) and of its two fingers.
    pub(crate) fn hand_poses(&self, arm_idx: usize) -> [Pose; 3] {
        let hand = &self.hands[arm_idx];
        let [first, second] = &hand.fingers;
        [hand.body, first.body, second.body].map(|body| self.pose(body))
    }

    /// The blocks, in the scene's order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Motion> + '_ {
        self.blocks.iter().map(|body| Motion {
            pose: self.pose(*body),
            speed_m_s: f64::from(self.world.bodies[*body].linvel().length()),
        })
    }

    /// Feeds the bits of every body's state to `each`, in the order of insertion.
    pub(crate) fn visit_bits(&self, mut each: impl FnMut(u32)) {
        for (_, body) in self.world.rigid_bodies() {
            let pose = body.position();
            let (turn, at) = (pose.rotation, pose.translation);
            let (linear, angular) = (body.linvel(), body.angvel());
            for value in [turn.x, turn.y, turn.z, turn.w, at.x, at.y, at.z] {
                each(value.to_bits());
            }
            for value in [
                linear.x, linear.y, linear.z, angular.x, angular.y, angular.z,
            ] {
                each(value.to_bits());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn push_block(&mut self, block_idx: usize, [x, y, z]: [f32; 3]) {
        let body = &mut self.world.bodies[self.blocks[block_idx]];
        body.set_linvel(Vector::new(x, y, z), true);
    }

    fn pose(&self, body: RigidBodyHandle) -> Pose {
        self.world
            .bodies
            .get(body)
            .map_or(Pose::IDENTITY, |body| from_body(body.position()))
    }
}

fn add_table(world: &mut PhysicsWorld, scene: &Scene) {
    let table = &scene.toml().table;
    let [x, y] = table.centre_m;
    let half = table.size_m.map(|size| size as f32 / 2.0);
    let top = ColliderBuilder::cuboid(half[0], half[1], TABLE_HALF_M as f32)
        .translation(vector([x, y, table.height_m - TABLE_HALF_M]))
        .friction(TABLE_FRICTION);
    world.insert(RigidBodyBuilder::fixed(), top);
    let floor = ColliderBuilder::cuboid(4.0, 4.0, 0.1).translation(Vector::new(0.0, 0.0, -0.1));
    world.insert(RigidBodyBuilder::fixed(), floor);
}

/// Half the thickness of the table top: more than a block falls in one step.
const TABLE_HALF_M: f64 = 0.02;

/// Floor and four walls of a tray as centre and edge lengths, in the cell's frame.
pub(crate) fn tray_boxes(table_m: f64, tray: &TrayToml) -> [(Vec3, Vec3); 5] {
    let ([x, y], [size_x, size_y]) = (tray.centre_m, tray.size_m);
    let high = tray.wall_height_m;
    let (off_x, off_y) = ((size_x - TRAY_WALL_M) / 2.0, (size_y - TRAY_WALL_M) / 2.0);
    let z = table_m + high / 2.0;
    let along_x = [size_x, TRAY_WALL_M, high];
    let along_y = [TRAY_WALL_M, size_y - 2.0 * TRAY_WALL_M, high];
    let floor = [size_x, size_y, TRAY_FLOOR_M];
    [
        ([x, y, table_m + TRAY_FLOOR_M / 2.0], floor),
        ([x, y + off_y, z], along_x),
        ([x, y - off_y, z], along_x),
        ([x + off_x, y, z], along_y),
        ([x - off_x, y, z], along_y),
    ]
}

fn add_tray(world: &mut PhysicsWorld, table_m: f64, tray: &TrayToml) {
    for (centre, size) in tray_boxes(table_m, tray) {
        let [x, y, z] = size.map(|edge| edge as f32 / 2.0);
        let shape = ColliderBuilder::cuboid(x, y, z)
            .translation(vector(centre))
            .friction(TABLE_FRICTION);
        world.insert(RigidBodyBuilder::fixed(), shape);
    }
}

fn add_hand(
    world: &mut PhysicsWorld,
    arm: &Arm,
    tool: &Pose,
    [min_m, max_m, opening_m]: [f64; 3],
) -> Hand {
    let [x, y, z] = HAND_SIZE_M.map(|edge| edge as f32 / 2.0);
    let palm = ColliderBuilder::cuboid(x, y, z).translation(vector(HAND_CENTRE_M));
    let body = RigidBodyBuilder::kinematic_position_based()
        .pose(to_body(tool))
        .can_sleep(false);
    let (body, _) = world.insert(body, palm);
    let fingers = [1.0, -1.0].map(|side| {
        let offset = |half_m: f64| {
            [
                0.0,
                side * (half_m + FINGER_SIZE_M[1] / 2.0),
                FINGER_CENTRE_Z_M,
            ]
        };
        let place = Pose {
            position_m: offset(opening_m / 2.0),
            ..Pose::IDENTITY
        };
        let finger = RigidBodyBuilder::dynamic()
            .pose(to_body(&tool.then(&place)))
            .gravity_scale(0.0)
            .additional_solver_iterations(EXTRA_ITERATIONS)
            .can_sleep(false);
        let [x, y, z] = FINGER_SIZE_M.map(|edge| edge as f32 / 2.0);
        let shape = ColliderBuilder::cuboid(x, y, z)
            .friction(FINGER_FRICTION)
            .mass(FINGER_MASS_KG);
        let (finger, _) = world.insert(finger, shape);
        let slide = PrismaticJointBuilder::new(Vector::new(0.0, side as f32, 0.0))
            .local_anchor1(vector(offset(0.0)))
            .local_anchor2(Vector::ZERO)
            .limits([min_m as f32 / 2.0, max_m as f32 / 2.0])
            .motor_model(MotorModel::ForceBased)
            .motor_max_force(2.0 * arm.force_max_n as f32)
            .contacts_enabled(false);
        let joint = world.insert_impulse_joint(body, finger, slide);
        Finger {
            body: finger,
            joint,
            side,
        }
    });
    Hand {
        body,
        fingers,
        force_max_n: arm.force_max_n,
    }
}

fn vector([x, y, z]: Vec3) -> Vector {
    Vector::new(x as f32, y as f32, z as f32)
}

fn to_body(pose: &Pose) -> BodyPose {
    let [row_x, row_y, row_z] = pose.rotation;
    let column = |i: usize| vector([row_x[i], row_y[i], row_z[i]]);
    let turn = Rotation::from_mat3(&Matrix::from_cols(column(0), column(1), column(2)));
    BodyPose::from_parts(vector(pose.position_m), turn.normalize())
}

fn from_body(pose: &BodyPose) -> Pose {
    let turn = pose.rotation;
    let axis = |unit: Vector| {
        let column = turn * unit;
        [column.x, column.y, column.z].map(f64::from)
    };
    let [x, y, z] = [axis(Vector::X), axis(Vector::Y), axis(Vector::Z)];
    let at = pose.translation;
    Pose {
        rotation: [[x[0], y[0], z[0]], [x[1], y[1], z[1]], [x[2], y[2], z[2]]],
        position_m: [at.x, at.y, at.z].map(f64::from),
    }
}
