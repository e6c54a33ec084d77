//! Stalls (M1), age (M2), lateness (M6), deadlines (M8) and interventions (M9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::id::Tick;
use vlad_wire::msg::execute::Source;

use super::spread::Spread;
use super::{Log, Played, millis};
use crate::gate::Fate;
use crate::real::real;

/// M1: ticks without a valid action of the policy, while running or in a planned gap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stalls {
    /// Ticks that were looked at.
    pub ticks: usize,
    /// Stalled ones.
    pub stalled: usize,
    /// Runs of stalled ticks.
    pub events: usize,
    /// Longest run, ticks.
    pub longest: usize,
    /// Stalled ones among all.
    pub ratio: f64,
}

/// M2: from the earliest image behind an action to its command, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ages {
    /// Age of each policy tick's first command.
    pub age_ms: Spread,
}

/// M6: how late servo ticks began, on the absolute schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// Lateness, microseconds; early is 0.
    pub late_us: Spread,
    /// Servo ticks that began late by more than a period.
    pub slips: usize,
}

/// M8: deadlines that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Chunks that were asked for.
    pub chunks: usize,
    /// Came after request + (H − `T_e`)·Δt: the chunk before it may have ended.
    pub hard: usize,
    /// Had a prefix, and came after request + p·Δt.
    pub soft: usize,
    /// Servo ticks that began late by more than a period, per million.
    pub servo_per_million: f64,
}

/// M9: servo ticks whose command the guard changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interventions {
    /// Per thousand servo ticks that a policy moved in.
    pub per_thousand: f64,
    /// How many, by the number of the flag's bit.
    pub by_bit: BTreeMap<u32, usize>,
}

/// M1.
pub fn stalls(log: &Log<'_>) -> Stalls {
    let mut by_tick: BTreeMap<Tick, bool> = BTreeMap::new();
    let mut modes = log.modes.iter().peekable();
    let mut reason = None;
    for one in log.executed {
        while let Some(change) = modes.next_if(|change| change.at_ns <= one.sent_at_ns) {
            reason = Some(change.reason);
        }
        let gap = one.mode == Mode::Hold && reason == Some(Reason::Thinking);
        if one.mode == Mode::Running || gap {
            let plays = one.source == Source::Policy && one.chunk.is_some();
            *by_tick.entry(one.tick).or_default() |= plays;
        }
    }
    let (mut stalled, mut events, mut longest, mut run) = (0, 0, 0, 0);
    let mut last = None;
    for (tick, plays) in &by_tick {
        let follows = last.is_some_and(|last: Tick| last.checked_add(1) == Some(*tick));
        last = Some(*tick);
        if *plays {
            run = 0;
            continue;
        }
        run = if follows { run + 1 } else { 1 };
        stalled += 1;
        events += usize::from(run == 1);
        longest = longest.max(run);
    }
    Stalls {
        ticks: by_tick.len(),
        stalled,
        events,
        longest,
        ratio: ratio(stalled, by_tick.len()),
    }
}

/// M2.
pub(crate) fn ages(played: &[Played<'_>]) -> Option<Ages> {
    let age = |one: &Played<'_>| {
        let captured = one.chunk.head.captured_at_ns;
        millis(one.sent_at_ns.saturating_sub(captured))
    };
    let age_ms = Spread::of(played.iter().map(age).collect())?;
    Some(Ages { age_ms })
}

/// M6.
pub fn lateness(log: &Log<'_>) -> Option<Lateness> {
    let late = |one: &vlad_wire::msg::execute::Executed| {
        one.woke_at_ns.saturating_sub(one.scheduled_at_ns)
    };
    let late_us = log.executed.iter().map(|one| 1e3 * millis(late(one)));
    let slips = log.executed.iter();
    Some(Lateness {
        late_us: Spread::of(late_us.collect())?,
        slips: slips
            .filter(|one| log.shape.servo_dt_ns < late(one))
            .count(),
    })
}

/// M8.
pub fn deadlines(log: &Log<'_>) -> Deadlines {
    let dt_ns = log.shape.dt_ns;
    let missed = |rows: u64, chunk: &super::ChunkRecord| {
        let deadline = rows
            .saturating_mul(dt_ns)
            .saturating_add(chunk.head.requested_at_ns);
        deadline < chunk.received_at_ns
    };
    let hard = log.chunks.iter().filter(|chunk| {
        let rows = u64::from(chunk.head.horizon);
        missed(rows.saturating_sub(log.shape.ticks_per_decision), chunk)
    });
    let soft = log.chunks.iter().filter(|chunk| {
        let prefix = u64::from(chunk.head.prefix_len);
        0 < prefix && (chunk.fate != Fate::Accepted || missed(prefix, chunk))
    });
    let slips = lateness(log).map_or(0, |lateness| lateness.slips);
    Deadlines {
        chunks: log.chunks.len(),
        hard: hard.count(),
        soft: soft.count(),
        servo_per_million: 1e6 * ratio(slips, log.executed.len()),
    }
}

/// M9.
pub fn interventions(log: &Log<'_>) -> Interventions {
    let mut by_bit = BTreeMap::new();
    let (mut changed, mut moved) = (0, 0);
    for one in log.executed {
        let flags = one.flags & log.shape.intervention_bits;
        moved += usize::from(one.source == Source::Policy);
        changed += usize::from(flags != 0);
        for bit in 0..u32::BITS {
            if flags & (1 << bit) != 0 {
                *by_bit.entry(bit).or_default() += 1;
            }
        }
    }
    Interventions {
        per_thousand: 1e3 * ratio(changed, moved),
        by_bit,
    }
}

/// A part of a whole; 0 of nothing.
pub(crate) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        real(part) / real(whole)
    }
}
