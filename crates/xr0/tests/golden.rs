//! The golden numbers, and proof that a number which is off does not pass.
#![cfg(test)]
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vlad_xr0::verify::{Line, Options, Summary, verify};

/// Where the set lies that comes with the repository.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/xr0-tiny")
}

/// A copy of the set that may be changed; it goes when the value goes.
struct Copy(PathBuf);

impl Copy {
    /// With only these cases.
    fn of(cases: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("vlad-golden-{}-{number}", std::process::id()));
        let copy = Self(dir);
        fs::create_dir_all(copy.0.join("model")).unwrap();
        for entry in fs::read_dir(fixture())
            .unwrap()
            .chain(fs::read_dir(fixture().join("model")).unwrap())
        {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = copy.0.join(path.strip_prefix(fixture()).unwrap());
                // Written anew: a copied file would keep the mode of one that may not be changed.
                fs::write(to, fs::read(&path).unwrap()).unwrap();
            }
        }
        copy.edit_json("cases.json", |all| {
            all.as_object_mut()
                .unwrap()
                .retain(|name, _| cases.contains(&name.as_str()));
        });
        copy.vouch("cases.json");
        copy
    }

    fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.0.join(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    /// Writes size and hash of a changed file into the manifest.
    fn vouch(&self, file: &str) {
        let bytes = fs::read(self.0.join(file)).unwrap();
        let digits = Sha256::digest(&bytes)
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from_digit(digit.into(), 16).unwrap())
            .collect::<String>();
        self.edit_json("manifest.json", |manifest| {
            manifest["files"][file]["bytes"] = json!(bytes.len());
            manifest["files"][file]["sha256"] = json!(digits);
        });
    }

    /// Changes the cases, and vouches for them.
    fn edit_cases(&self, edit: impl FnOnce(&mut Value)) {
        self.edit_json("cases.json", edit);
        self.vouch("cases.json");
    }

    /// Changes the bytes of a stored tensor, and vouches for the file.
    fn edit_tensor(&self, file: &str, tensor: &str, edit: impl FnOnce(&mut [u8])) {
        let path = self.0.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let n = size(u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        let header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        let at = |i: usize| size(header[tensor]["data_offsets"][i].as_u64().unwrap());
        let [from, to] = [0, 1].map(|i| at(i) + 8 + n);
        edit(&mut bytes[from..to]);
        fs::write(path, bytes).unwrap();
        self.vouch(file);
    }

    /// Renames a stored tensor to a name of the same length, and vouches for the file.
    fn rename_tensor(&self, file: &str, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let path = self.0.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let quoted = format!("\"{from}\"");
        let at = bytes
            .windows(quoted.len())
            .position(|window| window == quoted.as_bytes())
            .unwrap();
        bytes[at + 1..=from.len() + at].copy_from_slice(to.as_bytes());
        fs::write(path, bytes).unwrap();
        self.edit_json("manifest.json", |manifest| {
            let tensors = manifest["files"][file]["tensors"].as_object_mut().unwrap();
            let shape = tensors.remove(from).unwrap();
            tensors.insert(to.to_owned(), shape);
        });
        self.vouch(file);
    }

    fn verify(&self, options: &Options) -> (Summary, Vec<Line>) {
        let mut lines = Vec::new();
        let summary = verify(&self.0, options, &mut |line| lines.push(line.clone())).unwrap();
        (summary, lines)
    }

    /// The tensors that do not pass.
    fn failing(&self) -> Vec<String> {
        let (summary, lines) = self.verify(&Options::default());
        let failing: Vec<_> = lines
            .into_iter()
            .filter(|line| !line.passed)
            .map(|line| line.tensor)
            .collect();
        assert_eq!(summary.passed(), failing.is_empty());
        failing
    }

    /// Why it cannot be verified at all.
    fn refusal(&self) -> String {
        verify(&self.0, &Options::default(), &mut |_| {})
            .unwrap_err()
            .to_string()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn add(bytes: &mut [u8], at: usize, addend: f32) {
    let at = 4 * at..4 * at + 4;
    let value = f32::from_le_bytes(bytes[at.clone()].try_into().unwrap()) + addend;
    bytes[at].copy_from_slice(&value.to_le_bytes());
}

/// The counts are those of the manifest: stored tensors less inputs, and two keys of the case.
#[test]
fn all_cases_of_the_known_kinds_agree() {
    let mut failing = Vec::new();
    let summary = verify(&fixture(), &Options::default(), &mut |line| {
        if !line.passed {
            failing.push(format!(
                "{} {} {:?} {:?}",
                line.case, line.tensor, line.difference, line.problem
            ));
        }
    });
    let summary = summary.unwrap();
    assert_eq!(failing, Vec::<String>::new());
    assert!(summary.passed());
    let cases: Vec<_> = summary
        .cases
        .iter()
        .map(|case| (case.name.as_str(), case.tensors))
        .collect();
    let wanted = [
        ("sync_b2", 26),
        ("sync_v1_short", 26),
        ("sync_v2", 68),
        ("sync_v2_rope_bf16", 8),
        ("preprocess", 26),
        ("tokenizer", 10),
    ];
    assert_eq!(cases, wanted);
    assert_eq!(
        summary.skipped,
        ["async", "train", "train_causal", "train_proposal"]
    );
}

#[test]
fn a_tolerance_of_zero_fails_by_name() {
    let set = Copy::of(&["sync_v1_short"]);
    let (summary, lines) = set.verify(&Options {
        tolerance: Some(0.0),
    });
    assert!(!summary.passed());
    let failing: Vec<_> = lines
        .iter()
        .filter(|line| !line.passed)
        .map(|line| &*line.tensor)
        .collect();
    assert!(failing.contains(&"vision.image_embeds"), "{failing:?}");
    assert!(!failing.contains(&"actions"), "another class: {failing:?}");
    assert!(!failing.contains(&"input_ids"), "equal: {failing:?}");
}

/// One bit: the sign of a weight that every later stage sees.
#[test]
fn a_changed_weight_fails() {
    let set = Copy::of(&["sync_v1_short"]);
    set.edit_tensor(
        "model/model-00002-of-00002.safetensors",
        "dit.layers.0.attn.o_proj.weight",
        |bytes| {
            bytes[1] ^= 0x80;
        },
    );
    let failing = set.failing();
    assert!(failing.contains(&"actions".to_owned()), "{failing:?}");
    assert!(
        !failing.contains(&"kv.3.k".to_owned()),
        "the other half: {failing:?}"
    );
}

/// A table of single changed numbers: a little more than the limit fails, a little less passes.
#[test]
fn a_changed_stored_number_fails_beyond_its_limit() {
    for (tensor, at, addend, fails) in [
        ("vision.image_embeds", 0, 1.5e-4, true),
        ("vision.image_embeds", 0, 0.5e-4, false),
        ("actions", 31, 3e-5, true),
        ("actions_decoded", 0, -3e-5, true),
        ("probe.v", 5, 3e-5, true),
        ("action_mask", 7, 1e-7, true),
        ("actions", 3, f32::NAN, true),
        ("kv.5.v", 0, f32::INFINITY, true),
        ("kv.3.k", 58 * 16, 1.5e-4, true),
        ("dit.rope_cos", 0, 1.5e-4, true),
    ] {
        let set = Copy::of(&["sync_v1_short"]);
        set.edit_tensor("sync_v1_short.safetensors", tensor, |bytes| {
            add(bytes, at, addend);
        });
        let wanted = if fails {
            vec![tensor.to_owned()]
        } else {
            vec![]
        };
        assert_eq!(set.failing(), wanted, "{tensor} {addend}");
    }
}

#[test]
fn changed_ids_masks_grids_and_bytes_fail() {
    for (case, tensor) in [
        ("sync_v2", "input_ids"),
        ("sync_v2", "position_ids"),
        ("sync_v2", "dit.position_ids"),
        ("sync_v2", "dit.attn_mask"),
        ("sync_v2", "image_grid_thw"),
        ("sync_v2", "image_resized.1"),
        ("preprocess", "resized.7"),
    ] {
        let set = Copy::of(&[case]);
        set.edit_tensor(&format!("{case}.safetensors"), tensor, |bytes| {
            bytes[0] ^= 1;
        });
        assert_eq!(set.failing(), [tensor], "{tensor}");
    }
}

/// Only the second sample of the batch has padding: its last token there, the first's nowhere.
#[test]
fn numbers_at_padding_are_not_compared() {
    let (kv, tokens, width) = (2, 94, 16);
    for (sample, fails) in [(0, true), (1, false)] {
        let set = Copy::of(&["sync_b2"]);
        let last = (sample * kv * tokens + tokens - 1) * width;
        set.edit_tensor("sync_b2.safetensors", "kv.4.k", |bytes| {
            add(bytes, last, 1.0);
        });
        let wanted = if fails {
            vec!["kv.4.k".to_owned()]
        } else {
            vec![]
        };
        assert_eq!(set.failing(), wanted, "sample {sample}");
    }
}

#[test]
fn a_stored_tensor_that_nothing_computes_fails() {
    let set = Copy::of(&["sync_v1_short"]);
    set.rename_tensor("sync_v1_short.safetensors", "state_embed", "stage_embed");
    let (_, lines) = set.verify(&Options::default());
    let line = lines
        .iter()
        .find(|line| line.tensor == "stage_embed")
        .unwrap();
    assert!(
        !line.passed && line.problem.as_ref().unwrap().contains("does not compute"),
        "{line:?}"
    );
}

#[test]
fn a_missing_input_fails() {
    for (input, other) in [
        ("noise", "moise"),
        ("state", "stats"),
        ("image_raw.0", "image_raw.9"),
        ("probe.x", "probe.y"),
    ] {
        let set = Copy::of(&["sync_v1_short"]);
        set.rename_tensor("sync_v1_short.safetensors", input, other);
        assert!(!set.failing().is_empty(), "{input}");
    }
}

#[test]
fn a_run_that_fails_early_fails_every_stored_tensor_by_name() {
    let set = Copy::of(&["sync_v1_short"]);
    let compared = |lines: &[Line]| -> Vec<String> {
        let names = lines.iter().map(|line| line.tensor.clone());
        names.filter(|name| name != "run").collect()
    };
    let (_, whole) = set.verify(&Options::default());
    set.edit_cases(|cases| cases["sync_v1_short"]["robot_type"] = json!("nobody"));
    let (summary, lines) = set.verify(&Options::default());
    assert!(!summary.passed());
    assert_eq!(compared(&whole), compared(&lines));
    let passed: Vec<_> = lines.iter().filter(|line| line.passed).collect();
    let passed: Vec<_> = passed.iter().map(|line| &*line.tensor).collect();
    assert_eq!(["dit_first_kv_layer", "prompts"], *passed);
    let run = lines.iter().find(|line| line.tensor == "run").unwrap();
    assert!(run.problem.as_ref().unwrap().contains("nobody"), "{run:?}");
}

/// Reading a named pipe waits for a writer that may never come.
#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    for (file, case) in [
        ("manifest.json", "tokenizer"),
        ("cases.json", "tokenizer"),
        ("sync_v1_short.safetensors", "sync_v1_short"),
    ] {
        let set = Copy::of(&[case]);
        fs::remove_file(set.0.join(file)).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(set.0.join(file))
            .status();
        assert!(made.unwrap().success());
        let refusal = set.refusal();
        let wanted = format!("{file}: is not a regular file");
        assert!(refusal.contains(&wanted), "{wanted} in {refusal}");
    }
}

