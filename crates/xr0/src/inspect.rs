//! What a checkpoint directory holds, and what is wrong with it, for a person or a program.
//!
//! A directory that cannot be opened is looked at all the same. Profile, views and the chunk
//! lengths of a manifest are not known here: whoever reads it adds them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::checkpoint::audit::{self, Audit};
use crate::checkpoint::digest::{self, Digest, hex};
use crate::checkpoint::read;
use crate::checkpoint::survey::Survey;
use crate::error::Fault;
use crate::layout::{self, Part};
use crate::normaliser::Normaliser;

/// What a directory holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Numbers that the networks need by `config.json`; none without a readable one.
    pub parameters: Option<Parameters>,
    /// Tensors that are stored, whether the networks need them or not.
    pub tensors: usize,
    /// Stored tensors and numbers by number type.
    pub dtypes: BTreeMap<String, Stored>,
    /// Action statistics by robot type; none without a readable `preprocessor_config.json`.
    pub robot_types: Option<BTreeMap<String, Robot>>,
    /// Bounds on an image's area; none likewise.
    pub image_limits: Option<Limits>,
    /// The files that a network is loaded from, as far as they are there.
    pub files: Vec<File>,
    /// SHA-256 of the model as `Checkpoint::model_digest` gives it; none if anything is wrong.
    pub model_sha256: Option<String>,
    /// SHA-256 of `preprocessor_config.json`.
    pub normaliser_sha256: Option<String>,
    /// What is wrong, as `file: problem`, or `problem` where it is the directory's; empty for a checkpoint that opens.
    pub faults: Vec<String>,
}

/// Numbers of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Of the text model.
    pub text: u64,
    /// Of the vision tower.
    pub vision: u64,
    /// Of the action expert.
    pub action_expert: u64,
    /// Of all three.
    pub total: u64,
}

/// How much is stored in one number type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stored {
    /// Tensors.
    pub tensors: usize,
    /// Numbers.
    pub elements: u64,
}

/// A robot type's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Robot {
    /// Actions of a chunk.
    pub horizon: usize,
    /// Slots of an action.
    pub width: usize,
    /// Slots that move in at least one row: those whose std is above 1e-5.
    pub active: usize,
}

/// Bounds on an image's area behind the resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Smallest, pixels.
    pub min_pixels: usize,
    /// Largest, pixels.
    pub max_pixels: usize,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

/// Looks through a directory. Reads every weight once: for the files' fingerprints, and for numbers
/// that are none.
pub fn inspect(dir: &Path) -> Inspection {
    let mut survey = Survey::of(dir);
    let shards = match audit::all(&survey.shards) {
        Ok(audits) => {
            let odd = audits.iter().flat_map(Audit::faults);
            survey.faults.extend(odd);
            audits.into_iter().map(|audit| audit.digest).collect()
        }
        Err((file, cause)) => {
            let problem = format!("cannot be read: {cause}");
            survey.faults.push(Fault { file, problem });
            Vec::new()
        }
    };
    let whole = survey.faults.is_empty();
    let model = whole.then(|| hex(&digest::model(&survey.files, &shards)));
    let normaliser = survey
        .files
        .iter()
        .find(|file| file.name == read::PREPROCESSOR);
    let dtypes = dtypes(&survey);
    Inspection {
        parameters: survey.config.as_ref().map(parameters),
        tensors: dtypes.values().map(|stored| stored.tensors).sum(),
        dtypes,
        robot_types: survey.preprocessor.as_ref().map(|preprocessor| {
            let robots = preprocessor.robot_types.iter();
            robots
                .map(|(name, table)| (name.clone(), robot(table)))
                .collect()
        }),
        image_limits: survey.preprocessor.as_ref().map(|preprocessor| Limits {
            min_pixels: preprocessor.limits.min_pixels,
            max_pixels: preprocessor.limits.max_pixels,
        }),
        normaliser_sha256: normaliser.map(|file| hex(&file.sha256)),
        files: files(&survey.files, &shards),
        model_sha256: model,
        faults: survey.faults.iter().map(ToString::to_string).collect(),
    }
}

