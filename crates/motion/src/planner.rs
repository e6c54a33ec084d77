//! When to ask for the next decision, and where its chunk begins.
//!
//! Pure: the action expert calls [`decide`] whenever something changed. Consumed actions are
//! counted by the guard, never estimated from time.
//!
//! ```text
//!  sync:   … last ticks: Anticipate → still: Ask(after standstill) → chunk OnArrival
//!  naive:  still: Ask → chunk OnArrival;  every T_e played ticks: Ask(newest) → chunk At(tick of
//!          its observation), whose first rows are over when it arrives
//! ```

use vlad_safety::mode::{Mode, State};
use vlad_wire::id::Tick;
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::think::{Start, Strategy};

/// What the planner follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannerConfig {
    /// How chunks meet; `sync` and `naive` exist so far.
    pub strategy: Strategy,
    /// Ticks that are played between two decisions (`T_e`) where chunks overlap.
    pub ticks_per_decision: u64,
}

/// Ticks before the end of a sync chunk at which the expert announces the decision to come, so that
/// the guard finds a fresh heartbeat that says so: three heartbeats long.
const ANNOUNCE_TICKS: usize = 3;

/// What the expert knows of the guard.
#[derive(Debug, Clone, Copy)]
pub struct GuardView<'a> {
    /// The newest buffer.
    pub accepted: &'a Accepted,
    /// The newest joints.
    pub joints: &'a JointState,
    /// Ticks that had been played when the last decision was asked for.
    pub played_at_last: Option<u64>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Wait,
    /// Nothing yet, but a decision will follow: say so in the heartbeat.
    Anticipate,
    /// Ask for a decision.
    Ask {
        /// Earliest tick that the observation may have.
        earliest_tick: Tick,
        /// Earliest capture that the observation may have.
        earliest_captured_ns: u64,
    },
}

/// Says what to do now, while no decision is under way and a task holds the cell.
pub fn decide(config: &PlannerConfig, view: &GuardView<'_>) -> Plan {
    let state = State {
        mode: view.accepted.mode,
        reason: view.accepted.reason,
    };
    match state.mode {
        Mode::Armed => from_standstill(view),
        Mode::Hold if state.resumable() => from_standstill(view),
        Mode::Running if config.strategy == Strategy::Sync => {
            if view.accepted.remaining() <= ANNOUNCE_TICKS {
                Plan::Anticipate
            } else {
                Plan::Wait
            }
        }
        Mode::Running => {
            let played = view.accepted.played;
            let due = view
                .played_at_last
                .map_or(0, |last| last + config.ticks_per_decision);
            if due <= played {
                Plan::Ask {
                    earliest_tick: view.joints.tick,
                    earliest_captured_ns: 0,
                }
            } else {
                Plan::Wait
            }
        }
        _ => Plan::Wait,
    }
}

/// Says where a finished chunk begins, by the guard's mode when it is sent.
pub fn start(strategy: Strategy, mode: Mode, obs_tick: Tick) -> Start {
    match mode {
        Mode::Running if strategy != Strategy::Sync => Start::At(obs_tick),
        _ => Start::OnArrival,
    }
}

fn from_standstill(view: &GuardView<'_>) -> Plan {
    if view.joints.standstill && view.accepted.remaining() == 0 {
        Plan::Ask {
            earliest_tick: view.joints.tick,
            earliest_captured_ns: view.joints.still_since_ns,
        }
    } else {
        Plan::Anticipate
    }
}

#[cfg(test)]
mod tests {
    use vlad_safety::reason::Reason;

    use super::*;

    fn accepted(mode: Mode, reason: Reason, remaining: usize, played: u64) -> Accepted {
        Accepted {
            epoch: 1,
            sampled_at_ns: 0,
            tick: 40,
            mode,
            reason,
            chunk: None,
            strategy: None,
            played,
            width: 2,
            rows: vec![0.0; remaining * 2],
        }
    }

    fn joints(standstill: bool) -> JointState {
        JointState {
            tick: 41,
            servo_tick: 0,
            sampled_at_ns: 0,
            position: vec![],
            velocity: vec![],
            commanded: vec![],
            eef: vec![],
            standstill,
            still_since_ns: 77,
            rate: 1.0,
        }
    }

    fn plan(strategy: Strategy, accepted: &Accepted, standstill: bool, last: Option<u64>) -> Plan {
        let config = PlannerConfig {
            strategy,
            ticks_per_decision: 10,
        };
        let joints = joints(standstill);
        decide(
            &config,
            &GuardView {
                accepted,
                joints: &joints,
                played_at_last: last,
            },
        )
    }

    #[test]
    fn sync_looks_after_standstill_and_announces_before() {
        let ask = Plan::Ask {
            earliest_tick: 41,
            earliest_captured_ns: 77,
        };
        let armed = accepted(Mode::Armed, Reason::Rearmed, 0, 0);
        assert_eq!(plan(Strategy::Sync, &armed, true, None), ask);
        assert_eq!(plan(Strategy::Sync, &armed, false, None), Plan::Anticipate);
        let playing = |left| accepted(Mode::Running, Reason::Playing, left, 5);
        assert_eq!(
            plan(Strategy::Sync, &playing(20), false, Some(0)),
            Plan::Wait
        );
        assert_eq!(
            plan(Strategy::Sync, &playing(3), false, Some(0)),
            Plan::Anticipate
        );
        let thinking = accepted(Mode::Hold, Reason::Thinking, 0, 30);
        assert_eq!(plan(Strategy::Sync, &thinking, true, Some(0)), ask);
    }

    #[test]
    fn naive_asks_after_so_many_played_ticks() {
        let playing = |played| accepted(Mode::Running, Reason::Playing, 20, played);
        let ask = Plan::Ask {
            earliest_tick: 41,
            earliest_captured_ns: 0,
        };
        assert_eq!(
            plan(Strategy::Naive, &playing(9), false, Some(0)),
            Plan::Wait
        );
        assert_eq!(plan(Strategy::Naive, &playing(10), false, Some(0)), ask);
        assert_eq!(plan(Strategy::Naive, &playing(10), false, None), ask);
    }

    #[test]
    fn nothing_is_asked_where_no_chunk_would_be_taken() {
        for (mode, reason) in [
            (Mode::Disarmed, Reason::Started),
            (Mode::Stopping, Reason::BrainLost),
            (Mode::Stopped, Reason::BrainLost),
            (Mode::Estopped, Reason::EmergencyStop),
            (Mode::Fault, Reason::BadChunks),
            (Mode::Hold, Reason::Paused),
            (Mode::Hold, Reason::LeaseReleased),
        ] {
            for strategy in [Strategy::Sync, Strategy::Naive] {
                assert_eq!(
                    plan(strategy, &accepted(mode, reason, 0, 0), true, None),
                    Plan::Wait
                );
            }
        }
    }

    #[test]
    fn a_chunk_begins_at_its_observation_only_while_playing() {
        assert_eq!(start(Strategy::Naive, Mode::Running, 7), Start::At(7));
        assert_eq!(start(Strategy::Naive, Mode::Hold, 7), Start::OnArrival);
        assert_eq!(start(Strategy::Sync, Mode::Hold, 7), Start::OnArrival);
        assert_eq!(start(Strategy::Sync, Mode::Running, 7), Start::OnArrival);
    }
}
