//! The demo cell as a whole: the shipped robot and scene, in virtual time.

use std::sync::Arc;

use vlad_cell::description::{RobotDescription, RobotToml};

use crate::scene::Scene;
use crate::world::SimWorld;

mod cell;
mod oracle;
mod picture;
mod runner;
mod scripted;

const ROBOT: &str = include_str!("../../../config/robots/demo-dual-arm.toml");
const CELL: &str = include_str!("../../../config/cells/demo.toml");

fn robot_toml() -> RobotToml {
    let file: toml::Table = ROBOT.parse().unwrap();
    file["robot"].clone().try_into().unwrap()
}

pub(crate) fn robot() -> Arc<RobotDescription> {
    Arc::new(RobotDescription::new(robot_toml()).unwrap())
}

pub(crate) fn scene() -> Scene {
    let file: toml::Table = CELL.parse().unwrap();
    Scene::parse(file["scene"].clone()).unwrap()
}

fn world(seed: u64) -> SimWorld {
    SimWorld::new(&scene(), &robot(), seed, 0).unwrap()
}
