//! A golden decision recognises its network, and no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::dit::layout::Kind;
use crate::model::{Options, Profile};
use crate::normaliser::Normaliser;
use crate::synth::{self, Preset};

const KIND_B: Kind = Kind::B {
    local_window: 4,
    position_gap: 10,
};

/// A folder that goes when its test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("vlad-xr0-self-test-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn checkpoint(&self, seed: u64) -> Checkpoint {
        let dir = self.0.join(format!("seed-{seed}"));
        let std = (0..8 * 32).map(|i| if i % 32 < 20 { 0.1 } else { 0.0 });
        let table = Normaliser::new(8, 32, vec![0.0; 8 * 32], std.collect()).unwrap();
        let robots = BTreeMap::from([("a_robot".to_owned(), table)]);
        let recipe = Preset::Tiny.recipe(&robots, seed).unwrap();
        synth::write(&recipe, &dir, &mut |_, _| {}).unwrap();
        Checkpoint::open(&dir).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(served: bool, kind: Kind) -> Options {
    let mut options = if served {
        Options::served(Device::Cpu)
    } else {
        Options::plain()
    };
    options.profile = Profile {
        kind,
        ..Profile::default()
    };
    options
}

fn halves(checkpoint: &Checkpoint, options: &Options) -> (Vlm, ActionExpert) {
    let vlm = Vlm::load(checkpoint, options).unwrap();
    (vlm, ActionExpert::load(checkpoint, options).unwrap())
}

fn question(prefix_rows: usize) -> Question {
    let image = |label: &str, height: usize, width: usize, limits| {
        let pixels = (0..height * width * 3).map(|i| (i * 37 % 251) as u8);
        Image {
            label: label.to_owned(),
            pixels: RgbImage::new(height, width, pixels.collect()).unwrap(),
            limits,
        }
    };
    let small = ImageLimits {
        min_pixels: 1024,
        max_pixels: 4096,
    };
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
    Question {
        images: vec![
            image("Ego View", 90, 120, None),
            image("Left-Wrist View", 100, 100, Some(small)),
        ],
        instruction: "Put the cube into the box.".to_owned(),
        state: wave(32, 0.3),
        mask: (0..8 * 32)
            .map(|i| f32::from(u8::from(i % 32 < 20)))
            .collect(),
        noise: wave(8 * 32, 1.7),
        horizon: 8,
        prefix: wave(prefix_rows * 32, 0.9),
        steps: 5,
    }
}

fn recorded(checkpoint: &Checkpoint, kind: Kind, prefix_rows: usize) -> SelfTest {
    let (vlm, expert) = halves(checkpoint, &options(false, kind));
    SelfTest::record(&vlm, &expert, question(prefix_rows)).unwrap()
}

/// Writes a self-test and reads it again.
fn stored(scratch: &Scratch, name: &str, test: &SelfTest) -> SelfTest {
    let path = scratch.0.join(name);
    let digest = test.write(&path).unwrap();
    SelfTest::open(&path, &digest).unwrap()
}

#[test]
fn each_half_passes_on_both_paths() {
    let scratch = Scratch::new("passes");
    let checkpoint = scratch.checkpoint(1);
    for (kind, prefix_rows) in [(Kind::A, 0), (KIND_B, 3)] {
        let test = recorded(&checkpoint, kind, prefix_rows);
        let test = stored(&scratch, &format!("{prefix_rows}.safetensors"), &test);
        assert_eq!(*test.question(), question(prefix_rows));
        for served in [false, true] {
            let (vlm, expert) = halves(&checkpoint, &options(served, kind));
            let brain = test.check_vlm(&vlm, WeightType::F32).unwrap();
            let act = test.check_expert(&expert, WeightType::F32).unwrap();
            for deviation in [brain, act] {
                assert!(deviation.largest < 1e-3, "{deviation}");
            }
        }
    }
}

#[test]
fn another_networks_halves_are_refused_with_the_figures() {
    let scratch = Scratch::new("refuses");
    let (own, other) = (scratch.checkpoint(1), scratch.checkpoint(2));
    let test = recorded(&own, Kind::A, 0);
    let (vlm, expert) = halves(&other, &options(true, Kind::A));
    let brain = test.check_vlm(&vlm, WeightType::Q8).unwrap_err();
    let act = test.check_expert(&expert, WeightType::Q8).unwrap_err();
    for (error, half) in [(brain, "the brain"), (act, "the action expert")] {
        let text = error.to_string();
        let told = text.starts_with(&format!("the self-test of {half} fails: cosine "));
        assert!(told && text.contains("allowed for q8 are"), "{text}");
    }
}

