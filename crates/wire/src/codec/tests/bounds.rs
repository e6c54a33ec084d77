//! Sizes: the largest legal message fits, a claimed size allocates nothing, garbage is refused.

use super::*;
use crate::msg::execute::{Accepted, Executed, ExecutedTicks, Source};
use crate::msg::health::{Alive, Event, Fitness, PolicyLabel, Severity, Version};
use crate::msg::sense::{Echo, JointState, Observation, ObservationHead, PoseQuat, TrueObject};
use crate::msg::task::{ActiveTask, EndedTask, TaskNow};
use crate::msg::think::{Chunk, Digest};

/// A number that takes all nine bytes.
const WIDE: u64 = u64::MAX;

fn fits<B: Body + PartialEq + Debug>(body: &B) {
    assert_eq!(&unpack::<B>(body.pack().unwrap()).unwrap(), body);
}

fn longest_name() -> Name {
    Name::new("a".repeat(Name::MAX)).unwrap()
}

fn longest_note() -> Note {
    Note::new("n".repeat(256)).unwrap()
}

#[test]
fn the_largest_observation_fits() {
    let pose = PoseQuat {
        position_m: [0.1; 3],
        quaternion_xyzw: [0.1; 4],
    };
    let object = TrueObject {
        name: longest_name(),
        kind: longest_name(),
        label: longest_name(),
        pose,
        size_m: [0.1; 3],
    };
    fits(&Observation {
        images: vec![],
        head: ObservationHead {
            seq: WIDE,
            tick: i64::MIN,
            captured_at_ns: WIDE,
            views: vec![],
            state: vec![0.1; 64],
            state_at_ns: WIDE,
            truth: Some(vec![object; 64]),
        },
    });
}

#[test]
fn the_largest_words_of_the_guard_fit() {
    let chunk = Some(ChunkId {
        epoch: WIDE,
        request: WIDE,
    });
    let executed = Executed {
        tick: i64::MIN,
        servo_tick: WIDE,
        epoch: WIDE,
        scheduled_at_ns: WIDE,
        woke_at_ns: WIDE,
        sent_at_ns: WIDE,
        source: Source::Policy,
        chunk,
        index: Some(u16::MAX),
        command: vec![0.1; 32],
        measured: vec![0.1; 32],
        flags: u32::MAX,
        mode: Mode::Disarmed,
    };
    fits(&ExecutedTicks {
        ticks: vec![executed; 64],
    });
    fits(&Accepted {
        epoch: WIDE,
        sampled_at_ns: WIDE,
        tick: i64::MIN,
        mode: Mode::Disarmed,
        reason: Reason::FirstCommandJump,
        chunk,
        strategy: Some(crate::msg::think::Strategy::CleanPrefix),
        played: WIDE,
        width: 64,
        rows: vec![0.1; 64 * 256],
    });
    fits(&JointState {
        tick: i64::MIN,
        servo_tick: WIDE,
        sampled_at_ns: WIDE,
        position: vec![0.1; 32],
        velocity: vec![0.1; 32],
        commanded: vec![0.1; 32],
        eef: vec![
            PoseQuat {
                position_m: [0.1; 3],
                quaternion_xyzw: [0.1; 4]
            };
            2
        ],
        standstill: true,
        still_since_ns: WIDE,
        rate: 0.1,
        echo: Echo {
            challenge: WIDE,
            heard_at_ns: WIDE,
        },
    });
}

#[test]
fn the_largest_words_of_the_roles_fit() {
    let task = TaskId(Ulid(u128::MAX));
    fits(&TaskNow {
        sent_at_ns: WIDE,
        task: Some(ActiveTask {
            id: task,
            attempt: u32::MAX,
            epoch: WIDE,
            instruction: Instruction::new("i".repeat(2048)).unwrap(),
            seed: WIDE,
            deadline_ns: WIDE,
        }),
        last: Some(EndedTask {
            episode: EpisodeId {
                task,
                attempt: u32::MAX,
            },
            state: longest_name(),
            reason: longest_note(),
        }),
    });
    fits(&Alive {
        role: Role::ActionExpert,
        session: WIDE,
        seq: WIDE,
        challenge: WIDE,
        echo: WIDE,
        version: Version {
            layout: VERSION,
            package: longest_note(),
        },
        in_flight: Some(WIDE),
        fitness: Fitness::Unfit(longest_note()),
        policy: Some(PolicyLabel {
            name: longest_name(),
            note: longest_note(),
            model_hash: Digest::from(vec![0xFF; 32]),
            normaliser_hash: Digest::from(vec![0xFF; 32]),
        }),
        sent_at_ns: WIDE,
    });
    fits(&Event {
        cell: longest_name(),
        role: Role::ActionExpert,
        severity: Severity::Error,
        kind: longest_name(),
        text: longest_note(),
        advice: Some(longest_note()),
        task: Some(task),
        chunk: Some(ChunkId {
            epoch: WIDE,
            request: WIDE,
        }),
        at_ns: WIDE,
        wall_ns: WIDE,
    });
}

#[test]
fn a_list_that_claims_to_be_huge_is_refused_at_once() {
    // MessagePack's array, map, string and binary headers with 32-bit lengths.
    for marker in [0xdd, 0xdf, 0xdb, 0xc6] {
        let bytes = [VERSION, marker, 0xff, 0xff, 0xff, 0xff, 0xc0];
        assert!(decode::<ExecutedTicks>(&bytes, 64).is_err());
        assert!(decode::<Vec<u64>>(&bytes, 64).is_err());
        assert!(decode::<Note>(&bytes, 64).is_err());
    }
}

#[test]
fn an_empty_message_and_its_neighbours_have_their_own_errors() {
    assert!(matches!(decode::<u64>(&[], 9), Err(CodecError::Empty)));
    assert!(matches!(
        decode::<u64>(&[VERSION + 1, 1], 9),
        Err(CodecError::Version { got }) if got == VERSION + 1
    ));
    assert!(matches!(
        decode::<u64>(&[VERSION], 9),
        Err(CodecError::Malformed(_))
    ));
    assert!(matches!(decode::<u64>(&[VERSION, 7], 9), Ok(7)));
    assert!(matches!(
        decode::<u64>(&[VERSION, 7, 7, 7], 9),
        Err(CodecError::Trailing { count: 2 })
    ));
    assert!(matches!(
        decode::<u64>(&[VERSION, 7, 7], 2),
        Err(CodecError::TooLong { got: 3, max: 2 })
    ));
}

proptest! {
    /// Whatever arrives is answered, never a panic; also behind a right version byte.
    #[test]
    fn garbage_is_answered(
        head in prop::collection::vec(any::<u8>(), 0..300),
        raw in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut versioned = vec![VERSION];
        versioned.extend_from_slice(&head);
        for head in [Bytes::from(head), Bytes::from(versioned)] {
            let packet = Packet { head, raw: Bytes::from(raw.clone()) };
            prop_assert!(unpack::<Chunk>(packet.clone()).is_err());
            prop_assert!(unpack::<Observation>(packet.clone()).is_err());
            prop_assert!(unpack::<Accepted>(packet.clone()).is_err());
            prop_assert!(unpack::<Alive>(packet).is_err());
        }
    }
}
