//! A run in which the goal jumps, and its twin in which it does not.

use vlad_motion::noise::decision_seed;
use vlad_motion::planner::Replanning;
use vlad_sim::twogate::STEPS_PER_TICK;

use super::{Cell, latency};
use crate::bench::asynchronous::contender::Contender;
use crate::bench::asynchronous::ear::{Heard, Played};
use crate::bench::asynchronous::figures::millis;
use crate::bench::asynchronous::ground::Ground;
use crate::bench::asynchronous::stage::{Stage, Trial};
use crate::bench::asynchronous::travel::Cause;

/// From here on the goal may jump, metres along x: behind the second gate, where the way bends to the
/// goal at once.
const FROM_X_M: f64 = 1.2;
/// Longest way there, servo periods: sync stands still on it.
const PERIODS_MAX: u32 = 9000;
/// Ticks that an answer may take beyond cycle and delay until it is seen in the targets.
const SEEN_TICKS: u32 = 25;
/// Three standard deviations of a chunk's first row: 12 mm (1 − e^−0.2) each.
const NOISE_M: f64 = 3.0 * 0.0022;
/// Directions that differ by less are the same, as a cosine: 10°.
const SAME_WAY: f64 = 0.984_807_753;
/// A shorter step of a tick has no direction, metres.
const STEP_MIN_M: f64 = 0.001;
/// Which number of a seed's draws the phase is.
const PHASE: u64 = 0x7265_6163;

/// When the goal jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// Of the episode and the policy's noise.
    pub(super) seed: u64,
    /// So many servo periods after the point passed [`FROM_X_M`].
    pub(super) wait_periods: u32,
}

impl Event {
    /// Draws the moment, any within a cycle of so many ticks alike.
    pub(super) fn drawn(seed: u64, cycle_ticks: u32) -> Self {
        let periods = u64::from(cycle_ticks * STEPS_PER_TICK).max(1);
        let drawn = decision_seed(seed, PHASE) % periods;
        Self {
            seed,
            wait_periods: u32::try_from(drawn).unwrap_or(0),
        }
    }
}

/// What answered a jump, milliseconds after it; `None` where nothing did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answer {
    /// The first command that rests on a later look.
    pub command_ms: Option<f64>,
    /// The first target far from the twin's.
    pub changed_ms: Option<f64>,
    /// The first step that goes another way than the twin's.
    pub direction_ms: Option<f64>,
    /// Rows that the answering chunk was conditioned on.
    pub prefix_len: u16,
    /// Ticks between its acceptance and its first free row.
    pub prefix_ticks: i64,
    /// Whether the guard stopped one of the two.
    pub stopped: bool,
}

/// Runs both.
///
/// # Errors
/// A part that cannot be made, and a guard that refuses to begin.
pub(super) fn run(ground: &Ground, cell: Cell, event: Event) -> anyhow::Result<Answer> {
    let (with, jumped_ns) = hear(ground, cell, (event, true))?;
    let (without, _) = hear(ground, cell, (event, false))?;
    let Some(jumped_ns) = jumped_ns else {
        return Ok(Answer {
            stopped: with.stopped.is_some(),
            ..Answer::default()
        });
    };
    Ok(answer(&with, &without, jumped_ns))
}

/// Hears a run in which the goal jumps, or does not at the same moment; gives that moment, if the
/// point came so far.
fn hear(
    ground: &Ground,
    cell: Cell,
    (event, jumps): (Event, bool),
) -> anyhow::Result<(Heard, Option<u64>)> {
    let replanning = match cell.contender {
        Contender::Sync => Replanning::Cadence,
        _ => cell.replanning,
    };
    let mut stage = Stage::new(
        ground,
        Trial {
            contender: cell.contender,
            replanning,
            delay_ticks: cell.delay_ticks,
            cause: Cause::Drawn(latency(cell), event.seed),
            seed: event.seed,
            jumps: false,
        },
    )?;
    let (mut left, mut jumped_ns) = (event.wait_periods, None);
    let after = STEPS_PER_TICK * (cell.cycle_ticks() + cell.delay_ticks + SEEN_TICKS);
    for _ in 0..PERIODS_MAX {
        let now_ns = stage.step()?;
        let [x, _] = stage.world.motion().0;
        if jumped_ns.is_none() && x < FROM_X_M {
            continue;
        }
        if 0 < left {
            left -= 1;
        } else if jumped_ns.is_none() {
            jumped_ns = Some(now_ns);
            left = after;
            if jumps {
                stage.world.jump();
            }
        } else {
            break;
        }
    }
    Ok((stage.ear.heard(), jumped_ns))
}

