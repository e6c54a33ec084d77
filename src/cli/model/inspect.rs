//! `vlad model inspect`: what a checkpoint is, and what is wrong with it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use vlad_actors::policy::xr0::Xr0Policy;
use vlad_actors::policy::xr0::error::Xr0Error;
use vlad_actors::policy::xr0::manifest::{self, Origin};
use vlad_wire::manifest::Manifest;
use vlad_xr0::inspect::{Inspection, inspect};

use crate::cli::print::{line, table};

use super::size;

/// What is shown where there is no manifest.
const NO_MANIFEST: &str = "none: its profile and views are not known, and no cell can be driven";

/// What is shown where a manifest names no views.
const NO_VIEWS: &str = "none: name them in a vlad.toml; no cell can be driven without";

/// Flags of `model inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Document {
    /// Where it lies.
    dir: PathBuf,
    #[serde(flatten)]
    inspection: Inspection,
    /// The manifest; null if there is none that can be read.
    manifest: Option<Manifest>,
    /// Where it comes from; null likewise.
    manifest_origin: Option<Origin>,
}

/// Does the command.
///
/// # Errors
/// A checkpoint with which anything is wrong.
pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let document = look(&args.dir);
    if args.json {
        line(&serde_json::to_string_pretty(&document)?)?;
    } else {
        line(&text(&document))?;
    }
    match document.inspection.faults.len() {
        0 => Ok(()),
        1 => bail!("{}: 1 fault", args.dir.display()),
        n => bail!("{}: {n} faults", args.dir.display()),
    }
}

/// Everything that is wrong with a checkpoint; nothing if it is whole.
pub(crate) fn faults_of(dir: &Path) -> Vec<String> {
    look(dir).inspection.faults
}

fn look(dir: &Path) -> Document {
    let mut inspection = inspect(dir);
    let (read, found) = match manifest::find(dir) {
        // The inspection says so already.
        _ if !dir.is_dir() => (None, Vec::new()),
        Ok(None) => (None, Vec::new()),
        // What holds between manifest and checkpoint is the daemon's own check.
        Ok(Some(read)) => {
            let fits = Xr0Policy::check(dir, &[]);
            (Some(read), fits.err().map_or_else(Vec::new, faults))
        }
        Err(error) => (None, faults(error)),
    };
    let (manifest, manifest_origin) = read.map(|read| (read.manifest, read.origin)).unzip();
    for fault in found {
        if !inspection.faults.contains(&fault) {
            inspection.faults.push(fault);
        }
    }
    let dir = dir.to_owned();
    Document {
        dir,
        inspection,
        manifest,
        manifest_origin,
    }
}

fn faults(error: Xr0Error) -> Vec<String> {
    match error {
        Xr0Error::Unfit { faults, .. } => faults,
        other => vec![other.to_string()],
    }
}

fn text(document: &Document) -> String {
    let Document {
        dir,
        inspection,
        manifest,
        manifest_origin,
    } = document;
    let mut rows = vec![("checkpoint".to_owned(), dir.display().to_string())];
    if let Some(n) = &inspection.parameters {
        rows.push(("parameters".to_owned(), n.total.to_string()));
        rows.push(("  text".to_owned(), n.text.to_string()));
        rows.push(("  vision".to_owned(), n.vision.to_string()));
        rows.push(("  action expert".to_owned(), n.action_expert.to_string()));
    }
    for (dtype, stored) in &inspection.dtypes {
        let text = format!("{} tensors, {} numbers", stored.tensors, stored.elements);
        rows.push((format!("stored as {dtype}"), text));
    }
    for (name, robot) in inspection.robot_types.iter().flatten() {
        let text = format!(
            "chunk of {} actions, {} slots, {} of them move",
            robot.horizon, robot.width, robot.active
        );
        rows.push((format!("robot type {name}"), text));
    }
    if let Some(limits) = &inspection.image_limits {
        let text = format!(
            "{} to {} pixels after the resize",
            limits.min_pixels, limits.max_pixels
        );
        rows.push(("images".to_owned(), text));
    }
    rows.extend(of_manifest(manifest.as_ref(), manifest_origin.as_ref()));
    for file in &inspection.files {
        rows.push((
            file.name.clone(),
            format!("{}, SHA-256 {}", size(file.size), file.sha256),
        ));
    }
    let hashes = [
        ("model SHA-256", &inspection.model_sha256),
        ("normaliser SHA-256", &inspection.normaliser_sha256),
    ];
    for (name, hash) in hashes {
        rows.extend(hash.iter().map(|hash| (name.to_owned(), hash.clone())));
    }
    if inspection.faults.is_empty() {
        rows.push(("faults".to_owned(), "none".to_owned()));
    }
    rows.extend(
        inspection
            .faults
            .iter()
            .map(|fault| ("FAULT".to_owned(), fault.clone())),
    );
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, text)| vec![name, text])
        .collect();
    table(&rows)
}

fn of_manifest(manifest: Option<&Manifest>, origin: Option<&Origin>) -> Vec<(String, String)> {
    let (Some(manifest), Some(origin)) = (manifest, origin) else {
        return vec![("vlad.toml".to_owned(), NO_MANIFEST.to_owned())];
    };
    let from = match origin {
        Origin::File => "vlad.toml".to_owned(),
        Origin::BuiltIn(repository) => format!("built in, for {repository}"),
        Origin::FileOverBuiltIn(repository) => {
            format!("vlad.toml over the built-in one for {repository}")
        }
    };
    let mut rows = vec![
        ("manifest".to_owned(), from),
        ("name".to_owned(), manifest.name.to_string()),
        ("note".to_owned(), manifest.note.to_string()),
        ("profile".to_owned(), profile(manifest)),
    ];
    if let Some(dt_ms) = manifest.dt_ms {
        rows.push(("tick".to_owned(), format!("{dt_ms} ms")));
    }
    for view in &manifest.views {
        let budget = view.tokens_max;
        let budget = budget.map_or_else(String::new, |n| format!(", at most {n} tokens"));
        let text = format!("\"{}\"{budget}", view.label);
        rows.push((format!("view {}", view.view), text));
    }
    if manifest.views.is_empty() {
        rows.push(("views".to_owned(), NO_VIEWS.to_owned()));
    }
    for robot_type in &manifest.robot_types {
        let text = format!(
            "{} actions of {} slots",
            robot_type.horizon, robot_type.width
        );
        rows.push((format!("drives {}", robot_type.name), text));
    }
    let test = manifest.self_test.as_ref();
    let test = test.map_or_else(|| "none".to_owned(), |test| test.file.clone());
    rows.push(("self-test".to_owned(), test));
    rows
}

fn profile(manifest: &Manifest) -> String {
    let frequencies = if manifest.rope_inv_freq_bf16 {
        "rounded to bf16"
    } else {
        "f32"
    };
    let kind = match (manifest.local_window, manifest.position_gap) {
        (Some(window), Some(gap)) => format!(
            " (window {window}, gap {gap}, prefix up to {})",
            manifest.prefix_trained_max
        ),
        _ => String::new(),
    };
    format!(
        "{:?}{kind}, rotary frequencies {frequencies}",
        manifest.profile
    )
}
