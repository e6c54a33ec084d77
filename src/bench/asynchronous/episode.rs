//! One run, from arming to the goal.

use super::figures::Ran;
use super::ground::Ground;
use super::stage::{Stage, Trial};

/// Longest run, servo periods: an episode has 2000, and before it the first decision.
const PERIODS_MAX: u32 = 9000;
/// Servo periods after the end in which the last things are said.
const LAST_WORDS: u32 = 12;

/// Runs one episode.
///
/// # Errors
/// A part that cannot be made, and a guard that refuses to begin.
pub fn run(ground: &Ground, trial: Trial) -> anyhow::Result<Ran> {
    let mut stage = Stage::new(ground, trial)?;
    let mut left = LAST_WORDS;
    for _ in 0..PERIODS_MAX {
        let now_ns = stage.step()?;
        let episode = stage.world.episode();
        stage.ear.watch(&episode, now_ns);
        if episode.over() {
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    Ok(stage
        .ear
        .conclude(&stage.world.episode(), stage.road.given()))
}