#[test]
fn keys_of_the_case_are_held_against_the_program() {
    type Edit = fn(&mut Value);
    let table: [(&str, Edit, &str); 5] = [
        (
            "sync_v1_short",
            |case| case["prompts"][0] = json!("no prompt"),
            "prompts",
        ),
        (
            "sync_v1_short",
            |case| case["prompts"] = json!([]),
            "prompts",
        ),
        (
            "sync_v1_short",
            |case| case["dit_first_kv_layer"] = json!(2),
            "dit_first_kv_layer",
        ),
        (
            "preprocess",
            |case| case["rows"][2]["resized"][1] = json!(256),
            "size.2",
        ),
        (
            "preprocess",
            |case| case["rows"][10]["grid_thw"][2] = json!(80),
            "grid_thw.10",
        ),
    ];
    for (case, edit, wanted) in table {
        let set = Copy::of(&[case]);
        set.edit_cases(|cases| edit(&mut cases[case]));
        assert_eq!(set.failing(), [wanted], "{case}");
    }
}

#[test]
fn a_changed_token_fails() {
    let set = Copy::of(&["tokenizer"]);
    set.edit_json("tokenizer_cases.json", |rows| rows[2]["ids"][0] = json!(0));
    set.vouch("tokenizer_cases.json");
    assert_eq!(set.failing(), ["ids.2"]);
}

