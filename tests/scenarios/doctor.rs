//! `vlad doctor`: its findings are complete, its exit code follows from them.

use serde_json::Value;

use crate::support::process::{Ended, vlad};
use crate::support::{Places, TempDir};

/// What must be looked at on any machine.
const AREAS: [&str; 13] = [
    "settings",
    "ticks",
    "ticks-fifo",
    "tier",
    "kernel",
    "limits",
    "clocks",
    "wall-clock",
    "gpu",
    "disk-sync",
    "disk-room",
    "checkpoint",
    "camera",
];

fn doctor(dir: &TempDir, further: &[&str]) -> Ended {
    let data = dir.path().join("data").display().to_string();
    let args = ["doctor", "--seconds", "1", "--data", &data];
    vlad(args.iter().chain(further))
}

fn found<'a>(document: &'a Value, area: &str) -> Vec<&'a Value> {
    let findings = document["findings"].as_array().unwrap().iter();
    findings.filter(|found| found["area"] == area).collect()
}

#[test]
fn each_finding_says_what_it_is_what_it_means_and_what_to_do() {
    let _places = Places::take(1);
    let dir = TempDir::new();
    let ended = doctor(&dir, &["--json"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    for area in AREAS {
        assert!(!found(&document, area).is_empty(), "{area}: {}", ended.out);
    }
    assert_eq!(found(&document, "camera").len(), 3, "one for each view");
    let mut n_mend = 0;
    for found in document["findings"].as_array().unwrap() {
        for key in ["what", "means", "todo"] {
            assert_ne!(found[key].as_str().unwrap(), "", "{found}");
        }
        n_mend += u64::from(found["level"] == "mend");
    }
    assert_eq!(document["must_mend"], n_mend);
    assert_eq!(ended.code, i32::from(0 < n_mend), "{}", ended.err);
    let ticks = &found(&document, "ticks")[0]["figures"];
    assert_eq!((&ticks["n"], &ticks["rate_hz"]), (&240.into(), &240.into()));
    assert!(["T1", "T2", "none"].contains(&document["tier"].as_str().unwrap()));
    assert!(
        !dir.path().join("data").exists(),
        "the doctor makes no folder"
    );
}

#[test]
fn what_must_be_mended_ends_with_one() {
    let _places = Places::take(1);
    let dir = TempDir::new();
    let nothing = dir.path().join("nothing").display().to_string();
    let ended = doctor(&dir, &["--json", "--checkpoint", &nothing]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found(&document, "checkpoint")[0]["level"], "mend");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("must be mended"), "{}", ended.err);
}

/// Refused settings are a finding among others: the machine is looked at all the same.
#[test]
fn refused_settings_are_a_finding() {
    let dir = TempDir::new();
    let ended = doctor(&dir, &["--json", "--set", "guard.think_timeout_ms=0"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let settings = found(&document, "settings")[0];
    assert_eq!(settings["level"], "mend");
    assert!(
        settings["what"]
            .as_str()
            .unwrap()
            .contains("think_timeout_ms")
    );
    assert!(found(&document, "camera").is_empty() && !found(&document, "kernel").is_empty());
    assert_eq!(ended.code, 1);
}

#[test]
fn a_world_that_is_not_served_must_be_mended() {
    let dir = TempDir::new();
    let world = format!("cell.world=unix:{}/world.sock", dir.path().display());
    let ended = doctor(&dir, &["--set", &world]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("vlad sim --socket"), "{}", ended.out);
    assert!(ended.out.contains("to do: ") && ended.out.contains("platform tier: "));
}
