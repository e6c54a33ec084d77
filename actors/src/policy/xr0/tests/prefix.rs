//! Chunks that begin with actions that are already decided (profile B).

use vlad_motion::policy::{ActRequest, ActRows};

use super::decisions::inputs;
use super::given::{Given, act, request, thought};
use super::*;
use crate::policy::xr0::decide::{Inputs, decide};

/// Farthest that a decided action may be from where it was.
const KEPT: f32 = 1e-5;
/// Longest prefix that the manifest allows.
const PREFIX_MAX: usize = 6;

fn profile_b() -> (Tiny, Xr0Policy) {
    let tiny = Tiny::new(1);
    tiny.edit(
        "profile = \"A\"",
        "profile = \"B\"\nlocal_window = 4\nposition_gap = 10\nprefix_trained_max = 6",
    );
    let policy = tiny.open().unwrap();
    (tiny, policy)
}

fn with_prefix(given: &Given, prefix: &[Vec<f32>]) -> ActRequest {
    ActRequest {
        prefix: prefix.to_vec(),
        ..request(given.clone(), 5)
    }
}

fn rows(chunk: &ActRows) -> Vec<Vec<f32>> {
    chunk
        .rows
        .chunks(chunk.width.into())
        .map(<[f32]>::to_vec)
        .collect()
}

/// What a guard could have accepted: rows of another chunk.
fn accepted(policy: &Xr0Policy, given: &Given) -> Vec<Vec<f32>> {
    let other = act(policy, request(given.clone(), 77)).unwrap();
    rows(&other)[3..3 + PREFIX_MAX].to_vec()
}

fn farthest(ones: &[Vec<f32>], others: &[Vec<f32>]) -> f32 {
    let pairs = ones.iter().flatten().zip(others.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_chunk_begins_with_its_prefix_and_goes_on_otherwise_than_without() {
    let (_tiny, policy) = profile_b();
    assert_eq!(
        usize::from(policy.capability().prefix_trained_max),
        PREFIX_MAX
    );
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    let free = rows(&act(&policy, request(given.clone(), 5)).unwrap());
    for n in 1..=PREFIX_MAX {
        let chunk = rows(&act(&policy, with_prefix(&given, &accepted[..n])).unwrap());
        let miss = farthest(&chunk[..n], &accepted[..n]);
        assert!(miss <= KEPT, "{n} rows: {miss} rad");
        assert!(
            KEPT < farthest(&free[..n], &accepted[..n]),
            "the prefix is no coincidence"
        );
        assert_ne!(
            chunk[n..],
            free[n..],
            "what follows {n} rows goes on from them"
        );
    }
}

#[test]
fn a_prefix_that_is_too_long_or_does_not_fit_is_refused() {
    let (_tiny, policy) = profile_b();
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    let refused = |prefix: &[Vec<f32>]| {
        let error = act(&policy, with_prefix(&given, prefix)).unwrap_err();
        error.to_string()
    };
    let longer = [accepted.clone(), accepted[..1].to_vec()].concat();
    assert!(refused(&longer).contains("7 actions, it was trained with at most 6"));
    let narrow = refused(&[vec![0.0; 32], vec![0.0; 31]]);
    assert!(
        narrow.contains("31 slots does not fit a chunk of 30 × 32"),
        "{narrow}"
    );
    assert!(refused(&[vec![f32::NAN; 32]]).contains("not finite"));
}

#[test]
fn prefixes_of_other_lengths_share_a_batch() {
    let (_tiny, policy) = profile_b();
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    let lengths = [0, 2, PREFIX_MAX];
    let requests = lengths.map(|n| with_prefix(&given, &accepted[..n]));
    let batch = policy.open_act().unwrap().act(&requests);
    for ((request, chunk), n) in requests.into_iter().zip(batch).zip(lengths) {
        let (chunk, single) = (rows(&chunk.unwrap()), rows(&act(&policy, request).unwrap()));
        assert!(farthest(&chunk[..n], &accepted[..n]) <= KEPT);
        let miss = farthest(&chunk, &single);
        assert!(miss <= 1e-6, "{n} rows: {miss} rad");
    }
}

/// A checkpoint that was trained with a prefix is another model than one that was not.
#[test]
fn contexts_of_the_other_profile_are_refused() {
    let (tiny, policy) = profile_b();
    let given = thought(&policy, 1);
    tiny.edit("local_window = 4", "local_window = 5");
    let error = act(&tiny.open().unwrap(), request(given, 5)).unwrap_err();
    assert!(
        error.to_string().contains("must load the same files"),
        "{error}"
    );
}

#[test]
fn a_decision_from_files_takes_a_prefix_too() {
    let (tiny, policy) = profile_b();
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    let inputs = |prefix: &[Vec<f32>]| Inputs {
        prefix: prefix.to_vec(),
        ..inputs()
    };
    let decided = decide(&tiny.dir, &inputs(&accepted[..2])).unwrap();
    let chunk = act(&policy, with_prefix(&given, &accepted[..2])).unwrap();
    assert_eq!(decided.targets, Some(chunk.rows));
    let longer = [accepted.clone(), accepted[..1].to_vec()].concat();
    let refused = decide(&tiny.dir, &inputs(&longer)).unwrap_err().to_string();
    assert!(refused.contains("prefix_trained_max is 6"), "{refused}");
}
