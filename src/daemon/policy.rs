//! The policy of a process, from its settings: made only where the brain or the action expert runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tracing::info;
use vlad_actors::expert::{ExpertCell, ability, camera_ns};
use vlad_actors::policy::cell_shape;
use vlad_actors::policy::xr0::error::Xr0Error;
use vlad_actors::policy::xr0::setup::{Half, Setup};
use vlad_actors::policy::xr0::{Xr0Policy, manifest, preset};
use vlad_motion::gate::check_at_load;
use vlad_motion::gate::delay::DelayMeter;
use vlad_motion::policy::{Capability, Policy};
use vlad_sim::policy::scripted::ScriptedPolicy;
use vlad_sim::policy::twogate::TwoGatePolicy;
use vlad_wire::clock::SECOND;
use vlad_wire::id::Role;
use vlad_wire::manifest::CellShape;
use vlad_xr0::device::{DeviceName, present};

use super::data_folder;
use crate::cli::model::size;
use crate::config::{CellConfig, Config, ConfigError, Sources};

/// Seed of the checkpoint that is made where none was named.
const SEED: u64 = 1;
/// Longest prefix of the policy `twogate`: as Xiaomi-Robotics-0 was trained, so that its cell shows
/// what that network could do.
const TWOGATE_PREFIX: u16 = 6;
/// Where it lies in the data folder.
const UNTRAINED: &str = "checkpoints/xr0-tiny-seed-1";

/// Makes the policy that these roles need: `None` where neither brain nor action expert is among
/// them. Loads no weights.
///
/// # Errors
/// [`ConfigError`] for an absent device, for a checkpoint that does not fit the cells, with
/// everything that is wrong, for a strategy that the policy can never follow, and for `--checkpoint`
/// where nobody would read it; what keeps a checkpoint from being made.
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
        return Ok(check_unread(config).map(|()| None)?);
    }
    let policy = match simple(config)? {
        Some(policy) => policy,
        None => network(config, roles)?,
    };
    check_strategy(config, policy.capability())?;
    Ok(Some(policy))
}

/// The policy of the settings, where it needs no checkpoint.
fn simple(config: &Config) -> anyhow::Result<Option<Arc<dyn Policy>>> {
    let first = config.cells.first().context("no cell")?;
    let policy: Arc<dyn Policy> = match config.daemon.policy.as_str() {
        "scripted" => Arc::new(ScriptedPolicy::new(Arc::new(first.robot.clone()))?),
        "twogate" => Arc::new(TwoGatePolicy::new(TWOGATE_PREFIX)?),
        _ => return Ok(None),
    };
    Ok(Some(policy))
}

fn network(config: &Config, roles: &[Role]) -> anyhow::Result<Arc<dyn Policy>> {
    let setup = setup(config, roles);
    let dir = checkpoint(config)?;
    // Its hash takes a while where it is large.
    info!(checkpoint = %dir.display(), weights = size(weights(&dir)), "reading the checkpoint");
    let policy = Xr0Policy::open(&dir, &shapes(config), setup);
    let policy = policy.map_err(|error| refusal(config, &error))?;
    info!(checkpoint = %dir.display(), note = %policy.label().note, "checkpoint");
    Ok(Arc::new(policy))
}

/// Refuses a strategy that policy, cell and chunk can never follow, whatever the delay (F34).
fn check_strategy(config: &Config, capability: Capability) -> Result<(), ConfigError> {
    for cell in &config.cells {
        let known = expert_cell(cell);
        let gate = config.expert.gate(&known);
        let ability = ability(&known, &capability);
        if let Err(impossible) = check_at_load(&gate, ability, &DelayMeter::default()) {
            // Of the manifest's fields the sentence speaks: it is the strategy that asks for them.
            let field = impossible.field();
            let key = if field.starts_with("guard.") {
                field
            } else {
                "expert.strategy"
            };
            return Err(cell.merged.error(key, &impossible.to_string()));
        }
    }
    Ok(())
}

/// A cell as the action expert knows it.
pub fn expert_cell(cell: &CellConfig) -> ExpertCell {
    ExpertCell {
        id: cell.cell.name.clone(),
        robot_type: cell.robot.toml().robot_type.clone(),
        dt_ns: tick_ns(cell),
        age_limit_ns: cell.guard.action_age_ns(),
        camera_ns: camera_ns(&cell.robot),
    }
}

/// Length of a policy tick.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "the description has checked that policy_hz lies between 1 and 2000"
)]
fn tick_ns(cell: &CellConfig) -> u64 {
    (SECOND as f64 / cell.robot.toml().policy_hz).round() as u64
}

