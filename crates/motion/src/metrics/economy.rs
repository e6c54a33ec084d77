//! What decisions cost and what became of them (M11).

use serde::{Deserialize, Serialize};

use super::spread::Spread;
use super::timing::ratio;
use super::{Log, millis};
use crate::gate::Fate;

/// M11.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Economy {
    /// From request to arrival (δ), milliseconds.
    pub delay_ms: Option<Spread>,
    /// Part of the time in which a decision was under way.
    pub duty: f64,
    /// Chunks that came.
    pub chunks: usize,
    /// Chunks that were dropped because their prefix was over and they would have jumped.
    pub discarded: usize,
    /// Chunks that were taken although their prefix was over.
    pub overruns: usize,
    /// Rows that were made for each one that was played; 0 if none was.
    pub generated_per_played: f64,
}

/// M11 of one log, in which `played` ticks were played.
pub fn of_log(log: &Log<'_>, played: usize) -> Economy {
    let delay = |chunk: &super::ChunkRecord| {
        let head = &chunk.head;
        chunk.received_at_ns.saturating_sub(head.requested_at_ns)
    };
    let thinking_ns: u64 = log.chunks.iter().map(delay).sum();
    let times = log.executed.first().zip(log.executed.last());
    let whole_ns = times.map_or(0, |(a, b)| b.sent_at_ns.saturating_sub(a.sent_at_ns));
    let count = |fate| log.chunks.iter().filter(|chunk| chunk.fate == fate).count();
    let rows = log
        .chunks
        .iter()
        .map(|chunk| usize::from(chunk.head.horizon));
    Economy {
        delay_ms: Spread::of(log.chunks.iter().map(|one| millis(delay(one))).collect()),
        duty: if whole_ns == 0 {
            0.0
        } else {
            millis(thinking_ns) / millis(whole_ns)
        },
        chunks: log.chunks.len(),
        discarded: count(Fate::Discarded),
        overruns: count(Fate::Overrun),
        generated_per_played: ratio(rows.sum(), played),
    }
}
