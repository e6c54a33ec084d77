//! The scene of a simulated cell: the table `scene` of `config/cells/*.toml`.
//!
//! Lengths are metres in the cell's frame. [`Scene::parse`] refuses unknown keys, wrong types and
//! scenes that cannot be, each with the path of the field.

use std::fmt;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize};
use vlad_safety::kinematics::Pose;
use vlad_wire::text::Name;

mod spawn;

/// Thickness of a tray's floor, metres.
pub const TRAY_FLOOR_M: f64 = 0.004;
/// Thickness of a tray's walls, metres.
pub const TRAY_WALL_M: f64 = 0.006;

/// A scene in a file: the table `scene`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneToml {
    /// What the blocks' places are drawn from, unless a run gives its own.
    pub seed: u64,
    /// The table.
    pub table: TableToml,
    /// Where blocks lie at start.
    pub spawn: SpawnToml,
    /// The blocks.
    pub blocks: Vec<BlockToml>,
    /// The trays.
    pub trays: Vec<TrayToml>,
}

/// The table in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableToml {
    /// Height of the top above the floor, metres.
    pub height_m: f64,
    /// Centre of the top, x and y, metres.
    pub centre_m: [f64; 2],
    /// Edge lengths of the top, x and y, metres.
    pub size_m: [f64; 2],
}

/// Where block centres are drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnToml {
    /// Smallest and largest x, metres.
    pub x_m: [f64; 2],
    /// Smallest and largest y, metres.
    pub y_m: [f64; 2],
    /// Smallest distance between two block centres, metres.
    pub spacing_m: f64,
}

/// A cube in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockToml {
    /// Name, such as `red_block`.
    pub name: Name,
    /// Colour, as instructions call it; no two blocks share one.
    pub colour: Colour,
    /// Edge length, metres.
    pub size_m: f64,
    /// Mass, kilograms.
    pub mass_kg: f64,
    /// Coefficient of friction.
    pub friction: f64,
}

/// A tray in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrayToml {
    /// Side, as instructions call it; no two trays share one.
    pub side: Side,
    /// Centre, x and y, metres.
    pub centre_m: [f64; 2],
    /// Outer edge lengths, x and y, metres.
    pub size_m: [f64; 2],
    /// Height of the walls above the table, metres.
    pub wall_height_m: f64,
}

/// Colours that instructions know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red.
    Red,
    /// Green.
    Green,
    /// Blue.
    Blue,
    /// Yellow.
    Yellow,
    /// Orange.
    Orange,
    /// Purple.
    Purple,
}

impl Colour {
    /// The word in instructions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Orange => "orange",
            Self::Purple => "purple",
        }
    }

    /// How it is drawn.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [222, 40, 36],
            Self::Green => [34, 168, 62],
            Self::Blue => [34, 92, 222],
            Self::Yellow => [246, 202, 24],
            Self::Orange => [246, 132, 22],
            Self::Purple => [142, 60, 190],
        }
    }
}

/// Sides that instructions know, seen from the robot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The robot's left.
    Left,
    /// The robot's right.
    Right,
}

impl Side {
    /// The word in instructions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something wrong in a scene, with the field's path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SceneError {
    /// Path of the field, such as `scene.blocks[2].size_m`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// A scene, checked: only [`Scene::new`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    toml: SceneToml,
}

impl Scene {
    /// Reads and checks the table `scene`.
    ///
    /// # Errors
    /// [`SceneError`] with the path of the first field that is wrong.
    pub fn parse<'de, D: Deserializer<'de>>(table: D) -> Result<Self, SceneError> {
        let toml = serde_path_to_error::deserialize::<D, SceneToml>(table).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." {
                "scene".to_owned()
            } else {
                format!("scene.{path}")
            };
            SceneError {
                field,
                problem: error.inner().to_string().trim_end().to_owned(),
            }
        })?;
        Self::new(toml)
    }

    /// Checks a scene.
    ///
    /// # Errors
    /// [`SceneError`] with the path of the first field that is wrong.
    pub fn new(toml: SceneToml) -> Result<Self, SceneError> {
        check_table(&toml.table)?;
        for (idx, tray) in toml.trays.iter().enumerate() {
            check_tray(&toml, idx, tray)?;
        }
        demand(!toml.trays.is_empty(), "trays", "must list a tray")?;
        check_spawn(&toml)?;
        demand(
            !toml.blocks.is_empty() && toml.blocks.len() <= BLOCKS_MAX,
            "blocks",
            "must list 1 to 8 blocks",
        )?;
        for (idx, block) in toml.blocks.iter().enumerate() {
            check_block(&toml, idx, block)?;
        }
        let scene = Self { toml };
        scene.place_blocks(scene.toml.seed)?;
        Ok(scene)
    }

    /// The file that it was made from.
    pub fn toml(&self) -> &SceneToml {
        &self.toml
    }

    /// Draws where the blocks lie: on the table, turned about the vertical, in the file's order.
    ///
    /// # Errors
    /// [`SceneError`] if the blocks do not find room at their spacing.
    pub fn place_blocks(&self, seed: u64) -> Result<Vec<Pose>, SceneError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        spawn::place(&self.toml, &mut rng).ok_or_else(|| SceneError {
            field: "scene.spawn".to_owned(),
            problem: "has no room for all blocks at their spacing; enlarge it or lower spacing_m"
                .to_owned(),
        })
    }
}

