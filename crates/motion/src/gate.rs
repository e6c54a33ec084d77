//! Which strategy the measured delay allows (reference A.8).
//!
//! ```text
//!  d̂ = ⌈max(p99 of the last 200 delays, largest of the last 10) / Δt⌉
//!
//!  prefix_trained_max ≥ d̂                  clean prefix of min(d̂ + 1, prefix_max, H − T_e) rows
//!  d̂ ≤ 2                                   naive
//!  guidance offered, d̂ ≤ 4                 guided
//!  slow allowed, prefix_max / d̂ ≥ 0.5      clean prefix at the rate prefix_max / d̂
//!  else                                     sync
//! ```
//!
//! Going down this list happens at once; going up only after a quiet time in which every delay would
//! have allowed it with half a tick to spare. So a latency ramp changes the strategy once on its
//! way. Five discarded chunks in a row mean that the delay is not what was measured: then sync, for
//! a minute.
//!
//! Pure: times come in, nothing is asked of a clock.

use std::fmt;

use serde::{Deserialize, Serialize};
use vlad_wire::msg::think::Strategy;

use choose::{Delays, choose};
use delay::DelayMeter;
use impossible::Impossible;

pub mod choose;
pub mod delay;
pub mod impossible;

/// How the strategy is chosen; in files by its [name](Self::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Wanted {
    /// By ability and delay.
    Auto,
    /// This one, as long as it is possible.
    Fixed(Strategy),
}

/// A word that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no strategy: must be auto, sync, naive, ensemble, blend, guided or clean-prefix")]
pub struct NoStrategy(String);

impl Wanted {
    const ALL: [Self; 7] = [
        Self::Auto,
        Self::Fixed(Strategy::Sync),
        Self::Fixed(Strategy::Naive),
        Self::Fixed(Strategy::Ensemble),
        Self::Fixed(Strategy::Blend),
        Self::Fixed(Strategy::Guided),
        Self::Fixed(Strategy::CleanPrefix),
    ];

    /// The name in configuration, logs and REST.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fixed(strategy) => strategy.name(),
        }
    }
}

impl TryFrom<String> for Wanted {
    type Error = NoStrategy;

    fn try_from(name: String) -> Result<Self, NoStrategy> {
        let known = Self::ALL.into_iter().find(|wanted| wanted.name() == name);
        known.ok_or(NoStrategy(name))
    }
}

impl From<Wanted> for &'static str {
    fn from(wanted: Wanted) -> Self {
        wanted.name()
    }
}

/// What the gate follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateConfig {
    /// How the strategy is chosen.
    pub wanted: Wanted,
    /// Whether the robot may be slowed down so that a prefix covers the delay.
    pub slow_allowed: bool,
    /// Ticks that are played between two decisions (`T_e`), if the delay allows; at least 1.
    pub ticks_per_decision: u64,
    /// Length of a tick at full speed.
    pub dt_ns: u64,
    /// From the moment that a camera sees to the moment that its image is used at the latest.
    pub camera_ns: u64,
    /// `action_age_limit_ms`: no older action is ever played.
    pub age_limit_ns: u64,
    /// How long every delay must have allowed a better strategy before it is taken.
    pub quiet_ns: u64,
}

/// What a policy can do, by its manifest, for one robot type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ability {
    /// Longest prefix that it was trained with.
    pub prefix_trained_max: u16,
    /// Whether it takes guidance.
    pub guidance: bool,
    /// Rows of a chunk (H).
    pub horizon: u16,
}

/// How the next decision is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Strategy.
    pub strategy: Strategy,
    /// Rows of prefix to give to the policy; 0 for none.
    pub prefix_len: u16,
    /// Rows that guidance holds frozen; 0 for none.
    pub frozen_len: u16,
    /// Ticks that are played between two decisions.
    pub ticks_per_decision: u64,
    /// Ticks, at `rate`, from observation to chunk that a request must leave (p99).
    pub delay_ticks: u64,
    /// Speed fraction, 0.5 to 1.
    pub rate: f64,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} with a prefix of {} at {:.0} % speed, {} ticks a decision: the delay is {} ticks",
            self.strategy.name(),
            self.prefix_len,
            self.rate * 100.0,
            self.ticks_per_decision,
            self.delay_ticks,
        )
    }
}

/// What became of a chunk in the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Taken.
    Accepted,
    /// Taken although its prefix was over.
    Overrun,
    /// Dropped, because its prefix was over and it would have jumped.
    Discarded,
}

/// Why the choice changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The delay grew.
    Slower,
    /// The delay has been shorter for long.
    Faster,
    /// So many chunks in a row were discarded: worth the event `degraded`.
    Degraded,
    /// The minute after that is over.
    Recovered,
}

/// Chunks discarded in a row that make a cell `degraded` (`LeRobot` gives up there).
const DISCARDS_MAX: u32 = 5;
/// How long a degraded cell stays in sync: longer than the meter's window, so that the delays that
/// led there are forgotten.
const DEGRADED_NS: u64 = 60_000_000_000;

