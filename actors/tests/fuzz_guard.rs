//! What holds whatever the guard is offered: a short run of `just fuzz-guard`.
#![cfg(test)]
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a harness draws and counts; every cast is of a small number or of random bits"
)]

#[path = "fuzz_guard/harness.rs"]
mod harness;

use harness::{Plan, tell};
use vlad_safety::mode::Mode;

/// No chunk, command or loss moves a command outside the envelope, a tick back or an action beyond
/// its age; and the stories are worth it: chunks are accepted and refused for every reason, every
/// mode is reached, and the limits are used to the full.
#[test]
fn no_story_of_chunks_leaves_the_envelope() {
    let plan = Plan {
        seed: 1,
        story: 0,
        chunks: 20_000,
    };
    let tally = match tell(plan) {
        Ok(tally) => tally,
        Err(violation) => panic!("story {}: {}", violation.story, violation.what),
    };
    assert!(plan.chunks <= tally.offered);
    assert!(tally.offered / 20 < tally.accepted, "{tally:?}");
    assert!(tally.refused.iter().all(|count| 0 < *count), "{tally:?}");
    assert!(tally.seen.modes.iter().all(|ticks| 0 < *ticks), "{tally:?}");
    assert_eq!(tally.seen.modes.len(), Mode::ALL.len());
    assert!(tally.seen.shares.iter().all(|share| 0.999 < *share));
    assert!(tally.seen.played < tally.seen.servo_ticks);
    assert!(0.9 < tally.seen.age_share, "{tally:?}");
}

/// A story that was told twice is the same story: a violation can be looked at again.
#[test]
fn a_story_is_a_function_of_its_seed_and_number() {
    let told = |story| {
        let plan = Plan {
            seed: 3,
            story,
            chunks: 1,
        };
        format!("{:?}", tell(plan))
    };
    assert_eq!(told(5), told(5));
    assert_ne!(told(5), told(9));
}
