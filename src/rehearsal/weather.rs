//! How messages fare in a rehearsal: as usual, lost, or late, doubled and out of order.

use std::sync::{Arc, Mutex, PoisonError};

use vlad_actors::stepped::Conditions;
use vlad_bus::travel::Travel;
use vlad_sim::latency::{Fate, Injector};
use vlad_wire::clock::MS;
use vlad_wire::stream::Row;

/// What is said of the guard reaches who listens whatever the weather: they stand beside it.
const BESIDE_THE_GUARD: [&str; 3] = ["executed", "guard", "event"];

/// Which messages are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cut {
    /// None.
    #[default]
    Nothing,
    /// All, commands and answers too.
    All,
    /// Those of these keys.
    Keys(&'static [&'static str]),
    /// None, but those of these keys come so much later, nanoseconds: a link that keeps what it cannot
    /// deliver, as TCP does.
    Late(&'static [&'static str], u64),
}

/// What a rough link did to messages on the way of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Harm {
    /// Lost.
    pub lost: u32,
    /// Later than `LATE_NS`.
    pub late: u32,
    /// Delivered twice.
    pub doubled: u32,
}

/// What a decision is made of, from the look to the guard's word that it has the chunk.
const DECISION: [&str; 5] = ["obs", "request", "context/{part}", "chunk", "accepted"];
/// More than a policy tick.
const LATE_NS: u64 = 34 * MS;

#[derive(Default)]
struct State {
    cut: Cut,
    rough: Option<Injector>,
    harm: Harm,
}

/// The weather; clones are the same one.
#[derive(Clone, Default)]
pub struct Weather(Arc<Mutex<State>>);

impl Weather {
    /// Loses messages from now on.
    pub fn cut(&self, cut: Cut) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cut = cut;
    }

    /// Each message's budget grows by what the injector gives, which may lose or double it too.
    pub fn rough(&self, injector: Injector) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rough = Some(injector);
    }

    /// What became of messages on the way of a decision.
    pub fn harm(&self) -> Harm {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).harm
    }

    /// The conditions of a run in this weather.
    pub fn conditions(&self) -> Conditions {
        let weather = self.clone();
        Conditions {
            travel: Box::new(move |row| weather.travel(row)),
            ..Conditions::default()
        }
    }

    fn travel(&self, row: &Row) -> Travel {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let budget_ns = u64::from(row.budget_ms) * MS;
        if BESIDE_THE_GUARD.contains(&row.key) {
            return Travel::once(budget_ns);
        }
        let (lost, late_ns) = match state.cut {
            Cut::All => (true, 0),
            Cut::Keys(keys) => (keys.contains(&row.key), 0),
            Cut::Late(keys, by_ns) if keys.contains(&row.key) => (false, by_ns),
            Cut::Nothing | Cut::Late(_, _) => (false, 0),
        };
        if lost {
            return Travel::once(u64::MAX);
        }
        let Some(injector) = &mut state.rough else {
            return Travel::once(budget_ns + late_ns);
        };
        // Outages alone look at the time; here a cut is one.
        let fate = injector.next(0);
        if DECISION.contains(&row.key) {
            state.harm.note(&fate);
        }
        match fate {
            Fate::Arrives { delay_ns, twin_ns } => Travel {
                after_ns: budget_ns + late_ns + delay_ns,
                twin_after_ns: twin_ns.map(|twin_ns| budget_ns + twin_ns),
            },
            Fate::Lost => Travel::once(u64::MAX),
        }
    }
}

impl Harm {
    fn note(&mut self, fate: &Fate) {
        match fate {
            Fate::Lost => self.lost += 1,
            Fate::Arrives { delay_ns, twin_ns } => {
                self.late += u32::from(LATE_NS < *delay_ns);
                self.doubled += u32::from(twin_ns.is_some());
            }
        }
    }
}
