//! Checkpoints with random weights, and the manifest that lets them drive a robot.
//!
//! Nobody has trained them. Their tables put every target near the robot's home pose: the arms
//! wander by a few hundredths of a radian, whatever is seen or asked.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use vlad_cell::description::RobotDescription;
use vlad_wire::manifest::{Manifest, Profile, SlotLabel};
use vlad_wire::robot_type::RobotType;
use vlad_xr0::normaliser::Normaliser;
use vlad_xr0::preprocess::PreprocessorConfig;
use vlad_xr0::synth::{self, Preset};

use super::error::Xr0Error;
use super::manifest::FILE;
use crate::policy::cell_shape;

/// What the page, the API and every episode say about such a checkpoint.
pub const NOTE: &str = "untrained: random weights; it only wanders";
/// Farthest that a joint's targets go from home. The guard refuses a chunk whose first action
/// lies more than 0.05 rad from the measured pose, and the arms start wherever the last chunk ended
/// or was interrupted.
const AMPLITUDE_RAD: f64 = 0.04;
/// The same of a gripper's opening; the guard's bound is 0.02 m.
const AMPLITUDE_M: f64 = 0.008;

/// The manifest's lines on the kind of action expert.
const PROFILE_A: &str = "\
# Trained synchronously: no prefix, full attention among actions.
profile = \"A\"";
/// The same, with the figures of the released training code (reference §6.5, §13).
const PROFILE_B: &str = "\
# Takes a clean prefix: an action sees itself and so many before it, and free actions stand behind a
# gap in positions.
profile = \"B\"
local_window = 4
position_gap = 10
prefix_trained_max = 6";

/// Normalised actions rarely go beyond it: they are large, so that the noise that the sampler starts
/// from (about 1) is hardly seen.
const REACH: f64 = 80.0;
/// Share of the deviation that the first and the last row have: small, and never inactive.
const LEAST_SHARE: f32 = 0.2;

/// Writes a checkpoint of profile A with random weights for a robot: as [`write_as`].
///
/// # Errors
/// As [`write_as`].
pub fn write(
    robot: &RobotDescription,
    (preset, seed): (Preset, u64),
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Xr0Error> {
    write_as(robot, (preset, seed, Profile::A), out, progress)
}

/// Writes a checkpoint with random weights for a robot, with its `vlad.toml`: whole, or not at all.
/// The profile changes nothing but the manifest: no weight depends on it (reference §6.5).
/// `progress` hears of the bytes of weights: those written, and all.
///
/// # Errors
/// An `out` that exists; what the file system says.
pub fn write_as(
    robot: &RobotDescription,
    (preset, seed, profile): (Preset, u64, Profile),
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Xr0Error> {
    let robot_type = &robot.toml().robot_type;
    let tables = BTreeMap::from([(robot_type.name.to_string(), tables(robot)?)]);
    let mut recipe = preset.recipe(&tables, seed)?;
    let config = preset.config()?;
    let preprocessor = PreprocessorConfig::parse(&recipe.preprocessor.to_string(), &config);
    let preprocessor = preprocessor.map_err(|faults| Xr0Error::input(faults.join(", ")))?;
    let text = manifest(robot, (preset, profile), preprocessor.limits.max_pixels);
    recipe.extra.insert(FILE.to_owned(), text?.into_bytes());
    Ok(synth::write(&recipe, out, progress)?)
}

/// Makes the tiny checkpoint of this seed at `out` if nothing is there; its folder is made too.
///
/// # Errors
/// As [`write()`], but for another process that was faster.
pub fn ensure_tiny(robot: &RobotDescription, seed: u64, out: &Path) -> Result<(), Xr0Error> {
    if out.exists() {
        return Ok(());
    }
    if let Some(folder) = out.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(Xr0Error::file(folder))?;
    }
    match write(robot, (Preset::Tiny, seed), out, &mut |_, _| {}) {
        // It appears whole, so what is there now is as good.
        Err(_) if out.exists() => Ok(()),
        result => result,
    }
}

/// Statistics that put targets around home: mean and deviation by row and slot.
///
/// The deviation rises from little and falls back to it, so that a chunk begins and ends
/// near home: the next one may then begin wherever this one is interrupted. Slots without a joint
/// have none, and are inactive.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "rows are few, and models read f32"
)]
fn tables(robot: &RobotDescription) -> Result<Normaliser, Xr0Error> {
    let RobotType { width, horizon, .. } = robot.toml().robot_type;
    let mut deviations = Vec::with_capacity(robot.n_dofs());
    for ((label, limits), home) in robot.labels().iter().zip(robot.limits()).zip(robot.home()) {
        let wanted = if label.unit.as_str() == "m" {
            AMPLITUDE_M
        } else {
            AMPLITUDE_RAD
        };
        let room = (home - limits.min).min(limits.max - home);
        deviations.push(wanted.min(room).max(0.0) / REACH);
    }
    let mean = robot.slots().to_slots(robot.home());
    let deviation = robot.slots().to_slots(&deviations);
    let mut std = Vec::with_capacity(horizon * width);
    for row in 0..horizon {
        let phase = std::f64::consts::PI * (row as f64 + 1.0) / (horizon as f64 + 1.0);
        let window = LEAST_SHARE + (1.0 - LEAST_SHARE) * phase.sin() as f32;
        std.extend(deviation.iter().map(|full| full * window));
    }
    let table = Normaliser::new(horizon, width, mean.repeat(horizon), std);
    table.map_err(Xr0Error::input)
}

