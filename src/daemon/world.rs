//! The world of one simulated cell: in this process, or, of the demo cell, served by `vlad sim`.

use anyhow::Context;
use vlad_cell::camera::Camera;
use vlad_cell::oracle::Oracle;
use vlad_cell::robot::{Measured, Robot};
use vlad_sim::realtime::RealtimeWorld;
use vlad_sim::scene::Scene;
use vlad_sim::served::remote::RemoteWorld;
use vlad_sim::twogate::TwoGateWorld;
use vlad_sim::world::SimWorld;
use vlad_wire::clock::SharedClock;

use crate::config::CellConfig;
use crate::config::scenery::Scenery;
use crate::config::world::World;

/// Where a cell's robot, cameras and oracle come from.
#[derive(Clone)]
pub enum CellWorld {
    /// This process owns the demo cell's.
    Own(SimWorld),
    /// This process owns the point's.
    TwoGate(TwoGateWorld),
    /// Another process serves it.
    Served(RemoteWorld),
}

impl CellWorld {
    /// Makes the cell's world, or names the served one; that one is reached when a driver is opened.
    ///
    /// # Errors
    /// What keeps a world from being made.
    pub fn new(cell: &CellConfig, now_ns: u64) -> anyhow::Result<Self> {
        match (&cell.scenery, &cell.cell.world) {
            (Scenery::Table(scene), World::InProcess) => Ok(Self::Own(make(cell, scene, now_ns)?)),
            (Scenery::Table(scene), World::Unix(path)) => {
                Ok(Self::Served(RemoteWorld::new(path, &cell.robot, scene)))
            }
            // The settings were checked: it is never served.
            (Scenery::TwoGate(twogate), _) => {
                let world = TwoGateWorld::new(&cell.robot, twogate.seed, now_ns);
                let world = world.with_context(|| unmade(cell))?;
                Ok(Self::TwoGate(world))
            }
        }
    }

    /// Lets a world of this process run in real time, until the result is dropped.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn run(&self, clock: &SharedClock) -> std::io::Result<Option<RealtimeWorld>> {
        match self {
            Self::Own(world) => world.run_realtime(clock.clone()).map(Some),
            Self::TwoGate(world) => world.run_realtime(clock.clone()).map(Some),
            Self::Served(_) => Ok(None),
        }
    }

    /// Opens the robot.
    ///
    /// # Errors
    /// A served world that is not there, or whose robot another client commands.
    pub fn robot(&self) -> anyhow::Result<Box<dyn Robot>> {
        Ok(match self {
            Self::Own(world) => Box::new(world.robot()),
            Self::TwoGate(world) => Box::new(world.robot()),
            Self::Served(world) => Box::new(world.robot()?),
        })
    }

    /// Opens the cameras, in the description's order.
    ///
    /// # Errors
    /// A served world that is not there.
    pub fn cameras(&self) -> anyhow::Result<Vec<Box<dyn Camera>>> {
        let mut cameras: Vec<Box<dyn Camera>> = Vec::new();
        match self {
            Self::Own(world) => {
                for camera in world.cameras() {
                    cameras.push(Box::new(camera));
                }
            }
            Self::TwoGate(world) => {
                for camera in world.cameras() {
                    cameras.push(Box::new(camera));
                }
            }
            Self::Served(world) => {
                for camera in world.cameras()? {
                    cameras.push(Box::new(camera));
                }
            }
        }
        Ok(cameras)
    }

    /// Looks whether the samples of a served robot come, without commanding it, and says so; `None`
    /// for a world of this process.
    ///
    /// # Errors
    /// A served world that is not there.
    pub fn watch(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Own(_) | Self::TwoGate(_) => Ok(None),
            Self::Served(world) => {
                let mut measured = Measured::default();
                let step = world.watch()?.newest(&mut measured)?;
                let n_dofs = measured.position.len();
                Ok(Some(format!(
                    "served, at its step {step}, {n_dofs} degrees of freedom"
                )))
            }
        }
    }

    /// Gives the oracle.
    pub fn oracle(&self) -> Box<dyn Oracle> {
        match self {
            Self::Own(world) => Box::new(world.oracle()),
            Self::TwoGate(world) => Box::new(world.oracle()),
            Self::Served(world) => Box::new(world.oracle()),
        }
    }
}

/// Makes the world of a demo cell.
///
/// # Errors
/// Blocks that find no room.
pub fn make(cell: &CellConfig, scene: &Scene, now_ns: u64) -> anyhow::Result<SimWorld> {
    SimWorld::new(scene, &cell.robot, scene.toml().seed, now_ns).with_context(|| unmade(cell))
}

fn unmade(cell: &CellConfig) -> String {
    format!("cell {}: its world cannot be made", cell.cell.name)
}
