//! Networks as policies: what knows both a checkpoint's numbers and a cell's joints and views.
//!
//! | module | holds |
//! |---|---|
//! | [`xr0`] | [`xr0::Xr0Policy`]: Xiaomi-Robotics-0 |
//!
//! Model code knows no robot and the actors know no model: the manifest (`vlad.toml` beside a
//! checkpoint) says which slot is which joint and which image is which view, and is compared with
//! the cell before anything moves.

use vlad_cell::description::RobotDescription;
use vlad_wire::manifest::CellShape;

pub mod xr0;

/// Gives what a cell with this robot offers to a checkpoint.
pub fn cell_shape(robot: &RobotDescription) -> CellShape {
    CellShape {
        robot_type: robot.toml().robot_type.clone(),
        slots: robot.labels().to_vec(),
        views: robot.cameras().iter().map(|c| c.view.clone()).collect(),
        dt_ms: 1000.0 / robot.toml().policy_hz,
    }
}
