//! `vlad model self-test`: a golden decision that travels with a checkpoint.

use std::path::PathBuf;

use clap::Args;
use vlad_actors::policy::xr0::golden;
use vlad_xr0::device::DeviceName;
use vlad_xr0::model::Options;
use vlad_xr0::nn::weights::WeightType;

use crate::cli::print::{line, table};

/// Flags of `model self-test`.
#[derive(Debug, Clone, Args)]
pub struct SelfTestArgs {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Make the file instead, in f32 on the processor, and print the line that vlad.toml then needs.
    #[arg(long, conflicts_with_all = ["device", "weights"])]
    pub write: bool,
    /// Where to compute: `cpu` or `cuda:N`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// What large weights are held as: `f32`, `bf16`, `q8` or `q4` [default: the device's own].
    #[arg(long, value_name = "TYPE")]
    pub weights: Option<WeightType>,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Does the command.
///
/// # Errors
/// A checkpoint that does not fit its manifest; a half that computes something else than the file
/// holds, with the figures.
pub fn run(args: &SelfTestArgs) -> anyhow::Result<()> {
    if args.write {
        return write(args);
    }
    let mut options = Options::served(args.device.open()?);
    options.weights = args.weights.unwrap_or(options.weights);
    let tried = golden::check(&args.dir, options)?;
    if args.json {
        return line(&serde_json::to_string_pretty(&tried)?);
    }
    let row =
        |half: &str, deviation| vec![half.to_owned(), format!("{deviation}"), "ok".to_owned()];
    line(&table(&[
        row("brain", tried.brain),
        row("action expert", tried.action_expert),
    ]))
}

fn write(args: &SelfTestArgs) -> anyhow::Result<()> {
    let (path, in_manifest) = golden::write(&args.dir)?;
    if args.json {
        let document = serde_json::json!({ "file": path, "line": in_manifest });
        return line(&serde_json::to_string_pretty(&document)?);
    }
    line(&format!("wrote {}", path.display()))?;
    line("put into vlad.toml, above every [table]:")?;
    line(&in_manifest)
}
