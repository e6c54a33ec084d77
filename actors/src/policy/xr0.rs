//! Xiaomi-Robotics-0 as a policy: a checkpoint, its manifest and the cells that it drives.
//!
//! ```text
//!  observation ─ views by the manifest's order ─► vision-language model ─► context, one part a layer
//!  context, state, noise ─► action expert ─ statistics of the robot type ─► absolute targets
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`setup`] | devices, weights and encoding of the two halves |
//! | [`manifest`] | `vlad.toml`: read, and compared with checkpoint and cells before anything loads |
//! | [`decide`] | one decision from files, through the same code as the daemon's |
//! | [`released`] | manifests of the released checkpoints |
//! | [`golden`] | self-tests: made and tried from a checkpoint's folder |
//! | [`preset`] | checkpoints with random weights, with their manifest |
//! | [`error`] | what can be wrong |
//!
//! Guidance is taken where the manifest says `vjp`: the derivative goes through the action expert's
//! weights as they are held, so nothing is loaded twice, and costs about two more passes a step; its
//! decisions are made one by one.
//!
//! Each half loads only its own weights, and computes on threads of its own. A chunk is a function
//! of images, instruction, state, prefix, guidance and noise: the same inputs give the same bits, in one process
//! or in several, layer by layer or as a whole, since a context travels without loss, unless
//! `brain.context_encoding` says otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use vlad_motion::policy::{Act, Capability, Policy, PolicyError, Think};
use vlad_wire::manifest::{CellShape, Manifest};
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::Name;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::dit::layout::Kind;
use vlad_xr0::model::Profile;
use vlad_xr0::self_test::SelfTest;

use act::Xr0Act;
use error::Xr0Error;
use sampler::Sampler;
use setup::Setup;
use shelf::Shelf;
use think::{Prefill, Xr0Think};

mod act;
pub mod decide;
pub mod error;
pub mod golden;
pub mod manifest;
mod pool;
pub mod preset;
mod received;
pub mod released;
mod rows;
mod sampler;
pub mod setup;
mod shelf;
mod think;
mod thought;

#[cfg(test)]
mod tests;

/// Most jobs and requests in one call: as many cells as one brain serves at once. Attention's memory
/// grows with them.
const BATCH_MAX: usize = 8;
/// Contexts of a cell that stay where they were computed: the one that is read, and the next.
const SHELVED: usize = 2;

/// The policy `xr0`: a checkpoint whose files, manifest and cells fit each other.
#[derive(Debug)]
pub struct Xr0Policy {
    dir: PathBuf,
    manifest: Manifest,
    checkpoint: Checkpoint,
    robot_type: Name,
    setup: Setup,
    shelf: Option<Arc<Shelf>>,
    model_hash: Digest,
    normaliser_hash: Digest,
}

impl Xr0Policy {
    /// Reads the manifest, the headers of the weights and the settings, and compares all with the
    /// cells; loads no weights. All cells have the robot type of the first one.
    ///
    /// # Errors
    /// [`Xr0Error::NoManifest`]; [`Xr0Error::Unfit`] with everything that is wrong at once.
    pub fn open(dir: &Path, cells: &[CellShape], setup: Setup) -> Result<Self, Xr0Error> {
        let manifest::Fitting {
            manifest,
            checkpoint,
        } = manifest::fit(dir, cells)?;
        let of_cell = cells.first().map(|cell| &cell.robot_type);
        let robot_type = of_cell.or(manifest.robot_types.first());
        let robot_type = robot_type.ok_or_else(|| Xr0Error::input("there is no robot type"))?;
        let (model_digest, normaliser_hash) = manifest::digests(&checkpoint)?;
        let model_hash = model_hash(model_digest, manifest::profile(&manifest));
        let shelf = || Arc::new(Shelf::new(SHELVED * cells.len().max(1)));
        Ok(Self {
            dir: dir.to_owned(),
            robot_type: robot_type.name.clone(),
            manifest,
            checkpoint,
            setup,
            shelf: setup.by_reference.then(shelf),
            model_hash,
            normaliser_hash,
        })
    }

