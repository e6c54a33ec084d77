//! The world of one simulated cell: in this process, or served by `vlad sim`.

use anyhow::Context;
use vlad_cell::camera::Camera;
use vlad_cell::oracle::Oracle;
use vlad_cell::robot::{Measured, Robot};
use vlad_sim::realtime::RealtimeWorld;
use vlad_sim::served::remote::RemoteWorld;
use vlad_sim::world::SimWorld;
use vlad_wire::clock::SharedClock;

use crate::config::CellConfig;
use crate::config::world::World;

/// Where a cell's robot, cameras and oracle come from.
#[derive(Clone)]
pub enum CellWorld {
    /// This process owns it.
    Own(SimWorld),
    /// Another process serves it.
    Served(RemoteWorld),
}

impl CellWorld {
    /// Makes the cell's world, or names the served one; that one is reached when a driver is opened.
    ///
    /// # Errors
    /// What keeps a world from being made.
    pub fn new(cell: &CellConfig, now_ns: u64) -> anyhow::Result<Self> {
        match &cell.cell.world {
            World::InProcess => Ok(Self::Own(make(cell, now_ns)?)),
            World::Unix(path) => Ok(Self::Served(RemoteWorld::new(
                path,
                &cell.robot,
                &cell.scene,
            ))),
        }
    }

    /// Lets a world of this process run in real time, until the result is dropped.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn run(&self, clock: &SharedClock) -> std::io::Result<Option<RealtimeWorld>> {
        match self {
            Self::Own(world) => world.run_realtime(clock.clone()).map(Some),
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
            Self::Own(_) => Ok(None),
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
            Self::Served(world) => Box::new(world.oracle()),
        }
    }
}

/// Makes the world of a cell.
///
/// # Errors
/// Blocks that find no room.
pub fn make(cell: &CellConfig, now_ns: u64) -> anyhow::Result<SimWorld> {
    SimWorld::new(&cell.scene, &cell.robot, cell.scene.toml().seed, now_ns)
        .with_context(|| format!("cell {}: its world cannot be made", cell.cell.name))
}
