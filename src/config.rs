//! The layers of settings → one [`Config`], checked across all parts.
//!
//! Layers, later wins: `config/default.toml` (compiled in), the robot's file, the cell's file,
//! `--config FILE`, `--set key=value`. Each part owns its own settings' type; this file only reads,
//! merges and checks. Whatever is wrong is named with the layer that set it, the key and the reason.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vlad_actors::actuator::settings::GuardConfig;
use vlad_actors::brain::BrainConfig;
use vlad_actors::expert::ExpertConfig;
use vlad_actors::perception::PerceptionConfig;
use vlad_cell::description::{RobotDescription, RobotToml};
use vlad_sim::scene::SceneToml;
use vlad_wire::text::Name;

use layers::{Layer, Merged};
use scenery::{Scenery, TwoGateToml};
use world::World;

pub mod layers;
pub mod scenery;
pub mod world;

/// The shipped files, compiled in: the demo cell needs no other file.
const DEFAULT_NAME: &str = "config/default.toml";
const DEFAULT: &str = include_str!("../config/default.toml");
const ROBOTS: &[(&str, &str)] = &[
    (
        "demo-dual-arm",
        include_str!("../config/robots/demo-dual-arm.toml"),
    ),
    ("twogate", include_str!("../config/robots/twogate.toml")),
];
const CELLS: &[(&str, &str)] = &[
    ("demo", include_str!("../config/cells/demo.toml")),
    ("twogate", include_str!("../config/cells/twogate.toml")),
];

/// Largest file of settings: the demo robot's has 10 kB.
const FILE_MAX: u64 = 1024 * 1024;

/// What can decide: a script that reads the scene's object poses, the network, and the closed formula
/// of `TwoGate`.
pub const POLICIES: [&str; 3] = ["scripted", "xr0", "twogate"];

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{layer}: {key}: {problem}")]
pub struct ConfigError {
    /// The file or flag that set it.
    pub layer: String,
    /// The key, dotted; `-` where the whole file is meant.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// Settings of the process: the table `daemon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonConfig {
    /// Cells that this process serves: names, or paths of files.
    pub cells: Vec<String>,
    /// Address of the REST API and the page.
    pub bind: String,
    /// Name of the policy: one of [`POLICIES`].
    pub policy: Name,
    /// Folder of the checkpoint that the policy `xr0` runs, with its `vlad.toml`; without it one
    /// with random weights, made on first start.
    #[serde(default)]
    pub checkpoint: Option<PathBuf>,
    /// Mebibytes of memory that large messages between processes of this host lie in, so that they
    /// are not copied on the way; 0 sends copies.
    pub shared_memory_mib: u16,
    /// The data folder; without it systemd's state folder, else the user's.
    #[serde(default)]
    pub data: Option<PathBuf>,
}

/// What drives a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// The simulated demo cell.
    Sim,
    /// The simulated point of `TwoGate`.
    TwoGate,
}

/// A cell: the table `cell`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellToml {
    /// Id of the cell.
    pub name: Name,
    /// Name of the robot's file in `config/robots`, or its path.
    pub robot: String,
    /// What drives it.
    pub kind: CellKind,
    /// Where its simulated world is.
    #[serde(default)]
    pub world: World,
    /// Whether the guard is armed once at daemon start; simulated cells only.
    #[serde(default)]
    pub arm_at_start: bool,
}

/// All keys of one cell's merged layers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Everything {
    daemon: DaemonConfig,
    cell: CellToml,
    robot: RobotToml,
    guard: GuardConfig,
    perception: PerceptionConfig,
    brain: BrainConfig,
    expert: ExpertConfig,
    #[serde(default)]
    scene: Option<SceneToml>,
    #[serde(default)]
    twogate: Option<TwoGateToml>,
}

/// One cell, checked.
#[derive(Debug, Clone)]
pub struct CellConfig {
    /// What it is.
    pub cell: CellToml,
    /// Its robot.
    pub robot: RobotDescription,
    /// What its simulated world holds, by its kind.
    pub scenery: Scenery,
    /// Its guard.
    pub guard: GuardConfig,
    /// Its perception.
    pub perception: PerceptionConfig,
    /// The merged layers.
    pub merged: Merged,
}

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process.
    pub daemon: DaemonConfig,
    /// The cells that it serves.
    pub cells: Vec<CellConfig>,
    /// The brain, for all cells.
    pub brain: BrainConfig,
    /// The action expert, for all cells.
    pub expert: ExpertConfig,
}

