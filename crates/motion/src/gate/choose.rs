//! The rule itself: ability and delay → choice.

use vlad_wire::msg::think::Strategy;

use super::delay::DelayMeter;
use super::{Ability, Choice, GateConfig, Wanted};

/// Longest delay at which every strategy is about equal (Agouzoul et al., arXiv:2605.08168).
const NAIVE_MAX: u64 = 2;
/// Longest delay at which guidance is better than none at 30 rows (the same).
const GUIDED_MAX: u64 = 4;
/// Slowest speed fraction: below it a task takes more than twice as long, and sync is as good.
const RATE_MIN: f64 = 0.5;
/// Ticks that a chunk should still have when the next one is late beyond all that was measured.
const SPARE_TICKS: u64 = 2;
/// A hundredth of a tick more is no tick more: tick lengths are rounded to nanoseconds.
const ROUNDING: u64 = 100;

/// A delay in ticks at full speed, rounded up: the usual one and the rare one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delays {
    /// What to reckon with (d̂).
    pub expected: u64,
    /// What to reckon with once in a thousand decisions.
    pub rare: u64,
}

impl Delays {
    /// Reads a meter; `spare_ns` is added first.
    pub fn of(meter: &DelayMeter, dt_ns: u64, spare_ns: u64) -> Self {
        Self {
            expected: ticks(meter.expected_ns().saturating_add(spare_ns), dt_ns),
            rare: ticks(meter.rare_ns().saturating_add(spare_ns), dt_ns),
        }
    }

    pub(super) fn exceeded_by(self, other: Self) -> bool {
        self.expected < other.expected || self.rare < other.rare
    }

    /// Whether a choice could be better: the usual delay decides it.
    pub(super) fn below(self, other: Self) -> bool {
        self.expected < other.expected
            || (self.expected == other.expected && self.rare < other.rare)
    }

    pub(super) fn larger(self, other: Self) -> Self {
        Self {
            expected: self.expected.max(other.expected),
            rare: self.rare.max(other.rare),
        }
    }

    /// The same delay in ticks that last longer.
    pub(super) fn at_rate(self, rate: f64) -> Self {
        Self {
            expected: slowed(self.expected, rate),
            rare: slowed(self.rare, rate),
        }
    }
}

/// Gives a span in ticks, rounded up.
pub fn ticks(span_ns: u64, dt_ns: u64) -> u64 {
    let dt_ns = dt_ns.max(1);
    span_ns.saturating_sub(dt_ns / ROUNDING).div_ceil(dt_ns)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "delays are a few hundred ticks, and not negative"
)]
fn slowed(ticks: u64, rate: f64) -> u64 {
    // A quotient of counts times one of them is off by its last bit alone.
    (ticks as f64 * rate - 1e-9).ceil().max(0.0) as u64
}

/// Gives the ticks between two decisions (`T_e`) that delay and age check leave:
/// `min(max(T_e, d̂), H − d̂_p99.9 − 2)`, and `(d̂ + T_e)·Δt + camera` below the age limit.
/// Never below 1; whether that is enough is [`super::impossible`]'s question.
pub(super) fn ticks_per_decision(
    config: &GateConfig,
    horizon: u64,
    delays: Delays,
    rate: f64,
) -> u64 {
    let wanted = config.ticks_per_decision.max(delays.expected);
    let left = horizon
        .saturating_sub(delays.rare)
        .saturating_sub(SPARE_TICKS);
    wanted
        .min(left)
        .min(young_ticks(config, rate).saturating_sub(delays.expected))
        .max(1)
}

/// Ticks of `rate` that end before an action is too old, counted from the camera's moment.
pub(super) fn young_ticks(config: &GateConfig, rate: f64) -> u64 {
    let left_ns = config.age_limit_ns.saturating_sub(config.camera_ns);
    // Strictly below the limit.
    slowed_floor(left_ns.saturating_sub(1) / config.dt_ns.max(1), rate)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "age limits are a few hundred ticks, and not negative"
)]
fn slowed_floor(ticks: u64, rate: f64) -> u64 {
    (ticks as f64 * rate + 1e-9).floor().max(0.0) as u64
}

/// Chooses by the rule.
pub fn choose(config: &GateConfig, ability: Ability, delays: Delays) -> Choice {
    let strategy = match config.wanted {
        Wanted::Fixed(strategy) => strategy,
        Wanted::Auto => by_rule(config, ability, delays),
    };
    let trained = u64::from(ability.prefix_trained_max);
    let rate = match strategy {
        Strategy::CleanPrefix if config.slow_allowed => {
            slow_rate(trained, delays.expected).unwrap_or(1.0)
        }
        _ => 1.0,
    };
    let delays = delays.at_rate(rate);
    let horizon = u64::from(ability.horizon);
    let played = ticks_per_decision(config, horizon, delays, rate);
    let prefix = match strategy {
        Strategy::CleanPrefix => (delays.expected + 1)
            .min(trained)
            .min(horizon.saturating_sub(played)),
        _ => 0,
    };
    let frozen = match strategy {
        Strategy::Guided => delays.expected.min(horizon.saturating_sub(played)),
        _ => 0,
    };
    let rows = |rows: u64| u16::try_from(rows).unwrap_or(u16::MAX);
    Choice {
        strategy,
        prefix_len: rows(prefix),
        frozen_len: rows(frozen),
        ticks_per_decision: played,
        delay_ticks: delays.expected,
        rate,
    }
}

fn by_rule(config: &GateConfig, ability: Ability, delays: Delays) -> Strategy {
    let (delay, trained) = (delays.expected, u64::from(ability.prefix_trained_max));
    let slow = config.slow_allowed && slow_rate(trained, delay).is_some();
    let strategy = if 0 < trained && delay <= trained {
        Strategy::CleanPrefix
    } else if delay <= NAIVE_MAX {
        Strategy::Naive
    } else if ability.guidance && delay <= GUIDED_MAX {
        Strategy::Guided
    } else if slow {
        Strategy::CleanPrefix
    } else {
        Strategy::Sync
    };
    let rate = match strategy {
        Strategy::CleanPrefix => slow_rate(trained, delay).unwrap_or(1.0),
        _ => 1.0,
    };
    if lasts(config, ability, delays.at_rate(rate), rate) {
        strategy
    } else {
        Strategy::Sync
    }
}

/// Whether chunks can follow each other without a gap and without growing too old: one inference in
/// flight needs `T_e ≥ d̂` and `2 d̂ ≤ H`.
pub(super) fn lasts(config: &GateConfig, ability: Ability, delays: Delays, rate: f64) -> bool {
    let delay = delays.expected.max(1);
    2 * delay <= u64::from(ability.horizon) && 2 * delay <= young_ticks(config, rate)
}

/// The speed fraction at which a prefix of `trained` rows covers a delay, if it is slow enough to
/// matter and not slower than half. At half speed two ticks more than twice the prefix are let pass:
/// they are one tick there, and a chunk that comes so late is judged by the guard's buffer. From what a
/// camera sees to the guard two ticks go by beside the decision itself.
pub(super) fn slow_rate(trained: u64, delay: u64) -> Option<f64> {
    if trained == 0 || 2 * trained + 2 < delay {
        return None;
    }
    Some(quotient(trained, delay.max(1)).clamp(RATE_MIN, 1.0))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "prefixes and delays are a few hundred ticks"
)]
fn quotient(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
