//! What a simulated world holds: the table `scene` or `twogate`, by the setting `cell.kind`.

use serde::{Deserialize, Serialize};
use vlad_sim::scene::{Scene, SceneToml};

use super::layers::Merged;
use super::world::World;
use super::{CellKind, CellToml, ConfigError};

/// What `TwoGate`'s world is drawn from: the table `twogate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoGateToml {
    /// Where the point starts, when the goal jumps and where to.
    pub seed: u64,
}

/// What a simulated world holds.
#[derive(Debug, Clone)]
pub enum Scenery {
    /// Two arms at a table with blocks and trays.
    Table(Box<Scene>),
    /// The point, two gates and a goal.
    TwoGate(TwoGateToml),
}

impl Scenery {
    /// Takes the table of the cell's kind; there must be no other.
    ///
    /// # Errors
    /// [`ConfigError`] for a table that is missing, wrong or of another kind, and for a served world
    /// of a kind that is not served.
    pub(super) fn new(
        merged: &Merged,
        cell: &CellToml,
        (scene, twogate): (Option<SceneToml>, Option<TwoGateToml>),
    ) -> Result<Self, ConfigError> {
        let refuse = |key: &str, problem: &str| Err(merged.error(key, problem));
        match (cell.kind, scene, twogate) {
            (CellKind::Sim, None, _) => {
                let problem = "is missing: a simulated cell needs a table, blocks and trays";
                refuse("scene", problem)
            }
            (CellKind::Sim, _, Some(_)) => {
                refuse("twogate", "is for cells of the kind twogate: leave it out")
            }
            (CellKind::Sim, Some(scene), None) => {
                let scene = Scene::new(scene);
                let scene = scene.map_err(|error| merged.error(&error.field, &error.problem))?;
                Ok(Self::Table(Box::new(scene)))
            }
            (CellKind::TwoGate, Some(_), _) => {
                refuse("scene", "is for cells of the kind sim: leave it out")
            }
            (CellKind::TwoGate, None, None) => refuse(
                "twogate",
                "is missing: a cell of the kind twogate needs a seed",
            ),
            (CellKind::TwoGate, None, Some(_)) if cell.world != World::InProcess => {
                let problem = "must be in-process: `vlad sim` serves worlds of the kind sim alone";
                refuse("cell.world", problem)
            }
            (CellKind::TwoGate, None, Some(twogate)) => Ok(Self::TwoGate(twogate)),
        }
    }

    /// The demo cell's scene, where it is one.
    pub fn table(&self) -> Option<&Scene> {
        match self {
            Self::Table(scene) => Some(scene),
            Self::TwoGate(_) => None,
        }
    }
}
