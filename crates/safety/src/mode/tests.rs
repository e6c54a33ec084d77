use proptest::prelude::*;

use super::*;

const EVENTS: [Event; 22] = [
    Event::Rearm,
    Event::ChunkAccepted,
    Event::PlannedGap,
    Event::ThinkTimedOut,
    Event::Unfit,
    Event::UnfitTimedOut,
    Event::BufferEmpty,
    Event::ActionTooOld,
    Event::BrainDied,
    Event::ExpertDied,
    Event::LeaseLost,
    Event::LeaseReleased,
    Event::LeaseGranted,
    Event::Pause,
    Event::Resume,
    Event::FirstCommandJump,
    Event::Standstill,
    Event::RobotError,
    Event::ServoOverrun,
    Event::Estop,
    Event::Fault(Reason::BadChunks),
    Event::Reset,
];

fn any_state() -> impl Strategy<Value = State> {
    let reasons: Vec<_> = Reason::all().collect();
    (
        prop::sample::select(Mode::ALL.to_vec()),
        prop::sample::select(reasons),
    )
        .prop_map(|(mode, reason)| State { mode, reason })
}

fn after(state: State, events: &[Event]) -> State {
    events
        .iter()
        .fold(state, |state, event| transition(state, *event))
}

#[test]
fn mode_names_read_back() {
    for mode in Mode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
    }
    assert!("walking".parse::<Mode>().is_err());
}

#[test]
fn motion_begins_only_out_of_armed_or_a_resumable_hold() {
    for mode in Mode::ALL {
        for reason in Reason::all() {
            let state = State { mode, reason };
            for event in EVENTS {
                let next = transition(state, event);
                if next.mode == Mode::Running && mode != Mode::Running {
                    assert_eq!(event, Event::ChunkAccepted);
                    assert!(mode == Mode::Armed || state.resumable());
                }
            }
        }
    }
}

#[test]
fn a_latched_mode_leaves_only_by_reset() {
    for mode in [Mode::Estopped, Mode::Fault] {
        let state = State {
            mode,
            reason: Reason::EmergencyStop,
        };
        for event in EVENTS {
            let next = transition(state, event);
            if event == Event::Reset {
                assert_eq!(
                    next,
                    State {
                        mode: Mode::Disarmed,
                        reason: Reason::Reset
                    }
                );
            } else {
                assert_eq!(next, state);
            }
        }
    }
}

#[test]
fn estop_and_fault_latch_from_every_mode() {
    for mode in Mode::ALL.into_iter().filter(|mode| !mode.latched()) {
        let state = State {
            mode,
            reason: Reason::Started,
        };
        assert_eq!(transition(state, Event::Estop).mode, Mode::Estopped);
        assert_eq!(
            transition(state, Event::Fault(Reason::BadChunks)).mode,
            Mode::Fault
        );
    }
}

#[test]
fn each_loss_while_running_has_its_row() {
    let running = State {
        mode: Mode::Running,
        reason: Reason::Playing,
    };
    let rows = [
        (Event::PlannedGap, Mode::Hold, Reason::Thinking),
        (Event::Unfit, Mode::Hold, Reason::PerceptionUnfit),
        (Event::LeaseLost, Mode::Hold, Reason::LeaseLost),
        (Event::LeaseReleased, Mode::Hold, Reason::LeaseReleased),
        (Event::Pause, Mode::Hold, Reason::Paused),
        (Event::BufferEmpty, Mode::Stopping, Reason::BufferEmpty),
        (Event::ActionTooOld, Mode::Stopping, Reason::ActionTooOld),
        (Event::BrainDied, Mode::Stopping, Reason::BrainLost),
        (Event::ExpertDied, Mode::Stopping, Reason::ExpertLost),
        (Event::RobotError, Mode::Stopping, Reason::RobotError),
        (Event::ServoOverrun, Mode::Stopping, Reason::ServoOverrun),
    ];
    for (event, mode, reason) in rows {
        assert_eq!(transition(running, event), State { mode, reason });
    }
}