/// How the network's halves are loaded. Where both run here, contexts stay in this process.
fn setup(config: &Config, roles: &[Role]) -> Setup {
    Setup {
        brain: Half {
            device: config.brain.device,
            weights: config.brain.weights,
        },
        expert: Half {
            device: config.expert.device,
            weights: config.expert.weights,
        },
        encoding: config.brain.context_encoding,
        by_reference: [Role::Brain, Role::ActionExpert]
            .iter()
            .all(|role| roles.contains(role)),
    }
}

/// Compares the checkpoint that the settings name with the cells, and the strategy with what the
/// policy can do; of a network without a checkpoint nothing is known yet.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn check(config: &Config) -> anyhow::Result<()> {
    if let Some(policy) = simple(config)? {
        return Ok(check_strategy(config, policy.capability())?);
    }
    let Some(dir) = &config.daemon.checkpoint else {
        return Ok(());
    };
    let capability = Xr0Policy::check(dir, &shapes(config));
    let capability = capability.map_err(|error| refusal(config, &error))?;
    Ok(check_strategy(config, capability)?)
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
    // Looked at without following links: a dangling one is in the way too.
    if dir.symlink_metadata().is_ok() && !dir.join(manifest::FILE).exists() {
        let problem = format!(
            "{} is in the way of the checkpoint that vlad makes there: it has no {}; move it away, \
             or name another checkpoint with --checkpoint",
            dir.display(),
            manifest::FILE
        );
        return Err(error(config, "daemon.policy", &problem).into());
    }
    // Of the shipped robot, whatever runs here: another one then hears what does not fit.
    let shipped = Config::load(&Sources::default())?;
    let robot = &shipped.cells.first().context("no cell is shipped")?.robot;
    preset::ensure_tiny(robot, SEED, &dir)
        .context("cannot make a checkpoint with random weights")?;
    Ok(dir)
}

fn check_device(config: &Config, key: &str, device: DeviceName) -> Result<(), ConfigError> {
    // One that is there is opened by its role alone; opening one that is not says why it is not.
    if present().contains(&device) {
        return Ok(());
    }
    let absent = device.open().map(drop);
    absent.map_err(|absent| error(config, key, &absent.to_string()))
}

/// Refuses the flag where neither brain nor action expert runs: a folder that was typed wrong would
/// go unnoticed. In a file the setting is fine: machines may share it, and the checkpoint need not
/// lie on all.
fn check_unread(config: &Config) -> Result<(), ConfigError> {
    let problem = "is read by the roles brain and action-expert alone: leave it out here";
    let refusal = error(config, "daemon.checkpoint", problem);
    let typed = config.daemon.checkpoint.is_some() && refusal.layer.starts_with("--checkpoint ");
    if typed { Err(refusal) } else { Ok(()) }
}

/// Bytes of a checkpoint's weights; what cannot be read is refused later, by name. Other files of
/// that format, such as a self-test, are no weights.
fn weights(dir: &Path) -> u64 {
    let files = dir.read_dir().into_iter().flatten().flatten();
    let shards = files.filter(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    });
    // Links are followed, as downloads are often links.
    let lengths = shards.filter_map(|file| file.path().metadata().ok());
    lengths.map(|found| found.len()).sum()
}

