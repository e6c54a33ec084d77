//! Strategies against delay: `TwoGate`'s cell in virtual time, all cores of the daemon on one thread a
//! run (reference A.7).
//!
//! A cell of the table is one strategy at one delay over many seeds; every strategy meets the same
//! seeds. What is measured is what the guard really played: targets once a policy tick, taken from
//! `executed`, and the chunks that it accepted.
//!
//! | module | holds |
//! |---|---|
//! | [`contender`] | the strategies that can be compared |
//! | [`ground`] | the cell, with its envelope wide open or as it is |
//! | [`travel`] | how many nanoseconds of travel make a delay of d ticks, and why |
//! | [`stage`] | one run as it goes |
//! | [`episode`] | one run, from arming to the goal |
//! | [`ear`] | what one run said, as figures |
//! | [`figures`] | a cell of the table from its runs |
//! | [`agreement`] | intervals around the differences from the oracle |
//!
//! | limits | means |
//! |---|---|
//! | open | the largest limits that a robot's description may have, no late-chunk rule, no following error; targets are gone to when their tick begins: strategies are compared, not the guard |
//! | guard | those of the shipped robot and cell: reported beside |
//!
//! What differs from the oracle, and why:
//!
//! | differs | because |
//! |---|---|
//! | the first free row of a clean prefix | the gate takes a row to spare: it is compared with the oracle's delay of that row |
//! | sync stands still for four ticks more | the point must rest, and be looked at then; the oracle stops for the delay alone |
//! | boundaries of the ensemble | rows as they are accepted, which are averaged; the oracle's are those before averaging |
//! | boundaries of a prefix by half a millimetre | the look is a servo period earlier, and a target is reached within one, not at once |

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use vlad_motion::planner::Replanning;
use vlad_sim::latency::{LatencyConfig, Trace};

use agreement::{Agreement, OracleRow};
use contender::Contender;
use figures::{Ran, Row};
use ground::Ground;
use stage::Trial;
use travel::{Cause, ticks_of, travel_ms};

use super::turns::in_turns;

pub mod agreement;
pub mod contender;
pub mod ear;
pub mod episode;
pub mod figures;
pub mod ground;
pub mod stage;
pub mod travel;

/// Most episodes of a cell: hours of computing.
const EPISODES_MAX: u32 = 100_000;
/// Longest delay, ticks: a chunk has thirty, and the next one must come before it ends.
const DELAY_MAX: u32 = 30;

/// Under which limits the guard works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limits {
    /// As wide as a description may have them.
    Open,
    /// The shipped ones.
    Guard,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct AsyncOptions {
    /// Strategies.
    pub contenders: Vec<Contender>,
    /// Delays, ticks; one row each. Unused with a trace.
    pub delays: Vec<u32>,
    /// Seeds of a cell.
    pub episodes: u32,
    /// The first seed; the others follow it.
    pub seed: u64,
    /// Standard deviations of the delay's logarithm; one row each.
    pub jitters: Vec<f64>,
    /// Probabilities that a decision is lost on its way; one row each.
    pub losses: Vec<f64>,
    /// After how long it is sent again, milliseconds; 0 drops it.
    pub retransmit_ms: f64,
    /// Delays that are replayed instead of drawn: every run meets the same ones.
    pub trace: Option<Trace>,
    /// The oracle's episodes, to be compared with.
    pub oracle: Vec<OracleRow>,
    /// The guard's limits.
    pub limits: Limits,
    /// Threads; the figures do not depend on it.
    pub threads: usize,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Under which limits.
    pub limits: Limits,
    /// The first seed.
    pub seed: u64,
    /// Whether delays came from a trace.
    pub replayed: bool,
    /// One row a strategy and delay.
    pub rows: Vec<Row>,
    /// Rows of which the oracle has episodes too.
    pub agreement: Vec<Agreement>,
    /// The delays of the first row's first run, to be replayed.
    #[serde(skip)]
    pub trace: Trace,
}

