//! Pairs of strategy and policy that are refused at load, each with the field to look at.

use vlad_wire::msg::think::Strategy;

use super::choose::{Delays, lasts, slow_rate, young_ticks};
use super::{Ability, GateConfig, Wanted};

/// Why strategy, policy and delay can never work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// A clean prefix for a policy that was trained without.
    #[error(
        "strategy clean-prefix needs a policy that was trained with a prefix: its manifest says \
         prefix_trained_max = 0; set expert.strategy to auto, or use an asynchronously trained checkpoint"
    )]
    NoPrefix,
    /// Guidance for a policy that offers none.
    #[error(
        "strategy guided needs a policy with a vector-Jacobian product: its manifest says vjp = false; \
         set expert.strategy to auto"
    )]
    NoGuidance,
    /// Chunks that end before the next one can be there.
    #[error(
        "a decision takes {delay} ticks and a chunk has {horizon} (robot_types.horizon): overlapping \
         chunks need at least twice the delay; set expert.strategy to sync or auto"
    )]
    TooSlow {
        /// Delay, ticks.
        delay: u64,
        /// Rows of a chunk.
        horizon: u16,
    },
    /// Actions that would be too old before the next chunk is there.
    #[error(
        "a decision takes {delay} ticks, so actions grow at least {oldest} ticks old, and \
         guard.action_age_limit_ms leaves {limit}; raise it, or set expert.strategy to sync or auto"
    )]
    TooOld {
        /// Delay, ticks.
        delay: u64,
        /// Ticks at which the oldest action is played.
        oldest: u64,
        /// Ticks that the age limit leaves.
        limit: u64,
    },
    /// Not even one action of a chunk is young enough.
    #[error(
        "a decision takes {delay} ticks and guard.action_age_limit_ms leaves {limit}: no action is \
         young enough to be played; raise it"
    )]
    NeverYoung {
        /// Delay, ticks.
        delay: u64,
        /// Ticks that the age limit leaves.
        limit: u64,
    },
    /// Chunks without rows, or ticks without length.
    #[error("a chunk needs rows and a tick a length (robot_types.horizon, dt_ms)")]
    Empty,
}

impl Impossible {
    /// The field of the manifest or of the configuration that it is about.
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoPrefix => "prefix_trained_max",
            Self::NoGuidance => "vjp",
            Self::TooSlow { .. } | Self::Empty => "robot_types.horizon",
            Self::TooOld { .. } | Self::NeverYoung { .. } => "guard.action_age_limit_ms",
        }
    }
}

/// Checks what can be known at load.
pub(super) fn check(
    config: &GateConfig,
    ability: Ability,
    delays: Delays,
) -> Result<(), Impossible> {
    if ability.horizon == 0 || config.dt_ns == 0 {
        return Err(Impossible::Empty);
    }
    match config.wanted {
        Wanted::Fixed(Strategy::CleanPrefix) if ability.prefix_trained_max == 0 => {
            return Err(Impossible::NoPrefix);
        }
        Wanted::Fixed(Strategy::Guided) if !ability.guidance => {
            return Err(Impossible::NoGuidance);
        }
        _ => {}
    }
    let (delay, limit) = (delays.expected, young_ticks(config, 1.0));
    match config.wanted {
        Wanted::Auto | Wanted::Fixed(Strategy::Sync) => {
            if limit <= delay {
                return Err(Impossible::NeverYoung { delay, limit });
            }
        }
        Wanted::Fixed(strategy) => check_overlap(config, ability, delays, strategy)?,
    }
    Ok(())
}

fn check_overlap(
    config: &GateConfig,
    ability: Ability,
    delays: Delays,
    strategy: Strategy,
) -> Result<(), Impossible> {
    let trained = u64::from(ability.prefix_trained_max);
    let slow = (strategy == Strategy::CleanPrefix && config.slow_allowed)
        .then(|| slow_rate(trained, delays.expected))
        .flatten();
    let rate = slow.unwrap_or(1.0);
    let delays = delays.at_rate(rate);
    if lasts(config, ability, delays, rate) {
        return Ok(());
    }
    let (delay, horizon) = (delays.expected, ability.horizon);
    if u64::from(horizon) < 2 * delay {
        return Err(Impossible::TooSlow { delay, horizon });
    }
    Err(Impossible::TooOld {
        delay,
        oldest: 2 * delay.max(1),
        limit: young_ticks(config, rate),
    })
}