/// The numbers of exact frequencies, held against a network with rounded ones.
#[test]
fn rounded_frequencies_do_not_pass_for_exact_ones() {
    let set = Copy::of(&["sync_v2", "sync_v2_rope_bf16"]);
    let [exact, rounded] = ["sync_v2.safetensors", "sync_v2_rope_bf16.safetensors"];
    fs::write(set.0.join(rounded), fs::read(set.0.join(exact)).unwrap()).unwrap();
    set.edit_json("manifest.json", |manifest| {
        manifest["files"][rounded] = manifest["files"][exact].clone();
    });
    let (summary, lines) = set.verify(&Options::default());
    let passed: Vec<_> = summary.cases.iter().map(|case| case.passed).collect();
    assert_eq!(passed, [true, false]);
    let failing = lines
        .iter()
        .filter(|line| !line.passed)
        .map(|line| line.tensor.as_str());
    let failing: Vec<_> = failing.collect();
    for wanted in [
        "text.rope_cos",
        "dit.rope_sin",
        "actions",
        "vision.block_out.3",
    ] {
        assert!(failing.contains(&wanted), "{wanted} in {failing:?}");
    }
}

#[test]
fn a_kind_that_is_not_known_is_skipped_by_name() {
    let set = Copy::of(&["sync_v1_short", "tokenizer"]);
    set.edit_cases(|cases| cases["sync_v1_short"]["kind"] = json!("sync_v9"));
    let (summary, lines) = set.verify(&Options::default());
    assert_eq!(summary.skipped, ["sync_v9"]);
    assert!(summary.passed() && lines.iter().all(|line| line.case == "tokenizer"));
}

