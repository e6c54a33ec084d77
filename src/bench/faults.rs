//! Faults (reference B.6), each played in virtual time with its own pass criterion and that of all.
//!
//! A fault is injected into a shipped cell under a real cell's limits: the daemon's own cores on one
//! thread. Same seed, same run, to the last bit, but for F07's supervisor and servo thread, which are
//! real threads in real time. What the host forbids to inject, such as a
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
//! | [`processes`], [`threads`], [`servo_thread`], [`network`], [`clocks`], [`policies`], [`progress`], [`sensors`], [`robots`] | the faults |

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow, ensure};
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
pub mod servo_thread;
pub mod stage;
pub mod standard;
pub mod threads;

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
    let only = options.only.iter().map(|id| number_of(id));
    let only = only.collect::<anyhow::Result<Vec<&'static str>>>()?;
    let wanted = |fault: &&Fault| only.is_empty() || only.contains(&fault.id);
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
        worst: finding.worst().cloned(),
        failed: finding.faults,
    });
    Ok(rows.collect())
}

/// The fault of an id, in capitals or not.
fn number_of(id: &str) -> anyhow::Result<&'static str> {
    let mut faults = FAULTS.iter();
    let known = faults.find(|fault| fault.id.eq_ignore_ascii_case(id));
    let known = known.with_context(|| {
        let list: Vec<String> = FAULTS
            .iter()
            .map(|f| format!("{} {}", f.id, f.title))
            .collect();
        format!("there is no fault {id}; there are:\n{}", list.join("\n"))
    })?;
    Ok(known.id)
}

/// Plays one run. A scenario that panics is a failure of its fault: the others' rows stay.
fn play(fault: &Fault, seed: u64) -> Finding {
    let Some(play) = fault.play else {
        return Finding::default();
    };
    let played = catch_unwind(|| play(seed)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
        let text = text.unwrap_or_default();
        Err(anyhow!("the scenario has panicked: {text}"))
    });
    match played {
        Ok(mut finding) => {
            for text in &mut finding.faults {
                *text = format!("seed {seed}: {text}");
            }
            finding
        }
        Err(error) => Finding::of(Vec::new(), vec![format!("seed {seed}: {error:#}")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_panics_is_a_failed_run() {
        let fault = Fault {
            id: "F00",
            title: "a scenario with a bug",
            play: Some(|_| panic!("a bug")),
        };
        let finding = play(&fault, 7);
        assert_eq!((finding.runs, finding.pass()), (1, false));
        assert_eq!(finding.faults, ["seed 7: the scenario has panicked: a bug"]);
    }

    #[test]
    fn ids_are_known_in_any_case_and_others_are_refused_with_the_list() {
        assert_eq!(number_of("f01").unwrap(), "F01");
        let refused = number_of("F65").unwrap_err().to_string();
        assert!(refused.contains("no fault F65") && refused.contains("F64 instructions"));
    }
}