/// Most blocks: as many as a drawing finds room for on a table that two arms reach.
const BLOCKS_MAX: usize = 8;

fn demand(holds: bool, field: &str, problem: &str) -> Result<(), SceneError> {
    if holds {
        Ok(())
    } else {
        Err(SceneError {
            field: format!("scene.{field}"),
            problem: problem.to_owned(),
        })
    }
}

fn within(value: f64, min: f64, max: f64) -> bool {
    min <= value && value <= max
}

fn check_table(table: &TableToml) -> Result<(), SceneError> {
    demand(
        within(table.height_m, 0.1, 2.0),
        "table.height_m",
        "must lie between 0.1 and 2 m",
    )?;
    demand(
        table.centre_m.iter().all(|x| within(*x, -5.0, 5.0)),
        "table.centre_m",
        "must lie within 5 m",
    )?;
    demand(
        table.size_m.iter().all(|x| within(*x, 0.1, 5.0)),
        "table.size_m",
        "must lie between 0.1 and 5 m",
    )
}

/// Whether a rectangle lies on the table.
fn on_table(table: &TableToml, centre_m: [f64; 2], size_m: [f64; 2]) -> bool {
    (0..2).all(|axis| {
        let off = (centre_m[axis] - table.centre_m[axis]).abs();
        off + size_m[axis] / 2.0 <= table.size_m[axis] / 2.0
    })
}

/// Whether two rectangles, given as centre and edge lengths, have an area in common.
fn overlap(a: ([f64; 2], [f64; 2]), b: ([f64; 2], [f64; 2])) -> bool {
    (0..2).all(|axis| (a.0[axis] - b.0[axis]).abs() < f64::midpoint(a.1[axis], b.1[axis]))
}

fn check_tray(toml: &SceneToml, idx: usize, tray: &TrayToml) -> Result<(), SceneError> {
    let field = |name: &str| format!("trays[{idx}].{name}");
    let earlier = toml.trays[..idx]
        .iter()
        .any(|other| other.side == tray.side);
    demand(!earlier, &field("side"), "is used twice")?;
    demand(
        tray.size_m.iter().all(|x| within(*x, 0.08, 1.0)),
        &field("size_m"),
        "must lie between 0.08 and 1 m",
    )?;
    demand(
        on_table(&toml.table, tray.centre_m, tray.size_m),
        &field("centre_m"),
        "must put the whole tray on the table",
    )?;
    demand(
        within(tray.wall_height_m, 0.005, 0.1),
        &field("wall_height_m"),
        "must lie between 0.005 and 0.1 m",
    )?;
    let apart = |other: &TrayToml| {
        let rectangle = (other.centre_m, other.size_m);
        !overlap((tray.centre_m, tray.size_m), rectangle)
    };
    demand(
        toml.trays[..idx].iter().all(apart),
        &field("centre_m"),
        "overlaps an earlier tray",
    )
}

fn check_spawn(toml: &SceneToml) -> Result<(), SceneError> {
    let SpawnToml {
        x_m,
        y_m,
        spacing_m,
    } = &toml.spawn;
    for (name, [min, max]) in [("spawn.x_m", x_m), ("spawn.y_m", y_m)] {
        demand(min < max, name, "must be ascending")?;
    }
    let centre = [f64::midpoint(x_m[0], x_m[1]), f64::midpoint(y_m[0], y_m[1])];
    let size = [x_m[1] - x_m[0], y_m[1] - y_m[0]];
    demand(
        on_table(&toml.table, centre, size),
        "spawn",
        "must lie on the table",
    )?;
    demand(
        within(*spacing_m, 0.0, 1.0),
        "spawn.spacing_m",
        "must lie between 0 and 1 m",
    )?;
    let clear = |tray: &TrayToml| !overlap((tray.centre_m, tray.size_m), (centre, size));
    demand(
        toml.trays.iter().all(clear),
        "spawn",
        "must not overlap a tray",
    )
}

fn check_block(toml: &SceneToml, idx: usize, block: &BlockToml) -> Result<(), SceneError> {
    let field = |name: &str| format!("blocks[{idx}].{name}");
    let earlier = &toml.blocks[..idx];
    demand(
        earlier.iter().all(|other| other.name != block.name),
        &field("name"),
        "is used twice",
    )?;
    demand(
        earlier.iter().all(|other| other.colour != block.colour),
        &field("colour"),
        "is used twice",
    )?;
    demand(
        within(block.size_m, 0.01, 0.2),
        &field("size_m"),
        "must lie between 0.01 and 0.2 m",
    )?;
    demand(
        block.size_m * std::f64::consts::SQRT_2 <= toml.spawn.spacing_m,
        &field("size_m"),
        "must leave no overlap at scene.spawn.spacing_m",
    )?;
    demand(
        within(block.mass_kg, 0.001, 5.0),
        &field("mass_kg"),
        "must lie between 0.001 and 5 kg",
    )?;
    demand(
        within(block.friction, 0.0, 3.0),
        &field("friction"),
        "must lie between 0 and 3",
    )
}

#[cfg(test)]
mod tests;
