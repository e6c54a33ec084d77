//! A role's heartbeat: 50 times a second, with the guard's newest challenge echoed.

use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::liveliness::AliveToken;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_motion::noise::decision_seed;
use vlad_wire::codec::VERSION;
use vlad_wire::id::{CellId, Role};
use vlad_wire::msg::health::{Alive, Fitness, PolicyLabel, Version};
use vlad_wire::stream::Heartbeats;
use vlad_wire::text::Note;

use crate::actuator::settings::HEARTBEAT_PERIOD_NS;

/// What a role says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Whether it can work.
    pub fitness: Fitness,
    /// The decision under way.
    pub in_flight: Option<u64>,
    /// Its policy, if it runs one.
    pub policy: Option<PolicyLabel>,
}

impl Condition {
    /// Able to work, nothing under way.
    pub fn fit() -> Self {
        Self {
            fitness: Fitness::Fit,
            in_flight: None,
            policy: None,
        }
    }
}

/// The heartbeat of one role for one cell; its liveliness token goes when it is dropped.
pub struct Pulse {
    role: Role,
    session: u64,
    seq: u64,
    echo: u64,
    next_ns: u64,
    last: Option<Condition>,
    publisher: Publisher<Heartbeats>,
    guard: Subscriber<Heartbeats>,
    _token: AliveToken,
}

impl Pulse {
    /// Declares the role's liveliness token. `session` differs from start to start.
    ///
    /// # Errors
    /// [`BusError`] if the bus refuses.
    pub fn new(bus: &Bus, cell: &CellId, role: Role, session: u64) -> Result<Self, BusError> {
        Ok(Self {
            role,
            session,
            seq: 0,
            echo: 0,
            next_ns: 0,
            last: None,
            publisher: bus.publisher(cell, role.name())?,
            guard: bus.subscriber(cell, Role::Actuator.name(), None)?,
            _token: bus.declare_alive(cell, role, session)?,
        })
    }

    /// Sends a heartbeat if one is due or the condition changed; gives the challenge in it.
    pub fn beat(&mut self, condition: &Condition, now_ns: u64) -> Option<u64> {
        while let Some(alive) = self.guard.try_next() {
            self.echo = alive.challenge;
        }
        if now_ns < self.next_ns && self.last.as_ref() == Some(condition) {
            return None;
        }
        // An absolute schedule that skips what it missed. A beat ahead of it, for a change, is no
        // leave to be silent afterwards.
        let due_ns = self.next_ns.min(now_ns);
        self.next_ns = (due_ns + HEARTBEAT_PERIOD_NS).max(now_ns);
        self.last = Some(condition.clone());
        self.seq += 1;
        let challenge = decision_seed(self.session, self.seq);
        self.publisher.put(&Alive {
            role: self.role,
            session: self.session,
            seq: self.seq,
            challenge,
            echo: self.echo,
            version: Version {
                layout: VERSION,
                package: Note::cleaned(env!("CARGO_PKG_VERSION")),
            },
            in_flight: condition.in_flight,
            fitness: condition.fitness.clone(),
            policy: condition.policy.clone(),
            sent_at_ns: now_ns,
        });
        Some(challenge)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vlad_wire::clock::{Clock, MS, ManualClock};
    use vlad_wire::text::Name;

    use super::*;

    /// A role whose condition changes at each step beats at each step, and is not silent afterwards.
    #[test]
    fn many_changes_are_no_leave_to_be_silent() {
        let clock = Arc::new(ManualClock::default());
        let bus = Bus::queue(clock.clone(), |_| 0);
        let cell = Name::new("demo").unwrap();
        let mut pulse = Pulse::new(&bus, &cell, Role::Perception, 1).unwrap();
        let condition = |number: u64| Condition {
            in_flight: Some(number),
            ..Condition::fit()
        };
        for number in 1..=100 {
            clock.advance_to(number * 4 * MS);
            assert!(pulse.beat(&condition(number), clock.now_ns()).is_some());
        }
        let last_ns = clock.now_ns();
        let before = last_ns + HEARTBEAT_PERIOD_NS - 1;
        assert!(pulse.beat(&condition(100), before).is_none());
        assert!(pulse.beat(&condition(100), before + 1).is_some());
    }
}
