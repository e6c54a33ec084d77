//! Chunks that are pulled towards what was accepted.

use vlad_motion::guidance::{Known, Mask, Schedule, towards};
use vlad_motion::policy::{ActRequest, Guidance};

use super::given::{Given, act, request, thought};
use super::*;

/// Rows that are known, and ticks between two decisions: half of the chunk is free.
const KNOWN: Known = Known {
    accepted: 20,
    executed: 10,
};
const DELAY: usize = 4;

fn rows(policy: &Xr0Policy, request: ActRequest) -> Vec<Vec<f32>> {
    let chunk = act(policy, request).unwrap();
    chunk.rows.chunks(32).map(<[f32]>::to_vec).collect()
}

fn guided(given: &Given, guidance: Guidance) -> ActRequest {
    ActRequest {
        guidance: Some(guidance),
        ..request(given.clone(), 5)
    }
}

/// What a guard could have accepted: rows of another chunk.
fn accepted(policy: &Xr0Policy, given: &Given) -> Vec<Vec<f32>> {
    rows(policy, request(given.clone(), 77))[5..5 + KNOWN.accepted].to_vec()
}

fn toward(accepted: &[Vec<f32>], schedule: Schedule) -> Guidance {
    let mask = Mask::new(schedule, 30, DELAY, KNOWN);
    towards(accepted, 30, &mask).unwrap()
}

/// Root of the sum of squares of how far the first rows are from what was accepted.
fn miss(chunk: &[Vec<f32>], accepted: &[Vec<f32>], n: usize) -> f32 {
    let pairs = chunk.iter().zip(accepted).take(n);
    let squares = pairs.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)));
    squares.sum::<f32>().sqrt()
}

fn profiles() -> [Tiny; 3] {
    let of = |from: &str, to: &str| {
        let tiny = Tiny::new(1);
        tiny.edit(from, to);
        tiny
    };
    let b = "profile = \"B\"\nlocal_window = 4\nposition_gap = 10\nprefix_trained_max = 6";
    [
        Tiny::new(1),
        of("profile = \"A\"", b),
        of("\"joint_absolute\"", "\"joint_delta\""),
    ]
}

#[test]
fn guidance_pulls_the_frozen_rows_to_what_was_accepted() {
    for (number, tiny) in profiles().iter().enumerate() {
        let policy = tiny.open().unwrap();
        assert!(policy.capability().guidance);
        let given = thought(&policy, 1);
        let accepted = accepted(&policy, &given);
        let free = rows(&policy, request(given.clone(), 5));
        for schedule in [Schedule::Hard, Schedule::Linear, Schedule::Exponential] {
            let chunk = rows(&policy, guided(&given, toward(&accepted, schedule)));
            let (before, after) = (
                miss(&free, &accepted, DELAY),
                miss(&chunk, &accepted, DELAY),
            );
            assert!(
                after < 0.5 * before,
                "{number}, {schedule:?}: {before} to {after}"
            );
            assert_eq!(chunk[0][0].to_bits(), 0, "slots without a joint stay so");
        }
    }
}

/// The soft masks hold on to what comes behind the frozen rows too.
#[test]
fn a_soft_mask_stays_nearer_to_the_accepted_future_than_a_hard_one() {
    let tiny = Tiny::new(1);
    let policy = tiny.open().unwrap();
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    let [hard, soft] = [Schedule::Hard, Schedule::Exponential].map(|schedule| {
        let chunk = rows(&policy, guided(&given, toward(&accepted, schedule)));
        miss(&chunk[DELAY..], &accepted[DELAY..], 6)
    });
    assert!(soft < hard, "{soft} and {hard}");
}

#[test]
fn guidance_without_weights_is_no_guidance() {
    let policy = Tiny::new(1).open().unwrap();
    let given = thought(&policy, 1);
    let free = rows(&policy, request(given.clone(), 5));
    let none = Guidance {
        target: vec![0.5; 30 * 32],
        weights: vec![0.0; 30],
        beta: 5.0,
    };
    let chunk = rows(&policy, guided(&given, none));
    // Other operations than the fused ones: rounding, in numbers of a radian.
    let farthest = miss(&chunk, &free, 30);
    assert!(farthest < 1e-6, "{farthest}");
}

#[test]
fn guided_and_free_decisions_in_one_call_are_those_that_each_makes_alone() {
    let policy = Tiny::new(1).open().unwrap();
    let given = thought(&policy, 1);
    let accepted = accepted(&policy, &given);
    let requests = [
        request(given.clone(), 5),
        guided(&given, toward(&accepted, Schedule::Exponential)),
    ];
    let batch = policy.open_act().unwrap().act(&requests);
    for (request, chunk) in requests.into_iter().zip(batch) {
        assert_eq!(chunk.unwrap(), act(&policy, request).unwrap());
    }
}

#[test]
fn guidance_that_does_not_fit_is_refused() {
    let [tiny, b, _] = profiles();
    let policy = tiny.open().unwrap();
    let given = thought(&policy, 1);
    let good = toward(&accepted(&policy, &given), Schedule::Hard);
    let refused = |change: &dyn Fn(&mut Guidance)| {
        let mut guidance = good.clone();
        change(&mut guidance);
        act(&policy, guided(&given, guidance))
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&|g| g.target.truncate(31)).contains("a target for every number"));
    assert!(refused(&|g| g.weights.truncate(29)).contains("a weight for every row"));
    assert!(refused(&|g| g.target[3] = f32::NAN).contains("target of the guidance is not finite"));
    assert!(refused(&|g| g.weights[3] = 1.5).contains("does not lie in 0 to 1"));
    assert!(refused(&|g| g.weights[3] = f32::NAN).contains("does not lie in 0 to 1"));
    assert!(refused(&|g| g.beta = -1.0).contains("not negative"));
    assert!(refused(&|g| g.beta = f32::INFINITY).contains("must be finite"));

    let policy = b.open().unwrap();
    let given = thought(&policy, 1);
    let both = ActRequest {
        prefix: vec![vec![0.0; 32]],
        ..guided(&given, good)
    };
    let text = act(&policy, both).unwrap_err().to_string();
    assert!(text.contains("a prefix and guidance at once"), "{text}");
}

#[test]
fn a_checkpoint_whose_manifest_offers_none_takes_no_guidance() {
    let tiny = Tiny::new(1);
    tiny.edit("vjp = true", "vjp = false");
    let policy = tiny.open().unwrap();
    assert!(!policy.capability().guidance);
    let given = thought(&policy, 1);
    let guidance = toward(&accepted(&policy, &given), Schedule::Hard);
    let text = act(&policy, guided(&given, guidance))
        .unwrap_err()
        .to_string();
    assert!(text.contains("vjp = false"), "{text}");
}
