//! Xiaomi-Robotics-0 as a policy: a checkpoint, its manifest and the cells that it drives.
//!
//! ```text
//!  observation ─ views by the manifest's order ─► vision-language model ─► context, one part a layer
//!  context, state, noise ─► action expert ─ statistics of the robot type ─► absolute targets
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`manifest`] | `vlad.toml`: read, and compared with checkpoint and cells before anything loads |
//! | [`decide`] | one decision from files, through the same code as the daemon's |
//! | [`preset`] | checkpoints with random weights, with their manifest |
//! | [`error`] | what can be wrong |
//!
//! Each half loads only its own weights, and computes on threads of its own. A chunk is a function
//! of images, instruction, state and noise: the same inputs give the same bits, in one process or
//! in several, since a context travels without loss.

use std::path::Path;

use vlad_motion::policy::{Act, Capability, Policy, PolicyError, Think};
use vlad_wire::manifest::{CellShape, Manifest};
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::Name;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::device::DeviceName;
use vlad_xr0::model::Profile;

use act::{Sampler, Xr0Act};
use error::Xr0Error;
use think::{Prefill, Xr0Think};

mod act;
pub mod decide;
pub mod error;
pub mod manifest;
mod pool;
pub mod preset;
mod think;
mod thought;

#[cfg(test)]
mod tests;

/// Where each half computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Devices {
    /// The brain's half.
    pub brain: DeviceName,
    /// The action expert's half.
    pub expert: DeviceName,
}

/// The policy `xr0`: a checkpoint whose files, manifest and cells fit each other.
#[derive(Debug)]
pub struct Xr0Policy {
    manifest: Manifest,
    checkpoint: Checkpoint,
    robot_type: Name,
    devices: Devices,
    model_hash: Digest,
    normaliser_hash: Digest,
}

impl Xr0Policy {
    /// Reads the manifest, the headers of the weights and the settings, and compares all with the
    /// cells; loads no weights. All cells have the robot type of the first one.
    ///
    /// # Errors
    /// [`Xr0Error::NoManifest`]; [`Xr0Error::Unfit`] with everything that is wrong at once.
    pub fn open(dir: &Path, cells: &[CellShape], devices: Devices) -> Result<Self, Xr0Error> {
        let manifest::Fitting {
            manifest,
            checkpoint,
        } = manifest::fit(dir, cells)?;
        let of_cell = cells.first().map(|cell| &cell.robot_type);
        let robot_type = of_cell.or(manifest.robot_types.first());
        let robot_type = robot_type.ok_or_else(|| Xr0Error::input("there is no robot type"))?;
        let (model_hash, normaliser_hash) = manifest::digests(&checkpoint)?;
        Ok(Self {
            robot_type: robot_type.name.clone(),
            manifest,
            checkpoint,
            devices,
            model_hash,
            normaliser_hash,
        })
    }

    /// Compares a checkpoint with its manifest and with cells, and opens nothing.
    ///
    /// # Errors
    /// As [`Xr0Policy::open`].
    pub fn check(dir: &Path, cells: &[CellShape]) -> Result<(), Xr0Error> {
        manifest::fit(dir, cells).map(drop)
    }

    fn profile(&self) -> Profile {
        profile(&self.manifest)
    }
}

/// What the network must know of a manifest.
fn profile(manifest: &Manifest) -> Profile {
    Profile {
        rope_inv_freq_bf16: manifest.rope_inv_freq_bf16,
    }
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
        Capability {
            prefix_trained_max: 0,
            guidance: false,
            batch_max: 1,
        }
    }

    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError> {
        let prefill = Prefill::open(&self.checkpoint, self.profile(), self.devices.brain);
        Ok(Box::new(Xr0Think {
            prefill: prefill.map_err(cannot_open)?,
            views: self.manifest.views.clone(),
            model_hash: self.model_hash.clone(),
        }))
    }

    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError> {
        let place = (self.profile(), self.devices.expert);
        let sampler = Sampler::open(&self.checkpoint, self.robot_type.as_str(), place);
        Ok(Box::new(Xr0Act {
            sampler: sampler.map_err(cannot_open)?,
            slots: self.manifest.slots.clone(),
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
