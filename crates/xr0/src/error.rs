//! What can go wrong between files and actions.

use std::path::PathBuf;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint directory that cannot be used: everything that is wrong, at once.
    #[error("{}: {}", dir.display(), list(faults))]
    Checkpoint {
        /// The directory.
        dir: PathBuf,
        /// What is wrong, file by file.
        faults: Vec<Fault>,
    },
    /// An input that does not fit the model.
    #[error("{0}")]
    Input(String),
    /// A computation that failed: out of memory, a shape that the checks did not see.
    #[error("the computation failed: {0}")]
    Compute(#[from] candle_core::Error),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// One thing that is wrong with a checkpoint directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct Fault {
    /// The file, relative to the directory.
    pub file: String,
    /// What is wrong with it, and what is expected.
    pub problem: String,
}

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Says that an input does not fit.
    pub fn input(problem: impl Into<String>) -> Self {
        Self::Input(problem.into())
    }
}

fn list(faults: &[Fault]) -> String {
    let one: Vec<_> = faults.iter().map(ToString::to_string).collect();
    match one.as_slice() {
        [only] => only.clone(),
        many => format!("{} faults:\n  {}", many.len(), many.join("\n  ")),
    }
}
