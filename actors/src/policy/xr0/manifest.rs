//! `vlad.toml` beside a checkpoint: reads it, and compares it with the checkpoint and the cells.
//!
//! Nothing is loaded yet: headers and settings are enough. Whatever is wrong is listed at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use vlad_wire::manifest::{ActionRepresentation, CellShape, Manifest, Profile};
use vlad_wire::msg::think::Digest;
use vlad_wire::robot_type::RobotType;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::checkpoint::digest::hex;
use vlad_xr0::error::Error;
use vlad_xr0::prompt::check;

use super::error::Xr0Error;

/// Name of the manifest's file.
pub const FILE: &str = "vlad.toml";
/// Largest manifest: the longest one has a few kilobytes.
const BYTES_MAX: u64 = 256 * 1024;

/// Reads the manifest of a checkpoint; `None` if it has none.
///
/// # Errors
/// A `dir` that is no folder; a file that cannot be read, or is no manifest. What is wrong with its
/// values is not looked at.
pub fn read(dir: &Path) -> Result<Option<Manifest>, Xr0Error> {
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
    let path = dir.join(FILE);
    let unfit = |problem: String| unfit(format!("{FILE}: {problem}"));
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    let opened = path.metadata().and_then(|found| {
        let file = found.is_file().then(|| File::open(&path));
        file.transpose()
    });
    let file = match opened {
        Ok(Some(file)) => file,
        Ok(None) => return Err(unfit("is not a regular file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Xr0Error::file(&path)(error)),
    };
    let mut text = String::new();
    let n_bytes = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    let n_bytes = n_bytes.map_err(|error| unfit(error.to_string()))?;
    if usize::try_from(BYTES_MAX).is_ok_and(|max| max < n_bytes) {
        return Err(unfit(format!("has more than {BYTES_MAX} bytes")));
    }
    let manifest = toml::from_str(&text);
    let manifest = manifest.map_err(|error| unfit(error.to_string().trim_end().to_owned()))?;
    Ok(Some(manifest))
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
    let mut faults = own_faults(&manifest);
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => {
            faults.extend(checkpoint_faults(&manifest, &checkpoint)?);
            Some(checkpoint)
        }
        Err(Error::Checkpoint { faults: found, .. }) => {
            faults.extend(found.iter().map(ToString::to_string));
            None
        }
        Err(error) => return Err(error.into()),
    };
    for cell in cells {
        let found = manifest.mismatches(cell);
        faults.extend(found.iter().map(|fault| format!("{FILE}: {fault}")));
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

/// Lists what is wrong with the manifest alone, and what this build does not do.
fn own_faults(manifest: &Manifest) -> Vec<String> {
    let mut faults: Vec<_> = manifest.faults().iter().map(ToString::to_string).collect();
    let mut demand = |holds: bool, problem: &str| {
        if !holds {
            faults.push(problem.to_owned());
        }
    };
    demand(
        manifest.profile == Profile::A,
        "profile: B (clean prefix, local window) is not in this build; A is",
    );
    demand(
        manifest.action_representation == ActionRepresentation::JointAbsolute,
        "action_representation: joint_absolute is the only one in this build",
    );
    demand(
        manifest.flow,
        "flow: must be true, the network integrates a flow",
    );
    demand(!manifest.vjp, "vjp: guidance is not in this build");
    demand(
        manifest.self_test.is_none(),
        "self_test: golden self-tests are not in this build; leave it out",
    );
    let views = manifest.views.iter();
    faults.extend(doubled(views.clone().map(|view| view.view.as_str())));
    faults.extend(doubled(views.map(|view| view.label.as_str())));
    faults
        .iter()
        .map(|fault| format!("{FILE}: {fault}"))
        .collect()
}

/// Names once each view or label that stands for several images.
fn doubled<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut times = BTreeMap::<_, usize>::new();
    for name in names {
        *times.entry(name).or_default() += 1;
    }
    let doubled = times.into_iter().filter(|(_, n)| 1 < *n);
    doubled
        .map(|(name, n)| format!("views: {name:?} stands there {n} times"))
        .collect()
}

/// Lists the labels that the prompt cannot hold, with why.
fn label_faults(manifest: &Manifest, checkpoint: &Checkpoint) -> Vec<String> {
    let labels: Vec<_> = manifest
        .views
        .iter()
        .map(|view| view.label.as_str())
        .collect();
    let refused = |labels: &[&str]| check(checkpoint.tokenizer(), labels, "").err();
    let each = labels.iter().filter_map(|label| refused(&[label]));
    let mut found: Vec<_> = each.collect();
    if found.is_empty() {
        // Labels that are fine one by one may be too long together.
        found.extend(refused(&labels));
    }
    found
        .iter()
        .map(|error| format!("views: {error}"))
        .collect()
}

/// Lists what manifest and checkpoint do not agree on.
fn checkpoint_faults(manifest: &Manifest, checkpoint: &Checkpoint) -> Result<Vec<String>, Error> {
    let mut faults: Vec<_> = manifest
        .robot_types
        .iter()
        .flat_map(|robot_type| robot_type_faults(robot_type, checkpoint))
        .collect();
    faults.extend(label_faults(manifest, checkpoint));
    let max_pixels = checkpoint.preprocessor().limits.max_pixels;
    if usize::try_from(manifest.image_pixels_max).ok() != Some(max_pixels) {
        faults.push(format!(
            "image_pixels_max: {} here and {max_pixels} in preprocessor_config.json",
            manifest.image_pixels_max
        ));
    }
    if let Some(pinned) = &manifest.model_sha256 {
        faults.extend(pin_fault(
            "model_sha256",
            pinned,
            &checkpoint.model_digest()?,
        ));
    }
    if let Some(pinned) = &manifest.normaliser_sha256 {
        let digest = checkpoint.normaliser_digest()?;
        faults.extend(pin_fault("normaliser_sha256", pinned, &digest));
    }
    Ok(faults
        .iter()
        .map(|fault| format!("{FILE}: {fault}"))
        .collect())
}

fn robot_type_faults(robot_type: &RobotType, checkpoint: &Checkpoint) -> Vec<String> {
    let RobotType {
        name,
        width,
        horizon,
    } = robot_type;
    let tables = &checkpoint.preprocessor().robot_types;
    let Some(table) = tables.get(name.as_str()) else {
        let known: Vec<_> = tables.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return vec![format!(
            "robot_types: {name} is not among those of preprocessor_config.json: {known}"
        )];
    };
    let config = checkpoint.config();
    let sizes = [
        (
            "horizon",
            *horizon,
            "rows of its statistics",
            table.horizon(),
        ),
        (
            "width",
            *width,
            "action_dim of config.json",
            config.action_dim,
        ),
        (
            "width",
            *width,
            "state_dim of config.json",
            config.state_dim,
        ),
    ];
    let wrong = sizes.iter().filter(|(_, ours, _, theirs)| ours != theirs);
    wrong
        .map(|(field, ours, what, theirs)| {
            format!("robot_types: {name} has {field} {ours}, but the {what} is {theirs}")
        })
        .collect()
}

fn pin_fault(field: &str, pinned: &str, digest: &[u8]) -> Option<String> {
    let found = hex(digest);
    let same = pinned.eq_ignore_ascii_case(&found);
    (!same).then(|| format!("{field}: {pinned} here, but the files have {found}"))
}

/// The digests of a checkpoint, as they stand in messages: of the model and of the normaliser.
pub(super) fn digests(checkpoint: &Checkpoint) -> Result<(Digest, Digest), Error> {
    let model = checkpoint.model_digest()?.to_vec();
    let normaliser = checkpoint.normaliser_digest()?.to_vec();
    Ok((Digest::from(model), Digest::from(normaliser)))
}
