//! What can go wrong between files and actions.
//!
//! A text names its cause itself, and has none behind it in its chain: some callers keep the text
//! alone, others print the whole chain, and both show a cause once.

use std::fmt;
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
    Compute(candle_core::Error),
    /// A file that cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// One thing that is wrong with a checkpoint directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, relative to the directory; empty where the directory itself is wrong.
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

impl From<candle_core::Error> for Error {
    fn from(cause: candle_core::Error) -> Self {
        Self::Compute(cause)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file.as_str() {
            "" => formatter.write_str(&self.problem),
            file => write!(formatter, "{file}: {}", self.problem),
        }
    }
}

fn list(faults: &[Fault]) -> String {
    let one: Vec<_> = faults.iter().map(ToString::to_string).collect();
    match one.as_slice() {
        [only] => only.clone(),
        many => format!("{} faults:\n  {}", many.len(), many.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_cause_is_shown_once_whether_the_chain_is_printed_or_not() {
        let cause = std::io::Error::other("the disk is full");
        let file = Error::File {
            path: PathBuf::from("a"),
            cause,
        };
        let compute = Error::from(candle_core::Error::Msg("out of memory".to_owned()));
        for (error, text) in [
            (file, "a: the disk is full"),
            (compute, "the computation failed: out of memory"),
        ] {
            assert_eq!(text, error.to_string());
            assert!(error.source().is_none(), "{text}");
        }
    }

    #[test]
    fn a_fault_of_the_directory_itself_names_no_file() {
        let fault = |file: &str| Fault {
            file: file.to_owned(),
            problem: "is odd".to_owned(),
        };
        assert_eq!("config.json: is odd", fault("config.json").to_string());
        assert_eq!("is odd", fault("").to_string());
    }
}
