//! The kinds `sync`, `sync_rope_bf16`, `preprocess` and `tokenizer`: a number that is off fails by name.

use std::fs;

use serde_json::{Value, json};
use vlad_xr0::verify::{Line, Options};

use crate::copy::{Copy, add};

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

/// The tensor, on the paths that it is compared on; nothing if it passes.
fn named(tensor: &str, fails: bool) -> Vec<String> {
    let is_served =
        tensor.starts_with("kv.") || ["actions", "actions_decoded", "probe.v"].contains(&tensor);
    let paths = if is_served {
        &["", "served/"][..]
    } else {
        &[""]
    };
    let names = paths.iter().map(|path| format!("{path}{tensor}"));
    names.filter(|_| fails).collect()
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
    for (tensor, fails) in [("actions", true), ("kv.3.k", false)] {
        for path in ["", "served/"] {
            let name = format!("{path}{tensor}");
            assert_eq!(failing.contains(&name), fails, "{name} in {failing:?}");
        }
    }
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
        assert_eq!(set.failing(), named(tensor, fails), "{tensor} {addend}");
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
        assert_eq!(set.failing(), named("kv.4.k", fails), "sample {sample}");
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
        names.filter(|name| !name.ends_with("run")).collect()
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
