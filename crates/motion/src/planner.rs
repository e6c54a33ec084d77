//! When to ask for the next decision, and where its chunk begins.
//!
//! Pure: the action expert calls [`decide`] whenever something changed. Consumed actions are
//! counted by the guard, never estimated from time.
//!
//! ```text
//!  sync:      … last ticks: Anticipate → still: Ask(after standstill) → chunk OnArrival
//!  the rest:  still: Ask → chunk OnArrival;  while playing: Ask(newest) → chunk At(the tick after
//!             its observation's), whose first rows are over when it arrives
//! ```
//!
//! While playing, the next decision is asked for
//!
//! | replanning | when |
//! |---|---|
//! | cadence | so many ticks (`T_e`) were played since the last one |
//! | continuous | one tick was: as soon as a chunk has arrived |
//! | on-change | a picture changed suddenly, or chunks disagree; else as cadence |
//!
//! and in each of them as soon as no more is accepted, or young enough, than will be played until the
//! chunk is there: a chunk from standstill begins at its first row and gets older than those after it.

use serde::{Deserialize, Serialize};
use vlad_safety::mode::{Mode, State};
use vlad_wire::id::Tick;
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::think::{Start, Strategy};

use crate::gate::Choice;
use crate::real::real;

/// When the next decision is asked for while the robot moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replanning {
    /// Every so many played ticks.
    #[default]
    Cadence,
    /// As soon as a chunk has arrived.
    Continuous,
    /// At once when something changed, else every so many played ticks.
    OnChange,
}

/// What the planner follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannerConfig {
    /// How chunks meet.
    pub strategy: Strategy,
    /// When the next decision is asked for.
    pub replanning: Replanning,
    /// Ticks that are played between two decisions (`T_e`) where chunks overlap.
    pub ticks_per_decision: u64,
    /// Ticks from an observation to its chunk, the 99th percentile: what must still be accepted when
    /// a decision is asked for, so that neither prefix nor buffer ends before the chunk is there.
    pub delay_ticks: u64,
}

impl PlannerConfig {
    /// Follows the gate.
    pub fn of(choice: &Choice, replanning: Replanning) -> Self {
        Self {
            strategy: choice.strategy,
            replanning,
            ticks_per_decision: choice.ticks_per_decision,
            delay_ticks: choice.delay_ticks,
        }
    }
}

/// Ticks before the end of a sync chunk at which the expert announces the decision to come, so that
/// the guard finds a fresh heartbeat that says so: three heartbeats long.
const ANNOUNCE_TICKS: u64 = 3;
/// A decision is asked for a tick before it must be: the request is seen in the tick after.
const MARGIN_TICKS: u64 = 1;

/// What the expert knows of the guard.
#[derive(Debug, Clone, Copy)]
pub struct GuardView<'a> {
    /// The newest buffer.
    pub accepted: &'a Accepted,
    /// The newest joints.
    pub joints: &'a JointState,
    /// Ticks that had been played when the last decision was asked for.
    pub played_at_last: Option<u64>,
    /// Whether a picture changed suddenly, or chunks disagreed, since the last decision was asked for.
    pub changed: bool,
    /// For how many ticks the rows of the newest accepted chunk are young enough to be played.
    pub young_ticks: u64,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Wait,
    /// Nothing yet, but a decision will follow: say so in the heartbeat.
    Anticipate,
    /// Ask for a decision.
    Ask {
        /// Earliest tick that the observation may have.
        earliest_tick: Tick,
        /// Earliest capture that the observation may have.
        earliest_captured_ns: u64,
    },
}

/// Says what to do now, while no decision is under way and a task holds the cell.
pub fn decide(config: &PlannerConfig, view: &GuardView<'_>) -> Plan {
    let state = State {
        mode: view.accepted.mode,
        reason: view.accepted.reason,
    };
    match state.mode {
        Mode::Armed => from_standstill(view),
        Mode::Hold if state.resumable() => from_standstill(view),
        Mode::Running if ends_in_a_gap(config.strategy, view.accepted.strategy) => {
            // Rows that are too old are no more played than rows that there are none of.
            if remaining(view) <= ANNOUNCE_TICKS {
                Plan::Anticipate
            } else {
                Plan::Wait
            }
        }
        Mode::Running if is_due(config, view) => Plan::Ask {
            earliest_tick: view.joints.tick,
            earliest_captured_ns: 0,
        },
        _ => Plan::Wait,
    }
}

