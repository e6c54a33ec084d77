//! The guard's clock as another host sees it (F22).
//!
//! Ticks and ages are the guard's. A perception on another host stamps with its own clock, and moves
//! each stamp to the guard's by the offset between both, which two kinds of messages bound:
//!
//! ```text
//!  guard's time   ── sampled ──────────────── heard ──
//!                        ╲                    ╱
//!  local time     ────── arrived ── sent ────────────
//!
//!  offset = guard − local ≥ sampled − arrived        offset ≤ heard − sent
//! ```
//! Both hold whatever the delays are. The tightest bounds are kept, and widen with time by what two
//! quartz clocks may drift apart. Where the bounds admit it the clocks are taken to be one.

use std::collections::VecDeque;

use vlad_wire::clock::{MS, SECOND};
use vlad_wire::msg::sense::Echo;

/// Twice what ordinary clocks drift apart, parts per million.
const DRIFT_PPM: i64 = 200;
/// Half of the width beyond which stamps are of no use (reference F22).
const ERROR_MAX_NS: u64 = 10 * MS;
/// Before an echo has come, stamps as near as this look like those of one clock.
const ONE_CLOCK_NS: i64 = 1_000_000_000;
/// Challenges that may be echoed: more than a second of them.
const SENT_MAX: usize = 64;

/// What is known of the offset.
#[derive(Debug, Clone, Default)]
pub(super) struct Offset {
    low_ns: Option<i64>,
    high_ns: Option<i64>,
    at_ns: u64,
    /// Challenges with the local time of their sending.
    sent: VecDeque<(u64, u64)>,
}

impl Offset {
    /// Remembers a challenge that was sent.
    pub(super) fn sent(&mut self, challenge: u64, local_ns: u64) {
        if SENT_MAX <= self.sent.len() {
            self.sent.pop_front();
        }
        self.sent.push_back((challenge, local_ns));
    }

    /// Takes a message of the guard that has just arrived: when it was sampled, and the challenge
    /// that the guard heard last.
    pub(super) fn heard(&mut self, sampled_ns: u64, echo: Echo, local_ns: u64) {
        self.widen(local_ns);
        let low_ns = difference(sampled_ns, local_ns);
        self.low_ns = Some(self.low_ns.map_or(low_ns, |known| known.max(low_ns)));
        let sent = self
            .sent
            .iter()
            .find(|(challenge, _)| *challenge == echo.challenge);
        if let Some((_, sent_ns)) = sent {
            let high_ns = difference(echo.heard_at_ns, *sent_ns);
            self.high_ns = Some(self.high_ns.map_or(high_ns, |known| known.min(high_ns)));
        }
        // A clock that was set, or a guard on another host now: begin anew.
        if self.bounds().is_some_and(|(low, high)| high < low) {
            (self.low_ns, self.high_ns) = (Some(low_ns), None);
        }
    }

    /// Whether local times can be told on the guard's clock.
    pub(super) fn ready(&self) -> bool {
        self.low_ns.is_some() && self.fault().is_none()
    }

    /// A local time on the guard's clock.
    pub(super) fn to_guard(&self, local_ns: u64) -> u64 {
        local_ns.saturating_add_signed(self.offset_ns())
    }

    /// Why stamps cannot be told on the guard's clock, if so.
    pub(super) fn fault(&self) -> Option<String> {
        let (low_ns, high_ns) = match (self.bounds(), self.low_ns) {
            (Some(bounds), _) => bounds,
            (None, Some(low_ns)) if (-ONE_CLOCK_NS..=0).contains(&low_ns) => return None,
            (None, Some(_)) => return Some("the guard's clock is not known yet".to_owned()),
            (None, None) => return None,
        };
        // Of one clock the bounds say how late messages are, and nothing of the offset.
        let one_clock = low_ns <= 0 && 0 <= high_ns;
        let error_ns = high_ns.abs_diff(low_ns) / 2;
        (!one_clock && ERROR_MAX_NS < error_ns)
            .then(|| format!("the guard's clock is known to {} ms only", error_ns / MS))
    }

    fn offset_ns(&self) -> i64 {
        match self.bounds() {
            Some((low_ns, high_ns)) if low_ns <= 0 && 0 <= high_ns => 0,
            Some((low_ns, high_ns)) => low_ns.midpoint(high_ns),
            None => 0,
        }
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        self.low_ns.zip(self.high_ns)
    }

    fn widen(&mut self, local_ns: u64) {
        let passed_ns = local_ns.saturating_sub(self.at_ns).min(3600 * SECOND);
        self.at_ns = local_ns;
        let by_ns = i64::try_from(passed_ns).unwrap_or(0) * DRIFT_PPM / 1_000_000;
        self.low_ns = self.low_ns.map(|low_ns| low_ns.saturating_sub(by_ns));
        self.high_ns = self.high_ns.map(|high_ns| high_ns.saturating_add(by_ns));
    }
}

fn difference(guard_ns: u64, local_ns: u64) -> i64 {
    let apart = i64::try_from(guard_ns.abs_diff(local_ns)).unwrap_or(i64::MAX);
    if guard_ns < local_ns { -apart } else { apart }
}

#[cfg(test)]
mod tests;
