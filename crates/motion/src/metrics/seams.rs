//! Where one chunk follows another (M3).
//!
//! `D^k` is the step of the k-th derivative at a tick: `‖∇^(k+1) u‖ / Δt^k` with the backward
//! difference ∇ of the policy's own targets u. For k = 0 to 3: position, velocity, acceleration,
//! jerk. `ρ_k` is its 95th percentile at seams over that within chunks.

use serde::{Deserialize, Serialize};
use vlad_wire::id::{ChunkId, Tick};
use vlad_wire::msg::think::Strategy;

use super::spread::Spread;
use super::{Log, Played, millis, seconds};
use crate::real::real;

/// Orders of difference: position, velocity, acceleration, jerk.
const ORDERS: usize = 4;

/// One switch from chunk to chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seam {
    /// First tick of the new chunk that was played.
    pub tick: Tick,
    /// The chunk before.
    pub from: ChunkId,
    /// The new one.
    pub to: ChunkId,
    /// Its strategy.
    pub strategy: Strategy,
    /// First row of it that was played.
    pub index: u16,
    /// Rows of prefix that the policy was given.
    pub prefix_conditioned: u16,
    /// Rows of them that were over when the chunk arrived: what the prefix was needed for.
    pub prefix_used: u16,
    /// Ticks that were over when the chunk arrived; more than the prefix is an overrun.
    pub delay_ticks: u64,
    /// M3a: distance between the new and the old chunk's targets for this tick; `None` if the old
    /// one had ended.
    pub disagreement: Option<f64>,
    /// The same as a mean over all ticks that both have from this one on.
    pub overlap_mean: Option<f64>,
    /// M3b: steps of position, velocity, acceleration and jerk, in rad (or m) and seconds; `None`
    /// where the log has too few ticks before.
    pub steps: [Option<f64>; ORDERS],
    /// Age of the first action, milliseconds.
    pub age_ms: f64,
}

/// M3: all seams, and how they compare with the chunks' interior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seams {
    /// Each one.
    pub seams: Vec<Seam>,
    /// M3a: 95th percentile of the disagreement over that of the steps within chunks.
    pub disagreement_ratio: Option<f64>,
    /// `D^k` at seams.
    pub at_seams: [Option<Spread>; ORDERS],
    /// `D^k` within chunks.
    pub within: [Option<Spread>; ORDERS],
    /// `ρ_k`; `None` without seams, or where chunks do not move within.
    pub rho: [Option<f64>; ORDERS],
}