    /// Compares a checkpoint with its manifest and with cells, opens nothing, and gives what it could
    /// do.
    ///
    /// # Errors
    /// As [`Xr0Policy::open`].
    pub fn check(dir: &Path, cells: &[CellShape]) -> Result<Capability, Xr0Error> {
        manifest::fit(dir, cells).map(|fitting| capability(&fitting.manifest))
    }

    fn profile(&self) -> Profile {
        manifest::profile(&self.manifest)
    }

    /// The golden decision that the manifest names, if it does.
    fn self_test(&self) -> Result<Option<SelfTest>, PolicyError> {
        let Some(named) = &self.manifest.self_test else {
            return Ok(None);
        };
        let opened = SelfTest::open(&self.dir.join(&named.file), &named.sha256);
        opened.map(Some).map_err(|error| cannot_open(error.into()))
    }
}

fn capability(manifest: &Manifest) -> Capability {
    Capability {
        prefix_trained_max: manifest.prefix_trained_max,
        guidance: manifest.flow && manifest.vjp,
        batch_max: BATCH_MAX,
    }
}

/// The hash that both halves must agree on: that of the checkpoint's files, and of what its manifest
/// adds to them where that changes the network's numbers. For the plain profile A it is the files'.
fn model_hash(files: Digest, profile: Profile) -> Digest {
    if profile == Profile::default() {
        return files;
    }
    let Profile {
        rope_inv_freq_bf16,
        kind,
    } = profile;
    // Spelled out: builds whose types are called otherwise must agree on it.
    let kind = match kind {
        Kind::A => "A".to_owned(),
        Kind::B {
            local_window,
            position_gap,
        } => format!("B local_window={local_window} position_gap={position_gap}"),
    };
    let mut hasher = Sha256::new();
    hasher.update(&files);
    hasher.update(format!(
        "rope_inv_freq_bf16={rope_inv_freq_bf16} profile={kind}"
    ));
    Digest::from(hasher.finalize().to_vec())
}

impl Policy for Xr0Policy {
    fn label(&self) -> PolicyLabel {
        PolicyLabel {
            name: self.manifest.name.clone(),
            note: self.manifest.note.clone(),
            model_hash: self.model_hash.clone(),
            normaliser_hash: self.normaliser_hash.clone(),
        }
    }

    fn capability(&self) -> Capability {
        capability(&self.manifest)
    }

    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError> {
        let prefill = Prefill::open(&self.checkpoint, self.profile(), self.setup.brain);
        let preprocessor = self.checkpoint.preprocessor();
        let views = self.manifest.views.iter().map(|view| {
            let limits = manifest::images::limits(&self.manifest, view, preprocessor);
            (view.clone(), limits)
        });
        Ok(Box::new(Xr0Think {
            prefill: prefill.map_err(cannot_open)?,
            self_test: self.self_test()?,
            views: views.collect(),
            instruction: self.manifest.instruction,
            encoding: self.setup.encoding,
            shelf: self.shelf.clone(),
            model_hash: self.model_hash.clone(),
        }))
    }

    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError> {
        let how = (self.profile(), self.setup.expert);
        let (manifest, robot_type) = (Some(&self.manifest), self.robot_type.as_str());
        let sampler = Sampler::open(&self.checkpoint, manifest, robot_type, how);
        Ok(Box::new(Xr0Act {
            sampler: sampler.map_err(cannot_open)?,
            self_test: self.self_test()?,
            prefix_max: usize::from(self.manifest.prefix_trained_max),
            guidance: self.capability().guidance,
            shelf: self.shelf.clone(),
            model_hash: self.model_hash.clone(),
        }))
    }
}

fn cannot_open(error: Xr0Error) -> PolicyError {
    match error {
        Xr0Error::Policy(error) => error,
        other => PolicyError::Open(other.to_string()),
    }
}
