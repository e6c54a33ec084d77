//! Chunks that begin with actions that are already decided (profile B).

use vlad_motion::policy::{ActRequest, ActRows};
use vlad_motion::prefix::rotation::{Quaternion, Vector};

use super::decisions::inputs;
use super::given::{Given, act, request, thought};
use super::*;
use crate::policy::xr0::decide::{Inputs, Noise, decide};

/// Farthest that a decided action may be from where it was: rounding to f32 there and back, twice
/// (the scale, and what it counts from), of numbers of a few radians or metres. Measured: below 1e-6.
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

/// The same where a row counts from the observation: what was accepted is seen from the new state,
/// not copied.
#[test]
fn a_chunk_of_differences_begins_with_what_was_accepted_from_another_state() {
    let (tiny, _) = profile_b();
    tiny.edit("\"joint_absolute\"", "\"joint_delta\"");
    let policy = tiny.open().unwrap();
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    for moved in [0.0, 0.3, -2.5] {
        let mut later = with_prefix(&given, &accepted);
        for slot in robot().slots().slots() {
            later.state[*slot] += moved;
        }
        let chunk = rows(&act(&policy, later).unwrap());
        let miss = farthest(&chunk[..PREFIX_MAX], &accepted);
        assert!(miss <= KEPT, "moved by {moved}: {miss} rad");
        // Beyond the prefix the chunk goes with the state that it counts from.
        let apart = farthest(&chunk[PREFIX_MAX..], &vec![accepted[0].clone(); 24]);
        assert!(0.5 * moved.abs() <= apart, "{apart}");
    }
}

/// A manifest whose actions are a tool's pose and a gripper, seen from where the state has them.
fn tool(tiny: &Tiny) {
    let pose = |first: usize| {
        let names = ["x", "y", "z", "rx", "ry", "rz"];
        let line = |(at, name): (usize, &str)| {
            let (slot, unit) = (first + at, if at < 3 { "m" } else { "rad" });
            format!("{{ slot = {slot}, name = \"left_eef_{name}\", unit = \"{unit}\" }}")
        };
        names.into_iter().enumerate().map(line).collect::<Vec<_>>()
    };
    let opening = |slot: usize| format!("{{ slot = {slot}, name = \"opening\", unit = \"m\" }}");
    let list = |pose: Vec<String>, slot| [pose, vec![opening(slot)]].concat().join(", ");
    let (state, actions) = (list(pose(0), 30), list(pose(7), 6));
    let text = format!("\"eef_delta\"\nstate = [{state}]\nactions = [{actions}]");
    tiny.edit("\"joint_absolute\"", &text);
}

/// A tool half a metre away, turned by so much, with its gripper open.
fn posed(turned: f32) -> Vec<f32> {
    let mut state = vec![0.0; 32];
    state[..3].copy_from_slice(&[0.5, -0.2, 0.3]);
    // A unit axis in no plane of the base's.
    let axis = [2.0_f32 / 3.0, -1.0 / 3.0, 2.0 / 3.0];
    for (slot, part) in state[3..6].iter_mut().zip(axis) {
        *slot = part * turned;
    }
    state[30] = 0.06;
    state
}

/// Rows of tool poses: the place as numbers, the orientation as an angle.
fn farthest_pose(ones: &[f32], others: &[f32]) -> f64 {
    let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let miss = |(one, other): (&[f32], &[f32])| {
        let (one, other) = (wide(one), wide(other));
        let turn = |row: &[f64]| Quaternion::of_vector(Vector([row[10], row[11], row[12]]));
        let angle = turn(&one).angle_to(turn(&other));
        let places = [6, 7, 8, 9].map(|slot| (one[slot] - other[slot]).abs());
        places.into_iter().fold(angle, f64::max)
    };
    let pairs = ones.chunks(32).zip(others.chunks(32));
    pairs.map(miss).fold(0.0, f64::max)
}

#[test]
fn a_chunk_of_tool_poses_begins_with_what_was_accepted_also_near_half_a_turn() {
    let (tiny, _) = profile_b();
    tool(&tiny);
    let decided = |state: Vec<f32>, prefix: &[Vec<f32>], seed| {
        let given = Inputs {
            state,
            prefix: prefix.to_vec(),
            noise: Noise::Seed(seed),
            ..inputs()
        };
        decide(&tiny.dir, &given).unwrap().targets.unwrap()
    };
    let pi = std::f32::consts::PI;
    for (before, after) in [(0.1, 0.4), (pi - 1e-4, pi), (1.0, pi - 1e-3), (pi, 0.0)] {
        let other = decided(posed(before), &[], 77);
        let accepted: Vec<_> = other[3 * 32..9 * 32]
            .chunks(32)
            .map(<[f32]>::to_vec)
            .collect();
        let chunk = decided(posed(after), &accepted, 5);
        let miss = farthest_pose(&chunk[..6 * 32], &accepted.concat());
        assert!(miss <= f64::from(KEPT), "{before} to {after}: {miss}");
        let free = decided(posed(after), &[], 5);
        let apart = farthest_pose(&free[..6 * 32], &accepted.concat());
        assert!(
            100.0 * f64::from(KEPT) < apart,
            "the prefix is no coincidence: {apart}"
        );
        assert!(
            free.chunks(32).all(|row| row[0].to_bits() == 0),
            "no action"
        );
    }
}

#[test]
fn what_a_row_counts_from_must_be_known_for_a_prefix() {
    let (tiny, _) = profile_b();
    tool(&tiny);
    tiny.edit("name = \"left_eef_rz\"", "name = \"left_eef_angle\"");
    let given = |prefix| Inputs { prefix, ..inputs() };
    assert_eq!(decide(&tiny.dir, &given(vec![])).unwrap().targets, None);
    let refused = decide(&tiny.dir, &given(vec![vec![0.0; 32]]))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("what a row counts from"), "{refused}");
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
