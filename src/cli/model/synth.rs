//! `vlad model synth`: a checkpoint with random weights for the demo cell.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use rustix::fs::statvfs;
use vlad_actors::policy::xr0::preset::{NOTE, write_as};
use vlad_wire::manifest::Profile;
use vlad_xr0::layout::{TensorSpec, tensors};
use vlad_xr0::synth::Preset;

use crate::cli::print::{line, table};
use crate::config::{Config, Sources};

use super::size;

/// Bytes of a stored number: bf16.
const NUMBER_BYTES: u64 = 2;
/// Room for settings, tokenizer and headers beside the weights.
const BESIDE_BYTES: u64 = 16 << 20;

/// Flags of `model synth`.
#[derive(Debug, Clone, Args)]
pub struct SynthArgs {
    /// Which sizes: `tiny`, 2 MB; `narrow`, all layers, each narrow, 0.4 GB; `shallow`, few layers
    /// of the released widths, 1.7 GB; or `xr0-4.7b`, the full network, 9.4 GB.
    #[arg(long, value_name = "NAME")]
    pub preset: Preset,
    /// Where the random numbers start.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Which kind of action expert the manifest names: `A`, or `B`, which takes a clean prefix of up
    /// to 6 actions; the weights are the same.
    #[arg(long, value_name = "A|B", default_value = "A", value_parser = profile)]
    pub profile: Profile,
    /// The directory to make; it must not exist yet.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
}

fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "A" => Ok(Profile::A),
        "B" => Ok(Profile::B),
        _ => Err("say A or B".to_owned()),
    }
}

/// Does the command.
///
/// # Errors
/// A directory that exists, a disk without room, or what the system says.
pub fn run(args: &SynthArgs) -> anyhow::Result<()> {
    let weights: u64 = tensors(&args.preset.config()?)
        .iter()
        .map(TensorSpec::elements)
        .sum();
    let weights = weights.saturating_mul(NUMBER_BYTES);
    ensure!(!args.out.exists(), "{} exists already", args.out.display());
    check_room(&args.out, weights.saturating_add(BESIDE_BYTES))?;
    let shipped = Config::load(&Sources::default())?;
    let cell = shipped
        .cells
        .first()
        .ok_or_else(|| anyhow!("no cell is shipped"))?;

    let on_terminal = io::stderr().is_terminal();
    let mut percent = None;
    let mut progress = |done: u64, total: u64| {
        let now = done.saturating_mul(100).checked_div(total);
        if on_terminal && now != percent {
            percent = now;
            // Nobody needs to hear that progress cannot be shown.
            let _ = write!(io::stderr(), "\r{} of {}", size(done), size(total));
        }
    };
    let written = write_as(
        &cell.robot,
        (args.preset, args.seed, args.profile),
        &args.out,
        &mut progress,
    );
    if on_terminal {
        let _ = writeln!(io::stderr());
    }
    written?;
    conclude(args, cell.robot.toml().robot_type.name.as_str())
}

fn conclude(args: &SynthArgs, robot_type: &str) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let cannot = || format!("cannot read {}", args.out.display());
    for entry in args.out.read_dir().with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let n_bytes = entry.metadata().with_context(cannot)?.len();
        let name = entry.file_name().to_string_lossy().into_owned();
        rows.push(vec![format!("  {name}"), size(n_bytes)]);
    }
    rows.sort();
    let (preset, seed, out) = (args.preset, args.seed, args.out.display());
    let profile = args.profile;
    line(&format!(
        "wrote {out}: preset {preset}, seed {seed}, profile {profile:?}, robot type {robot_type}"
    ))?;
    line(&table(&rows))?;
    line(NOTE)
}

/// The writer puts everything beside `out` first, so that is the file system that counts.
fn check_room(out: &Path, needed: u64) -> anyhow::Result<()> {
    let folder = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let system =
        statvfs(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let (needed_text, free_text) = (size(needed), size(free));
    ensure!(
        needed <= free,
        "{} has {free_text} free, {needed_text} are needed",
        folder.display()
    );
    Ok(())
}
