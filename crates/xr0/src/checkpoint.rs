//! A checkpoint directory in the released layout (reference §1.1): settings, tokenizer, weights.
//!
//! ```text
//! config.json                     sizes of the networks
//! preprocessor_config.json        image limits, statistics of the actions by robot type
//! tokenizer.json
//! model.safetensors.index.json    tensor → shard; or one model.safetensors and no index
//! model-0000i-of-0000n.safetensors
//! ```
//! [`Checkpoint::open`] proves that every tensor is there with the shape that `config.json` asks
//! for, and nothing else, before a byte of the weights is read; what is wrong is listed at once.
//! What the files beside these say does not matter, `metadata.total_size` of the index included:
//! the shards' own headers and lengths decide.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::checkpoint::digest::Digest;
use crate::checkpoint::shard::Shard;
use crate::checkpoint::survey::Survey;
use crate::checkpoint::unique::Unique;
use crate::checkpoint::weights::Stored;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout::{self, Part};
use crate::preprocess::PreprocessorConfig;
use crate::tokenizer::Tokenizer;

pub(crate) mod audit;
pub mod digest;
mod map;
pub mod read;
pub(crate) mod shard;
pub(crate) mod survey;
#[cfg(test)]
mod tests;
mod unique;
pub(crate) mod weights;

/// Gives the robot types that a directory has statistics of, without a look at anything else: by them
/// a checkpoint is recognised. None where the file cannot be read, of which [`Checkpoint::open`] says
/// more.
pub fn robot_types(dir: &Path) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Preprocessor {
        action_config: Unique<IgnoredAny>,
    }
    let json = read::bounded(&dir.join(read::PREPROCESSOR), survey::PREPROCESSOR_MAX);
    let parsed = json.map(|json| serde_json::from_slice::<Preprocessor>(&json));
    match parsed {
        Ok(Ok(file)) => file.action_config.values.into_keys().collect(),
        _ => BTreeSet::new(),
    }
}

/// A directory whose files fit each other.
pub struct Checkpoint {
    dir: PathBuf,
    config: Config,
    preprocessor: PreprocessorConfig,
    tokenizer: Tokenizer,
    shards: Arc<[Shard]>,
    /// Of the three JSON files that were read, as they were read.
    files: Vec<Digest>,
    model_digest: OnceLock<[u8; 32]>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Checkpoint")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens a directory. Shards are mapped into memory, their weights are not read yet; whoever
    /// changes a file of an open checkpoint in place changes the network, or ends the process.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with everything that is wrong: missing and surplus tensors by name,
    /// shapes, number types other than BF16, F16 and F32, headers that lie, settings that
    /// contradict each other.
    pub fn open(dir: &Path) -> Result<Self> {
        let survey = Survey::of(dir);
        let Survey {
            config,
            preprocessor,
            tokenizer,
            shards,
            files,
            faults,
        } = survey;
        match (config, preprocessor, tokenizer) {
            (Some(config), Some(preprocessor), Some(tokenizer)) if faults.is_empty() => Ok(Self {
                dir: dir.to_owned(),
                config,
                preprocessor,
                tokenizer,
                shards: shards.into(),
                files,
                model_digest: OnceLock::new(),
            }),
            _ => Err(Error::Checkpoint {
                dir: dir.to_owned(),
                faults,
            }),
        }
    }

    /// Gives the directory, as it was named.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the sizes of the networks.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Gives the image limits and the robot types.
    pub fn preprocessor(&self) -> &PreprocessorConfig {
        &self.preprocessor
    }

    /// Gives the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Gives the weights of these parts as `dtype` on `device`, each read when it is asked for. The
    /// others are not touched. Names are the checkpoint's, from its root.
    pub fn weights(&self, parts: &[Part], dtype: DType, device: &Device) -> VarBuilder<'static> {
        let specs = layout::tensors(&self.config).into_iter();
        let asked = specs.filter(|spec| parts.contains(&spec.part));
        let stored = Stored::new(Arc::clone(&self.shards), asked);
        VarBuilder::from_backend(Box::new(stored), dtype, device.clone())
    }

    /// Gives the model's identity: the SHA-256 of lines `name size sha256-in-hex\n`, the name
    /// being the file's and the size its bytes in decimal, of `config.json`, `tokenizer.json`
    /// and the shards in the order of their names. The first call reads all weights, and looks at
    /// every number of them.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with every tensor that holds a number that is not finite; a file that
    /// cannot be read.
    pub fn model_digest(&self) -> Result<[u8; 32]> {
        if let Some(digest) = self.model_digest.get() {
            return Ok(*digest);
        }
        let audits = audit::all(&self.shards).map_err(|(file, cause)| Error::File {
            path: self.dir.join(file),
            cause,
        })?;
        let faults: Vec<_> = audits.iter().flat_map(audit::Audit::faults).collect();
        if !faults.is_empty() {
            let dir = self.dir.clone();
            return Err(Error::Checkpoint { dir, faults });
        }
        let shards: Vec<_> = audits.into_iter().map(|audit| audit.digest).collect();
        let digest = digest::model(&self.files, &shards);
        Ok(*self.model_digest.get_or_init(|| digest))
    }

    /// Gives the identity of the image limits and the action statistics: the SHA-256 of
    /// `preprocessor_config.json`.
    ///
    /// # Errors
    /// As [`Checkpoint::model_digest`].
    pub fn normaliser_digest(&self) -> Result<[u8; 32]> {
        let file = self
            .files
            .iter()
            .find(|file| file.name == read::PREPROCESSOR);
        let digest = file.map(|file| file.sha256);
        digest.ok_or_else(|| Error::input(format!("{} was not read", read::PREPROCESSOR)))
    }
}
