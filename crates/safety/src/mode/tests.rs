use proptest::prelude::*;

use super::*;

const EVENTS: [Event; 30] = [
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
    Event::FollowingError,
    Event::Implausible,
    Event::OutsideEnvelope,
    Event::Disagreement,
    Event::VendorStop,
    Event::ClockGap,
    Event::ParkStarted,
    Event::ParkDone,
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

/// Whether the robot may be sent home.
fn parks(state: State) -> bool {
    let between_tasks = [Reason::LeaseReleased, Reason::LeaseLost, Reason::Parked];
    matches!(state.mode, Mode::Armed | Mode::Stopped)
        || state.mode == Mode::Hold && between_tasks.contains(&state.reason)
}

#[test]
fn motion_begins_only_out_of_armed_or_a_resumable_hold() {
    for mode in Mode::ALL {
        for reason in Reason::all() {
            let state = State { mode, reason };
            for event in EVENTS {
                let next = transition(state, event);
                if next.mode == Mode::Running && mode != Mode::Running {
                    let begins = match event {
                        Event::ChunkAccepted => mode == Mode::Armed || state.resumable(),
                        Event::ParkStarted => parks(state),
                        _ => false,
                    };
                    assert!(begins, "{state:?} {event:?}");
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
        assert_eq!(transition(state, Event::VendorStop).mode, Mode::Estopped);
        assert_eq!(transition(state, Event::ClockGap).mode, Mode::Fault);
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
        (
            Event::FirstCommandJump,
            Mode::Hold,
            Reason::FirstCommandJump,
        ),
        (Event::BufferEmpty, Mode::Stopping, Reason::BufferEmpty),
        (Event::ActionTooOld, Mode::Stopping, Reason::ActionTooOld),
        (Event::BrainDied, Mode::Stopping, Reason::BrainLost),
        (Event::ExpertDied, Mode::Stopping, Reason::ExpertLost),
        (Event::RobotError, Mode::Stopping, Reason::RobotError),
        (
            Event::FollowingError,
            Mode::Stopping,
            Reason::FollowingError,
        ),
        (Event::Implausible, Mode::Stopping, Reason::Implausible),
        (
            Event::OutsideEnvelope,
            Mode::Stopping,
            Reason::OutsideEnvelope,
        ),
        (Event::Disagreement, Mode::Hold, Reason::Disagreement),
        (Event::VendorStop, Mode::Estopped, Reason::VendorStop),
        (Event::ClockGap, Mode::Fault, Reason::ClockGap),
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

/// What latches, and what a failure of the robot does, are the same in every mode that may move.
fn of_the_robot(event: Event) -> Option<(Mode, Reason)> {
    Some(match event {
        Event::Estop => (Mode::Estopped, Reason::EmergencyStop),
        Event::VendorStop => (Mode::Estopped, Reason::VendorStop),
        Event::Fault(reason) => (Mode::Fault, reason),
        Event::ClockGap => (Mode::Fault, Reason::ClockGap),
        Event::RobotError => (Mode::Stopping, Reason::RobotError),
        Event::FollowingError => (Mode::Stopping, Reason::FollowingError),
        Event::Implausible => (Mode::Stopping, Reason::Implausible),
        Event::OutsideEnvelope => (Mode::Stopping, Reason::OutsideEnvelope),
        _ => return None,
    })
}

/// Demands where each event leads to: what is the state's own, what is the robot's, nowhere.
fn demand_events(from: State, own: impl Fn(Event) -> Option<(Mode, Reason)>) {
    for event in EVENTS {
        let to = own(event).or_else(|| of_the_robot(event));
        let (mode, reason) = to.unwrap_or((from.mode, from.reason));
        assert_eq!(transition(from, event), state(mode, reason), "{event:?}");
    }
}

#[test]
fn a_hold_between_tasks_is_left_by_a_lease_or_on_the_way_home() {
    for reason in [Reason::LeaseReleased, Reason::LeaseLost, Reason::Parked] {
        demand_events(state(Mode::Hold, reason), |event| match event {
            Event::LeaseReleased => Some((Mode::Hold, Reason::LeaseReleased)),
            Event::LeaseGranted => Some((Mode::Hold, Reason::Thinking)),
            Event::ParkStarted => Some((Mode::Running, Reason::Parking)),
            _ => None,
        });
    }
}

#[test]
fn a_hold_for_a_person_is_left_by_that_persons_word_or_with_its_task() {
    for reason in [Reason::Paused, Reason::Disagreement] {
        demand_events(state(Mode::Hold, reason), |event| match event {
            Event::LeaseReleased => Some((Mode::Hold, Reason::LeaseReleased)),
            Event::Resume => Some((Mode::Hold, Reason::Thinking)),
            _ => None,
        });
    }
}

/// Whatever comes on the way to standstill: the stop goes on for its first reason, unless it latches.
#[test]
fn a_stop_is_over_at_standstill_and_not_before() {
    let stopping = (Mode::Stopping, Reason::BrainLost);
    demand_events(state(stopping.0, stopping.1), |event| match event {
        Event::Standstill => Some((Mode::Stopped, Reason::BrainLost)),
        _ => of_the_robot(event)
            .filter(|to| to.0.latched())
            .or(Some(stopping)),
    });
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

fn state(mode: Mode, reason: Reason) -> State {
    State { mode, reason }
}

#[test]
fn the_robots_own_failures_stop_every_mode_that_may_move() {
    let rows = [
        (Event::RobotError, Reason::RobotError),
        (Event::FollowingError, Reason::FollowingError),
        (Event::Implausible, Reason::Implausible),
        (Event::OutsideEnvelope, Reason::OutsideEnvelope),
    ];
    for (event, reason) in rows {
        for (from, to) in [
            (state(Mode::Armed, Reason::Rearmed), Mode::Stopped),
            (state(Mode::Running, Reason::Playing), Mode::Stopping),
            (state(Mode::Running, Reason::Parking), Mode::Stopping),
            (state(Mode::Hold, Reason::Thinking), Mode::Stopping),
            (state(Mode::Hold, Reason::LeaseReleased), Mode::Stopping),
            (state(Mode::Hold, Reason::Paused), Mode::Stopping),
        ] {
            assert_eq!(transition(from, event), state(to, reason));
        }
        let stopped = state(Mode::Stopped, Reason::BrainLost);
        assert_eq!(transition(stopped, event), stopped);
        assert_eq!(transition(State::START, event), State::START);
    }
}

#[test]
fn each_loss_in_a_hold_inside_a_task_has_its_row() {
    let thinking = state(Mode::Hold, Reason::Thinking);
    let rows = [
        (Event::ServoOverrun, Mode::Stopping, Reason::ServoOverrun),
        (Event::BrainDied, Mode::Stopping, Reason::BrainLost),
        (Event::ExpertDied, Mode::Stopping, Reason::ExpertLost),
        (Event::ThinkTimedOut, Mode::Stopping, Reason::ThinkTimeout),
        (Event::LeaseLost, Mode::Hold, Reason::LeaseLost),
        (Event::LeaseReleased, Mode::Hold, Reason::LeaseReleased),
        (Event::Pause, Mode::Hold, Reason::Paused),
        (Event::Disagreement, Mode::Hold, Reason::Disagreement),
        (Event::Unfit, Mode::Hold, Reason::PerceptionUnfit),
        (
            Event::FirstCommandJump,
            Mode::Hold,
            Reason::FirstCommandJump,
        ),
    ];
    for (event, mode, reason) in rows {
        assert_eq!(transition(thinking, event), state(mode, reason));
    }
    for event in [
        Event::UnfitTimedOut,
        Event::BufferEmpty,
        Event::ParkStarted,
        Event::Resume,
    ] {
        assert_eq!(transition(thinking, event), thinking);
    }
}

#[test]
fn chunks_that_disagree_wait_for_a_person() {
    let running = state(Mode::Running, Reason::Playing);
    let waiting = after(running, &[Event::Disagreement]);
    assert!(!waiting.resumable());
    for event in [
        Event::ChunkAccepted,
        Event::LeaseLost,
        Event::ExpertDied,
        Event::ParkStarted,
    ] {
        assert_eq!(transition(waiting, event), waiting);
    }
    assert_eq!(
        after(waiting, &[Event::Resume, Event::ChunkAccepted]),
        running
    );
    let released = after(waiting, &[Event::LeaseReleased]);
    assert_eq!(released, state(Mode::Hold, Reason::LeaseReleased));
}

#[test]
fn parking_goes_home_and_waits_for_a_task() {
    let parking = state(Mode::Running, Reason::Parking);
    for from in [
        state(Mode::Armed, Reason::Rearmed),
        state(Mode::Stopped, Reason::BrainLost),
        state(Mode::Hold, Reason::LeaseReleased),
        state(Mode::Hold, Reason::LeaseLost),
        state(Mode::Hold, Reason::Parked),
    ] {
        assert_eq!(transition(from, Event::ParkStarted), parking);
    }
    let parked = transition(parking, Event::ParkDone);
    assert_eq!(parked, state(Mode::Hold, Reason::Parked));
    assert_eq!(
        after(parked, &[Event::LeaseGranted]),
        state(Mode::Hold, Reason::Thinking)
    );
    assert_eq!(transition(parked, Event::LeaseLost), parked);
}

/// Only what concerns robot and servo loop, and a person's wish, ends the way home.
#[test]
fn no_policy_camera_or_lease_disturbs_parking() {
    let parking = state(Mode::Running, Reason::Parking);
    for event in EVENTS {
        let expected = match event {
            Event::ParkDone => state(Mode::Hold, Reason::Parked),
            Event::Pause => state(Mode::Hold, Reason::LeaseReleased),
            Event::ServoOverrun => state(Mode::Stopping, Reason::ServoOverrun),
            Event::RobotError => state(Mode::Stopping, Reason::RobotError),
            Event::FollowingError => state(Mode::Stopping, Reason::FollowingError),
            Event::Implausible => state(Mode::Stopping, Reason::Implausible),
            Event::OutsideEnvelope => state(Mode::Stopping, Reason::OutsideEnvelope),
            Event::Estop => state(Mode::Estopped, Reason::EmergencyStop),
            Event::VendorStop => state(Mode::Estopped, Reason::VendorStop),
            Event::Fault(reason) => state(Mode::Fault, reason),
            Event::ClockGap => state(Mode::Fault, Reason::ClockGap),
            _ => parking,
        };
        assert_eq!(transition(parking, event), expected, "{event:?}");
    }
}

#[test]
fn chunks_are_taken_in_three_modes_but_not_on_the_way_home() {
    for mode in Mode::ALL {
        let takes = matches!(mode, Mode::Armed | Mode::Running | Mode::Hold);
        assert_eq!(mode.takes_chunks(), takes);
        assert_eq!(state(mode, Reason::Playing).takes_chunks(), takes);
        assert!(!state(mode, Reason::Parking).takes_chunks());
    }
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
    fn running_always_means_playing_or_parking(
        events in prop::collection::vec(prop::sample::select(EVENTS.to_vec()), 0..40),
    ) {
        let end = after(State::START, &events);
        let reasons = [Reason::Playing, Reason::Parking];
        prop_assert_eq!(end.mode == Mode::Running, reasons.contains(&end.reason));
        let faults = [Reason::BadChunks, Reason::ClockGap];
        prop_assert_eq!(end.mode == Mode::Fault, faults.contains(&end.reason));
    }

    #[test]
    fn an_estop_is_never_ignored_while_something_can_move(state in any_state()) {
        let next = transition(state, Event::Estop);
        prop_assert!(next.mode.latched());
    }
}
