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
}

#[derive(Default)]
struct State {
    cut: Cut,
    rough: Option<Injector>,
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
        let lost = match state.cut {
            Cut::Nothing => false,
            Cut::All => true,
            Cut::Keys(keys) => keys.contains(&row.key),
        };
        if lost {
            return Travel::once(u64::MAX);
        }
        let Some(injector) = &mut state.rough else {
            return Travel::once(budget_ns);
        };
        // Outages alone look at the time; here a cut is one.
        match injector.next(0) {
            Fate::Arrives { delay_ns, twin_ns } => Travel {
                after_ns: budget_ns + delay_ns,
                twin_after_ns: twin_ns.map(|twin_ns| budget_ns + twin_ns),
            },
            Fate::Lost => Travel::once(u64::MAX),
        }
    }
}