/// M3 of one log.
pub(crate) fn seams(log: &Log<'_>, played: &[Played<'_>]) -> Seams {
    let dt_s = seconds(log.shape.dt_ns);
    let mut seams = Vec::new();
    let mut within: [Vec<f64>; ORDERS] = Default::default();
    for end in 1..=played.len() {
        let Some([before, now]) = end
            .checked_sub(2)
            .and_then(|from| played.get(from..end))
            .and_then(|pair| <&[Played<'_>; 2]>::try_from(pair).ok())
        else {
            continue;
        };
        if before.tick.checked_add(1) != Some(now.tick) {
            continue;
        }
        let window = played.get(..end).unwrap_or_default();
        let switches = before.chunk.head.id != now.chunk.head.id;
        if switches {
            seams.push(seam(log, (before, now), steps(window, dt_s)));
            continue;
        }
        let same = window
            .iter()
            .rev()
            .take_while(|one| one.chunk.head.id == now.chunk.head.id)
            .count();
        for ((order, place), step) in (2..).zip(&mut within).zip(steps(window, dt_s)) {
            // A difference of that order reaches over so many ticks.
            if let Some(step) = step.filter(|_| order <= same) {
                place.push(step);
            }
        }
    }
    summed_up(seams, within)
}

fn summed_up(seams: Vec<Seam>, within: [Vec<f64>; ORDERS]) -> Seams {
    let mut at_seams: [Vec<f64>; ORDERS] = Default::default();
    for seam in &seams {
        for (place, step) in at_seams.iter_mut().zip(seam.steps) {
            place.extend(step);
        }
    }
    let (at_seams, within) = (at_seams.map(Spread::of), within.map(Spread::of));
    let over = |a: Option<f64>, b: Option<Spread>| {
        let b = b.map(|b| b.p95).filter(|b| 0.0 < *b);
        a.zip(b).map(|(a, b)| a / b)
    };
    let mut rho = [None; ORDERS];
    for ((place, seam), interior) in rho.iter_mut().zip(at_seams).zip(within) {
        *place = over(seam.map(|spread| spread.p95), interior);
    }
    let disagreements = seams.iter().filter_map(|seam| seam.disagreement);
    let disagreement = Spread::of(disagreements.collect()).map(|spread| spread.p95);
    let [position, ..] = within;
    Seams {
        seams,
        disagreement_ratio: over(disagreement, position),
        at_seams,
        within,
        rho,
    }
}

fn seam(log: &Log<'_>, (before, now): (&Played<'_>, &Played<'_>), steps: [Option<f64>; 4]) -> Seam {
    let (head, slots) = (&now.chunk.head, &log.shape.slots);
    let apart = |tick: Tick| {
        let (new, old) = (now.chunk.at(tick, slots)?, before.chunk.at(tick, slots)?);
        Some(distance(&new, &old))
    };
    let horizon = Tick::from(head.horizon);
    let ticks = now.tick..now.chunk.first.saturating_add(horizon);
    let overlap: Vec<f64> = ticks.map_while(apart).collect();
    let delay_ticks = ticks_over(log, now);
    let used = delay_ticks.min(u64::from(head.prefix_len));
    Seam {
        tick: now.tick,
        from: before.chunk.head.id,
        to: head.id,
        strategy: head.strategy,
        index: now.index,
        prefix_conditioned: head.prefix_len,
        prefix_used: u16::try_from(used).unwrap_or(u16::MAX),
        delay_ticks,
        disagreement: apart(now.tick),
        overlap_mean: (!overlap.is_empty())
            .then(|| overlap.iter().sum::<f64>() / real(overlap.len())),
        steps,
        age_ms: millis(now.sent_at_ns.saturating_sub(head.captured_at_ns)),
    }
}

/// Ticks of the chunk that were over, or under way, when it arrived.
fn ticks_over(log: &Log<'_>, now: &Played<'_>) -> u64 {
    let received = now.chunk.received_at_ns;
    let after = log
        .executed
        .partition_point(|one| one.sent_at_ns <= received);
    let during = after.checked_sub(1).and_then(|at| log.executed.get(at));
    let during = during.map_or(now.chunk.first, |one| one.tick);
    let over = during.saturating_sub(now.chunk.first).saturating_add(1);
    u64::try_from(over).unwrap_or(0)
}

/// `D^0` to `D^3` at the last of these ticks; `None` from the order on whose differences reach over
/// a gap.
fn steps(window: &[Played<'_>], dt_s: f64) -> [Option<f64>; ORDERS] {
    let mut rows: Vec<&[f64]> = Vec::new();
    let mut expected = None;
    for one in window.iter().rev().take(ORDERS + 1) {
        if expected.is_some_and(|expected| expected != one.tick) {
            break;
        }
        rows.push(&one.target);
        expected = one.tick.checked_sub(1);
    }
    let mut differences: Vec<Vec<f64>> = rows.into_iter().map(<[f64]>::to_vec).collect();
    let (mut steps, mut scale) = ([None; ORDERS], 1.0);
    for place in &mut steps {
        // Newest first: each row minus the one before it in time.
        differences = differences
            .iter()
            .zip(differences.iter().skip(1))
            .map(|(new, old)| new.iter().zip(old).map(|(a, b)| a - b).collect())
            .collect();
        *place = differences.first().map(|row| norm(row) / scale);
        scale *= dt_s;
    }
    steps
}

/// Euclidean length.
pub(crate) fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    crate::buffer::seam::distance(a.iter().copied(), b.iter().copied())
}
