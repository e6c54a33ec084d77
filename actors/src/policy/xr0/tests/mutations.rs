//! The table of damaged checkpoints: what is done to a whole one, and what is then said of it.
//!
//! Every row is refused before anything of it computes, by a text of its own that names the file, and
//! the tensor or the key where there is one.

use serde_json::{Value, json};
use vlad_xr0::synth::{self, Synth};

use super::*;

/// Bytes of a shard: the tiny network then has two.
const SHARD_BYTES: u64 = 1_200_000;
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const TOKENIZER: &str = "tokenizer.json";
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
/// A tensor of each network; the first one lies in the first shard, the last one in the second.
const VISION: &str = "vlm.model.visual.patch_embed.proj.bias";
const TEXT: &str = "vlm.model.language_model.layers.0.self_attn.q_norm.weight";
const EXPERT: &str = "sink.weight";

mod settings;
mod weights;

/// A way to damage a checkpoint, and what must be said of it.
struct Mutation {
    name: &'static str,
    damage: fn(&Path),
    said: &'static str,
}

/// A row.
const fn row(name: &'static str, damage: fn(&Path), said: &'static str) -> Mutation {
    Mutation { name, damage, said }
}

/// The table.
fn all() -> Vec<&'static Mutation> {
    let both = weights::MUTATIONS.iter().chain(settings::MUTATIONS);
    both.collect()
}

/// A whole checkpoint in two shards, that fits the demo robot.
fn whole(dir: &Path) {
    let single = Tiny::new(1);
    let json = |file: &str| serde_json::from_slice(&read(&single.dir.join(file))).unwrap();
    let manifest = read(&single.dir.join(manifest::FILE));
    let recipe = Synth {
        config: json(CONFIG),
        preprocessor: json(PREPROCESSOR),
        tokenizer: json(TOKENIZER),
        extra: [(manifest::FILE.to_owned(), manifest)].into(),
        seed: 1,
        shard_bytes: SHARD_BYTES,
    };
    synth::write(&recipe, dir, &mut |_, _| {}).unwrap();
}

fn open(dir: &Path) -> Result<Xr0Policy, Xr0Error> {
    let tiny = Tiny {
        dir: dir.to_owned(),
        _temp: TempDir::new(),
    };
    tiny.open()
}

#[test]
fn every_damaged_checkpoint_is_refused_with_what_is_wrong() {
    let temp = TempDir::new();
    let good = temp.0.join("good");
    whole(&good);
    open(&good).unwrap();
    let all = all();
    assert!(50 <= all.len(), "{}", all.len());
    let mut wrong = Vec::new();
    for Mutation { name, damage, said } in all {
        let dir = temp.0.join("damaged");
        std::fs::create_dir(&dir).unwrap();
        for entry in std::fs::read_dir(&good).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, dir.join(from.file_name().unwrap())).unwrap();
        }
        damage(&dir);
        match open(&dir) {
            Ok(_) => wrong.push(format!("{name}: was taken")),
            Err(error) => {
                let told = error.to_string();
                if !told.contains(said) {
                    wrong.push(format!("{name}: {said:?} is not in\n  {told}"));
                }
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A text that two rows share would tell nobody which it is.
#[test]
fn every_damage_is_told_apart() {
    let all = all();
    for (i, one) in all.iter().enumerate() {
        for other in &all[..i] {
            assert_ne!(one.said, other.said, "{} and {}", one.name, other.name);
            assert_ne!(one.name, other.name);
        }
    }
}

/// Changes a JSON file.
fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(file);
    let mut value = serde_json::from_slice(&read(&path)).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Sets the value at a JSON pointer.
fn set(dir: &Path, file: &str, pointer: &str, value: &Value) {
    edit(dir, file, |json| {
        *json.pointer_mut(pointer).unwrap() = value.clone();
    });
}

/// Replaces a text of a file.
fn replace(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = String::from_utf8(read(&path)).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn put(dir: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.join(file), bytes).unwrap();
}

fn remove(dir: &Path, file: &str) {
    std::fs::remove_file(dir.join(file)).unwrap();
}

/// A shard's header and its tensors' bytes.
fn split(dir: &Path, file: &str) -> (Value, Vec<u8>) {
    let bytes = read(&dir.join(file));
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, tensors) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    (serde_json::from_slice(header).unwrap(), tensors.to_vec())
}

fn join(dir: &Path, file: &str, header: &Value, tensors: &[u8]) {
    let header = header.to_string();
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    put(dir, file, [&length, header.as_bytes(), tensors].concat());
}

/// Changes a shard's header.
fn header(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let (mut json, tensors) = split(dir, file);
    change(&mut json);
    join(dir, file, &json, &tensors);
}

/// The shard of a tensor.
fn shard(dir: &Path, tensor: &str) -> String {
    let index: Value = serde_json::from_slice(&read(&dir.join(INDEX))).unwrap();
    index["weight_map"][tensor].as_str().unwrap().to_owned()
}

/// Sets a number of a tensor: bf16.
fn number(dir: &Path, name: &str, at: usize, value: u16) {
    let file = shard(dir, name);
    let (header, mut tensors) = split(dir, &file);
    let start = header[name]["data_offsets"][0].as_u64().unwrap();
    let start = usize::try_from(start).unwrap() + 2 * at;
    tensors[start..start + 2].copy_from_slice(&value.to_le_bytes());
    join(dir, &file, &header, &tensors);
}

/// Appends a tensor of eight bytes to a shard.
fn append(dir: &Path, file: &str, name: &str) {
    let (mut header, mut tensors) = split(dir, file);
    let from = tensors.len();
    header[name] = json!({ "dtype": "BF16", "shape": [4], "data_offsets": [from, from + 8] });
    tensors.extend([0; 8]);
    join(dir, file, &header, &tensors);
}

/// Adds lines to the manifest's top level.
fn manifest_says(dir: &Path, lines: &str) {
    replace(
        dir,
        manifest::FILE,
        "flow = true",
        &format!("flow = true\n{lines}"),
    );
}
