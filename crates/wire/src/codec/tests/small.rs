//! Tasks, verdicts, heartbeats, events and all commands.

use super::*;
use crate::msg::command::{
    Answer, Estop, Lease, Park, Pause, Rearm, Reset, Resume, Signature, Speed,
};
use crate::msg::health::{Alive, Event, Fitness, PolicyLabel, Severity, Version};
use crate::msg::task::{ActiveTask, EndedTask, Outcome, TaskNow, Verdict};
use crate::msg::think::Digest;

fn by() -> impl Strategy<Value = Signature> {
    (note(), note()).prop_map(|(operator, reason)| Signature { operator, reason })
}

fn lease() -> impl Strategy<Value = Lease> {
    prop_oneof![
        (task_id(), any::<(u64, u32, u32)>()).prop_map(|(task, (epoch, attempt, ttl_ms))| {
            Lease::Grant {
                epoch,
                task,
                attempt,
                ttl_ms,
            }
        }),
        any::<u64>().prop_map(|epoch| Lease::Renew { epoch }),
        any::<u64>().prop_map(|epoch| Lease::Release { epoch }),
    ]
}

fn alive() -> impl Strategy<Value = Alive> {
    let fitness = prop_oneof![Just(Fitness::Fit), note().prop_map(Fitness::Unfit)];
    let policy = (name(), note()).prop_map(|(name, note)| PolicyLabel {
        name,
        note,
        model_hash: Digest::from(vec![1; 32]),
        normaliser_hash: Digest::from(vec![2; 32]),
    });
    let version = (any::<u8>(), note()).prop_map(|(layout, package)| Version { layout, package });
    (
        role(),
        any::<(u64, u64, u64, u64, u64)>(),
        version,
        prop::option::of(any::<u64>()),
        fitness,
        prop::option::of(policy),
    )
        .prop_map(|(role, plain, version, in_flight, fitness, policy)| Alive {
            role,
            session: plain.0,
            seq: plain.1,
            challenge: plain.2,
            echo: plain.3,
            version,
            in_flight,
            fitness,
            policy,
            sent_at_ns: plain.4,
        })
}

fn event() -> impl Strategy<Value = Event> {
    let severity = prop::sample::select(vec![Severity::Info, Severity::Warn, Severity::Error]);
    (
        (name(), role(), severity, name(), note()),
        prop::option::of(note()),
        prop::option::of(task_id()),
        prop::option::of(chunk_id()),
        any::<(u64, u64)>(),
    )
        .prop_map(
            |((cell, role, severity, kind, text), advice, task, chunk, at)| Event {
                cell,
                role,
                severity,
                kind,
                text,
                advice,
                task,
                chunk,
                at_ns: at.0,
                wall_ns: at.1,
            },
        )
}

