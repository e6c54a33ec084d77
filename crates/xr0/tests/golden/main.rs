//! The golden numbers, and proof that a number which is off does not pass.
#![cfg(test)]
#![forbid(unsafe_code)]

mod asynchronous;
mod copy;
mod files;
mod formulas;
mod sync;
mod training;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use vlad_xr0::verify::{Options, verify};

use crate::copy::fixture;

/// Holds a set against the program; gives the numbers of comparisons by case.
fn agrees(set: &str) -> BTreeMap<String, usize> {
    let mut failing = Vec::new();
    let summary = verify(&fixture(set), &Options::default(), &mut |line| {
        if !line.passed {
            failing.push(format!("{line:?}"));
        }
    });
    let summary = summary.unwrap();
    assert_eq!(failing, Vec::<String>::new());
    assert!(summary.passed());
    assert_eq!(summary.skipped, Vec::<String>::new());
    let cases = summary.cases.into_iter();
    cases.map(|case| (case.name, case.tensors)).collect()
}

/// The counts follow from the manifest: stored tensors less inputs; what serving gives once more;
/// two keys of the case; of training the losses, norms, absences, frozen names and totals.
#[test]
fn every_number_of_the_first_set_agrees_on_both_paths() {
    let counts = agrees("xr0-tiny");
    let counts: Vec<_> = counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let wanted = [
        ("async_b2_p3", 15),
        ("async_p0", 14),
        ("async_p3", 15),
        ("async_p6", 15),
        ("preprocess", 26),
        ("sync_b2", 35),
        ("sync_v1_short", 35),
        ("sync_v2", 77),
        ("sync_v2_rope_bf16", 9),
        ("tokenizer", 10),
        ("train_causal_r1", 64),
        ("train_causal_r2", 69),
        ("train_p0", 411),
        ("train_p3", 407),
        ("train_p6_hidden", 407),
        ("train_p6_r1", 405),
        ("train_proposal", 354),
    ];
    assert_eq!(counts, wanted);
}

/// Three views, heads in groups of three and four, a chunk of thirty actions with a table of its own
/// for each, other sections of the rotation, image limits, windows and numbers of steps.
#[test]
fn every_number_of_the_second_set_agrees_on_both_paths() {
    let counts = agrees("xr0-grouped");
    let cases: Value =
        serde_json::from_slice(&fs::read(fixture("xr0-grouped").join("cases.json")).unwrap())
            .unwrap();
    let cases: Vec<_> = cases.as_object().unwrap().keys().collect();
    assert_eq!(counts.keys().collect::<Vec<_>>().len(), cases.len());
    assert!(counts.values().all(|n| 5 < *n), "{counts:?}");
}