fn parameters(config: &crate::config::Config) -> Parameters {
    let specs = layout::tensors(config);
    let of = |part| {
        let specs = specs.iter().filter(|spec| spec.part == part);
        specs
            .map(layout::TensorSpec::elements)
            .fold(0, u64::saturating_add)
    };
    let (text, vision) = (of(Part::Text), of(Part::Vision));
    let action_expert = of(Part::ActionExpert);
    let total = text.saturating_add(vision).saturating_add(action_expert);
    Parameters {
        text,
        vision,
        action_expert,
        total,
    }
}

fn dtypes(survey: &Survey) -> BTreeMap<String, Stored> {
    let mut dtypes = BTreeMap::<String, Stored>::new();
    let headers = survey
        .shards
        .iter()
        .filter_map(|shard| shard.tensors.as_ref());
    for tensor in headers.flat_map(BTreeMap::values) {
        let stored = dtypes.entry(tensor.dtype.to_string()).or_default();
        stored.tensors += 1;
        // No overflow: the header was checked against the file's length.
        stored.elements += tensor
            .shape
            .iter()
            .map(|size| *size as u64)
            .product::<u64>();
    }
    dtypes
}

fn robot(table: &Normaliser) -> Robot {
    let mask = table.mask();
    let moves = |slot: &usize| mask.chunks(table.width()).any(|row| row[*slot] != 0.0);
    let active = (0..table.width()).filter(moves).count();
    Robot {
        horizon: table.horizon(),
        width: table.width(),
        active,
    }
}

fn files(settings: &[Digest], shards: &[Digest]) -> Vec<File> {
    let mut files: Vec<_> = settings
        .iter()
        .chain(shards)
        .map(|file| File {
            name: file.name.clone(),
            size: file.size,
            sha256: hex(&file.sha256),
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn golden() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/xr0-tiny/model")
    }

    #[test]
    fn the_golden_checkpoint_is_described() {
        let inspection = inspect(&golden());
        assert_eq!(Vec::<String>::new(), inspection.faults);
        assert_eq!(193, inspection.tensors);
        assert_eq!(
            Some(&Stored {
                tensors: 193,
                elements: 766_736
            }),
            inspection.dtypes.get("BF16")
        );
        let parameters = inspection.parameters.unwrap();
        assert_eq!(766_736, parameters.total);
        assert_eq!(
            766_736,
            parameters.text + parameters.vision + parameters.action_expert
        );
        let robots = inspection.robot_types.unwrap();
        // Two of the eight slots never move: one std is 0, one 1e-6.
        assert_eq!(
            Robot {
                horizon: 10,
                width: 8,
                active: 6
            },
            robots["tiny_all"]
        );
        assert_eq!(4, robots["tiny_short"].horizon);
        assert_eq!(
            Some(Limits {
                min_pixels: 3136,
                max_pixels: 1_003_520
            }),
            inspection.image_limits
        );
        let names: Vec<_> = inspection.files.iter().map(|file| &*file.name).collect();
        assert_eq!(
            [
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "preprocessor_config.json",
                "tokenizer.json"
            ],
            *names
        );
        assert_eq!(779_952, inspection.files[1].size);
    }

    #[test]
    fn the_digests_are_the_checkpoints() {
        let (inspection, checkpoint) = (inspect(&golden()), Checkpoint::open(&golden()).unwrap());
        assert_eq!(
            Some(hex(&checkpoint.model_digest().unwrap())),
            inspection.model_sha256
        );
        assert_eq!(
            Some(hex(&checkpoint.normaliser_digest().unwrap())),
            inspection.normaliser_sha256
        );
    }

    #[test]
    fn a_place_without_a_checkpoint_is_described_by_its_faults() {
        let inspection = inspect(&golden().join(".."));
        assert_eq!(4, inspection.faults.len(), "{:?}", inspection.faults);
        assert_eq!(
            (None, None, 0),
            (
                inspection.parameters,
                inspection.model_sha256,
                inspection.tensors
            )
        );
        assert!(inspection.files.is_empty());
        let nothing = inspect(&golden().join("nowhere"));
        assert_eq!(["there is no such folder"], *nothing.faults);
    }
}
