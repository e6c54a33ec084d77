//! The world of a rehearsal, by the cell's kind.

use anyhow::Context as _;
use vlad_cell::camera::Camera;
use vlad_cell::description::RobotDescription;
use vlad_cell::oracle::Oracle;
use vlad_cell::robot::Robot;
use vlad_sim::twogate::TwoGateWorld;
use vlad_sim::world::SimWorld;

use crate::config::scenery::Scenery;

/// A simulated world; clones are the same one.
#[derive(Clone)]
pub enum World {
    /// Two arms at a table.
    Table(SimWorld),
    /// A point and two gates.
    TwoGate(TwoGateWorld),
}

impl World {
    /// Makes it, at time 0; where things lie is drawn from the seed.
    ///
    /// # Errors
    /// A robot that does not fit.
    pub fn new(scenery: &Scenery, robot: &RobotDescription, seed: u64) -> anyhow::Result<Self> {
        if let Scenery::TwoGate(_) = scenery {
            return Ok(Self::TwoGate(TwoGateWorld::new(robot, seed, 0)?));
        }
        let scene = scenery.table().context("the cell has no table")?;
        Ok(Self::Table(SimWorld::new(scene, robot, seed, 0)?))
    }

    /// The robot, as the guard sees it.
    pub fn robot(&self) -> Box<dyn Robot> {
        match self {
            Self::Table(world) => Box::new(world.robot()),
            Self::TwoGate(world) => Box::new(world.robot()),
        }
    }

    /// The cameras, in the description's order.
    pub fn cameras(&self) -> Vec<Box<dyn Camera>> {
        match self {
            Self::Table(world) => boxed(world.cameras()),
            Self::TwoGate(world) => boxed(world.cameras()),
        }
    }

    /// Who knows whether a task is done.
    pub fn oracle(&self) -> Box<dyn Oracle> {
        match self {
            Self::Table(world) => Box::new(world.oracle()),
            Self::TwoGate(world) => Box::new(world.oracle()),
        }
    }

    /// Goes on to a time.
    pub fn advance_to(&self, now_ns: u64) {
        match self {
            Self::Table(world) => world.advance_to(now_ns),
            Self::TwoGate(world) => world.advance_to(now_ns),
        }
    }

    /// A number that two worlds in the same state have in common.
    pub fn state_digest(&self) -> u64 {
        match self {
            Self::Table(world) => world.state_digest(),
            Self::TwoGate(world) => {
                let (position, velocity) = world.motion();
                let numbers = position.into_iter().chain(velocity);
                numbers.fold(0, |digest: u64, x| digest.rotate_left(17) ^ x.to_bits())
            }
        }
    }
}

fn boxed<C: Camera + 'static>(cameras: Vec<C>) -> Vec<Box<dyn Camera>> {
    let cameras = cameras.into_iter();
    cameras
        .map(|camera| -> Box<dyn Camera> { Box::new(camera) })
        .collect()
}