fn answer(with: &Heard, without: &Heard, jumped_ns: u64) -> Answer {
    let since = |tick: &Played| millis(tick.sent_at_ns.saturating_sub(jumped_ns));
    let mut answer = Answer {
        stopped: with.stopped.or(without.stopped).is_some(),
        ..Answer::default()
    };
    let looked_later = |tick: &&Played| {
        let chunk = tick.chunk.and_then(|id| with.chunks.get(&id));
        chunk.is_some_and(|chunk| jumped_ns < chunk.head.captured_at_ns)
    };
    if let Some(first) = with.played.iter().find(looked_later) {
        answer.command_ms = Some(since(first));
        let chunk = first.chunk.and_then(|id| with.chunks.get(&id));
        answer.prefix_len = chunk.map_or(0, |chunk| chunk.head.prefix_len);
        let accepted_in = first.chunk.and_then(|id| with.accepted_in.get(&id));
        answer.prefix_ticks = accepted_in.map_or(0, |tick| first.tick.saturating_sub(tick + 1));
    }
    let later = steps(with, without).filter(|both| jumped_ns < both.tick.sent_at_ns);
    for both in later {
        if NOISE_M < distance(both.to.0, both.to.1) {
            answer.changed_ms.get_or_insert(since(both.tick));
        }
        if both.part() {
            answer.direction_ms.get_or_insert(since(both.tick));
        }
    }
    answer
}

/// A tick's step in both runs.
struct Both<'r> {
    tick: &'r Played,
    from: (&'r [f64], &'r [f64]),
    to: (&'r [f64], &'r [f64]),
}

impl Both<'_> {
    /// Whether they go different ways: one stands and the other moves, or both move, elsewhere.
    fn part(&self) -> bool {
        let a = difference(self.to.0, self.from.0);
        let b = difference(self.to.1, self.from.1);
        let (long_a, long_b) = (length(&a), length(&b));
        match (STEP_MIN_M < long_a, STEP_MIN_M < long_b) {
            (true, true) => {
                let dot: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
                dot < SAME_WAY * long_a * long_b
            }
            (false, false) => false,
            _ => STEP_MIN_M < (long_a - long_b).abs(),
        }
    }
}

/// The steps of ticks that both runs have, in order.
fn steps<'r>(with: &'r Heard, without: &'r Heard) -> impl Iterator<Item = Both<'r>> {
    let pairs = with.played.iter().zip(&without.played);
    let pairs: Vec<_> = pairs.take_while(|(a, b)| a.tick == b.tick).collect();
    let next: Vec<_> = pairs.iter().skip(1).copied().collect();
    pairs.into_iter().zip(next).map(|(from, to)| Both {
        tick: to.0,
        from: (&from.0.target_m, &from.1.target_m),
        to: (&to.0.target_m, &to.1.target_m),
    })
}

fn difference(to: &[f64], from: &[f64]) -> Vec<f64> {
    to.iter().zip(from).map(|(to, from)| to - from).collect()
}

fn length(step: &[f64]) -> f64 {
    step.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    length(&difference(a, b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn heard(targets: &[[f64; 2]]) -> Heard {
        let ticks = (10..).zip(targets).map(|(tick, target)| Played {
            tick,
            sent_at_ns: u64::try_from(tick).unwrap() * 1_000_000,
            target_m: target.to_vec(),
            chunk: None,
        });
        Heard {
            played: ticks.collect(),
            chunks: BTreeMap::new(),
            accepted_in: BTreeMap::new(),
            stopped: None,
        }
    }

    #[test]
    fn a_turn_is_seen_before_the_distance_is_large() {
        let straight = heard(&[[0.0, 0.0], [0.015, 0.0], [0.03, 0.0], [0.045, 0.0]]);
        let turned = heard(&[[0.0, 0.0], [0.015, 0.0], [0.03, 0.005], [0.045, 0.01]]);
        let found = answer(&turned, &straight, 9_000_000);
        assert_eq!(found.direction_ms, Some(3.0));
        assert_eq!(found.changed_ms, Some(4.0));
        assert_eq!(found.command_ms, None);
        let alike = answer(&straight, &straight, 9_000_000);
        assert_eq!((alike.direction_ms, alike.changed_ms), (None, None));
    }

    #[test]
    fn a_turn_of_less_than_ten_degrees_is_none() {
        let straight = heard(&[[0.0, 0.0], [0.015, 0.0]]);
        let at = |y: f64| answer(&heard(&[[0.0, 0.0], [0.015, y]]), &straight, 0).direction_ms;
        assert_eq!(at(0.015 * 0.17), None);
        assert_eq!(at(0.015 * 0.18), Some(11.0));
    }

    #[test]
    fn moving_where_the_other_stands_is_another_way() {
        let stands = heard(&[[0.0, 0.0], [0.0, 0.0]]);
        let at = |x: f64| answer(&heard(&[[0.0, 0.0], [x, 0.0]]), &stands, 0).direction_ms;
        assert_eq!(at(0.0009), None);
        assert_eq!(at(0.0021), Some(11.0));
    }

    #[test]
    fn moments_are_spread_over_the_whole_cycle() {
        let mut waits: Vec<u32> = (0..2000)
            .map(|seed| Event::drawn(seed, 3).wait_periods)
            .collect();
        waits.sort_unstable();
        waits.dedup();
        assert_eq!(waits, (0..30).collect::<Vec<_>>());
    }
}