/// Where settings come from, beside what is compiled in.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--cell`: replaces the list of cells.
    pub cells: Vec<String>,
    /// `--config`: files, in their order.
    pub files: Vec<PathBuf>,
    /// `--set key=value`, in their order.
    pub sets: Vec<String>,
    /// Other flags that set a key: the flag as it was typed, and `key=value`. They win.
    pub flags: Vec<(String, String)>,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] with layer, key and reason of the first thing that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let outer = outer_layers(sources)?;
        let mut base = vec![Layer::parse(DEFAULT_NAME, DEFAULT)?];
        base.extend(outer.clone());
        let merged = Merged::new(base)?;
        let daemon: DaemonConfig = merged.section("daemon")?;
        let names = if sources.cells.is_empty() {
            &daemon.cells
        } else {
            &sources.cells
        };
        if names.is_empty() {
            return Err(merged.error("daemon.cells", "must name at least one cell"));
        }
        let mut cells: Vec<CellConfig> = Vec::new();
        let mut minds = None;
        for name in names {
            let named_by = if sources.cells.is_empty() {
                merged.error("daemon.cells", "")
            } else {
                ConfigError {
                    layer: "--cell".to_owned(),
                    key: name.clone(),
                    problem: String::new(),
                }
            };
            let (cell, cell_minds) = load_cell((name, &named_by), &outer)?;
            if cells.iter().any(|known| known.cell.name == cell.cell.name) {
                return Err(cell
                    .merged
                    .error("cell.name", "is the name of another cell too"));
            }
            if cells.first().is_some_and(|first| first.robot != cell.robot) {
                let problem = "must be the robot of the other cells: one process has one policy";
                return Err(cell.merged.error("cell.robot", problem));
            }
            minds.get_or_insert(cell_minds);
            cells.push(cell);
        }
        check_bind(&merged, &daemon.bind)?;
        check_policy(&merged, &daemon)?;
        for cell in &cells {
            check_policy_of(cell, &daemon)?;
        }
        let minds = minds.ok_or_else(|| merged.error("daemon.cells", "must name a cell"))?;
        Ok(Self {
            daemon,
            cells,
            brain: minds.0,
            expert: minds.1,
        })
    }
}

fn outer_layers(sources: &Sources) -> Result<Vec<Layer>, ConfigError> {
    let mut layers = Vec::new();
    for path in &sources.files {
        layers.push(Layer::parse(&path.display().to_string(), &read(path)?)?);
    }
    for set in &sources.sets {
        layers.push(Layer::set(&format!("--set {set}"), set)?);
    }
    for (flag, set) in &sources.flags {
        layers.push(Layer::set(flag, set)?);
    }
    Ok(layers)
}

fn load_cell(
    named: (&str, &ConfigError),
    outer: &[Layer],
) -> Result<(CellConfig, (BrainConfig, ExpertConfig)), ConfigError> {
    let cell_layer = find(named, "cells", CELLS)?;
    let mut without_robot = vec![cell_layer.clone()];
    without_robot.extend_from_slice(outer);
    let without_robot = Merged::new(without_robot)?;
    let robot: String = without_robot.value("cell.robot")?;
    let named_by = without_robot.error("cell.robot", "");
    let mut layers = vec![
        Layer::parse(DEFAULT_NAME, DEFAULT)?,
        find((&robot, &named_by), "robots", ROBOTS)?,
        cell_layer,
    ];
    layers.extend_from_slice(outer);
    let merged = Merged::new(layers)?;
    let everything: Everything = merged.read()?;
    check_sections(&merged, &everything)?;
    let robot = RobotDescription::new(everything.robot)
        .map_err(|error| merged.error(&format!("robot.{}", error.field), &error.problem))?;
    let given = (everything.scene, everything.twogate);
    let scenery = Scenery::new(&merged, &everything.cell, given)?;
    let cell = CellConfig {
        cell: everything.cell,
        robot,
        scenery,
        guard: everything.guard,
        perception: everything.perception,
        merged,
    };
    Ok((cell, (everything.brain, everything.expert)))
}

