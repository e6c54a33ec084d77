//! Reads regular files with a bound on their size: a checkpoint's own, and those that come beside it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path};

/// Sizes of the networks.
pub const CONFIG: &str = "config.json";
/// Image limits and action statistics.
pub const PREPROCESSOR: &str = "preprocessor_config.json";
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// All weights in one file, where there is no index.
pub const SINGLE: &str = "model.safetensors";

/// A file that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// There is none.
    Absent,
    /// What is wrong with it.
    Other(String),
}

impl Unreadable {
    /// What is wrong, as a fault's text.
    pub fn problem(self) -> String {
        match self {
            Self::Absent => "is absent".to_owned(),
            Self::Other(problem) => problem,
        }
    }
}

/// Opens a regular file and gives its length; links are followed, as downloads are often links.
///
/// # Errors
/// [`Unreadable`]: nothing there, no regular file, or what the system says.
pub fn open(path: &Path) -> Result<(File, u64), Unreadable> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unreadable::Absent,
        _ => Unreadable::Other(format!("cannot be read: {error}")),
    };
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Unreadable::Other("is not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    Ok((file, length))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; a file that is longer.
pub fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Unreadable> {
    let (file, length) = open(path)?;
    let too_long =
        |length| Unreadable::Other(format!("is {length} bytes long, at most {limit} are read"));
    if limit < length {
        return Err(too_long(length));
    }
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that grows meanwhile is seen.
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Unreadable::Other(format!("cannot be read: {error}")))?;
    if limit < bytes.len() as u64 {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Says whether a name stands for a file of the directory itself: one component, no way out.
pub fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let one = matches!(components.next(), Some(Component::Normal(only)) if *only == *name);
    one && components.next().is_none() && !name.contains(['\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_inside_the_directory_are_plain() {
        for name in [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "..a",
            "a b",
        ] {
            assert!(is_plain(name), "{name}");
        }
        let outside = [
            "",
            ".",
            "..",
            "/",
            "/etc/passwd",
            "../a",
            "a/b",
            "./a",
            "a/",
            "a/..",
            "a\\b",
            "a\0",
        ];
        for name in outside {
            assert!(!is_plain(name), "{name}");
        }
    }
}