/// The text of `vlad.toml`; it is read back before it is given, so that it fits its reader.
fn manifest(
    robot: &RobotDescription,
    (preset, profile): (Preset, Profile),
    image_pixels_max: usize,
) -> Result<String, Xr0Error> {
    let shape = cell_shape(robot);
    // A name has no dots.
    let name = preset.to_string().replace('.', "-");
    let stem = name.strip_prefix("xr0-").unwrap_or(&name);
    let RobotType {
        name: robot_type,
        width,
        horizon,
    } = &shape.robot_type;
    let slots: String = shape.slots.iter().map(slot_line).collect();
    let mut views = String::new();
    for view in &shape.views {
        let label = view_label(view.as_str());
        // Writing to a text cannot fail.
        let _ = writeln!(views, "  {{ view = \"{view}\", label = \"{label}\" }},");
    }
    let kind = match profile {
        Profile::A => PROFILE_A,
        Profile::B => PROFILE_B,
    };
    let text = format!(
        "\
# What this checkpoint can do, and how to feed it.

name = \"xr0-{stem}-untrained\"
note = \"{NOTE}\"
{kind}
rope_inv_freq_bf16 = false
flow = true
# Takes guidance: a sample can be pulled towards what was accepted.
vjp = true
# Length of a tick, ms.
dt_ms = {dt_ms:?}
# Most pixels of an image after preprocessing.
image_pixels_max = {image_pixels_max}
# What a row means: joint positions, around home.
action_representation = \"joint_absolute\"

# Which joint stands in which slot of state and action.
slots = [
{slots}]

# Which camera is which image, in the prompt's order.
views = [
{views}]

[[robot_types]]
name = \"{robot_type}\"
width = {width}
horizon = {horizon}
",
        dt_ms = shape.dt_ms,
    );
    let odd = |problem: String| Xr0Error::input(format!("{FILE}: {problem}"));
    let manifest: Manifest = toml::from_str(&text).map_err(|error| odd(error.to_string()))?;
    match manifest.faults().first() {
        Some(fault) => Err(odd(fault.to_string())),
        None => Ok(text),
    }
}

fn slot_line(label: &SlotLabel) -> String {
    let SlotLabel { slot, joint, unit } = label;
    format!("  {{ slot = {slot}, joint = \"{joint}\", unit = \"{unit}\" }},\n")
}

/// The label of a view as the released prompts have it: `left_wrist` is `Left-Wrist View`.
fn view_label(view: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let words: Vec<_> = view.split(['_', '-']).map(capital).collect();
    format!("{} View", words.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_called_as_in_the_released_prompts() {
        for (view, label) in [
            ("ego", "Ego View"),
            ("left_wrist", "Left-Wrist View"),
            ("right_wrist", "Right-Wrist View"),
        ] {
            assert_eq!(view_label(view), label);
        }
    }
}
