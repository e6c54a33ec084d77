//! Offers millions of random and adversarial chunks to the guard and judges every command.
//!
//! `cargo bench --workspace --bench fuzz_guard -- [--chunks N] [--seed S] [--story K]`. A broken
//! promise ends it with the command that tells that story again.
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a harness draws, counts, measures and prints; every cast is of a small number or of random bits"
)]

#[path = "../tests/fuzz_guard/harness.rs"]
mod harness;

use std::process::ExitCode;
use std::time::Instant;

use harness::{Plan, Tally, Violation, tell};
use vlad_safety::mode::Mode;

/// Chunks that are offered, unless it is said.
const CHUNKS: u64 = 100_000;
/// Chunks after which it says how far it is.
const PART: u64 = 500_000;

fn plan() -> Result<Plan, String> {
    let mut plan = Plan {
        seed: 1,
        story: 0,
        chunks: CHUNKS,
    };
    // What `cargo bench` itself adds.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let place = match word.as_str() {
            "--chunks" => &mut plan.chunks,
            "--seed" => &mut plan.seed,
            "--story" => &mut plan.story,
            _ => return Err(format!("{word}: must be --chunks, --seed or --story")),
        };
        let number = words.next().and_then(|number| number.parse().ok());
        *place = number.ok_or(format!("{word}: needs a number"))?;
    }
    Ok(plan)
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(text) => {
            println!("{text}");
            return ExitCode::from(64);
        }
    };
    println!("seed {}, from story {} on", plan.seed, plan.story);
    let begin = Instant::now();
    match parts(plan) {
        Ok(tally) => {
            print(&tally, begin.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("story {}: {}", violation.story, violation.what);
            println!(
                "again: cargo bench --workspace --bench fuzz_guard -- --seed {} --story {} --chunks 1",
                plan.seed, violation.story
            );
            ExitCode::FAILURE
        }
    }
}

fn parts(plan: Plan) -> Result<Tally, Violation> {
    let mut tally = Tally::default();
    while tally.offered < plan.chunks {
        let part = Plan {
            story: plan.story + tally.stories,
            chunks: PART.min(plan.chunks - tally.offered),
            ..plan
        };
        tally.add(&tell(part)?);
        println!("{} chunks without a violation", tally.offered);
    }
    Ok(tally)
}

fn print(tally: &Tally, took_s: f64) {
    let seen = &tally.seen;
    println!(
        "{} chunks in {} stories, {} accepted, {took_s:.0} s: no violation",
        tally.offered, tally.stories, tally.accepted
    );
    let names = [
        "numbers", "identity", "age", "jump", "order", "mode", "rows", "late",
    ];
    let refused = names.iter().zip(tally.refused);
    let refused: Vec<_> = refused.map(|(name, n)| format!("{name} {n}")).collect();
    println!("refused: {}", refused.join(", "));
    let modes = Mode::ALL.iter().zip(seen.modes);
    let modes: Vec<_> = modes.map(|(mode, n)| format!("{mode} {n}")).collect();
    println!("{} servo ticks: {}", seen.servo_ticks, modes.join(", "));
    let [speed, acceleration, jerk] = seen.shares;
    println!(
        "{} policy ticks played, {} servo ticks parking; largest shares of the limits: speed {speed:.9}, acceleration \
         {acceleration:.9}, jerk {jerk:.9}, age {:.6}; rounding {:.1e}",
        seen.played, seen.parking, seen.age_share, seen.rounding
    );
}
