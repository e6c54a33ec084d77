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

/// A case.
#[derive(Debug)]
pub(super) struct Case {
    /// Its name.
    pub(super) name: String,
    /// Its kind, as the set calls it.
    pub(super) kind: String,
    /// What is to be done.
    pub(super) work: Work,
}

/// What is to be done for a case.
#[derive(Debug)]
pub(super) enum Work {
    /// Run the network (`sync`, `sync_rope_bf16`).
    Network(NetworkKeys),
    /// Resize images (`preprocess`).
    Preprocess(Vec<PreprocessRow>),
    /// Tokenise the texts of this file (`tokenizer`).
    Tokenizer(String),
    /// Not known here.
    Unknown,
}

/// How to run the network.
#[derive(Debug)]
pub(super) struct NetworkKeys {
    /// The case's own name.
    pub(super) name: String,
    /// Images, prompts and robot type.
    pub(super) sync: SyncKeys,
    /// The case that inputs come from where the file has none of its own.
    pub(super) base: Option<String>,
    /// Steps of the sampler.
    pub(super) num_steps: usize,
    /// Whether the rotary frequencies are rounded to bf16.
    pub(super) rope_bf16: bool,
}

/// Keys of the kind `sync`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SyncKeys {
    /// Whose tables of mean and deviation.
    pub(super) robot_type: String,
    /// Labels of the views of each prompt.
    pub(super) views: Vec<Vec<String>>,
    /// The bare sentences.
    pub(super) instructions: Vec<String>,
    /// The whole prompts, image placeholders not repeated.
    pub(super) prompts: Vec<String>,
    /// Steps of the sampler.
    num_steps: usize,
    /// First text layer whose keys and values the action expert reads.
    pub(super) dit_first_kv_layer: usize,
}

/// Keys of the kind `sync_rope_bf16`.
#[derive(Debug, Deserialize)]
struct RopeKeys {
    base: String,
    num_steps: usize,
}

/// A row of the kind `preprocess`.
#[derive(Debug, Deserialize)]
pub(super) struct PreprocessRow {
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Fewest pixels.
    pub(super) min_pixels: usize,
    /// Most pixels.
    pub(super) max_pixels: usize,
    /// Height and width after the resize.
    pub(super) resized: [usize; 2],
    /// Frames, rows and columns of patches.
    pub(super) grid_thw: [usize; 3],
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
        for (name, keys) in &cases {
            set.cases.push(set.case(name, keys, &cases)?);
        }
        // One network after the other: the rounded frequencies come last.
        set.cases.sort_by_key(|case| match &case.work {
            Work::Network(keys) => u8::from(keys.rope_bf16),
            _ => 2,
        });
        Ok(set)
    }

    /// The cases: those of one network follow each other.
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

    fn case(&self, name: &str, keys: &Value, all: &BTreeMap<String, Value>) -> Result<Case> {
        let kind: String = self.key(name, keys, "kind")?;
        let work = match kind.as_str() {
            "sync" => {
                let sync: SyncKeys = self.keys(name, keys)?;
                let num_steps = sync.num_steps;
                Work::Network(NetworkKeys {
                    name: name.to_owned(),
                    sync,
                    base: None,
                    num_steps,
                    rope_bf16: false,
                })
            }
            "sync_rope_bf16" => {
                let RopeKeys { base, num_steps } = self.keys(name, keys)?;
                let sync = self.base(name, &base, all)?;
                Work::Network(NetworkKeys {
                    name: name.to_owned(),
                    sync,
                    base: Some(base),
                    num_steps,
                    rope_bf16: true,
                })
            }
            "preprocess" => Work::Preprocess(self.key(name, keys, "rows")?),
            "tokenizer" => Work::Tokenizer(self.key(name, keys, "file")?),
            _ => Work::Unknown,
        };
        Ok(Case {
            name: name.to_owned(),
            kind,
            work,
        })
    }

    fn base(&self, name: &str, base: &str, all: &BTreeMap<String, Value>) -> Result<SyncKeys> {
        let keys = all
            .get(base)
            .filter(|keys| keys.get("kind") == Some(&Value::from("sync")));
        let Some(keys) = keys else {
            let problem = format!("case {name}: base {base} is no case of the kind sync");
            return Err(self.fail("cases.json", problem));
        };
        self.keys(base, keys)
    }

    fn keys<T: DeserializeOwned>(&self, name: &str, keys: &Value) -> Result<T> {
        T::deserialize(keys)
            .map_err(|error| self.fail("cases.json", format!("case {name}: {error}")))
    }

    fn key<T: DeserializeOwned>(&self, name: &str, keys: &Value, key: &str) -> Result<T> {
        let value = keys.get(key).unwrap_or(&Value::Null);
        T::deserialize(value)
            .map_err(|error| self.fail("cases.json", format!("case {name}: {key}: {error}")))
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