fn task_now() -> impl Strategy<Value = TaskNow> {
    let active = (task_id(), instruction(), any::<(u32, u64, u64, u64)>()).prop_map(
        |(id, instruction, (attempt, epoch, seed, deadline_ns))| ActiveTask {
            id,
            attempt,
            epoch,
            instruction,
            seed,
            deadline_ns,
        },
    );
    let ended = (episode_id(), name(), note()).prop_map(|(episode, state, reason)| EndedTask {
        episode,
        state,
        reason,
    });
    (
        any::<u64>(),
        prop::option::of(active),
        prop::option::of(ended),
    )
        .prop_map(|(sent_at_ns, task, last)| TaskNow {
            sent_at_ns,
            task,
            last,
        })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let outcome = prop::sample::select(vec![Outcome::Open, Outcome::Done, Outcome::Lost]);
    (task_id(), outcome, note(), any::<(u32, u64, i64)>()).prop_map(
        |(task, outcome, reason, (attempt, judged_at_ns, tick))| Verdict {
            task,
            attempt,
            outcome,
            reason,
            judged_at_ns,
            tick,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    (any::<(bool, u64)>(), note(), mode(), reason()).prop_map(
        |((done, epoch), text, mode, reason)| Answer {
            done,
            text,
            mode,
            reason,
            epoch,
        },
    )
}

fn pose() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(number(), 0..=32)
}

fn signed() -> Signature {
    Signature {
        operator: Note::cleaned("ada"),
        reason: Note::cleaned("because"),
    }
}

proptest! {
    #[test]
    fn a_heartbeat_survives(body in alive()) {
        survives(&body)?;
    }

    #[test]
    fn an_event_survives(body in event()) {
        survives(&body)?;
    }

    #[test]
    fn task_and_verdict_survive(now in task_now(), verdict in verdict()) {
        survives(&now)?;
        survives(&verdict)?;
    }

    #[test]
    fn every_command_survives(
        lease in lease(),
        by in by(),
        epoch in any::<u64>(),
        expected_pose in pose(),
        rate in 0.001..=1.0_f64,
    ) {
        survives(&lease)?;
        survives(&Rearm { epoch, by: by.clone(), expected_pose: expected_pose.clone() })?;
        survives(&Resume { epoch, by: by.clone(), expected_pose })?;
        survives(&Pause { by: by.clone() })?;
        survives(&Park { epoch, by: by.clone() })?;
        survives(&Speed { rate, by: by.clone() })?;
        survives(&Estop { by: by.clone() })?;
        survives(&Reset { epoch, by })?;
    }

    #[test]
    fn an_answer_survives(body in answer()) {
        survives(&body)?;
    }
}

#[test]
fn what_is_nearly_a_command_is_refused() {
    let task = TaskId(Ulid::from_parts(1, 2));
    nearly_is_refused(&Lease::Grant {
        epoch: 1,
        task,
        attempt: 1,
        ttl_ms: 2000,
    });
    nearly_is_refused(&Lease::Release { epoch: 300 });
    nearly_is_refused(&Rearm {
        epoch: 1,
        by: signed(),
        expected_pose: vec![0.5; 3],
    });
    nearly_is_refused(&Resume {
        epoch: 1,
        by: signed(),
        expected_pose: vec![0.5; 3],
    });
    nearly_is_refused(&Pause { by: signed() });
    nearly_is_refused(&Park {
        epoch: 1,
        by: signed(),
    });
    nearly_is_refused(&Speed {
        rate: 0.5,
        by: signed(),
    });
    nearly_is_refused(&Estop { by: signed() });
    nearly_is_refused(&Reset {
        epoch: 1,
        by: signed(),
    });
    nearly_is_refused(&Answer {
        done: true,
        text: Note::cleaned("armed"),
        mode: Mode::Armed,
        reason: Reason::Rearmed,
        epoch: 4,
    });
}

#[test]
fn what_is_nearly_a_word_of_a_role_is_refused() {
    nearly_is_refused(&Alive {
        role: Role::ActionExpert,
        session: 1,
        seq: 2,
        challenge: 3,
        echo: 4,
        version: Version {
            layout: VERSION,
            package: Note::cleaned("0.1.0"),
        },
        in_flight: Some(5),
        fitness: Fitness::Unfit(Note::cleaned("dark")),
        policy: None,
        sent_at_ns: 6,
    });
    let task = TaskId(Ulid::from_parts(1, 2));
    nearly_is_refused(&Verdict {
        task,
        attempt: 1,
        outcome: Outcome::Done,
        reason: Note::cleaned("in the tray"),
        judged_at_ns: 1,
        tick: 2,
    });
    nearly_is_refused(&TaskNow {
        sent_at_ns: 1,
        task: None,
        last: None,
    });
    nearly_is_refused(&Event {
        cell: Name::new("demo").unwrap(),
        role: Role::Gateway,
        severity: Severity::Warn,
        kind: Name::new("mode_changed").unwrap(),
        text: Note::cleaned("hold"),
        advice: None,
        task: Some(task),
        chunk: None,
        at_ns: 1,
        wall_ns: 2,
    });
}

#[test]
fn a_pose_that_is_too_long_or_not_finite_is_refused() {
    let poses = [vec![0.0; 33], vec![f64::NAN], vec![0.0, f64::INFINITY]];
    for expected_pose in poses {
        let rearm = Rearm {
            epoch: 1,
            by: signed(),
            expected_pose: expected_pose.clone(),
        };
        assert!(unpack::<Rearm>(rearm.pack().unwrap()).is_err());
        let resume = Resume {
            epoch: 1,
            by: signed(),
            expected_pose,
        };
        assert!(unpack::<Resume>(resume.pack().unwrap()).is_err());
    }
}

#[test]
fn a_speed_outside_its_range_is_refused() {
    for rate in [0.0, -0.1, 1.0_f64.next_up(), f64::NAN, f64::INFINITY] {
        assert!(
            unpack::<Speed>(Speed { rate, by: signed() }.pack().unwrap()).is_err(),
            "{rate}"
        );
    }
    assert!(
        unpack::<Speed>(
            Speed {
                rate: 1.0,
                by: signed()
            }
            .pack()
            .unwrap()
        )
        .is_ok()
    );
}

#[test]
fn a_text_that_could_forge_a_line_does_not_get_through_the_bus() {
    let mut bytes = vec![VERSION];
    // The same shape as a pause, with texts that nobody has checked.
    rmp_serde::encode::write(&mut bytes, &(("ada\n2026 ERROR", "why"),)).unwrap();
    assert!(decode::<Pause>(&bytes, 2048).is_err());
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write(&mut bytes, &(("ada", "why"),)).unwrap();
    assert!(decode::<Pause>(&bytes, 2048).is_ok());
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write(&mut bytes, &(("ada", "y".repeat(257)),)).unwrap();
    assert!(decode::<Pause>(&bytes, 2048).is_err());
}
