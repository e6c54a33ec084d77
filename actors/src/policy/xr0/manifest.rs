//! The manifest of a checkpoint: `vlad.toml` beside it, over the built-in one of a released
//! checkpoint; and how it fits the files and the cells.
//!
//! ```text
//!  robot types of preprocessor_config.json ─► built-in manifest, if they are a released checkpoint's
//!                                                  │ key by key
//!  vlad.toml ──────────────────────────────────────┴─► the manifest
//! ```
//! A table of `vlad.toml` is merged into the built-in one's, everything else replaces it: a list as a
//! whole. Nothing is loaded yet: headers and settings are enough. Whatever is wrong is listed at
//! once.

use std::path::Path;

use serde::Serialize;
use vlad_wire::manifest::{self as wire, CellShape, Manifest};
use vlad_wire::msg::think::Digest;
use vlad_xr0::checkpoint::read::{self, Unreadable};
use vlad_xr0::checkpoint::{Checkpoint, robot_types};
use vlad_xr0::dit::layout::Kind;
use vlad_xr0::error::Error;
use vlad_xr0::model::Profile;

use super::error::Xr0Error;
use super::released::{self, Released};

mod compare;
pub(super) mod images;

/// Name of the manifest's file.
pub const FILE: &str = "vlad.toml";
/// Largest manifest: the longest one has a few kilobytes.
const BYTES_MAX: u64 = 256 * 1024;

/// Where a manifest comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// From `vlad.toml` alone.
    File,
    /// From the built-in one of this repository alone.
    BuiltIn(String),
    /// From `vlad.toml` over the built-in one of this repository.
    FileOverBuiltIn(String),
}

/// A manifest, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The manifest.
    pub manifest: Manifest,
    /// Where it comes from.
    pub origin: Origin,
}

/// Reads the manifest of a checkpoint; `None` if it has none, and is no released checkpoint.
///
/// # Errors
/// As [`find`].
pub fn read(dir: &Path) -> Result<Option<Manifest>, Xr0Error> {
    Ok(find(dir)?.map(|found| found.manifest))
}

/// Reads the manifest of a checkpoint, and says where it comes from; `None` as in [`read()`].
///
/// # Errors
/// A `dir` that is no folder; a file that cannot be read, or is no manifest. What is wrong with its
/// values is not looked at.
pub fn find(dir: &Path) -> Result<Option<Found>, Xr0Error> {
    let unfit = |fault: String| Xr0Error::Unfit {
        dir: dir.to_owned(),
        faults: vec![fault],
    };
    if !dir.exists() {
        return Err(unfit("there is no such folder".to_owned()));
    }
    if !dir.is_dir() {
        return Err(unfit(
            "is a file; name the folder of the checkpoint".to_owned(),
        ));
    }
    let unfit = |problem: String| unfit(format!("{FILE}: {}", problem.trim_end()));
    let released = released::with_robot_types(&robot_types(dir))?;
    let text = match read::bounded(&dir.join(FILE), BYTES_MAX) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| unfit(error.to_string()))?,
        Err(Unreadable::Absent) => return Ok(released.map(built_in)),
        Err(unreadable) => return Err(unfit(unreadable.problem())),
    };
    let Some(released) = released else {
        // Straight from the text: what is wrong is then shown with its line.
        let manifest = toml::from_str(&text).map_err(|error| unfit(error.to_string()))?;
        let origin = Origin::File;
        return Ok(Some(Found { manifest, origin }));
    };
    let own = toml::from_str(&text).map_err(|error| unfit(error.to_string()))?;
    let mut table = released.table;
    merge(&mut table, own);
    let manifest = table.try_into();
    let manifest = manifest.map_err(|error: toml::de::Error| unfit(error.to_string()))?;
    let origin = Origin::FileOverBuiltIn(released.repository);
    Ok(Some(Found { manifest, origin }))
}

fn built_in(released: Released) -> Found {
    Found {
        origin: Origin::BuiltIn(released.repository),
        manifest: released.manifest,
    }
}

/// Puts one table's keys over another's: tables are merged, everything else is replaced.
fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// A checkpoint and the manifest that fits it.
#[derive(Debug)]
pub(super) struct Fitting {
    pub(super) manifest: Manifest,
    pub(super) checkpoint: Checkpoint,
}

/// Opens manifest and checkpoint, and compares them with each other and with each cell.
///
/// # Errors
/// [`Xr0Error::NoManifest`]; [`Xr0Error::Unfit`] with everything that is wrong.
pub(super) fn fit(dir: &Path, cells: &[CellShape]) -> Result<Fitting, Xr0Error> {
    let manifest = read(dir)?.ok_or_else(|| Xr0Error::NoManifest {
        dir: dir.to_owned(),
    })?;
    fit_manifest(dir, manifest, cells)
}

/// Opens the checkpoint and compares it with this manifest and with each cell.
///
/// # Errors
/// [`Xr0Error::Unfit`] with everything that is wrong.
pub(super) fn fit_manifest(
    dir: &Path,
    manifest: Manifest,
    cells: &[CellShape],
) -> Result<Fitting, Xr0Error> {
    let mut faults = compare::own_faults(&manifest);
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => {
            faults.extend(compare::checkpoint_faults(&manifest, &checkpoint)?);
            Some(checkpoint)
        }
        Err(Error::Checkpoint { faults: found, .. }) => {
            faults.extend(found.iter().map(ToString::to_string));
            None
        }
        Err(error) => return Err(error.into()),
    };
    for cell in cells {
        faults.extend(compare::cell_faults(&manifest, cell));
    }
    // Cells with the same robot have the same mismatches.
    let mut listed = Vec::new();
    for fault in faults {
        if !listed.contains(&fault) {
            listed.push(fault);
        }
    }
    match checkpoint {
        Some(checkpoint) if listed.is_empty() => Ok(Fitting {
            manifest,
            checkpoint,
        }),
        _ => Err(Xr0Error::Unfit {
            dir: dir.to_owned(),
            faults: listed,
        }),
    }
}

/// What the network must know of a manifest.
pub(super) fn profile(manifest: &Manifest) -> Profile {
    let (window, gap) = (manifest.local_window, manifest.position_gap);
    let kind = match manifest.profile {
        wire::Profile::A => Kind::A,
        // Both are there: a manifest of profile B without them does not fit.
        wire::Profile::B => Kind::B {
            local_window: window.unwrap_or_default().into(),
            position_gap: gap.unwrap_or_default().into(),
        },
    };
    Profile {
        rope_inv_freq_bf16: manifest.rope_inv_freq_bf16,
        kind,
    }
}

/// The digests of a checkpoint, as they stand in messages: of the model and of the normaliser.
pub(super) fn digests(checkpoint: &Checkpoint) -> Result<(Digest, Digest), Error> {
    let model = checkpoint.model_digest()?.to_vec();
    let normaliser = checkpoint.normaliser_digest()?.to_vec();
    Ok((Digest::from(model), Digest::from(normaliser)))
}
