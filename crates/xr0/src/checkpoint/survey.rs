//! Looks through a checkpoint directory, and lists everything that is wrong with it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::digest::Digest;
use crate::checkpoint::read::{self, Unreadable};
use crate::checkpoint::shard::{self, Shard, Stored};
use crate::checkpoint::unique::Unique;
use crate::config::Config;
use crate::error::Fault;
use crate::layout::{self, TensorSpec};
use crate::preprocess::PreprocessorConfig;
use crate::tokenizer::Tokenizer;

/// Released: 5.6 kB.
const CONFIG_MAX: u64 = 1 << 20;
/// Statistics of some ten robot types, as text.
pub(super) const PREPROCESSOR_MAX: u64 = 16 << 20;
/// Released: 7 to 12 MB.
const TOKENIZER_MAX: u64 = 64 << 20;
/// Released: 84 kB.
const INDEX_MAX: u64 = 16 << 20;
/// The tied head, which some exports store although it is the token embedding; never read.
const TIED: &str = "lm_head.weight";
/// Weights in Python's own format, by the names that they usually have.
const PICKLES: [&str; 4] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
    "model.pth",
];
/// Tokens that a prompt is made of beside those that `config.json` names (reference §3.3).
const PROMPT_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// What a directory holds, as far as it could be read.
#[derive(Default)]
pub(crate) struct Survey {
    /// Sizes of the networks.
    pub(crate) config: Option<Config>,
    /// Image limits and action statistics.
    pub(crate) preprocessor: Option<PreprocessorConfig>,
    /// The tokenizer.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// The shards that could be mapped, in the order of their names.
    pub(crate) shards: Vec<Shard>,
    /// The settings' files that could be read.
    pub(crate) files: Vec<Digest>,
    /// What is wrong, sorted.
    pub(crate) faults: Vec<Fault>,
}

/// Which shard should hold which tensor.
struct Index {
    /// The file that says so.
    file: &'static str,
    shards: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexFile {
    weight_map: Unique<String>,
}

impl Survey {
    /// Looks through a directory.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut survey = Self::default();
        if dir.is_dir() {
            survey.read_settings(dir);
            if let Some(index) = survey.read_index(dir) {
                survey.check_tensors(&index);
            }
        } else if dir.exists() {
            survey.fault("", "this is no folder");
        } else {
            survey.fault("", "there is no such folder");
        }
        survey.faults.sort();
        survey.faults.dedup();
        survey
    }

    fn fault(&mut self, file: &str, problem: impl Into<String>) {
        self.faults.push(Fault {
            file: file.to_owned(),
            problem: problem.into(),
        });
    }

    fn faults(&mut self, file: &str, problems: Vec<String>) {
        for problem in problems {
            self.fault(file, problem);
        }
    }

    fn read(&mut self, dir: &Path, name: &str, limit: u64) -> Option<Vec<u8>> {
        match read::bounded(&dir.join(name), limit) {
            Ok(bytes) => {
                self.files.push(Digest::of(name, &bytes));
                Some(bytes)
            }
            Err(unreadable) => {
                self.fault(name, unreadable.problem());
                None
            }
        }
    }

    fn read_text(&mut self, dir: &Path, name: &str, limit: u64) -> Option<String> {
        let bytes = self.read(dir, name, limit)?;
        let text = String::from_utf8(bytes);
        text.map_err(|error| self.fault(name, format!("is no UTF-8 text: {error}")))
            .ok()
    }

    fn read_settings(&mut self, dir: &Path) {
        if let Some(json) = self.read_text(dir, read::CONFIG, CONFIG_MAX) {
            let parsed = Config::parse(&json);
            self.config = parsed
                .map_err(|faults| self.faults(read::CONFIG, faults))
                .ok();
        }
        let json = self.read_text(dir, read::PREPROCESSOR, PREPROCESSOR_MAX);
        // Its tables are checked against the sizes: without these nothing can be said of it.
        if let (Some(json), Some(config)) = (json, self.config.clone()) {
            let parsed = PreprocessorConfig::parse(&json, &config);
            self.preprocessor = parsed
                .map_err(|faults| self.faults(read::PREPROCESSOR, faults))
                .ok();
        }
        if let Some(bytes) = self.read(dir, read::TOKENIZER, TOKENIZER_MAX) {
            match Tokenizer::from_bytes(&bytes) {
                Ok(tokenizer) => {
                    self.check_tokens(&tokenizer);
                    self.tokenizer = Some(tokenizer);
                }
                Err(problem) => self.fault(read::TOKENIZER, problem),
            }
        }
    }

