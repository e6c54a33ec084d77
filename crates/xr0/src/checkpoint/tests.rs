//! Mutated copies of the tiny golden checkpoint, each refused for its own reason; and the whole one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, IndexOp};
use serde_json::Value;

use super::*;
use crate::checkpoint::digest::{hex, sha256};
use crate::layout::TensorSpec;

mod faults;

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/xr0-tiny/model")
}

/// A copy of the golden checkpoint that goes when its test ends.
struct Copy(PathBuf);

impl Copy {
    fn new(test: &str) -> Self {
        let name = format!("vlad-xr0-checkpoint-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for entry in fs::read_dir(golden()).unwrap() {
            let from = entry.unwrap().path();
            // Written, not copied: the golden files may be read-only.
            fs::write(
                dir.join(from.file_name().unwrap()),
                fs::read(&from).unwrap(),
            )
            .unwrap();
        }
        Self(dir)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Changes a JSON file.
fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Splits a shard into its header and its tensors.
fn split(dir: &Path, file: &str) -> (String, Vec<u8>) {
    let bytes = fs::read(dir.join(file)).unwrap();
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, tensors) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    (
        String::from_utf8(header.to_vec()).unwrap(),
        tensors.to_vec(),
    )
}

fn join(dir: &Path, file: &str, header: &str, tensors: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    fs::write(
        dir.join(file),
        [&length, header.as_bytes(), tensors].concat(),
    )
    .unwrap();
}

/// Changes a shard's header.
fn edit_header(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let (header, tensors) = split(dir, file);
    let mut header = serde_json::from_str(&header).unwrap();
    change(&mut header);
    join(dir, file, &header.to_string(), &tensors);
}

#[test]
fn the_golden_checkpoint_opens() {
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    assert_eq!(golden(), checkpoint.dir());
    assert_eq!(80, checkpoint.config().text().hidden_size);
    assert_eq!(Some(398), checkpoint.tokenizer().id("<|image_pad|>"));
    let robots: Vec<_> = checkpoint.preprocessor().robot_types.keys().collect();
    assert_eq!(["tiny_all", "tiny_short"], *robots);
}

#[test]
fn the_layout_names_every_stored_tensor_and_no_other() {
    let index = fs::read(golden().join(read::INDEX)).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let stored: BTreeSet<_> = index["weight_map"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let specs = layout::tensors(Checkpoint::open(&golden()).unwrap().config());
    let named: BTreeSet<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    assert_eq!(specs.len(), named.len());
    assert_eq!(stored, named);
    let elements: u64 = specs.iter().map(TensorSpec::elements).sum();
    assert_eq!(index["metadata"]["total_parameters"], elements);
}

#[test]
fn only_the_parts_asked_for_are_read() {
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    let expert = checkpoint.weights(&[Part::ActionExpert], DType::F32, &Device::Cpu);
    let sink = expert.get((1, 64), "sink.weight").unwrap();
    assert_eq!(DType::F32, sink.dtype());
    assert!(expert.pp("dit.layers.0").contains_tensor("adaln_table"));
    assert!(!expert.contains_tensor("vlm.model.language_model.norm.weight"));
    assert!(!expert.contains_tensor("vlm.model.visual.pos_embed.weight"));
    let parts = [Part::Text, Part::Vision];
    let vlm = checkpoint
        .weights(&parts, DType::F32, &Device::Cpu)
        .pp("vlm.model");
    assert!(vlm.pp("language_model").contains_tensor("norm.weight"));
    assert!(vlm.pp("visual").contains_tensor("pos_embed.weight"));
    assert!(!vlm.root().contains_tensor("sink.weight"));
}

#[test]
fn weights_are_those_of_the_file() {
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    let weights = checkpoint.weights(&[Part::Text], DType::F32, &Device::Cpu);
    let name = "vlm.model.language_model.embed_tokens.weight";
    let row = weights
        .get((512, 80), name)
        .unwrap()
        .i(3)
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    // The bytes by hand: bf16 is the upper half of an f32.
    let (header, tensors) = split(&golden(), FIRST);
    let header: Value = serde_json::from_str(&header).unwrap();
    let start = usize::try_from(header[name]["data_offsets"][0].as_u64().unwrap()).unwrap();
    let bytes = &tensors[start + 3 * 160..start + 4 * 160];
    let wide = |pair: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*pair)) << 16);
    let by_hand: Vec<f32> = bytes.as_chunks().0.iter().map(wide).collect();
    assert_eq!(by_hand, row);
    assert!(row.iter().any(|x| *x != 0.0));
}

