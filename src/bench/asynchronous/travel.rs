//! How long a decision travels, so that a delay of d ticks is exactly that.
//!
//! The latency of inference and transport is put on the way of the context from the brain to the
//! action expert, which is after the look and before the chunk, as in a real decision; every other
//! message arrives at once. Not on the chunk's own way: the expert gives a chunk up that the guard
//! has not told of within 150 ms.
//!
//! Tick n is the servo periods 10n+1 to 10n+10. The camera's frame falls on the last of them, as the
//! oracle looks between two ticks; what follows takes whole periods:
//!
//! ```text
//!  period   10n+10           look, think, context sent
//!           10n+10  + δ      the expert acts
//!           10n+11  + δ      the chunk is sent
//!           10n+12  + δ      the guard's bus side reads it
//!           10n+13  + δ      the guard accepts it
//! ```
//! Row 0 is for tick n+1, so a chunk that is accepted within tick n+d plays from row d on. For d ≥ 1,
//! δ = 10d − 9 periods accepts it in period 10(n+d)+4: within tick n+d, and before that tick's look, so
//! that the next decision can begin with it, as the oracle's does. From look to acceptance that is d
//! ticks less six periods: d = ⌈delay/Δt⌉. For d = 0 the chunk must be there within tick n: then δ = 0,
//! and the frame falls three periods earlier (`ahead`).

use std::sync::{Arc, Mutex, PoisonError};

use vlad_bus::travel::Travel;
use vlad_sim::latency::{Fate, Injector, LatencyConfig, Trace};
use vlad_sim::statistics::quantile;
use vlad_sim::twogate::STEPS_PER_TICK;
use vlad_wire::stream::{Contexts, Row, Stream};

use super::figures::millis;

/// A servo period of `TwoGate`'s robot, nanoseconds.
pub(in crate::bench) const PERIOD_NS: u64 = 3_333_333;
/// Periods of a delay that are no travel: see the module.
const OVERHEAD: u32 = 9;
/// Periods from a look to the acceptance of its chunk, if nothing travels.
const LEAST: u64 = 3;
/// Messages of one context of the policy `twogate`: its head and its plan. They travel together.
const MESSAGES: u32 = 2;

/// Where latencies come from.
#[derive(Debug, Clone)]
pub enum Cause {
    /// Drawn, from a seed.
    Drawn(LatencyConfig, u64),
    /// As they were once.
    Trace(Trace),
}

/// Travel of a decision that makes a delay of so many ticks, milliseconds.
pub fn travel_ms(delay_ticks: u32) -> f64 {
    let periods = (delay_ticks * STEPS_PER_TICK).saturating_sub(OVERHEAD);
    millis(u64::from(periods) * PERIOD_NS)
}

/// By how many periods the world is ahead of the guard's ticks: the frame falls so much before a
/// tick's last period.
pub(in crate::bench) fn ahead(delay_ticks: u32) -> u64 {
    if delay_ticks == 0 { LEAST } else { 0 }
}

/// Ticks of delay that a trace's median travel makes.
pub fn ticks_of(trace: &Trace) -> u32 {
    let travels = trace.fates().iter().filter_map(|fate| match fate {
        Fate::Arrives { delay_ns, .. } => Some(millis(*delay_ns)),
        Fate::Lost => None,
    });
    let travels: Vec<f64> = travels.collect();
    let median_ms = quantile(&travels, 0.5).unwrap_or(0.0);
    // The smallest delay whose own travel is as long; rounding of a nanosecond must not decide.
    let rounding_ms = 1e-5;
    (0..)
        .take(1000)
        .find(|ticks| median_ms <= travel_ms(*ticks) + rounding_ms)
        .unwrap_or(1000)
}

/// Latencies of one run, as they are given out.
#[derive(Clone)]
pub(super) struct Road {
    state: Arc<Mutex<State>>,
}

struct State {
    injector: Injector,
    /// The fate of the context that is being sent, and how many of its messages were sent.
    under_way: Option<(Fate, u32)>,
}

impl Road {
    pub(super) fn new(cause: Cause) -> Self {
        let injector = match cause {
            Cause::Drawn(config, seed) => Injector::drawn(config, seed),
            Cause::Trace(trace) => Injector::replay(trace),
        };
        let state = State {
            injector,
            under_way: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// How a message of a row travels.
    pub(super) fn travel(&self, row: &Row) -> Travel {
        if row.key != Contexts::ROW.key {
            return Travel::once(0);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (fate, sent) = match state.under_way.take() {
            Some(under_way) => under_way,
            // There are no outages here, which alone look at the time.
            None => (state.injector.next(0), 0),
        };
        state.under_way = (sent + 1 < MESSAGES).then_some((fate, sent + 1));
        match fate {
            Fate::Arrives { delay_ns, twin_ns } => Travel {
                after_ns: delay_ns,
                twin_after_ns: twin_ns,
            },
            Fate::Lost => Travel::once(u64::MAX),
        }
    }

    /// What was given out so far, one fate a decision.
    pub(super) fn given(&self) -> Trace {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.injector.given().clone()
    }
}