#[test]
fn a_stop_ends_in_stopped_and_needs_a_rearm() {
    let running = State {
        mode: Mode::Running,
        reason: Reason::Playing,
    };
    let stopped = after(running, &[Event::BrainDied, Event::Standstill]);
    assert_eq!(
        stopped,
        State {
            mode: Mode::Stopped,
            reason: Reason::BrainLost
        }
    );
    assert_eq!(
        after(
            stopped,
            &[Event::ChunkAccepted, Event::Resume, Event::LeaseGranted]
        ),
        stopped
    );
    let playing = after(stopped, &[Event::Rearm, Event::ChunkAccepted]);
    assert_eq!(playing, running);
}

#[test]
fn holds_go_on_as_the_table_says() {
    let running = State {
        mode: Mode::Running,
        reason: Reason::Playing,
    };
    assert_eq!(
        after(running, &[Event::PlannedGap, Event::ChunkAccepted]),
        running
    );
    assert_eq!(
        after(running, &[Event::Unfit, Event::ChunkAccepted]),
        running
    );
    let timed_out = after(running, &[Event::PlannedGap, Event::ThinkTimedOut]);
    assert_eq!(
        timed_out,
        State {
            mode: Mode::Stopping,
            reason: Reason::ThinkTimeout
        }
    );
    let lost = after(running, &[Event::Unfit, Event::UnfitTimedOut]);
    assert_eq!(
        lost,
        State {
            mode: Mode::Stopping,
            reason: Reason::PerceptionLost
        }
    );
    // A released or lost lease and a pause do not go on with a chunk alone.
    for event in [Event::LeaseReleased, Event::LeaseLost, Event::Pause] {
        assert_eq!(
            after(running, &[event, Event::ChunkAccepted]).mode,
            Mode::Hold
        );
    }
    for event in [Event::LeaseReleased, Event::LeaseLost] {
        assert_eq!(
            after(running, &[event, Event::LeaseGranted, Event::ChunkAccepted]),
            running
        );
    }
    assert_eq!(
        after(
            running,
            &[Event::Pause, Event::Resume, Event::ChunkAccepted]
        ),
        running
    );
    let paused = after(running, &[Event::Pause]);
    assert_eq!(
        after(paused, &[Event::LeaseLost, Event::LeaseGranted]),
        paused
    );
}

#[test]
fn an_idle_hold_survives_the_death_of_a_policy() {
    let idle = State {
        mode: Mode::Hold,
        reason: Reason::LeaseReleased,
    };
    for event in [
        Event::BrainDied,
        Event::ExpertDied,
        Event::Unfit,
        Event::ServoOverrun,
    ] {
        assert_eq!(transition(idle, event), idle);
    }
    let inside = State {
        mode: Mode::Hold,
        reason: Reason::Thinking,
    };
    assert_eq!(transition(inside, Event::BrainDied).mode, Mode::Stopping);
    assert_eq!(transition(idle, Event::RobotError).mode, Mode::Stopping);
}

proptest! {
    #[test]
    fn no_sequence_without_rearm_moves_a_disarmed_guard(
        events in prop::collection::vec(prop::sample::select(EVENTS.to_vec()), 0..40),
    ) {
        let without: Vec<_> = events.into_iter().filter(|e| *e != Event::Rearm).collect();
        prop_assert_ne!(after(State::START, &without).mode, Mode::Running);
    }

    #[test]
    fn running_always_means_playing(
        events in prop::collection::vec(prop::sample::select(EVENTS.to_vec()), 0..40),
    ) {
        let end = after(State::START, &events);
        prop_assert!(end.mode != Mode::Running || end.reason == Reason::Playing);
        prop_assert_eq!(end.mode == Mode::Fault, end.reason == Reason::BadChunks);
    }

    #[test]
    fn an_estop_is_never_ignored_while_something_can_move(state in any_state()) {
        let next = transition(state, Event::Estop);
        prop_assert!(next.mode.latched());
    }
}
