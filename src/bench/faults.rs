//! Faults (reference B.6), each played in virtual time with its own pass criterion and that of all.
//!
//! A fault is injected into the shipped demo cell under a real cell's limits: the daemon's own cores
//! on one thread. Same seed, same run, to the last bit. What the host forbids to inject, such as a
//! thread that gets no processor, is injected at the same place by a hook of
//! [`Stepped`](vlad_actors::stepped::Stepped).
//!
//! | module | holds |
//! |---|---|
//! | [`catalogue`] | all 64 faults, and what plays each |
//! | [`stage`] | the cell in mid-motion, ready for a fault |
//! | [`standard`] | what every run must fulfil; how a stop is judged |
//! | [`finding`] | what runs showed: faults, and the figure nearest to its limit |
//! | [`folder`] | files of a run |
//! | [`processes`], [`network`], [`clocks`], [`policies`], [`progress`], [`sensors`], [`robots`] | the faults |

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use catalogue::{FAULTS, Fault};
use finding::{Finding, Worst};

pub mod catalogue;
pub mod clocks;
pub mod finding;
pub mod folder;
pub mod network;
pub mod policies;
pub mod processes;
pub mod progress;
pub mod robots;
pub mod sensors;
pub mod stage;
pub mod standard;

/// Most seeds of a fault: a night of computing.
const SEEDS_MAX: u64 = 10_000;

/// Which faults are played, how often.
#[derive(Debug, Clone)]
pub struct FaultOptions {
    /// Only these, by id; all if empty.
    pub only: Vec<String>,
    /// Seeds of each; the scene and the policy's noise differ.
    pub seeds: u64,
    /// The first seed.
    pub first_seed: u64,
    /// Threads; nothing depends on their number.
    pub threads: usize,
}

/// What became of a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its number in the reference.
    pub id: &'static str,
    /// What was injected.
    pub title: &'static str,
    /// Runs; 0 for one that nothing plays yet.
    pub runs: u64,
    /// Whether there were runs and all of them passed.
    pub pass: bool,
    /// The figure that came nearest to its limit.
    pub worst: Option<Worst>,
    /// What was not as it must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

impl Row {
    /// Whether it was played and did not pass.
    pub fn failed(&self) -> bool {
        0 < self.runs && !self.pass
    }
}

/// Plays faults, and calls `progress` after each run of one.
///
/// # Errors
/// An id that is none, numbers out of range. A run that could not be made is a failure of its fault.
pub fn run(
    options: &FaultOptions,
    progress: &(dyn Fn(&'static str) + Sync),
) -> anyhow::Result<Vec<Row>> {
    let range = (1..=SEEDS_MAX).contains(&options.seeds);
    ensure!(range, "--seeds must lie in 1 to {SEEDS_MAX}");
    for id in &options.only {
        let known = FAULTS.iter().any(|fault| fault.id == id);
        ensure!(known, "there is no fault {id}: they are F01 to F64");
    }
    let wanted =
        |fault: &&Fault| options.only.is_empty() || options.only.iter().any(|id| id == fault.id);
    let faults: Vec<&Fault> = FAULTS.iter().filter(wanted).collect();
    let per_fault = usize::try_from(options.seeds)?;
    let jobs: Vec<(usize, u64)> = (0..per_fault)
        .flat_map(|nth| (0..faults.len()).map(move |idx| (idx, nth)))
        .filter_map(|(idx, nth)| {
            let seed = options.first_seed.wrapping_add(u64::try_from(nth).ok()?);
            faults.get(idx)?.play.map(|_| (idx, seed))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut mine = Vec::new();
        while let Some(&(idx, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(fault) = faults.get(idx) {
                mine.push((idx, seed, play(fault, seed)));
                progress(fault.id);
            }
        }
        mine
    };
    let mut played = thread::scope(|scope| -> anyhow::Result<Vec<(usize, u64, Finding)>> {
        let threads = options.threads.clamp(1, jobs.len().max(1));
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut played = Vec::with_capacity(jobs.len());
        for worker in workers {
            played.extend(worker.join().ok().context("a fault has panicked")?);
        }
        Ok(played)
    })?;
    played.sort_unstable_by_key(|(idx, seed, _)| (*idx, *seed));
    let mut findings = vec![Finding::default(); faults.len()];
    for (idx, _, finding) in played {
        if let Some(place) = findings.get_mut(idx) {
            place.add(finding);
        }
    }
    let rows = faults.iter().zip(findings).map(|(fault, finding)| Row {
        id: fault.id,
        title: fault.title,
        runs: finding.runs,
        pass: finding.pass(),
        worst: finding.worst,
        failed: finding.faults,
    });
    Ok(rows.collect())
}

fn play(fault: &Fault, seed: u64) -> Finding {
    let Some(play) = fault.play else {
        return Finding::default();
    };
    match play(seed) {
        Ok(mut finding) => {
            for text in &mut finding.faults {
                *text = format!("seed {seed}: {text}");
            }
            finding
        }
        Err(error) => Finding::of(Vec::new(), vec![format!("seed {seed}: {error:#}")]),
    }
}