/// Says where a finished chunk begins, by the guard's mode when it is sent and the strategy of what
/// it plays.
///
/// Row 0 is for the tick after the one that was observed, as it is from standstill: so a chunk
/// without any delay plays from row 0 on, and a prefix of d rows covers a delay of d ticks.
pub fn start(strategy: Strategy, mode: Mode, playing: Option<Strategy>, obs_tick: Tick) -> Start {
    match mode {
        Mode::Running if !ends_in_a_gap(strategy, playing) => Start::At(obs_tick.saturating_add(1)),
        _ => Start::OnArrival,
    }
}

/// Whether what is played ends in a gap that sync has planned. Chunks of another strategy do not: a
/// change to sync takes one more overlapping chunk, which is sync's own and so plans the gap.
fn ends_in_a_gap(strategy: Strategy, playing: Option<Strategy>) -> bool {
    strategy == Strategy::Sync && playing.is_none_or(|playing| playing == Strategy::Sync)
}

/// Ticks for which there is an action that may be played.
fn remaining(view: &GuardView<'_>) -> u64 {
    let accepted = u64::try_from(view.accepted.remaining()).unwrap_or(u64::MAX);
    accepted.min(view.young_ticks)
}

fn is_due(config: &PlannerConfig, view: &GuardView<'_>) -> bool {
    let Some(last) = view.played_at_last else {
        return true;
    };
    let played = view.accepted.played.saturating_sub(last);
    let cadence = config.ticks_per_decision <= played;
    let due = match config.replanning {
        Replanning::Cadence => cadence,
        // The same observation twice would give the same chunk twice.
        Replanning::Continuous => 0 < played,
        Replanning::OnChange => view.changed || cadence,
    };
    let remaining = remaining(view);
    // Without any delay the chunk is there when the last accepted tick ends.
    let margin = MARGIN_TICKS.min(config.delay_ticks);
    let short = remaining <= config.delay_ticks.saturating_add(margin);
    due || (short && 0 < played)
}

/// How far two chunks disagree where they overlap, in large steps of the newer one: the mean
/// distance of the rows for the same ticks over the 95th percentile of the new chunk's own steps.
/// Above 2 the policy has changed its mind, which is a reason to look again (reference A.6, M3a).
///
/// `old` are accepted rows from the new chunk's first tick on. 0 where nothing overlaps.
pub fn disagreement(old: &[Vec<f32>], new: &[f32]) -> f64 {
    let Some(width) = old.first().map(Vec::len).filter(|width| 0 < *width) else {
        return 0.0;
    };
    let distance = |a: &[f32], b: &[f32]| {
        let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        a.iter().zip(b).map(square).sum::<f64>().sqrt()
    };
    let rows: Vec<_> = new.chunks_exact(width).collect();
    let mut steps: Vec<_> = rows
        .iter()
        .zip(rows.iter().skip(1))
        .map(|(a, b)| distance(a, b))
        .collect();
    steps.sort_unstable_by(f64::total_cmp);
    let rank = (steps.len() * 95).div_ceil(100).saturating_sub(1);
    let step = steps.get(rank).copied().unwrap_or(0.0);
    let overlap = old.len().min(rows.len());
    let sum: f64 = old.iter().zip(&rows).map(|(a, b)| distance(a, b)).sum();
    if overlap == 0 {
        return 0.0;
    }
    sum / real(overlap) / step.max(crate::buffer::seam::STILL_STEP)
}

fn from_standstill(view: &GuardView<'_>) -> Plan {
    if view.joints.standstill && view.accepted.remaining() == 0 {
        Plan::Ask {
            earliest_tick: view.joints.tick,
            earliest_captured_ns: view.joints.still_since_ns,
        }
    } else {
        Plan::Anticipate
    }
}

#[cfg(test)]
mod tests;
