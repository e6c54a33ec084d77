//! Fingerprints of files: SHA-256, and one over several files.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::checkpoint::read;

/// A file's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The file's name.
    pub name: String,
    /// Its length, bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl Digest {
    /// Fingerprints a file's bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            size: bytes.len() as u64,
            sha256: sha256(bytes),
        }
    }
}

/// Gives the SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Fingerprints a model: what computes, not how images and actions are scaled.
pub(crate) fn model(files: &[Digest], shards: &[Digest]) -> [u8; 32] {
    let settings = [read::CONFIG, read::TOKENIZER];
    let mut listed: Vec<_> = files
        .iter()
        .filter(|file| settings.contains(&&*file.name))
        .collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let mut weights: Vec<_> = shards.iter().collect();
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    let lines = listed.into_iter().chain(weights);
    let lines = lines.map(|file| format!("{} {} {}\n", file.name, file.size, hex(&file.sha256)));
    sha256(lines.collect::<String>().as_bytes())
}
