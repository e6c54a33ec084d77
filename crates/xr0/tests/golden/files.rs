//! Files that are not what the manifest says, kinds that nobody knows, and the summary.

use std::fs;

use serde_json::json;
use vlad_xr0::verify::Options;

use crate::copy::Copy;

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
    let set = Copy::of(&["sync_v1_short", "tokenizer"]);
    set.edit_case("tokenizer", |case| case["kind"] = json!("riddle"));
    let (summary, _) = set.verify(&Options::default());
    let value = serde_json::to_value(&summary).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["cases", "skipped", "worst"]);
    assert_eq!(value["skipped"], json!(["riddle"]));
    assert_eq!(value["cases"][0]["passed"], json!(true));
    assert_eq!(value["worst"], value["cases"][0]["worst"]);
    let share = |key: &str| value["worst"][key].as_f64().unwrap();
    assert!(0.0 < share("difference") && share("difference") < share("limit"));
}