    fn check_tokens(&mut self, tokenizer: &Tokenizer) {
        let Some(config) = self.config.clone() else {
            return;
        };
        let vlm = &config.vlm_config;
        let named = [
            ("<|image_pad|>", "image_token_id", vlm.image_token_id),
            (
                "<|vision_start|>",
                "vision_start_token_id",
                vlm.vision_start_token_id,
            ),
            (
                "<|vision_end|>",
                "vision_end_token_id",
                vlm.vision_end_token_id,
            ),
        ];
        for (token, key, wanted) in named {
            match tokenizer.id(token) {
                Some(id) if id == wanted => {}
                Some(id) => self.fault(
                    read::TOKENIZER,
                    format!(
                        "gives {token} the id {id}, {key} of {} says {wanted}",
                        read::CONFIG
                    ),
                ),
                None => self.fault(
                    read::TOKENIZER,
                    format!(
                        "lacks the token {token}, {key} of {} says {wanted}",
                        read::CONFIG
                    ),
                ),
            }
        }
        let vocabulary = config.text().vocab_size;
        for token in PROMPT_TOKENS {
            match tokenizer.id(token) {
                Some(id) if (id as usize) < vocabulary => {}
                Some(id) => self.fault(
                    read::TOKENIZER,
                    format!("gives {token} the id {id}, vocab_size is {vocabulary}"),
                ),
                None => self.fault(read::TOKENIZER, format!("lacks the token {token}")),
            }
        }
        if let Some((token, id)) = tokenizer.last()
            && vocabulary <= id as usize
        {
            let problem = format!(
                "gives {token:?} the id {id}, but vocab_size of {} is {vocabulary}",
                read::CONFIG
            );
            self.fault(read::TOKENIZER, problem);
        }
        // Text that holds one is refused only if the tokenizer knows it for what it is.
        let tokens = named.iter().map(|(token, ..)| *token).chain(PROMPT_TOKENS);
        for token in tokens.filter(|token| tokenizer.id(token).is_some()) {
            if !tokenizer.is_special(token) {
                let problem = format!("says that {token} is not special, it must be");
                self.fault(read::TOKENIZER, problem);
            }
        }
    }

    /// Finds out which shard should hold what, and opens the shards.
    fn read_index(&mut self, dir: &Path) -> Option<Index> {
        match read::bounded(&dir.join(read::INDEX), INDEX_MAX) {
            Ok(json) => {
                if dir.join(read::SINGLE).exists() {
                    let problem = format!("stands beside {}: remove one of both", read::INDEX);
                    self.fault(read::SINGLE, problem);
                }
                self.read_shards(dir, &json)
            }
            Err(Unreadable::Absent) => self.read_single(dir),
            Err(Unreadable::Other(problem)) => {
                self.fault(read::INDEX, problem);
                None
            }
        }
    }

    fn read_shards(&mut self, dir: &Path, json: &[u8]) -> Option<Index> {
        let parsed = serde_json::from_slice::<IndexFile>(json);
        let parsed = parsed
            .map_err(|error| self.fault(read::INDEX, error.to_string()))
            .ok()?;
        let Unique { values, repeated } = parsed.weight_map;
        for name in repeated {
            self.fault(read::INDEX, format!("places {name} twice"));
        }
        let names: BTreeSet<_> = values.values().cloned().collect();
        for name in names {
            if read::is_plain(&name) {
                self.open_shard(dir, &name);
            } else {
                let problem = format!("{name:?} must be the name of a file beside the index");
                self.fault(read::INDEX, problem);
            }
        }
        Some(Index {
            file: read::INDEX,
            shards: values,
        })
    }

    fn read_single(&mut self, dir: &Path) -> Option<Index> {
        if let Err(Unreadable::Absent) = read::open(&dir.join(read::SINGLE)) {
            let mut problem = format!("is absent, and so is {}", read::SINGLE);
            if let Some(pickle) = PICKLES.iter().find(|name| dir.join(name).exists()) {
                let advice = format!(
                    "; {pickle} may run code when it is opened, and is never read: convert it to \
                     safetensors where it came from"
                );
                problem.push_str(&advice);
            }
            self.fault(read::INDEX, problem);
            return None;
        }
        self.open_shard(dir, read::SINGLE);
        let tensors = self.shards.first()?.tensors.as_ref()?;
        let shards = tensors
            .keys()
            .map(|name| (name.clone(), read::SINGLE.to_owned()));
        Some(Index {
            file: read::SINGLE,
            shards: shards.collect(),
        })
    }

