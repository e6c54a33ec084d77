//! The simulated world: one owner of the physics, and handles to it.
//!
//! A world goes on only when told ([`SimWorld::advance_to`]), in steps of exactly 1/240 s, and
//! depends on nothing but its scene, its seed and the commands that came between the steps.
//! [`SimWorld::run_realtime`] lets a thread tell it, by the clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlad_cell::description::RobotDescription;
use vlad_safety::kinematics::Pose;
use vlad_wire::clock::{SECOND, SharedClock};

use crate::camera::SimCamera;
use crate::oracle::SimOracle;
use crate::realtime::{RealtimeWorld, Steps};
use crate::render::stage::Stage;
use crate::robot::{Port, SimRobot};
use crate::scene::{Scene, SceneError};

pub(crate) mod physics;
pub(crate) mod servo;

use physics::{Motion, Physics, STEP_HZ};
use servo::Servo;

/// Poses of everything that is drawn, at one time; the order is [`Stage`]'s.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// World time, nanoseconds.
    pub at_ns: u64,
    /// Links, hands and fingers of each arm, then the blocks.
    pub poses: Vec<Pose>,
}

/// A hand as the oracle sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grip {
    /// Between the fingertips.
    pub(crate) tool: Pose,
    /// Between the fingers, metres.
    pub(crate) opening_m: f64,
}

/// The physics with its controller; behind the lock of [`SimWorld`].
pub(crate) struct World {
    description: Arc<RobotDescription>,
    scene: Arc<Scene>,
    physics: Physics,
    servo: Servo,
    port: Arc<Port>,
    start_ns: u64,
    n_steps: u64,
    n_skipped: u64,
    /// Measured openings, by arm, of the step before: speeds come from their difference.
    openings_m: Vec<f64>,
    command: Vec<f64>,
}

/// A handle to a simulated world; clones are the same world.
#[derive(Clone)]
pub struct SimWorld {
    world: Arc<Mutex<World>>,
    port: Arc<Port>,
    stage: Arc<Stage>,
    description: Arc<RobotDescription>,
    scene: Arc<Scene>,
}

impl SimWorld {
    /// Makes a world: the arms at home, the blocks where `seed` puts them, the time `start_ns`.
    ///
    /// # Errors
    /// [`SceneError`] if the blocks find no room.
    pub fn new(
        scene: &Scene,
        robot: &RobotDescription,
        seed: u64,
        start_ns: u64,
    ) -> Result<Self, SceneError> {
        let block_poses = scene.place_blocks(seed)?;
        let description = Arc::new(robot.clone());
        let scene = Arc::new(scene.clone());
        let tools = tools_at(&description, description.home());
        let n_arms = description.arms().len();
        let port = Arc::new(Port::new(description.n_dofs()));
        let mut world = World {
            physics: Physics::new(&scene, &description, &block_poses, &tools),
            servo: Servo::new(&description),
            port: Arc::clone(&port),
            start_ns,
            n_steps: 0,
            n_skipped: 0,
            openings_m: vec![0.0; n_arms],
            command: vec![0.0; description.n_dofs()],
            description: Arc::clone(&description),
            scene: Arc::clone(&scene),
        };
        for arm_idx in 0..n_arms {
            world.openings_m[arm_idx] = world.physics.opening(arm_idx);
        }
        world.publish(&vec![0.0; n_arms]);
        Ok(Self {
            world: Arc::new(Mutex::new(world)),
            port,
            stage: Arc::new(Stage::new(&scene, &description)),
            description,
            scene,
        })
    }

    /// Gives the arms, as the guard sees them.
    pub fn robot(&self) -> SimRobot {
        SimRobot::new(Arc::clone(&self.port))
    }

    /// Gives the cameras, in the description's order.
    pub fn cameras(&self) -> Vec<SimCamera> {
        let cameras = self.description.cameras().iter();
        cameras
            .map(|camera| SimCamera::new(self.clone(), camera))
            .collect()
    }

    /// Gives the one who knows whether a task is done.
    pub fn oracle(&self) -> SimOracle {
        SimOracle::new(self.clone())
    }

    /// Goes on to `now_ns`: all steps that end at or before it. An earlier time changes nothing.
    pub fn advance_to(&self, now_ns: u64) {
        let mut world = self.lock();
        while world.next_step_ns() <= now_ns {
            world.step();
        }
    }

    /// Starts the thread that lets the world go with the clock, which must be the machine's
    /// monotonic clock. The world's time is first set to the clock's.
    ///
    /// # Errors
    /// What the system says if it gives no thread.
    pub fn run_realtime(&self, clock: SharedClock) -> std::io::Result<RealtimeWorld> {
        RealtimeWorld::start(self.clone(), clock)
    }

    /// World time, nanoseconds: the end of the last step.
    pub fn now_ns(&self) -> u64 {
        self.lock().now_ns()
    }

