//! Why a checkpoint cannot be used by a cell.

use std::path::{Path, PathBuf};

use vlad_motion::policy::PolicyError;
use vlad_xr0::error::Error;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Xr0Error {
    /// There is no manifest.
    #[error(
        "{}: there is no vlad.toml beside the checkpoint; write one that names its robot type, \
         slots and views: `vlad model synth --preset tiny` makes one to start from", dir.display()
    )]
    NoManifest {
        /// The checkpoint's folder.
        dir: PathBuf,
    },
    /// Checkpoint, manifest and cell do not fit: everything that is wrong, at once.
    #[error("{}: {}", dir.display(), list(faults))]
    Unfit {
        /// The checkpoint's folder.
        dir: PathBuf,
        /// What is wrong, each with its file.
        faults: Vec<String>,
    },
    /// What the network's own code says.
    #[error(transparent)]
    Model(#[from] Error),
    /// A decision that failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An input that does not fit.
    #[error("{0}")]
    Input(String),
    /// A file that cannot be read or written.
    ///
    /// Its text names the cause, which is not in its chain too: both are shown.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
}

impl Xr0Error {
    pub(super) fn input(problem: impl Into<String>) -> Self {
        Self::Input(problem.into())
    }

    /// Names the file of an input or output error.
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |cause| Self::File { path, cause }
    }
}

fn list(faults: &[String]) -> String {
    match faults {
        [only] => only.clone(),
        many => format!("{} faults:\n  {}", many.len(), many.join("\n  ")),
    }
}
