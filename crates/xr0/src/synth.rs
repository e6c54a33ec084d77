//! Random weights in the released layout (reference §1, §2): for tests and demonstrations without
//! a download, and for measuring the real network's speed. Such a network knows nothing.
//!
//! Every byte follows from the recipe alone: each tensor has a `ChaCha8` stream of its own, from
//! the seed and its name, and no function of the machine's mathematics library takes part.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::normaliser::Normaliser;

mod numbers;
pub mod presets;
mod shards;
#[cfg(test)]
mod tests;
pub mod tokens;
mod writer;

/// Bytes of the largest released shard, rounded up.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// Sizes of networks that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Some hundred thousand parameters; a processor computes a chunk in milliseconds.
    Tiny,
    /// All layers of the released network, each much narrower: 0.2 billion parameters.
    Narrow,
    /// Few layers of the released network, each as wide: 0.8 billion parameters.
    Shallow,
    /// The released network: 4.7 billion parameters.
    Xr04_7b,
}

/// Presets by name.
const NAMES: [(Preset, &str); 4] = [
    (Preset::Tiny, "tiny"),
    (Preset::Narrow, "narrow"),
    (Preset::Shallow, "shallow"),
    (Preset::Xr04_7b, "xr0-4.7b"),
];

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(preset, _)| preset == self);
        formatter.pad(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Preset {
    type Err = Error;

    /// Reads a preset's name.
    ///
    /// # Errors
    /// Any other text.
    fn from_str(text: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(preset, _)| *preset).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
            let names = names.join(", ");
            Error::input(format!("there is no preset {text:?}: say one of {names}"))
        })
    }
}

impl Preset {
    /// Gives the `config.json` of a preset.
    pub fn config_json(self) -> Value {
        match self {
            Self::Tiny => presets::tiny(),
            Self::Narrow => presets::narrow(),
            Self::Shallow => presets::shallow(),
            Self::Xr04_7b => presets::xr0_4_7b(),
        }
    }

    /// Gives the preset's sizes.
    ///
    /// # Errors
    /// None today; sizes that contradict each other, should a preset change.
    pub fn config(self) -> Result<Config> {
        parse_config(&self.config_json())
    }

    /// Gives the recipe of a preset with these robot types' action statistics; at least one.
    ///
    /// # Errors
    /// None today; as [`Preset::config`].
    pub fn recipe(self, robots: &BTreeMap<String, Normaliser>, seed: u64) -> Result<Synth> {
        let config = self.config()?;
        let limits = match self {
            // Small views stay small, or the tiny network would compute on big images.
            Self::Tiny => json!({ "min_pixels": 1024, "max_pixels": 16384 }),
            Self::Narrow | Self::Shallow | Self::Xr04_7b => {
                json!({ "size": { "shortest_edge": 65536, "longest_edge": 16_777_216 } })
            }
        };
        Ok(Synth {
            config: self.config_json(),
            preprocessor: presets::preprocessor(&config, limits, robots),
            tokenizer: tokens::tokenizer(tokens::first_special(&config)),
            extra: BTreeMap::new(),
            seed,
            shard_bytes: SHARD_BYTES,
        })
    }
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Synth {
    /// `config.json`.
    pub config: Value,
    /// `preprocessor_config.json`.
    pub preprocessor: Value,
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// Other files by name, for example a manifest; they appear together with the rest.
    pub extra: BTreeMap<String, Vec<u8>>,
    /// Where the random numbers start.
    pub seed: u64,
    /// Bytes of tensors per shard; a tensor that is larger has a shard of its own.
    pub shard_bytes: u64,
}

/// Writes a checkpoint directory. `progress` hears of the bytes of tensors: those written, and all.
///
/// Files are written and synced in a directory beside `out`, which is renamed once it has been
/// opened as a checkpoint: `out` is there whole or not at all. Memory stays below some megabytes.
///
/// # Errors
/// An `out` that exists; a recipe whose parts do not fit each other; what the file system says.
pub fn write(recipe: &Synth, out: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    let config = parse_config(&recipe.config)?;
    writer::write(recipe, &config, out, progress)
}

fn parse_config(json: &Value) -> Result<Config> {
    let parsed = Config::parse(&json.to_string());
    parsed.map_err(|faults| Error::input(format!("config.json: {}", faults.join(", "))))
}