    fn open_shard(&mut self, dir: &Path, name: &str) {
        let mut faults = Vec::new();
        let shard = Shard::open(dir, name, &mut faults);
        self.faults(name, faults);
        self.shards.extend(shard);
    }

    /// Compares the index, the shards and the networks of `config.json`.
    fn check_tensors(&mut self, index: &Index) {
        let specs = self.config.as_ref().map(layout::tensors);
        let specs = specs.map(|specs| specs.into_iter().map(|spec| (spec.name.clone(), spec)));
        let specs: Option<BTreeMap<_, _>> = specs.map(Iterator::collect);
        let mut faults = self.misplaced(index);
        if let Some(specs) = &specs {
            faults.extend(missing(specs, index));
            faults.extend(self.surplus(specs, index));
            faults.extend(self.misshapen(specs));
        }
        self.faults.extend(faults);
    }

    /// The shards whose header could be read.
    fn headers(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, Stored>)> {
        let headers = self.shards.iter();
        headers.filter_map(|shard| Some((&*shard.name, shard.tensors.as_ref()?)))
    }

    /// Tensors that are not where the index says, or in more than one place.
    fn misplaced(&self, index: &Index) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (file, tensors) in self.headers() {
            let listed = index.shards.iter().filter(|(_, shard)| *shard == file);
            for (name, _) in listed.filter(|(name, _)| !tensors.contains_key(*name)) {
                let problem = format!("lacks {name}, which {} places here", index.file);
                faults.push(Fault {
                    file: file.to_owned(),
                    problem,
                });
            }
            for name in tensors.keys() {
                let problem = match index.shards.get(name) {
                    Some(place) if place == file => continue,
                    Some(place) => format!("holds {name}, which {} places in {place}", index.file),
                    None => format!("holds {name}, which {} does not list", index.file),
                };
                faults.push(Fault {
                    file: file.to_owned(),
                    problem,
                });
            }
        }
        faults
    }

    /// Tensors that no network of this shape has.
    fn surplus(&self, specs: &BTreeMap<String, TensorSpec>, index: &Index) -> Vec<Fault> {
        let listed = index.shards.iter().map(|(name, file)| (&**file, name));
        let held = self
            .headers()
            .flat_map(|(file, tensors)| tensors.keys().map(move |n| (file, n)));
        let all: BTreeSet<_> = listed.chain(held).collect();
        let surplus = all
            .into_iter()
            .filter(|(_, name)| !specs.contains_key(*name) && *name != TIED);
        let surplus = surplus.map(|(file, name)| Fault {
            file: file.to_owned(),
            problem: format!(
                "{name} is surplus: the networks of {} have none",
                read::CONFIG
            ),
        });
        surplus.collect()
    }

    /// Tensors of another shape or number type than the networks need.
    fn misshapen(&self, specs: &BTreeMap<String, TensorSpec>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (file, tensors) in self.headers() {
            for (name, stored) in tensors {
                let Some(spec) = specs.get(name) else {
                    continue;
                };
                let mut fault = |problem| {
                    let file = file.to_owned();
                    faults.push(Fault { file, problem });
                };
                if stored.shape != spec.shape {
                    let (has, wanted) = (&stored.shape, &spec.shape);
                    fault(format!("{name} has shape {has:?}, expected {wanted:?}"));
                }
                if shard::candle_dtype(stored.dtype).is_none() {
                    let has = stored.dtype;
                    fault(format!(
                        "{name} has number type {has}, expected BF16, F16 or F32"
                    ));
                }
            }
        }
        faults
    }
}

/// Tensors that no shard is said to hold.
fn missing(specs: &BTreeMap<String, TensorSpec>, index: &Index) -> Vec<Fault> {
    let missing = specs
        .values()
        .filter(|spec| !index.shards.contains_key(&spec.name));
    let missing = missing.map(|spec| Fault {
        file: index.file.to_owned(),
        problem: format!("lacks {}, expected with shape {:?}", spec.name, spec.shape),
    });
    missing.collect()
}