#[test]
fn a_set_of_which_nothing_is_known_does_not_pass() {
    let set = Copy::of(&["tokenizer"]);
    set.edit_cases(|cases| cases["tokenizer"]["kind"] = json!("riddle"));
    let (summary, lines) = set.verify(&Options::default());
    assert!(!summary.passed() && lines.is_empty());
}

#[test]
fn wrong_and_missing_files_end_the_run_all_named() {
    let set = Copy::of(&["tokenizer"]);
    fs::remove_file(set.0.join("train_p0.safetensors")).unwrap();
    let mut bytes = fs::read(set.0.join("sync_v2.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(set.0.join("sync_v2.safetensors"), bytes).unwrap();
    fs::write(set.0.join("tokenizer_cases.json"), "[]").unwrap();
    let refusal = set.refusal();
    for wanted in [
        "train_p0.safetensors: ",
        "sync_v2.safetensors: has SHA-256",
        "tokenizer_cases.json: has 2 bytes",
    ] {
        assert!(refusal.contains(wanted), "{wanted} in {refusal}");
    }
}

#[test]
fn a_set_that_contradicts_itself_is_refused() {
    type Edit = fn(&Copy);
    let table: [(Edit, &str); 8] = [
        (
            |set| fs::remove_file(set.0.join("manifest.json")).unwrap(),
            "manifest.json",
        ),
        (
            |set| fs::write(set.0.join("manifest.json"), "{").unwrap(),
            "manifest.json",
        ),
        (
            |set| {
                set.edit_json("manifest.json", |m| {
                    m["files"]["../x"] = m["files"]["cases.json"].clone();
                });
            },
            "leads out of the set",
        ),
        (
            |set| {
                set.edit_json("manifest.json", |m| {
                    m["files"]["sync_v2.safetensors"]["tensors"]["kv.9.k"] = json!(["F32", [1]]);
                });
            },
            "lacks tensor kv.9.k",
        ),
        (
            |set| {
                set.edit_json("manifest.json", |m| {
                    m["files"]["sync_v2.safetensors"]["tensors"]["kv.5.k"] = json!(["F32", [1]]);
                });
            },
            "kv.5.k is F32 [1, 2, 70, 16]",
        ),
        (
            |set| {
                set.edit_json("manifest.json", |m| {
                    m["files"]
                        .as_object_mut()
                        .unwrap()
                        .remove("sync_v2.safetensors");
                });
            },
            "sync_v2.safetensors: is not listed",
        ),
        (
            |set| set.edit_cases(|cases| cases["sync_v2_rope_bf16"]["base"] = json!("nowhere")),
            "base nowhere is no case",
        ),
        (
            |set| {
                set.edit_cases(|cases| {
                    drop(cases["sync_v2"].as_object_mut().unwrap().remove("prompts"));
                });
            },
            "case sync_v2: missing field `prompts`",
        ),
    ];
    for (edit, wanted) in table {
        let set = Copy::of(&["sync_v2", "sync_v2_rope_bf16"]);
        edit(&set);
        let refusal = set.refusal();
        assert!(refusal.contains(wanted), "{wanted} in {refusal}");
    }
}

#[test]
fn the_summary_is_cases_skipped_and_worst() {
    let set = Copy::of(&["sync_v1_short", "async_p0"]);
    let (summary, _) = set.verify(&Options::default());
    let value = serde_json::to_value(&summary).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["cases", "skipped", "worst"]);
    assert_eq!(value["skipped"], json!(["async"]));
    assert_eq!(value["cases"][0]["passed"], json!(true));
    assert_eq!(value["worst"], value["cases"][0]["worst"]);
    let share = |key: &str| value["worst"][key].as_f64().unwrap();
    assert!(0.0 < share("difference") && share("difference") < share("limit"));
}
