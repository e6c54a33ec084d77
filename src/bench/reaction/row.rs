//! A row of the table, from its pairs of runs.

use serde::Serialize;
use vlad_motion::planner::Replanning;
use vlad_sim::statistics::{kolmogorov_uniform, mean, quantile};
use vlad_sim::twogate::STEPS_PER_TICK;

use super::Cell;
use super::pair::Answer;
use crate::bench::asynchronous::contender::Contender;
use crate::bench::asynchronous::figures::millis;
use crate::bench::asynchronous::travel::{PERIOD_NS, ahead};

/// Ticks between two decisions in the shipped settings (`expert.ticks_per_decision`).
pub(super) const CADENCE_TICKS: u32 = 10;
/// Ticks of a sync cycle without the delay: thirty rows, three until the point rests, and one until
/// the camera looks.
pub(super) const SYNC_TICKS: u32 = 34;

/// A strategy with a replanning at a delay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Strategy.
    pub strategy: Contender,
    /// When decisions are asked for.
    pub replanning: Replanning,
    /// Delay, ticks.
    pub d: u32,
    /// Rows of the answering chunks' prefix, median.
    pub prefix: f64,
    /// What of the command's time the prefix took, ms, mean.
    pub prefix_ms: f64,
    /// Pairs of runs.
    pub n: usize,
    /// How many were answered.
    pub answered: usize,
    /// Share of pairs of which the guard stopped one.
    pub stopped: f64,
    /// The first command on a later look, ms after the jump: median and 95th percentile.
    pub command_ms: [Option<f64>; 2],
    /// The first target that is far from the twin's.
    pub changed_ms: [Option<f64>; 2],
    /// The first step in another direction than the twin's.
    pub direction_ms: [Option<f64>; 2],
    /// What the command's 95th percentile may be, ms.
    pub bound_ms: f64,
    /// Whether it is, and every jump was answered.
    pub within: bool,
    /// Of a cadence: the probability of such command times if they are uniform from `max(d, p)` to
    /// `max(d, p) + s` ticks (Kolmogorov).
    pub uniform_p: Option<f64>,
}

impl Row {
    pub(super) fn new(cell: Cell, answers: &[Answer]) -> Self {
        let of = |figure: fn(&Answer) -> Option<f64>| {
            let found: Vec<f64> = answers.iter().filter_map(figure).collect();
            found
        };
        let two = |found: &[f64]| [quantile(found, 0.5), quantile(found, 0.95)];
        let commands = of(|answer| answer.command_ms);
        let prefixes = of(|answer| answer.command_ms.map(|_| f64::from(answer.prefix_len)));
        let prefix = quantile(&prefixes, 0.5).unwrap_or(0.0);
        let shares = of(|answer| {
            let ticks = i32::try_from(answer.prefix_ticks).unwrap_or(i32::MAX);
            answer.command_ms.map(|_| f64::from(ticks) * tick_ms())
        });
        let stopped = of(|answer| Some(f64::from(u8::from(answer.stopped))));
        let span = Span::of(cell, prefix);
        let command_ms = two(&commands);
        let uniform = cell.contender != Contender::Sync && cell.replanning == Replanning::Cadence;
        Self {
            strategy: cell.contender,
            replanning: cell.replanning,
            d: cell.delay_ticks,
            prefix,
            prefix_ms: mean(&shares),
            n: answers.len(),
            answered: commands.len(),
            stopped: mean(&stopped),
            command_ms,
            changed_ms: two(&of(|answer| answer.changed_ms)),
            direction_ms: two(&of(|answer| answer.direction_ms)),
            bound_ms: span.bound,
            within: commands.len() == answers.len()
                && command_ms[1].is_some_and(|p95| p95 <= span.bound),
            uniform_p: uniform
                .then(|| kolmogorov_uniform(&commands, span.from, span.to))
                .flatten(),
        }
    }
}

/// Between which times the first command on a later look must lie, milliseconds.
struct Span {
    from: f64,
    to: f64,
    bound: f64,
}

impl Span {
    fn of(cell: Cell, prefix: f64) -> Self {
        let period_ms = millis(PERIOD_NS);
        let camera_ms = millis(ahead(cell.delay_ticks) * PERIOD_NS);
        let first = f64::from(cell.delay_ticks).max(prefix);
        let cycle = f64::from(cell.look_ticks());
        // A row's first command is sent in the first period of its tick.
        let from = first * tick_ms() + camera_ms + period_ms;
        Self {
            from,
            to: from + cycle * tick_ms(),
            bound: (first + cycle + 1.0) * tick_ms() + camera_ms,
        }
    }
}

fn tick_ms() -> f64 {
    millis(u64::from(STEPS_PER_TICK) * PERIOD_NS)
}
