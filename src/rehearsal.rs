//! A simulated cell in virtual time, with a dispatcher in the gateway's place: what benches and
//! scenarios are played on.
//!
//! Guard, roles, policies and world are the daemon's own; only the clock and the bus's link differ
//! ([`Stepped`]). Same settings, same seeds: bit-identical runs.
//!
//! | module | holds |
//! |---|---|
//! | [`dispatcher`] | a holder that keeps what is said |
//! | [`gateway`] | the real one, with a store |
//! | [`holder`] | arms the guard, and leases the cell to one task |
//! | [`liar`] | a camera that lies as it is told |
//! | [`puppet`] | a policy that fails, or sends rows, as it is told |
//! | [`weather`] | how messages fare |
//! | [`witness`] | writes every command down, and makes the robot fail as it is told |
//! | [`world`] | the table, or TwoGate |

use std::sync::Arc;

use anyhow::Context as _;
use vlad_actors::stepped::{Conditions, Stepped, SteppedParts};
use vlad_cell::camera::Camera;
use vlad_cell::description::RobotDescription;
use vlad_cell::robot::Robot;
use vlad_motion::policy::Policy;
use vlad_sim::policy::scripted::ScriptedPolicy;

use crate::config::{CellConfig, Config, Sources};
use world::World;

pub mod dispatcher;
pub mod gateway;
pub mod holder;
pub mod liar;
pub mod puppet;
pub mod weather;
pub mod witness;
pub mod world;

/// Edge of the cameras, pixels: rendering is not what most stories are about.
pub const CAMERA_EDGE: u16 = 16;
/// In so few pixels an arm can move by a tenth of a radian unseen.
const COARSE: &str = "perception.frozen_motion_mrad=1000";

/// Makes the policy for the cell's robot.
pub type MakePolicy = Box<dyn Fn(&RobotDescription) -> anyhow::Result<Arc<dyn Policy>>>;
/// Puts something around the robot, as the guard sees it.
pub type WrapRobot = Box<dyn Fn(Box<dyn Robot>, &RobotDescription) -> Box<dyn Robot>>;
/// Puts something around a camera; is told which one, from 0.
pub type WrapCamera = Box<dyn Fn(usize, Box<dyn Camera>) -> Box<dyn Camera>>;

/// What differs from the shipped demo cell.
pub struct Options {
    /// The shipped cell; `demo` by default.
    pub cell: &'static str,
    /// The policy; `scripted` by default.
    pub policy: MakePolicy,
    /// What is around the robot; nothing by default.
    pub robot: WrapRobot,
    /// What is around the cameras; nothing by default.
    pub camera: WrapCamera,
    /// Width and height of every camera over a table, pixels.
    pub camera_edge: u16,
    /// Where the blocks lie, or where the goal jumps to.
    pub scene_seed: u64,
    /// Settings, as `--set` takes them.
    pub sets: Vec<String>,
    /// How messages travel, and when the clock starts.
    pub conditions: Conditions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cell: "demo",
            policy: Box::new(|robot| Ok(Arc::new(ScriptedPolicy::new(Arc::new(robot.clone()))?))),
            robot: Box::new(|robot, _| robot),
            camera: Box::new(|_, camera| camera),
            camera_edge: CAMERA_EDGE,
            scene_seed: 1,
            sets: Vec::new(),
            conditions: Conditions::default(),
        }
    }
}

/// A cell that is being played.
pub struct Run {
    /// Its cores.
    pub stepped: Stepped,
    /// Its world.
    pub world: World,
    /// Its settings.
    pub config: CellConfig,
}

impl Run {
    /// Makes the cell; the guard is disarmed.
    ///
    /// # Errors
    /// Settings that do not fit, and parts that cannot be made.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let coarse = (options.camera_edge == CAMERA_EDGE).then(|| COARSE.to_owned());
        // A policy of its own is tried here: what the cell would get from the daemon does not matter.
        let twogate = (options.cell == "twogate").then(|| "daemon.policy=twogate".to_owned());
        let sets = coarse.into_iter().chain(twogate).chain(options.sets);
        let config = Config::load(&Sources {
            cells: vec![options.cell.to_owned()],
            sets: sets.collect(),
            ..Sources::default()
        })?;
        let mut cell = config.cells.first().context("no cell")?.clone();
        if cell.scenery.table().is_some() {
            let mut toml = cell.robot.toml().clone();
            for camera in &mut toml.cameras {
                (camera.width, camera.height) = (options.camera_edge, options.camera_edge);
            }
            cell.robot = RobotDescription::new(toml)?;
        }
        let world = World::new(&cell.scenery, &cell.robot, options.scene_seed)?;
        let cameras = world.cameras().into_iter().enumerate();
        let cameras = cameras.map(|(idx, camera)| (options.camera)(idx, camera));
        let moving = world.clone();
        let parts = SteppedParts {
            cell: cell.cell.name.clone(),
            description: cell.robot.clone(),
            robot: (options.robot)(world.robot(), &cell.robot),
            cameras: cameras.collect(),
            oracle: Some(world.oracle()),
            advance: Box::new(move |now_ns| moving.advance_to(now_ns)),
            policy: (options.policy)(&cell.robot)?,
            guard: cell.guard.clone(),
            perception: cell.perception.clone(),
            expert: config.expert,
        };
        Ok(Self {
            stepped: Stepped::under(parts, options.conditions)?,
            world,
            config: cell,
        })
    }

    /// Goes on for so many nanoseconds, with nobody in the gateway's place.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn idle(&mut self, for_ns: u64) -> anyhow::Result<()> {
        let clock = self.stepped.clock();
        let until_ns = clock.now_ns() + for_ns;
        while clock.now_ns() < until_ns {
            self.stepped.step()?;
        }
        Ok(())
    }
}
