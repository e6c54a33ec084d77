//! The whole table: every state with every event.

use proptest::prelude::*;

use super::*;

/// Every arrow of the drawing, and no other.
const ARROWS: [(TaskState, Event, TaskState); 25] = {
    use Event as E;
    use TaskState as S;
    [
        (S::Queued, E::LeaseGranted, S::Leased),
        (S::Queued, E::CancelAsked, S::Cancelled),
        (S::Queued, E::Expired, S::Expired),
        (S::Leased, E::MotionIntended, S::Running),
        (S::Leased, E::LeaseLostBeforeIntent, S::Queued),
        (S::Leased, E::CancelAsked, S::Cancelling),
        (S::Leased, E::DeadlinePassed, S::Failed),
        (S::Running, E::OracleDone, S::Succeeded),
        (S::Running, E::OracleLost, S::Failed),
        (S::Running, E::DeadlinePassed, S::Failed),
        (S::Running, E::CancelAsked, S::Cancelling),
        (S::Running, E::Lost, S::Interrupted),
        (S::Running, E::VerdictSucceeded, S::Succeeded),
        (S::Running, E::VerdictFailed, S::Failed),
        (S::Pausing, E::CancelAsked, S::Cancelling),
        (S::Pausing, E::DeadlinePassed, S::Failed),
        (S::Pausing, E::Lost, S::Interrupted),
        (S::Paused, E::CancelAsked, S::Cancelling),
        (S::Paused, E::DeadlinePassed, S::Failed),
        (S::Paused, E::Lost, S::Interrupted),
        (S::Cancelling, E::CancelDone, S::Cancelled),
        (S::Cancelling, E::Lost, S::Interrupted),
        (S::Interrupted, E::CancelAsked, S::Cancelled),
        (S::Interrupted, E::VerdictSucceeded, S::Succeeded),
        (S::Interrupted, E::VerdictFailed, S::Failed),
    ]
};
const REQUEUE: (TaskState, Event, TaskState) = (
    TaskState::Interrupted,
    Event::VerdictRequeue,
    TaskState::Queued,
);

fn any_event() -> impl Strategy<Value = Event> {
    prop::sample::select(Event::ALL.to_vec())
}

#[test]
fn the_function_is_the_table() {
    for state in TaskState::ALL {
        for event in Event::ALL {
            let mut arrows = ARROWS.iter().chain([&REQUEUE]);
            let arrow = arrows.find(|(from, by, _)| (*from, *by) == (state, event));
            let wanted = arrow.map(|(_, _, to)| *to).ok_or(Refused { state, event });
            assert_eq!(transition(state, event), wanted, "{state} {event}");
        }
    }
}

#[test]
fn terminal_is_final() {
    for state in TaskState::ALL.into_iter().filter(|state| state.terminal()) {
        assert!(!state.holds_cell(), "{state}");
        for event in Event::ALL {
            assert!(transition(state, event).is_err(), "{state} {event}");
        }
    }
}

#[test]
fn interrupted_leaves_only_by_a_person() {
    for event in Event::ALL {
        let left = transition(TaskState::Interrupted, event).is_ok();
        assert!(!left || event.needs_operator(), "{event}");
    }
}

#[test]
fn only_an_intent_leads_to_motion() {
    for state in TaskState::ALL {
        for event in Event::ALL {
            if transition(state, event) == Ok(TaskState::Running) {
                assert_eq!((state, event), (TaskState::Leased, Event::MotionIntended));
            }
        }
    }
}

#[test]
fn states_read_back_and_refusals_say_what_to_do() {
    for state in TaskState::ALL {
        assert_eq!(state.to_string().parse(), Ok(state));
    }
    assert!("Queued".parse::<TaskState>().is_err());
    let refused = Refused {
        state: TaskState::Failed,
        event: Event::CancelAsked,
    };
    assert_eq!(
        refused.to_string(),
        "a task that is failed does not take cancel_asked: it is over, submit a new one"
    );
}

proptest! {
    /// However events come, one that was refused changes nothing, and an end stays the end.
    #[test]
    fn no_walk_leaves_an_end(events in prop::collection::vec(any_event(), 0..40)) {
        let mut state = TaskState::Queued;
        let mut end = None;
        for event in events {
            if let Ok(next) = transition(state, event) {
                prop_assert_eq!(end, None);
                state = next;
            }
            if state.terminal() {
                end = Some(state);
            }
        }
        prop_assert!(end.is_none_or(|end| end == state));
    }
}