/// The gate of one cell.
#[derive(Debug, Clone)]
pub struct Gate {
    config: GateConfig,
    ability: Ability,
    meter: DelayMeter,
    /// The delays that the choice rests on.
    held: Delays,
    /// Since when the delay has been shorter, and the largest since.
    quiet: Option<(u64, Delays)>,
    discards: u32,
    degraded_until_ns: Option<u64>,
    choice: Choice,
}

impl Gate {
    /// Begins with the delays of the warm-up, at least five of them at load.
    ///
    /// # Errors
    /// [`Impossible`] if strategy, policy and delay can never work together.
    pub fn new(
        config: GateConfig,
        ability: Ability,
        meter: DelayMeter,
    ) -> Result<Self, Impossible> {
        let known = check_at_load(&config, ability, &meter)?;
        let held = Delays::of(&meter, config.dt_ns, 0);
        // Of a delay that nobody has measured nothing follows: the first decision stands still.
        let careful = GateConfig {
            wanted: Wanted::Fixed(Strategy::Sync),
            ..config
        };
        let choice = if meter.count() == 0 && config.wanted == Wanted::Auto {
            choose(&careful, ability, held)
        } else {
            known
        };
        Ok(Self {
            config,
            ability,
            meter,
            held,
            quiet: None,
            discards: 0,
            degraded_until_ns: None,
            choice,
        })
    }

    /// How the next decision is made.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// How a decision would be made after one that took so long: the first one from standstill may
    /// show a delay that nobody has measured yet.
    pub fn after(&self, delay_ns: u64, now_ns: u64) -> Choice {
        let mut gate = self.clone();
        gate.note(delay_ns, Fate::Accepted, now_ns);
        gate.choice
    }

    /// The delays so far.
    pub fn meter(&self) -> &DelayMeter {
        &self.meter
    }

    /// Whether chunks were discarded so often that the cell waits in sync.
    pub fn degraded(&self) -> bool {
        self.degraded_until_ns.is_some()
    }

    /// Takes the delay of one decision, from the observation's capture to the guard's buffer, and
    /// what became of its chunk; says why, if the choice changed.
    pub fn note(&mut self, delay_ns: u64, fate: Fate, now_ns: u64) -> Option<Because> {
        let first = self.meter.count() == 0;
        self.meter.push(delay_ns);
        self.discards = match fate {
            Fate::Discarded => self.discards + 1,
            Fate::Accepted | Fate::Overrun => 0,
        };
        let mut because = self.follow(now_ns);
        if first && because.is_none() && self.renew() {
            because = Some(Because::Faster);
        }
        if DISCARDS_MAX <= self.discards {
            self.discards = 0;
            self.degraded_until_ns = Some(now_ns.saturating_add(DEGRADED_NS));
            self.renew();
            return Some(Because::Degraded);
        }
        because
    }

    /// Lets time go by; says why, if the choice changed.
    pub fn tick(&mut self, now_ns: u64) -> Option<Because> {
        if self.degraded_until_ns.is_some_and(|until| until <= now_ns) {
            self.degraded_until_ns = None;
            return self.renew().then_some(Because::Recovered);
        }
        self.follow(now_ns)
    }

    /// Raises what is held at once, lowers it after the quiet time.
    fn follow(&mut self, now_ns: u64) -> Option<Because> {
        let measured = Delays::of(&self.meter, self.config.dt_ns, 0);
        if self.held.exceeded_by(measured) {
            self.held = self.held.larger(measured);
            self.quiet = None;
            return self.renew().then_some(Because::Slower);
        }
        let dt_ns = self.config.dt_ns;
        let careful = Delays::of(&self.meter, dt_ns, dt_ns / 2);
        if !careful.below(self.held) {
            self.quiet = None;
            return None;
        }
        let (since, largest) = self.quiet.unwrap_or((now_ns, careful));
        let largest = largest.larger(careful);
        if now_ns.saturating_sub(since) < self.config.quiet_ns {
            self.quiet = Some((since, largest));
            return None;
        }
        (self.held, self.quiet) = (largest, None);
        self.renew().then_some(Because::Faster)
    }

    /// Chooses again; says whether anything changed.
    fn renew(&mut self) -> bool {
        let config = match self.degraded_until_ns {
            Some(_) => GateConfig {
                wanted: Wanted::Fixed(Strategy::Sync),
                ..self.config
            },
            None => self.config,
        };
        let choice = choose(&config, self.ability, self.held);
        let changed = choice != self.choice;
        self.choice = choice;
        changed
    }
}

/// Says how the first decision is made, or why strategy, policy and delay can never work together.
///
/// `auto` is refused only where not even sync is possible: it chooses by the rule.
///
/// # Errors
/// [`Impossible`], which names the manifest's or the cell's field.
pub fn check_at_load(
    config: &GateConfig,
    ability: Ability,
    meter: &DelayMeter,
) -> Result<Choice, Impossible> {
    let delays = Delays::of(meter, config.dt_ns, 0);
    impossible::check(config, ability, delays)?;
    Ok(choose(config, ability, delays))
}

#[cfg(test)]
mod tests;
