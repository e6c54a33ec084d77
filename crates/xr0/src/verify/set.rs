//! The files of a set: checked against the manifest, then read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::checkpoint::digest::hex;
use crate::checkpoint::read;
use crate::checkpoint::shard::Shard;
use crate::error::{Error, Fault, Result};

use super::array::Array;
use super::case::{self, Case};

/// Most bytes of a JSON file; a set for the full network has less than one hundredth of it.
const JSON_BYTES_MAX: u64 = 256 << 20;
/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A set whose files are what its manifest says.
#[derive(Debug)]
pub(super) struct Set {
    dir: PathBuf,
    files: BTreeMap<String, Listed>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    files: BTreeMap<String, Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    bytes: u64,
    sha256: String,
    #[serde(default)]
    tensors: Option<BTreeMap<String, (String, Vec<usize>)>>,
}

impl Set {
    /// Checks every file that the manifest lists, then reads the cases.
    ///
    /// # Errors
    /// All files that are missing or wrong, at once; a case that cannot be understood.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let fail = |faults: Vec<Fault>| Error::Checkpoint {
            dir: dir.to_owned(),
            faults,
        };
        let manifest: Manifest =
            read_json(dir, "manifest.json").map_err(|fault| fail(vec![fault]))?;
        let checked = manifest
            .files
            .iter()
            .map(|(path, listed)| check(dir, path, listed));
        let faults: Vec<_> = checked.filter_map(std::result::Result::err).collect();
        if !faults.is_empty() {
            return Err(fail(faults));
        }
        let mut set = Self {
            dir: dir.to_owned(),
            files: manifest.files,
            cases: Vec::new(),
        };
        let cases: BTreeMap<String, Value> = set.json("cases.json")?;
        set.cases = case::cases(&cases).map_err(|problem| set.fail("cases.json", problem))?;
        Ok(set)
    }

    /// The cases: what others are based on comes first.
    pub(super) fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The checkpoint's directory.
    pub(super) fn model_dir(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// Reads a JSON file of the set.
    ///
    /// # Errors
    /// A file that the manifest does not list, or that is no such JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        self.listed(file)?;
        read_json(&self.dir, file).map_err(|fault| self.fail(&fault.file, fault.problem))
    }

    /// Reads all stored tensors of a case.
    ///
    /// # Errors
    /// A file that the manifest does not list, or that cannot be read.
    pub(super) fn tensors(&self, case: &str) -> Result<BTreeMap<String, Array>> {
        let file = format!("{case}.safetensors");
        let length = self.listed(&file)?.bytes;
        let bytes = read::bounded(&self.dir.join(&file), length)
            .map_err(|unreadable| self.fail(&file, unreadable.problem()))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| self.fail(&file, error.to_string()))?;
        let arrays = tensors.iter().map(|(name, view)| {
            let array = Array::stored(&view);
            let array = array.map_err(|problem| self.fail(&file, format!("{name}: {problem}")))?;
            Ok((name.to_owned(), array))
        });
        arrays.collect()
    }

    /// Makes the error that a file of the set is wrong.
    pub(super) fn fail(&self, file: &str, problem: impl Into<String>) -> Error {
        let fault = Fault {
            file: file.to_owned(),
            problem: problem.into(),
        };
        Error::Checkpoint {
            dir: self.dir.clone(),
            faults: vec![fault],
        }
    }

    fn listed(&self, file: &str) -> Result<&Listed> {
        self.files.get(file).ok_or_else(|| {
            let problem = "is not listed in manifest.json, so nothing vouches for it";
            self.fail(file, problem)
        })
    }
}

/// Checks size, hash and tensors of one file.
fn check(dir: &Path, file: &str, listed: &Listed) -> std::result::Result<(), Fault> {
    let fault = |problem: String| Fault {
        file: file.to_owned(),
        problem,
    };
    let inside = Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside || file.is_empty() {
        return Err(fault(
            "manifest.json lists a path that leads out of the set".to_owned(),
        ));
    }
    let system = |error: std::io::Error| fault(error.to_string());
    let opened = read::open(&dir.join(file));
    let (mut opened, length) = opened.map_err(|unreadable| fault(unreadable.problem()))?;
    if length != listed.bytes {
        return Err(fault(format!(
            "has {length} bytes, manifest.json says {}",
            listed.bytes
        )));
    }
    let digest = sha256(&mut opened).map_err(system)?;
    if !digest.eq_ignore_ascii_case(&listed.sha256) {
        return Err(fault(format!(
            "has SHA-256 {digest}, manifest.json says {}",
            listed.sha256
        )));
    }
    let Some(tensors) = &listed.tensors else {
        return Ok(());
    };
    let mut faults = Vec::new();
    let shard = Shard::open(dir, file, &mut faults);
    let Some(header) = shard.and_then(|shard| shard.tensors) else {
        return Err(fault(faults.join("; ")));
    };
    for (name, (dtype, shape)) in tensors {
        match header.get(name) {
            None => {
                return Err(fault(format!(
                    "lacks tensor {name}, which manifest.json lists"
                )));
            }
            Some(stored) if stored.dtype.to_string() != *dtype || stored.shape != *shape => {
                let problem = format!(
                    "{name} is {} {:?}, manifest.json says {dtype} {shape:?}",
                    stored.dtype, stored.shape
                );
                return Err(fault(problem));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn sha256(file: &mut File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hash.update(&chunk[..n]),
        }
    }
    Ok(hex(&hash.finalize()))
}

fn read_json<T: DeserializeOwned>(dir: &Path, file: &str) -> std::result::Result<T, Fault> {
    let fault = |problem: String| Fault {
        file: file.to_owned(),
        problem,
    };
    let bytes = read::bounded(&dir.join(file), JSON_BYTES_MAX)
        .map_err(|unreadable| fault(unreadable.problem()))?;
    serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))
}