fn refusal(config: &Config, refused: &Xr0Error) -> ConfigError {
    if config.daemon.checkpoint.is_some() {
        return error(config, "daemon.checkpoint", &refused.to_string());
    }
    let problem = format!(
        "{refused}\n  vlad makes this checkpoint for the demo robot alone: name one for another \
         robot with --checkpoint; if its files are damaged, delete it to have it made again"
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
        // As the device itself says it, with what the build lacks.
        let said = DeviceName::Cuda(4095).open().unwrap_err().to_string();
        assert_eq!(error.problem, said);
        assert_eq!(!cfg!(feature = "cuda"), said.contains("lacks the feature"));
    }

    #[test]
    fn a_strategy_that_the_policy_cannot_follow_is_refused_with_the_manifests_field() {
        for (strategy, field) in [
            ("guided", "vjp = false"),
            ("clean-prefix", "prefix_trained_max = 0"),
        ] {
            let set = format!("expert.strategy={strategy}");
            let config = load(&[set.as_str()]);
            let opened = open(&config, &[Role::ActionExpert]).err().unwrap();
            for error in [opened, check(&config).unwrap_err()] {
                let error = error.downcast::<ConfigError>().unwrap();
                assert_eq!(error.key, "expert.strategy");
                assert_eq!(error.layer, format!("--set {set}"));
                assert!(error.problem.contains(field), "{error}");
            }
        }
        for strategy in ["auto", "sync", "naive", "ensemble", "blend"] {
            check(&load(&[format!("expert.strategy={strategy}").as_str()])).unwrap();
        }
    }

    #[test]
    fn a_horizon_older_than_the_age_limit_is_refused_by_that_limit() {
        let config = load(&["guard.action_age_limit_ms=60", "expert.strategy=auto"]);
        let error = check(&config).unwrap_err().downcast::<ConfigError>();
        assert_eq!(error.unwrap().key, "guard.action_age_limit_ms");
    }

    #[test]
    fn twogate_takes_a_prefix_and_guidance_on_its_own_cell() {
        for strategy in ["auto", "guided", "clean-prefix"] {
            let config = Config::load(&Sources {
                cells: vec!["twogate".to_owned()],
                sets: vec![
                    "daemon.policy=twogate".to_owned(),
                    format!("expert.strategy={strategy}"),
                ],
                ..Sources::default()
            });
            let config = config.unwrap();
            let policy = open(&config, &[Role::Brain]).unwrap().unwrap();
            assert_eq!(policy.capability().prefix_trained_max, TWOGATE_PREFIX);
            check(&config).unwrap();
        }
    }

    fn typed(dir: &str) -> Config {
        let policy = ("--policy xr0".to_owned(), "daemon.policy=xr0".to_owned());
        let set = format!("daemon.checkpoint={dir}");
        Config::load(&Sources {
            flags: vec![policy, (format!("--checkpoint {dir}"), set)],
            ..Sources::default()
        })
        .unwrap()
    }

    #[test]
    fn a_checkpoint_that_no_role_reads_is_refused_where_it_was_typed() {
        let roles = [Role::Perception, Role::Actuator];
        let error = open(&typed("nope"), &roles).err().unwrap();
        let error = error.downcast::<ConfigError>().unwrap();
        assert_eq!(error.layer, "--checkpoint nope");
        assert!(error.problem.contains("brain and action-expert"), "{error}");
        let shared = load(&["daemon.policy=xr0", "daemon.checkpoint=nope"]);
        assert!(open(&shared, &roles).unwrap().is_none());
    }

    #[test]
    fn weights_are_counted_by_their_bytes() {
        let dir = folder("weights");
        for (name, n) in [
            ("model-00001-of-00002.safetensors", 5),
            ("model-00002-of-00002.safetensors", 7),
            ("model.safetensors.index.json", 9),
            ("self-test.safetensors", 11),
        ] {
            std::fs::write(dir.join(name), vec![0; n]).unwrap();
        }
        let n_bytes = weights(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((n_bytes, weights(&dir)), (12, 0));
    }

    fn folder(name: &str) -> PathBuf {
        let name = format!("vlad-policy-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// One sentence, and nothing of what is in the way is touched.
    #[test]
    fn what_is_in_the_way_of_the_made_checkpoint_is_refused() {
        let data = folder("way");
        let set = format!("daemon.data={}", data.display());
        let config = load(&["daemon.policy=xr0", &set]);
        let place = data.join(UNTRAINED);
        let refusal = || {
            let error = open(&config, &[Role::Brain]).err().unwrap();
            let error = error.downcast::<ConfigError>().unwrap();
            assert!(error.problem.contains("in the way"), "{error}");
            assert!(!error.problem.contains("vlad model synth"), "{error}");
        };
        std::fs::create_dir_all(&place).unwrap();
        refusal();
        std::fs::remove_dir(&place).unwrap();
        std::os::unix::fs::symlink("nowhere", &place).unwrap();
        refusal();
        assert!(place.is_symlink());
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn a_context_stays_in_the_process_that_runs_both_roles() {
        let config = load(&[
            "brain.weights=q8",
            "expert.weights=f32",
            "brain.context_encoding=eight-bit",
        ]);
        let both = setup(&config, &[Role::ActionExpert, Role::Gateway, Role::Brain]);
        assert!(both.by_reference);
        assert_eq!(both.brain.weights, "q8".parse().unwrap());
        assert_eq!(both.expert.weights, "f32".parse().unwrap());
        assert_eq!(both.encoding, "eight-bit".parse().unwrap());
        for alone in [Role::ActionExpert, Role::Brain] {
            assert!(!setup(&config, &[alone, Role::Gateway]).by_reference);
        }
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