#[test]
fn other_number_types_are_widened_too() {
    let copy = Copy::new("half");
    // 1.0 as f16, in place of the first number.
    edit_header(&copy.0, SECOND, |header| {
        header["sink.weight"]["dtype"] = "F16".into();
    });
    let (header, mut tensors) = split(&copy.0, SECOND);
    let parsed: Value = serde_json::from_str(&header).unwrap();
    let start =
        usize::try_from(parsed["sink.weight"]["data_offsets"][0].as_u64().unwrap()).unwrap();
    tensors[start..start + 2].copy_from_slice(&[0x00, 0x3c]);
    join(&copy.0, SECOND, &header, &tensors);
    let checkpoint = Checkpoint::open(&copy.0).unwrap();
    let weights = checkpoint.weights(&[Part::ActionExpert], DType::F32, &Device::Cpu);
    let sink = weights.get((1, 64), "sink.weight").unwrap();
    let numbers = sink.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(1.0_f32.to_bits(), numbers[0].to_bits());
}

#[test]
fn one_file_without_an_index_will_do() {
    let copy = Copy::new("single");
    let (first, mut tensors) = split(&copy.0, FIRST);
    let (second, more) = split(&copy.0, SECOND);
    let mut header: BTreeMap<String, Value> = serde_json::from_str(&first).unwrap();
    let mut other: BTreeMap<String, Value> = serde_json::from_str(&second).unwrap();
    other.remove("__metadata__");
    for info in other.values_mut() {
        for offset in info["data_offsets"].as_array_mut().unwrap() {
            *offset = (offset.as_u64().unwrap() + tensors.len() as u64).into();
        }
    }
    header.append(&mut other);
    tensors.extend(more);
    join(
        &copy.0,
        read::SINGLE,
        &serde_json::to_string(&header).unwrap(),
        &tensors,
    );
    for file in [FIRST, SECOND, read::INDEX] {
        fs::remove_file(copy.0.join(file)).unwrap();
    }
    let single = Checkpoint::open(&copy.0).unwrap();
    let sharded = Checkpoint::open(&golden()).unwrap();
    let numbers = |checkpoint: &Checkpoint| {
        let weights = checkpoint.weights(&[Part::ActionExpert], DType::F32, &Device::Cpu);
        let tensor = weights.get((64, 64), "t_embedder.mlp.2.weight").unwrap();
        tensor.to_vec2::<f32>().unwrap()
    };
    assert_eq!(numbers(&sharded), numbers(&single));
    assert_ne!(
        sharded.model_digest().unwrap(),
        single.model_digest().unwrap()
    );
}

#[test]
fn a_stored_tied_head_is_allowed_and_ignored() {
    let copy = Copy::new("tied");
    faults::append(&copy.0, "lm_head.weight", "F32", 8);
    edit(&copy.0, read::INDEX, |index| {
        index["weight_map"]["lm_head.weight"] = SECOND.into();
    });
    let checkpoint = Checkpoint::open(&copy.0).unwrap();
    let parts = [Part::Text, Part::Vision, Part::ActionExpert];
    let weights = checkpoint.weights(&parts, DType::F32, &Device::Cpu);
    assert!(!weights.contains_tensor("lm_head.weight"));
}

#[test]
fn the_digests_are_those_of_the_files() {
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    // Settings first.
    let lines = ["config.json", "tokenizer.json", FIRST, SECOND].map(|file| {
        let bytes = fs::read(golden().join(file)).unwrap();
        format!("{file} {} {}\n", bytes.len(), hex(&sha256(&bytes)))
    });
    let listed = lines.concat();
    assert_eq!(
        sha256(listed.as_bytes()),
        checkpoint.model_digest().unwrap()
    );
    let preprocessor = fs::read(golden().join("preprocessor_config.json")).unwrap();
    assert_eq!(
        sha256(&preprocessor),
        checkpoint.normaliser_digest().unwrap()
    );
}

#[test]
fn statistics_are_no_part_of_the_models_identity() {
    let copy = Copy::new("identity");
    edit(&copy.0, read::PREPROCESSOR, |file| {
        file["min_pixels"] = 1024.into();
    });
    let (changed, whole) = (
        Checkpoint::open(&copy.0).unwrap(),
        Checkpoint::open(&golden()).unwrap(),
    );
    assert_eq!(
        whole.model_digest().unwrap(),
        changed.model_digest().unwrap()
    );
    assert_ne!(
        whole.normaliser_digest().unwrap(),
        changed.normaliser_digest().unwrap()
    );
}

#[test]
fn a_known_text_has_the_known_digest() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(abc, hex(&sha256(b"abc")));
}
