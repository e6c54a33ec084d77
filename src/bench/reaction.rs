//! How soon a sudden change is answered: the goal of `TwoGate` jumps in mid-reach, at a random phase of
//! the decisions, in virtual time (reference A.1, A.6: M7a and M7b).
//!
//! Each run has a twin of the same seed in which nothing jumps. Before the first command that rests on
//! a look at the new goal both are alike to the last bit, so every difference is an answer.
//!
//! | figure | from the jump to |
//! |---|---|
//! | command | the first command that rests on a later look (M7a) |
//! | changed | the first tick whose target is farther from the twin's than three standard deviations of the policy's noise (M7b) |
//! | direction | the first tick that goes another way than the twin's, by 10° |
//! | prefix | the share of it that rows of the prefix took: ticks from the chunk's acceptance to its first free row |
//!
//! The bound of the command's 95th percentile is `(max(d, p) + s) ticks + camera + 1`: d the delay, p the
//! prefix, s the ticks until the next look:
//!
//! | replanning | s |
//! |---|---|
//! | cadence | `max(T_e, d)`, where the gate leaves `T_e` = 10 |
//! | continuous | `max(1, d)`: one decision in flight |
//! | on-change | `max(1, d)` too: the jump is seen in the next frame, behind the decision under way |
//! | sync, always | a chunk, standing still until the point rests and is looked at, d |
//!
//! The camera looks once a tick and shows what is: 0, without a delay 10 ms (`travel`). With a cadence the
//! command's time is uniform, which Kolmogorov's test tries (`uniform_p`).

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use vlad_motion::planner::Replanning;
use vlad_sim::latency::LatencyConfig;

use super::asynchronous::Limits;
use super::asynchronous::contender::Contender;
use super::asynchronous::ground::Ground;
use super::asynchronous::travel::travel_ms;
use super::turns::in_turns;
use pair::Event;
use row::Row;

pub mod pair;
pub mod row;

/// Most pairs of a cell: hours of computing.
const EPISODES_MAX: u32 = 100_000;
/// Longest delay, ticks: longer than half a chunk is not followed without a gap.
const DELAY_MAX: u32 = 15;

/// What is tried.
#[derive(Debug, Clone)]
pub struct ReactionOptions {
    /// Strategies.
    pub contenders: Vec<Contender>,
    /// When decisions are asked for.
    pub replannings: Vec<Replanning>,
    /// Delays, ticks.
    pub delays: Vec<u32>,
    /// Pairs of each row.
    pub episodes: u32,
    /// The first seed; the others follow it.
    pub seed: u64,
    /// Threads; the figures do not depend on it.
    pub threads: usize,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The first seed.
    pub seed: u64,
    /// One row a strategy, replanning and delay.
    pub rows: Vec<Row>,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    contender: Contender,
    replanning: Replanning,
    delay_ticks: u32,
}

impl Cell {
    /// Ticks after which decisions repeat while nothing changes.
    fn cycle_ticks(self) -> u32 {
        let d = self.delay_ticks;
        match (self.contender, self.replanning) {
            (Contender::Sync, _) => row::SYNC_TICKS + d,
            (_, Replanning::Continuous) => d.max(1),
            (_, Replanning::Cadence | Replanning::OnChange) => d.max(row::CADENCE_TICKS),
        }
    }

    /// Ticks from a change to the next look on which a decision is made, at most (`s`).
    fn look_ticks(self) -> u32 {
        match (self.contender, self.replanning) {
            (Contender::Sync, _) | (_, Replanning::Cadence | Replanning::Continuous) => {
                self.cycle_ticks()
            }
            // Behind the decision that was under way.
            (_, Replanning::OnChange) => self.delay_ticks.max(1),
        }
    }
}

/// Runs every row, and calls `progress` with the number of pairs that are done.
///
/// # Errors
/// Options out of range, and a run that could not be made.
pub fn run(options: &ReactionOptions, progress: &(dyn Fn(usize) + Sync)) -> anyhow::Result<Report> {
    let cells = cells(options);
    check(options, &cells)?;
    let ground = Ground::new(Limits::Open)?;
    let per_cell = usize::try_from(options.episodes)?;
    let done = AtomicUsize::new(0);
    let answers = in_turns(cells.len() * per_cell, options.threads, |idx| {
        let cell = cells.get(idx / per_cell).context("no such cell")?;
        let seed = options.seed.wrapping_add(u64::try_from(idx % per_cell)?);
        let answer = pair::run(&ground, *cell, Event::drawn(seed, cell.cycle_ticks()))?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(answer)
    })?;
    let rows = cells.iter().zip(answers.chunks(per_cell));
    Ok(Report {
        seed: options.seed,
        rows: rows
            .map(|(cell, answers)| Row::new(*cell, answers))
            .collect(),
    })
}

/// How many pairs that makes.
pub fn n_pairs(options: &ReactionOptions) -> usize {
    let per_cell = usize::try_from(options.episodes).unwrap_or(usize::MAX);
    cells(options).len().saturating_mul(per_cell)
}

/// Sync looks after it has stood still, however it is told to replan: one row a delay.
fn cells(options: &ReactionOptions) -> Vec<Cell> {
    let mut cells = Vec::new();
    for delay_ticks in options.delays.iter().copied() {
        for contender in options.contenders.iter().copied() {
            let n_modes = if contender == Contender::Sync {
                1
            } else {
                usize::MAX
            };
            let modes = options.replannings.iter().take(n_modes);
            cells.extend(modes.map(|replanning| Cell {
                contender,
                replanning: *replanning,
                delay_ticks,
            }));
        }
    }
    cells
}

fn check(options: &ReactionOptions, cells: &[Cell]) -> anyhow::Result<()> {
    let episodes = (1..=EPISODES_MAX).contains(&options.episodes);
    ensure!(episodes, "--episodes must lie in 1 to {EPISODES_MAX}");
    let few = options.delays.iter().all(|d| *d <= DELAY_MAX);
    ensure!(few, "--delays must be at most {DELAY_MAX} ticks");
    ensure!(
        !cells.is_empty(),
        "no strategy, replanning or delay is named"
    );
    Ok(())
}

fn latency(cell: Cell) -> LatencyConfig {
    LatencyConfig {
        base_ms: travel_ms(cell.delay_ticks),
        ..LatencyConfig::default()
    }
}

#[cfg(test)]
mod tests;