    #[cfg(test)]
    pub(crate) fn push_block(&self, block_idx: usize, velocity_m_s: [f32; 3]) {
        self.lock().physics.push_block(block_idx, velocity_m_s);
    }

    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.lock().start_ns
    }

    /// A number of all bodies' and joints' bits: equal states have equal digests.
    pub fn state_digest(&self) -> u64 {
        self.lock().digest()
    }

    /// Copies the poses of everything that is drawn.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.snapshot_into(&mut snapshot);
        snapshot
    }

    pub(crate) fn snapshot_into(&self, snapshot: &mut Snapshot) {
        self.lock().snapshot_into(snapshot);
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(crate) fn scene(&self) -> &Scene {
        &self.scene
    }

    pub(crate) fn description(&self) -> &RobotDescription {
        &self.description
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        // A panic in a step leaves numbers, not broken memory: the others may still look at them.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steps for SimWorld {
    fn next_step_ns(&self) -> u64 {
        self.lock().next_step_ns()
    }

    fn step_if_due(&self, now_ns: u64) -> bool {
        let mut world = self.lock();
        let due = world.next_step_ns() <= now_ns;
        if due {
            world.step();
        }
        due
    }

    fn skip_to(&self, now_ns: u64) -> u64 {
        self.lock().skip_to(now_ns)
    }
}

impl World {
    pub(crate) fn scene(&self) -> &Scene {
        &self.scene
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.time_ns(self.n_steps)
    }

    /// When the next step ends.
    pub(crate) fn next_step_ns(&self) -> u64 {
        self.time_ns(self.n_steps + 1)
    }

    /// Leaves out the steps up to `now_ns`: time jumps, nothing moves. Gives how many.
    pub(crate) fn skip_to(&mut self, now_ns: u64) -> u64 {
        let late_ns = now_ns.saturating_sub(self.now_ns());
        let steps = u128::from(late_ns) * u128::from(STEP_HZ) / u128::from(SECOND);
        let steps = u64::try_from(steps).unwrap_or(0);
        self.n_skipped += steps;
        steps
    }

    fn time_ns(&self, n_steps: u64) -> u64 {
        // From the count, so that a third of a nanosecond a step does not add up.
        let steps = u128::from(n_steps + self.n_skipped);
        let elapsed = steps * u128::from(SECOND) / u128::from(STEP_HZ);
        self.start_ns + u64::try_from(elapsed).unwrap_or(u64::MAX / 2)
    }

    pub(crate) fn step(&mut self) {
        if self.port.take_command(&mut self.command) {
            self.servo.command(&self.command);
        }
        self.servo.step();
        let position: Vec<f64> = self.servo.positions().collect();
        let tools = tools_at(&self.description, &position);
        let arms = self.description.arms().iter();
        let openings_m: Vec<f64> = arms.map(|arm| position[arm.gripper_dof()]).collect();
        self.physics.step(&tools, &openings_m);
        self.n_steps += 1;
        let mut speeds = Vec::with_capacity(tools.len());
        for arm_idx in 0..tools.len() {
            let opening_m = self.physics.opening(arm_idx);
            speeds.push((opening_m - self.openings_m[arm_idx]) * f64::from(STEP_HZ));
            self.openings_m[arm_idx] = opening_m;
        }
        self.publish(&speeds);
    }

    /// Gives the robot's handle the newest sample.
    fn publish(&self, opening_speeds: &[f64]) {
        let now_ns = self.now_ns();
        let mut sampled = self.port.sampled();
        sampled.step = self.n_steps;
        let sample = &mut sampled.measured;
        sample.sampled_at_ns = now_ns;
        sample.position.clear();
        sample.position.extend(self.servo.positions());
        sample.velocity.clear();
        sample.velocity.extend(self.servo.velocities());
        for (arm_idx, arm) in self.description.arms().iter().enumerate() {
            sample.position[arm.gripper_dof()] = self.openings_m[arm_idx];
            sample.velocity[arm.gripper_dof()] = opening_speeds[arm_idx];
        }
        drop(sampled);
        self.port.announce();
    }

    /// The blocks, in the scene's order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Motion> + '_ {
        self.physics.blocks()
    }

    /// The hands, in the description's order.
    pub(crate) fn grips(&self) -> impl Iterator<Item = Grip> + '_ {
        self.openings_m
            .iter()
            .enumerate()
            .map(|(idx, opening_m)| Grip {
                tool: self.physics.hand_poses(idx)[0],
                opening_m: *opening_m,
            })
    }

    fn snapshot_into(&self, snapshot: &mut Snapshot) {
        snapshot.at_ns = self.now_ns();
        snapshot.poses.clear();
        let position: Vec<f64> = self.servo.positions().collect();
        for (arm_idx, arm) in self.description.arms().iter().enumerate() {
            let joints = &position[arm.first_dof..arm.gripper_dof()];
            arm.chain.visit(joints, |_, link| snapshot.poses.push(link));
            snapshot.poses.extend(self.physics.hand_poses(arm_idx));
        }
        snapshot.poses.extend(self.blocks().map(|block| block.pose));
    }

    fn digest(&self) -> u64 {
        // FNV-1a by 32-bit words: short, and good enough to tell two runs apart.
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        let mut eat = |word: u32| {
            digest = (digest ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
        };
        self.physics.visit_bits(&mut eat);
        for value in self.servo.positions().chain(self.servo.velocities()) {
            let bits = value.to_bits();
            eat(bits as u32);
            eat((bits >> 32) as u32);
        }
        eat(self.n_steps as u32);
        digest
    }
}

fn tools_at(description: &RobotDescription, position: &[f64]) -> Vec<Pose> {
    let arms = description.arms().iter();
    arms.map(|arm| arm.chain.tool(&position[arm.first_dof..arm.gripper_dof()]))
        .collect()
}
