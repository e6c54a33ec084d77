//! What is written can be read, and is the same every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use candle_core::{DType, Device};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::layout::{self, Part};
use crate::tokenizer::Tokenizer;

/// A directory of this test that goes when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("vlad-xr0-synth-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn robots() -> BTreeMap<String, Normaliser> {
    let mean = (0..30 * 32).map(|i| i as f32 * 0.001).collect();
    let std = (0..30 * 32)
        .map(|i| if i % 32 < 20 { 0.1 } else { 0.0 })
        .collect();
    [(
        "a_robot".to_owned(),
        Normaliser::new(30, 32, mean, std).unwrap(),
    )]
    .into()
}

fn tiny(seed: u64) -> Synth {
    Preset::Tiny.recipe(&robots(), seed).unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect()
}

fn names(scratch: &Scratch) -> Vec<String> {
    let entries = fs::read_dir(&scratch.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn what_was_written_opens_and_gives_its_weights() {
    let scratch = Scratch::new("round-trip");
    let out = scratch.join("model");
    let mut recipe = tiny(3);
    recipe.shard_bytes = 700_000;
    recipe
        .extra
        .insert("vlad.toml".to_owned(), b"a manifest".to_vec());
    let mut told = Vec::new();
    write(&recipe, &out, &mut |done, total| told.push((done, total))).unwrap();

    let checkpoint = Checkpoint::open(&out).unwrap();
    assert_eq!(&Preset::Tiny.config().unwrap(), checkpoint.config());
    let limits = checkpoint.preprocessor().limits;
    assert_eq!((1024, 16384), (limits.min_pixels, limits.max_pixels));
    assert_eq!(robots(), checkpoint.preprocessor().robot_types);
    assert_eq!(b"a manifest", &*fs::read(out.join("vlad.toml")).unwrap());
    assert!(out.join("model-00003-of-00003.safetensors").is_file());
    let bytes: u64 = layout::tensors(checkpoint.config())
        .iter()
        .map(shards::bytes)
        .sum();
    assert_eq!(Some(&(bytes, bytes)), told.last());
    assert!(told.is_sorted());

    let parts = [Part::Text, Part::Vision, Part::ActionExpert];
    let weights = checkpoint.weights(&parts, DType::F32, &Device::Cpu);
    for spec in layout::tensors(checkpoint.config()) {
        let tensor = weights
            .get(spec.shape.clone(), &spec.name)
            .unwrap()
            .flatten_all()
            .unwrap();
        let numbers: Vec<f32> = tensor.to_vec1().unwrap();
        let (mean, spread) = numbers::scale(&spec);
        let far = numbers.iter().find(|x| 5.0 * spread < (*x - mean).abs());
        assert_eq!(None, far, "{}", spec.name);
    }
}

#[test]
fn the_same_recipe_gives_the_same_bytes_and_another_seed_others() {
    let scratch = Scratch::new("seeds");
    for (name, seed) in [("a", 5), ("b", 5), ("c", 6)] {
        write(&tiny(seed), &scratch.join(name), &mut |_, _| {}).unwrap();
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| files(&scratch.join(name)));
    assert!(a == b);
    let changed: Vec<_> = a
        .iter()
        .filter(|(name, bytes)| c[*name] != **bytes)
        .collect();
    let changed: Vec<_> = changed.iter().map(|(name, _)| &***name).collect();
    assert_eq!(["model-00001-of-00001.safetensors"], *changed);
}

#[test]
fn an_existing_place_is_refused_and_left_alone() {
    let scratch = Scratch::new("existing");
    let out = scratch.join("model");
    fs::create_dir(&out).unwrap();
    let refused = write(&tiny(1), &out, &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(
        refused.ends_with("model exists: name a new directory"),
        "{refused}"
    );
    assert!(files(&out).is_empty());
    assert_eq!(1, fs::read_dir(&scratch.0).unwrap().count());
}

#[test]
fn a_recipe_that_does_not_fit_leaves_nothing_behind() {
    let scratch = Scratch::new("unfit");
    let mut recipe = tiny(1);
    recipe.tokenizer = tokens::tokenizer(300);
    let refused = write(&recipe, &scratch.join("model"), &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("gives <|image_pad|> the id 312, "),
        "{refused}"
    );
    let mut recipe = tiny(1);
    recipe.extra.insert("../vlad.toml".to_owned(), Vec::new());
    let refused = write(&recipe, &scratch.join("model"), &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(refused.contains("must be the name of a file"), "{refused}");
    assert_eq!(0, fs::read_dir(&scratch.0).unwrap().count());
}

/// As after a kill; in a container the next process has the same number.
#[test]
fn what_an_ended_writer_left_is_removed_and_in_nobodys_way() {
    let scratch = Scratch::new("leftover");
    let own = std::process::id();
    for left in [".model.0.partial", &format!(".model.{own}.partial")] {
        fs::create_dir(scratch.join(left)).unwrap();
        fs::write(scratch.join(left).join("config.json"), "half").unwrap();
    }
    write(&tiny(1), &scratch.join("model"), &mut |_, _| {}).unwrap();
    assert_eq!(["model"], *names(&scratch));
}

#[test]
fn what_another_writer_works_on_and_other_names_stay() {
    let scratch = Scratch::new("in-use");
    let kept = [
        ".model.0.partial",
        ".model.5.partial",
        ".model.b.1.partial",
        ".model.partial",
        ".models.1.partial",
        "model.1.partial",
    ];
    for name in kept {
        fs::create_dir(scratch.join(name)).unwrap();
    }
    let in_use = [0, 5].map(|n| {
        let dir = fs::File::open(scratch.join(&format!(".model.{n}.partial"))).unwrap();
        dir.lock().unwrap();
        dir
    });
    write(&tiny(1), &scratch.join("model"), &mut |_, _| {}).unwrap();
    let mut wanted = [&kept[..], &["model"]].concat();
    wanted.sort_unstable();
    assert_eq!(wanted, names(&scratch));
    drop(in_use);
    // A free name gets its own when the next one comes.
    write(&tiny(1), &scratch.join("models"), &mut |_, _| {}).unwrap();
    assert!(!names(&scratch).contains(&".models.1.partial".to_owned()));
    assert!(names(&scratch).contains(&".model.0.partial".to_owned()));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let scratch = Scratch::new("absent");
    let out = scratch.join("none").join("model");
    let refused = write(&tiny(1), &out, &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(refused.contains("none/.model."), "{refused}");
}

/// Reference §2.4, to the last parameter; nothing is written.
#[test]
fn the_big_preset_has_the_released_size() {
    let config = Preset::Xr04_7b.config().unwrap();
    let specs = layout::tensors(&config);
    let elements = |parts: &[Part]| -> u64 {
        let chosen = specs.iter().filter(|spec| parts.contains(&spec.part));
        chosen.map(layout::TensorSpec::elements).sum()
    };
    let count = |part| specs.iter().filter(|spec| spec.part == part).count();
    assert_eq!(932, specs.len());
    assert_eq!(
        [398, 315, 219],
        [Part::Text, Part::Vision, Part::ActionExpert].map(count)
    );
    assert_eq!(4_022_468_096, elements(&[Part::Text]));
    assert_eq!(415_347_712, elements(&[Part::Vision]));
    assert_eq!(4_437_815_808, elements(&[Part::Text, Part::Vision]));
    assert_eq!(278_458_368, elements(&[Part::ActionExpert]));
    assert_eq!(
        4_716_274_176,
        elements(&[Part::Text, Part::Vision, Part::ActionExpert])
    );

    let shards = shards::plan(specs, SHARD_BYTES);
    let sizes: Vec<u64> = shards
        .iter()
        .map(|shard| shard.tensors.iter().map(shards::bytes).sum())
        .collect();
    assert_eq!(2, sizes.len());
    assert_eq!(9_432_548_352, sizes.iter().sum::<u64>());
    assert!(sizes.iter().all(|size| *size <= SHARD_BYTES), "{sizes:?}");
    let index = shards::index(&shards);
    assert_eq!(9_432_548_352_u64, index["metadata"]["total_size"]);
    assert_eq!(932, index["weight_map"].as_object().unwrap().len());
    for shard in &shards {
        assert!(shards::head(shard).unwrap().len().is_multiple_of(8));
    }
}

#[test]
fn the_big_preset_keeps_the_stock_image_limits() {
    let recipe = Preset::Xr04_7b.recipe(&robots(), 1).unwrap();
    let config = Preset::Xr04_7b.config().unwrap();
    let parsed =
        crate::preprocess::PreprocessorConfig::parse(&recipe.preprocessor.to_string(), &config);
    let limits = parsed.unwrap().limits;
    assert_eq!((3136, 1_003_520), (limits.min_pixels, limits.max_pixels));
    assert_eq!(65536, recipe.preprocessor["size"]["shortest_edge"]);
}

#[test]
fn special_tokens_have_the_ids_of_the_settings() {
    for preset in [Preset::Tiny, Preset::Xr04_7b] {
        let config = preset.config().unwrap();
        let recipe = preset.recipe(&robots(), 1).unwrap();
        let tokenizer = Tokenizer::from_bytes(recipe.tokenizer.to_string().as_bytes()).unwrap();
        let vlm = &config.vlm_config;
        assert_eq!(Some(vlm.image_token_id), tokenizer.id("<|image_pad|>"));
        assert_eq!(
            Some(vlm.vision_start_token_id),
            tokenizer.id("<|vision_start|>")
        );
        assert_eq!(
            Some(vlm.vision_end_token_id),
            tokenizer.id("<|vision_end|>")
        );
        let special = tokens::first_special(&config);
        assert_eq!(Some(special), tokenizer.id("<|endoftext|>"));
        assert_eq!(Some(special + 13), tokenizer.id("<|video_pad|>"));
        assert_eq!(
            vec![special + 1, 64, special + 12, special + 2],
            tokenizer
                .encode("<|im_start|>a<|image_pad|><|im_end|>")
                .unwrap()
        );
    }
    let released = Preset::Xr04_7b.config().unwrap();
    assert_eq!(151_643, tokens::first_special(&released));
    assert_eq!(151_655, released.image_token());
}

#[test]
fn every_byte_of_a_text_is_a_token() {
    let recipe = tiny(1);
    let tokenizer = Tokenizer::from_bytes(recipe.tokenizer.to_string().as_bytes()).unwrap();
    // Ids of bytes that print start with "!"; the others follow, so that a space is 188 + 32.
    assert_eq!(vec![0, 32, 220, 198], tokenizer.encode("!A \n").unwrap());
    let all: String = ('\u{1}'..='\u{7ff}').collect();
    let ids = tokenizer.encode(&all).unwrap();
    assert!(ids.iter().all(|id| *id < tokens::LETTERS));
    assert!(all.len() / 2 < ids.len());
}

#[test]
fn a_preset_reads_as_it_prints() {
    for (preset, name) in NAMES {
        assert_eq!(name, preset.to_string());
        assert_eq!(preset, name.parse().unwrap());
    }
    let refused = "huge".parse::<Preset>().unwrap_err().to_string();
    assert!(
        refused.contains("\"huge\": say one of tiny, narrow, shallow, xr0-4.7b"),
        "{refused}"
    );
}
