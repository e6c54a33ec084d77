//! The policy of a process, from its settings: made only where the brain or the action expert runs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tracing::info;
use vlad_actors::policy::cell_shape;
use vlad_actors::policy::xr0::error::Xr0Error;
use vlad_actors::policy::xr0::{Devices, Xr0Policy, preset};
use vlad_motion::policy::Policy;
use vlad_sim::policy::scripted::ScriptedPolicy;
use vlad_wire::id::Role;
use vlad_wire::manifest::CellShape;
use vlad_xr0::device::{DeviceName, present};

use super::data_folder;
use crate::config::{Config, ConfigError, Sources};

/// Seed of the checkpoint that is made where none was named.
const SEED: u64 = 1;
/// Where it lies in the data folder.
const UNTRAINED: &str = "checkpoints/xr0-tiny-seed-1";

/// Makes the policy that these roles need: `None` where neither brain nor action expert is among
/// them. Loads no weights.
///
/// # Errors
/// [`ConfigError`] for an absent device, and for a checkpoint that fits not the cells, with
/// everything that is wrong; what keeps a checkpoint from being made.
pub fn open(config: &Config, roles: &[Role]) -> anyhow::Result<Option<Arc<dyn Policy>>> {
    let devices = [
        (Role::Brain, "brain.device", config.brain.device),
        (Role::ActionExpert, "expert.device", config.expert.device),
    ];
    let mut runs = false;
    for (role, key, device) in devices {
        if roles.contains(&role) {
            runs = true;
            check_device(config, key, device)?;
        }
    }
    if !runs {
        return Ok(None);
    }
    let first = config.cells.first().context("no cell")?;
    if config.daemon.policy.as_str() == "scripted" {
        let policy = ScriptedPolicy::new(Arc::new(first.robot.clone()))?;
        return Ok(Some(Arc::new(policy)));
    }
    let devices = Devices {
        brain: config.brain.device,
        expert: config.expert.device,
    };
    let dir = checkpoint(config)?;
    let policy = Xr0Policy::open(&dir, &shapes(config), devices);
    let policy = policy.map_err(|error| refusal(config, &error))?;
    info!(checkpoint = %dir.display(), note = %policy.label().note, "checkpoint");
    Ok(Some(Arc::new(policy)))
}

/// Compares the checkpoint that the settings name with the cells; without one there is nothing to
/// compare.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let Some(dir) = &config.daemon.checkpoint else {
        return Ok(());
    };
    Xr0Policy::check(dir, &shapes(config)).map_err(|error| refusal(config, &error))
}

fn shapes(config: &Config) -> Vec<CellShape> {
    let cells = config.cells.iter();
    cells.map(|cell| cell_shape(&cell.robot)).collect()
}

/// The checkpoint's folder; the one of our own is made if it is not there.
fn checkpoint(config: &Config) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &config.daemon.checkpoint {
        return Ok(dir.clone());
    }
    let dir = data_folder(config)?.join(UNTRAINED);
    // Of the shipped robot, whatever runs here: another one then hears what does not fit.
    let shipped = Config::load(&Sources::default())?;
    let robot = &shipped.cells.first().context("no cell is shipped")?.robot;
    preset::ensure_tiny(robot, SEED, &dir)
        .context("cannot make a checkpoint with random weights")?;
    Ok(dir)
}

fn check_device(config: &Config, key: &str, device: DeviceName) -> Result<(), ConfigError> {
    let present = present();
    if present.contains(&device) {
        return Ok(());
    }
    let names: Vec<_> = present.iter().map(ToString::to_string).collect();
    let problem = format!("there is no device {device}; present: {}", names.join(", "));
    Err(error(config, key, &problem))
}

fn refusal(config: &Config, refused: &Xr0Error) -> ConfigError {
    if config.daemon.checkpoint.is_some() {
        return error(config, "daemon.checkpoint", &refused.to_string());
    }
    let problem = format!(
        "{refused}\n  vlad made this checkpoint for the demo robot: delete it to have it made \
         again, or name another with --checkpoint"
    );
    error(config, "daemon.policy", &problem)
}

fn error(config: &Config, key: &str, problem: &str) -> ConfigError {
    match config.cells.first() {
        Some(cell) => cell.merged.error(key, problem),
        None => ConfigError {
            layer: "-".to_owned(),
            key: key.to_owned(),
            problem: problem.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(sets: &[&str]) -> Config {
        let sets = sets.iter().map(ToString::to_string).collect();
        Config::load(&Sources {
            sets,
            ..Sources::default()
        })
        .unwrap()
    }

    #[test]
    fn a_process_without_brain_and_expert_has_no_policy_and_asks_for_no_device() {
        let config = load(&["brain.device=cuda:4095", "expert.device=cuda:4095"]);
        let roles = [Role::Perception, Role::Actuator, Role::Gateway];
        assert!(open(&config, &roles).unwrap().is_none());
    }

    #[test]
    fn a_device_matters_to_its_own_role() {
        let config = load(&["brain.device=cuda:4095"]);
        assert!(open(&config, &[Role::ActionExpert]).unwrap().is_some());
        let Err(error) = open(&config, &[Role::Brain]) else {
            panic!("the device is absent");
        };
        let error = error.downcast::<ConfigError>().unwrap();
        assert_eq!(
            (error.key.as_str(), error.layer.as_str()),
            ("brain.device", "--set brain.device=cuda:4095")
        );
        assert!(error.problem.contains("present: cpu"), "{error}");
    }

    #[test]
    fn the_network_is_made_where_none_is_named() {
        let name = format!("vlad-policy-{}", std::process::id());
        let data = std::env::temp_dir().join(name);
        let set = format!("daemon.data={}", data.display());
        let config = load(&["daemon.policy=xr0", &set]);
        let policy = open(&config, &[Role::Brain]).unwrap().unwrap();
        let made = data.join(UNTRAINED).join("vlad.toml").exists();
        std::fs::remove_dir_all(&data).unwrap();
        assert!(made);
        assert!(policy.label().note.as_str().contains("untrained"));
    }
}
