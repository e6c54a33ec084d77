//! Who is alive: what the guard knows of the other roles' heartbeats.

use std::collections::VecDeque;

use vlad_wire::codec::VERSION;
use vlad_wire::id::Role;
use vlad_wire::msg::health::{Alive, Fitness};

/// Challenges that a heartbeat may echo: one second of them.
const CHALLENGES_KEPT: usize = 50;

#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    session: u64,
    at_ns: u64,
    fit: bool,
    in_flight: bool,
}

/// The roles' newest heartbeats, on the guard's clock.
#[derive(Debug)]
pub(super) struct Watch {
    perception: Option<Heard>,
    brain: Option<Heard>,
    expert: Option<Heard>,
    challenges: VecDeque<u64>,
}

impl Default for Watch {
    /// Nobody was heard. All memory is taken here.
    fn default() -> Self {
        Self {
            perception: None,
            brain: None,
            expert: None,
            challenges: VecDeque::with_capacity(CHALLENGES_KEPT),
        }
    }
}

impl Watch {
    /// Remembers a challenge that the guard has sent.
    pub(super) fn challenged(&mut self, challenge: u64) {
        if CHALLENGES_KEPT <= self.challenges.len() {
            self.challenges.pop_front();
        }
        self.challenges.push_back(challenge);
    }

    /// Takes a heartbeat that arrived now. One that echoes no recent challenge of this guard, or
    /// speaks another layout, counts as silence: it may be a recording or a stranger.
    pub(super) fn heard(&mut self, alive: &Alive, now_ns: u64) {
        if !self.challenges.contains(&alive.echo) || alive.version.layout != VERSION {
            return;
        }
        let heard = Heard {
            session: alive.session,
            at_ns: now_ns,
            fit: alive.fitness == Fitness::Fit,
            in_flight: alive.in_flight.is_some(),
        };
        if let Some(place) = self.place(alive.role) {
            *place = Some(heard);
        }
    }

    /// Takes the end of a role's liveliness token; an older session's end changes nothing.
    pub(super) fn died(&mut self, role: Role, session: u64) -> bool {
        let Some(place) = self.place(role) else {
            return false;
        };
        let ours = place.is_some_and(|heard| heard.session == session);
        if ours {
            *place = None;
        }
        ours
    }

    /// Whether perception is heard and fit.
    pub(super) fn sees(&self, now_ns: u64, silence_ns: u64) -> bool {
        self.perception
            .is_some_and(|heard| heard.fit && fresh(&heard, now_ns, silence_ns))
    }

    /// Whether a fresh heartbeat of perception says that it is unfit; silence says nothing.
    pub(super) fn says_unfit(&self, now_ns: u64, silence_ns: u64) -> bool {
        self.perception
            .is_some_and(|heard| !heard.fit && fresh(&heard, now_ns, silence_ns))
    }

    /// Whether a fresh heartbeat of the action expert says that a decision is under way.
    pub(super) fn thinks(&self, now_ns: u64, silence_ns: u64) -> bool {
        self.expert
            .is_some_and(|heard| heard.in_flight && fresh(&heard, now_ns, silence_ns))
    }

    fn place(&mut self, role: Role) -> Option<&mut Option<Heard>> {
        match role {
            Role::Perception => Some(&mut self.perception),
            Role::Brain => Some(&mut self.brain),
            Role::ActionExpert => Some(&mut self.expert),
            Role::Actuator | Role::Recorder | Role::Gateway => None,
        }
    }
}

fn fresh(heard: &Heard, now_ns: u64, silence_ns: u64) -> bool {
    now_ns.saturating_sub(heard.at_ns) <= silence_ns
}

#[cfg(test)]
mod tests {
    use vlad_wire::msg::health::Version;
    use vlad_wire::text::Note;

    use super::*;

    fn alive(role: Role, echo: u64) -> Alive {
        Alive {
            role,
            session: 5,
            seq: 1,
            challenge: 1,
            echo,
            version: Version {
                layout: VERSION,
                package: Note::cleaned("x"),
            },
            in_flight: Some(1),
            fitness: Fitness::Fit,
            policy: None,
            sent_at_ns: 0,
        }
    }

    #[test]
    fn only_an_echo_of_a_recent_challenge_counts() {
        let mut watch = Watch::default();
        watch.heard(&alive(Role::Perception, 0), 10);
        assert!(!watch.sees(10, 100));
        watch.challenged(42);
        watch.heard(&alive(Role::Perception, 41), 10);
        assert!(!watch.sees(10, 100));
        watch.heard(&alive(Role::Perception, 42), 10);
        assert!(watch.sees(110, 100) && !watch.sees(111, 100));
        for other in 100..150 {
            watch.challenged(other);
        }
        watch.heard(&alive(Role::Perception, 42), 500);
        assert!(!watch.sees(500, 100));
    }

    #[test]
    fn another_layout_or_unfitness_is_not_fit() {
        let mut watch = Watch::default();
        watch.challenged(1);
        let mut other = alive(Role::Perception, 1);
        other.version.layout = VERSION + 1;
        watch.heard(&other, 0);
        assert!(!watch.sees(0, 100));
        let mut unfit = alive(Role::Perception, 1);
        unfit.fitness = Fitness::Unfit(Note::cleaned("dark"));
        watch.heard(&unfit, 0);
        assert!(!watch.sees(0, 100));
        assert!(watch.says_unfit(100, 100) && !watch.says_unfit(101, 100));
    }

    #[test]
    fn the_end_of_an_older_session_is_no_death() {
        let mut watch = Watch::default();
        watch.challenged(1);
        watch.heard(&alive(Role::ActionExpert, 1), 0);
        assert!(!watch.died(Role::ActionExpert, 4));
        assert!(watch.thinks(0, 100));
        assert!(watch.died(Role::ActionExpert, 5));
        assert!(!watch.thinks(0, 100) && !watch.died(Role::ActionExpert, 5));
    }
}
