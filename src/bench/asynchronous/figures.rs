//! A cell of the table, from its runs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vlad_safety::reason::Reason;
use vlad_sim::latency::Trace;
use vlad_sim::statistics::{Share, mean, quantile, wilson};

use super::Cell;
use super::contender::Contender;

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// Whether the goal was reached without touching a gate.
    pub succeeded: bool,
    /// Whether a gate was touched.
    pub collided: bool,
    /// Why the guard stopped the point, if it did.
    pub stopped: Option<Reason>,
    /// Ticks without a row.
    pub stalls: usize,
    /// Jumps between the rows of consecutive chunks for one tick, millimetres.
    pub boundaries_mm: Vec<f64>,
    /// Root mean square jerk of the targets, m/s³.
    pub rms_jerk: f64,
    /// Age of each played row, milliseconds.
    pub ages_ms: Vec<f64>,
    /// From the goal's jump to the first command that rests on a later look, milliseconds; `None`
    /// where there was none.
    pub reaction_ms: Option<f64>,
    /// Rows that each chunk of a moving robot was conditioned on.
    pub prefixes: Vec<u16>,
    /// SHA-256 of every command at servo rate.
    pub commands: [u8; 32],
    /// The latencies that it met.
    pub given: Trace,
}

/// A strategy at a delay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Strategy.
    pub strategy: Contender,
    /// Delay, ticks.
    pub d: u32,
    /// Standard deviation of the delay's logarithm.
    pub jitter: f64,
    /// Probability that a decision is lost.
    pub loss: f64,
    /// Rows of the clean prefix, median; 0 without one. The first row that is free is the one after
    /// them, also where the chunk is there earlier.
    pub prefix: f64,
    /// Runs.
    pub n: usize,
    /// Share that succeeded.
    pub success: f64,
    /// Wilson's interval of it, 95 %.
    pub success_interval: [f64; 2],
    /// Ticks without a row, mean of a run.
    pub stalls: f64,
    /// 95th percentile of all boundaries, mm; none where no chunk met another.
    pub boundary_p95_mm: Option<f64>,
    /// Mean of the runs, m/s³.
    pub rms_jerk: f64,
    /// 95th percentile of the rows' ages, ms.
    pub age_p95_ms: Option<f64>,
    /// 99th percentile, ms.
    pub age_p99_ms: Option<f64>,
    /// Median reaction, ms.
    pub reaction_p50_ms: Option<f64>,
    /// 95th percentile, ms.
    pub reaction_p95_ms: Option<f64>,
    /// Share of runs that the guard stopped.
    pub stopped: f64,
    /// SHA-256 of all runs' commands: equal runs have equal ones.
    pub commands_sha256: String,
}

impl Row {
    pub(super) fn new(cell: &Cell, runs: &[Ran]) -> Self {
        let share = |of: fn(&Ran) -> bool| runs.iter().filter(|run| of(run)).count();
        let successes = share(|run| run.succeeded);
        let each = |of: fn(&Ran) -> f64| mean(&runs.iter().map(of).collect::<Vec<_>>());
        let all = |of: fn(&Ran) -> &[f64]| runs.iter().flat_map(of).copied().collect::<Vec<_>>();
        let boundaries = all(|run| &run.boundaries_mm);
        let ages = all(|run| &run.ages_ms);
        let reactions: Vec<f64> = runs.iter().filter_map(|run| run.reaction_ms).collect();
        let interval = Share::new(small(successes), small(runs.len())).map(wilson);
        let mut hasher = Sha256::new();
        for run in runs {
            hasher.update(run.commands);
        }
        Self {
            strategy: cell.contender,
            d: cell.delay_ticks,
            jitter: cell.jitter,
            loss: cell.loss,
            prefix: prefix(runs),
            n: runs.len(),
            success: interval.map_or(0.0, |interval| interval.estimate),
            success_interval: interval.map_or([0.0, 1.0], |i| [i.low, i.high]),
            stalls: each(|run| f64::from(small(run.stalls))),
            boundary_p95_mm: quantile(&boundaries, 0.95),
            rms_jerk: each(|run| run.rms_jerk),
            age_p95_ms: quantile(&ages, 0.95),
            age_p99_ms: quantile(&ages, 0.99),
            reaction_p50_ms: quantile(&reactions, 0.5),
            reaction_p95_ms: quantile(&reactions, 0.95),
            stopped: each(|run| f64::from(u8::from(run.stopped.is_some()))),
            commands_sha256: hex(&hasher.finalize()),
        }
    }
}

/// Rows of prefix of the usual chunk.
pub(super) fn prefix(runs: &[Ran]) -> f64 {
    let all = runs.iter().flat_map(|run| &run.prefixes);
    let all: Vec<f64> = all.map(|rows| f64::from(*rows)).collect();
    quantile(&all, 0.5).unwrap_or(0.0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A count of ticks or runs, of which there are far fewer than 2³².
pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Nanoseconds as milliseconds.
pub(in crate::bench) fn millis(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1e3
}