/// Runs every strategy at every delay, and calls `progress` with the number of runs that are done.
///
/// # Errors
/// Options out of range, and a run that could not be made.
pub fn run(options: &AsyncOptions, progress: &(dyn Fn(usize) + Sync)) -> anyhow::Result<Report> {
    check(options)?;
    let ground = Ground::new(options.limits)?;
    let cells = cells(options);
    let per_cell = usize::try_from(options.episodes)?;
    let runs = all_runs(options, &ground, (&cells, per_cell), progress)?;
    let each = || cells.iter().zip(runs.chunks(per_cell));
    let rows = each().map(|(cell, runs)| Row::new(cell, runs));
    // The oracle knows of delays alone.
    let plain = |cell: &Cell| cell.jitter == 0.0 && cell.loss == 0.0;
    let agreement = each()
        .filter(|(cell, _)| plain(cell))
        .filter_map(|(cell, runs)| {
            agreement::compare(&options.oracle, (cell.contender, cell.delay_ticks), runs)
        });
    let trace = runs.first().map(|run| run.given.clone());
    Ok(Report {
        limits: options.limits,
        seed: options.seed,
        replayed: options.trace.is_some(),
        rows: rows.collect(),
        agreement: agreement.collect(),
        trace: trace.unwrap_or_default(),
    })
}

/// How many runs that makes.
pub fn n_runs(options: &AsyncOptions) -> usize {
    let per_cell = usize::try_from(options.episodes).unwrap_or(usize::MAX);
    cells(options).len().saturating_mul(per_cell)
}

/// One row of the table: a strategy under a delay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    contender: Contender,
    delay_ticks: u32,
    jitter: f64,
    loss: f64,
}

fn cells(options: &AsyncOptions) -> Vec<Cell> {
    let of_trace = options.trace.as_ref().map(|trace| vec![ticks_of(trace)]);
    let delays = of_trace.unwrap_or_else(|| options.delays.clone());
    let mut cells = Vec::new();
    for delay_ticks in delays {
        for jitter in options.jitters.iter().copied() {
            for loss in options.losses.iter().copied() {
                cells.extend(options.contenders.iter().map(|contender| Cell {
                    contender: *contender,
                    delay_ticks,
                    jitter,
                    loss,
                }));
            }
        }
    }
    cells
}

fn check(options: &AsyncOptions) -> anyhow::Result<()> {
    let episodes = (1..=EPISODES_MAX).contains(&options.episodes);
    ensure!(episodes, "--episodes must lie in 1 to {EPISODES_MAX}");
    let few = options.delays.iter().all(|d| *d <= DELAY_MAX);
    ensure!(few, "--delays must be at most {DELAY_MAX} ticks");
    ensure!(
        !cells(options).is_empty(),
        "no strategy, delay, jitter or loss is named"
    );
    for cell in cells(options) {
        if let Some((field, problem)) = latency(options, &cell).faults().first() {
            anyhow::bail!("{field} {problem}");
        }
    }
    Ok(())
}

fn latency(options: &AsyncOptions, cell: &Cell) -> LatencyConfig {
    LatencyConfig {
        base_ms: travel_ms(cell.delay_ticks),
        sigma: cell.jitter,
        loss: cell.loss,
        retransmit_ms: options.retransmit_ms,
        ..LatencyConfig::default()
    }
}

/// All runs, cell by cell and seed by seed. Each is its own world, so neither the number of threads nor
/// the order changes anything.
fn all_runs(
    options: &AsyncOptions,
    ground: &Ground,
    (cells, per_cell): (&[Cell], usize),
    progress: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<Vec<Ran>> {
    let done = AtomicUsize::new(0);
    in_turns(cells.len() * per_cell, options.threads, |idx| {
        let cell = cells.get(idx / per_cell).context("no such cell")?;
        let seed = options.seed.wrapping_add(u64::try_from(idx % per_cell)?);
        let cause = match &options.trace {
            Some(trace) => Cause::Trace(trace.clone()),
            None => Cause::Drawn(latency(options, cell), seed),
        };
        let trial = Trial {
            contender: cell.contender,
            replanning: Replanning::Cadence,
            delay_ticks: cell.delay_ticks,
            cause,
            seed,
            jumps: true,
        };
        let ran = episode::run(ground, trial)?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(ran)
    })
}

#[cfg(test)]
mod tests;