/// A manifest that names the wrong profile is seen as well as a wrong weight.
#[test]
fn the_wrong_profile_is_refused() {
    let scratch = Scratch::new("profile");
    let checkpoint = scratch.checkpoint(1);
    let test = recorded(&checkpoint, KIND_B, 3);
    let (_, mut expert) = halves(&checkpoint, &options(true, KIND_B));
    test.check_expert(&expert, WeightType::F32).unwrap();
    let wrong = Kind::B {
        local_window: 4,
        position_gap: 9,
    };
    expert.set_kind(wrong);
    let refused = test.check_expert(&expert, WeightType::F32);
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn the_same_decision_gives_the_same_bytes_and_an_old_file_stays() {
    let scratch = Scratch::new("bytes");
    let test = recorded(&scratch.checkpoint(1), Kind::A, 0);
    let [one, two] = ["one", "two"].map(|name| scratch.0.join(name));
    assert_eq!(test.write(&one).unwrap(), test.write(&two).unwrap());
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    let again = test.write(&one).unwrap_err().to_string();
    assert!(again.contains("exists"), "{again}");
}

#[test]
fn a_file_that_is_another_one_is_refused() {
    let scratch = Scratch::new("files");
    let path = scratch.0.join("golden.safetensors");
    let test = recorded(&scratch.checkpoint(1), Kind::A, 0);
    let digest = test.write(&path).unwrap();
    assert!(SelfTest::open(&path, &digest.to_uppercase()).is_ok());
    let refusal = |digest: &str| SelfTest::open(&path, digest).unwrap_err().to_string();
    let text = refusal(&"0".repeat(64));
    assert!(text.contains(&digest) && text.contains("--write"), "{text}");

    // Other bytes under their own hash: still no self-test.
    let whole = fs::read(&path).unwrap();
    let layout = |number: u32| {
        let text = String::from_utf8_lossy(&whole[..200]).into_owned();
        let marker = "\\\"layout\\\":1";
        assert!(text.contains(marker), "{text}");
        let at = whole
            .windows(marker.len())
            .position(|w| w == marker.as_bytes());
        let mut bytes = whole.clone();
        bytes[at.unwrap() + marker.len() - 1] = number.to_string().as_bytes()[0];
        bytes
    };
    let weights = fs::read(scratch.0.join("seed-1/model-00001-of-00001.safetensors")).unwrap();
    for (bytes, named) in [
        (whole[..whole.len() - 4].to_vec(), "is no self-test"),
        (weights, "its metadata has no self_test"),
        (layout(7), "it has the layout 7, this build reads 1"),
        (Vec::new(), "is no self-test"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let text = refusal(&hex(&sha256(&bytes)));
        assert!(text.contains(named), "{named} is not in {text}");
    }
    fs::remove_file(&path).unwrap();
    assert!(refusal(&digest).contains("is absent"));
}

/// A self-test's bytes with one text of its metadata replaced; its tensors stay as they are.
fn edited(whole: &[u8], from: &str, to: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap());
    let data = 8 + usize::try_from(length).unwrap();
    let header = std::str::from_utf8(&whole[8..data]).unwrap();
    assert!(header.contains(from), "{from} is not in {header}");
    let mut header = header.replacen(from, to, 1);
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &whole[data..]].concat()
}

#[test]
fn numbers_that_no_decision_has_are_refused_by_name() {
    let scratch = Scratch::new("numbers");
    let path = scratch.0.join("golden.safetensors");
    let test = recorded(&scratch.checkpoint(1), Kind::A, 0);
    test.write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let said = |key: &str, value: usize| format!("\\\"{key}\\\":{value}");
    let tokens = test.context.tokens.width();
    let layers = test.context.layers.len();
    let p_end = test.context.tokens.p_end[0] as usize;
    let many = 1_000_000_000_000_000_000;
    for (key, is, becomes, named) in [
        ("n_tokens", tokens, many, "1000000000000000000 tokens"),
        ("n_tokens", tokens, 0, "it has 0 tokens"),
        ("steps", 5, many, "1000000000000000000 steps"),
        ("steps", 5, 0, "it has 0 steps"),
        ("horizon", 8, many, "are not rows alike"),
        ("horizon", 8, 4, "are not rows alike"),
        ("n_layers", layers, 0, "it has no layers"),
        ("n_layers", layers, many, "more than 512"),
        ("p_end", p_end, tokens, "cannot be the last"),
    ] {
        let bytes = edited(&whole, &said(key, is), &said(key, becomes));
        fs::write(&path, &bytes).unwrap();
        let refused = SelfTest::open(&path, &hex(&sha256(&bytes))).unwrap_err();
        let text = refused.to_string();
        let told = text.contains("is no self-test") && text.contains(named);
        assert!(told, "{key}: {named} is not in {text}");
    }
}