fn check_sections(merged: &Merged, everything: &Everything) -> Result<(), ConfigError> {
    let guard = everything
        .guard
        .faults()
        .into_iter()
        .map(|fault| ("guard", fault));
    let perception = everything
        .perception
        .faults()
        .into_iter()
        .map(|f| ("perception", f));
    let expert = everything
        .expert
        .faults()
        .into_iter()
        .map(|fault| ("expert", fault));
    if let Some((section, (field, problem))) = guard.chain(perception).chain(expert).next() {
        return Err(merged.error(&format!("{section}.{field}"), problem));
    }
    if everything.guard.think_timeout_ms <= everything.expert.context_timeout_ms {
        let why = "so that a lost context is asked for again";
        let below = format!("must lie below guard.think_timeout_ms, {why}");
        let below = merged.error("expert.context_timeout_ms", &below);
        let above = format!("must lie above expert.context_timeout_ms, {why}");
        let above = merged.error("guard.think_timeout_ms", &above);
        // Whoever changed one of the two is told of that one.
        return Err(if below.layer == DEFAULT_NAME {
            above
        } else {
            below
        });
    }
    Ok(())
}

fn check_policy(merged: &Merged, daemon: &DaemonConfig) -> Result<(), ConfigError> {
    let policy = daemon.policy.as_str();
    if !POLICIES.contains(&policy) {
        let problem = format!("must be {}: this build has no other", POLICIES.join(" or "));
        return Err(merged.error("daemon.policy", &problem));
    }
    if daemon.checkpoint.is_some() && policy != "xr0" {
        let problem = "is for the policy xr0: set daemon.policy to xr0, or leave it out";
        return Err(merged.error("daemon.checkpoint", problem));
    }
    Ok(())
}

/// Two policies read the truth of one kind of scene, and can do nothing in another.
fn check_policy_of(cell: &CellConfig, daemon: &DaemonConfig) -> Result<(), ConfigError> {
    let problem = match (daemon.policy.as_str(), cell.cell.kind) {
        ("scripted", CellKind::TwoGate) => {
            "scripted knows blocks and trays, and this cell has none: --policy twogate"
        }
        ("twogate", CellKind::Sim) => {
            "twogate moves the point of a cell of the kind twogate alone: run it with --cell twogate"
        }
        _ => return Ok(()),
    };
    Err(cell.merged.error("daemon.policy", problem))
}

fn check_bind(merged: &Merged, bind: &str) -> Result<(), ConfigError> {
    let address: std::net::SocketAddr = bind.parse().map_err(|_| {
        merged.error(
            "daemon.bind",
            "must be an address and a port, such as 127.0.0.1:8640",
        )
    })?;
    if address.ip().is_loopback() {
        return Ok(());
    }
    let problem = "must be a loopback address: any other needs TLS and authentication, which this \
                   build does not have";
    Err(merged.error("daemon.bind", problem))
}

/// Finds a shipped file by name, or reads one by path; `named_by` says where the name stands.
fn find(
    (name, named_by): (&str, &ConfigError),
    folder: &str,
    shipped: &[(&str, &str)],
) -> Result<Layer, ConfigError> {
    if let Some((known, text)) = shipped.iter().find(|(known, _)| *known == name) {
        return Layer::parse(&format!("config/{folder}/{known}.toml"), text);
    }
    if Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "toml")
    {
        return Layer::parse(name, &read(Path::new(name))?);
    }
    let names: Vec<_> = shipped.iter().map(|(known, _)| *known).collect();
    Err(ConfigError {
        problem: format!(
            "there is no {name} in config/{folder}: name one of {}, or give the path of a .toml \
             file",
            names.join(", ")
        ),
        ..named_by.clone()
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let fault = |problem: String| ConfigError {
        layer: path.display().to_string(),
        key: "-".to_owned(),
        problem,
    };
    let n_bytes = std::fs::metadata(path)
        .map_err(|error| fault(error.to_string()))?
        .len();
    if FILE_MAX < n_bytes {
        return Err(fault(format!(
            "has {n_bytes} bytes, at most {FILE_MAX} are read"
        )));
    }
    std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
mod tests;
