//! Frames, joints, observations.

use super::*;
use crate::msg::sense::{
    Echo, Frame, FrameHead, JointState, Observation, ObservationHead, PoseQuat, TrueObject,
};

fn frame_head() -> impl Strategy<Value = FrameHead> {
    (name(), any::<(u64, u64)>(), 0_u16..12, 0_u16..12).prop_map(
        |(view, (seq, captured_at_ns), width, height)| FrameHead {
            view,
            seq,
            captured_at_ns,
            width,
            height,
        },
    )
}

fn pixels(head: &FrameHead, seed: u8) -> Bytes {
    (0..head.n_bytes())
        .map(|at| at.to_le_bytes()[0] ^ seed)
        .collect()
}

fn frame() -> impl Strategy<Value = Frame> {
    (frame_head(), any::<u8>()).prop_map(|(head, seed)| Frame {
        pixels: pixels(&head, seed),
        head,
    })
}

fn pose() -> impl Strategy<Value = PoseQuat> {
    (
        prop::array::uniform3(number()),
        prop::array::uniform4(number()),
    )
        .prop_map(|(position_m, quaternion_xyzw)| PoseQuat {
            position_m,
            quaternion_xyzw,
        })
}

fn object() -> impl Strategy<Value = TrueObject> {
    (
        name(),
        name(),
        name(),
        pose(),
        prop::array::uniform3(number()),
    )
        .prop_map(|(name, kind, label, pose, size_m)| TrueObject {
            name,
            kind,
            label,
            pose,
            size_m,
        })
}

fn observation() -> impl Strategy<Value = Observation> {
    let truth = prop::option::of(prop::collection::vec(object(), 0..4));
    (
        any::<(u64, i64, u64, u64, u8)>(),
        prop::collection::vec(frame_head(), 0..=8),
        prop::collection::vec(single(), 0..=64),
        truth,
    )
        .prop_map(
            |((seq, tick, captured_at_ns, state_at_ns, seed), views, state, truth)| Observation {
                images: views.iter().map(|view| pixels(view, seed)).collect(),
                head: ObservationHead {
                    seq,
                    tick,
                    captured_at_ns,
                    views,
                    state,
                    state_at_ns,
                    truth,
                },
            },
        )
}

fn joints() -> impl Strategy<Value = JointState> {
    (0_usize..=32)
        .prop_flat_map(|n_dofs| {
            (
                any::<(i64, u64, u64, bool, u64, (u64, u64))>(),
                (numbers(n_dofs), numbers(n_dofs), numbers(n_dofs)),
                prop::collection::vec(pose(), 0..=2),
                number(),
            )
        })
        .prop_map(
            |(plain, (position, velocity, commanded), eef, rate)| JointState {
                tick: plain.0,
                servo_tick: plain.1,
                sampled_at_ns: plain.2,
                position,
                velocity,
                commanded,
                eef,
                standstill: plain.3,
                still_since_ns: plain.4,
                rate,
                echo: Echo {
                    challenge: plain.5.0,
                    heard_at_ns: plain.5.1,
                },
            },
        )
}

fn small_observation() -> Observation {
    let head = |view: &str| FrameHead {
        view: Name::new(view).unwrap(),
        seq: 1,
        captured_at_ns: 2,
        width: 3,
        height: 2,
    };
    let views = vec![head("ego"), head("left_wrist")];
    Observation {
        images: views.iter().map(|view| pixels(view, 9)).collect(),
        head: ObservationHead {
            seq: 5,
            tick: -1,
            captured_at_ns: 2,
            views,
            state: vec![0.5; 32],
            state_at_ns: 3,
            truth: None,
        },
    }
}

proptest! {
    #[test]
    fn a_frame_survives(body in frame()) {
        survives(&body)?;
    }

    #[test]
    fn an_observation_survives(body in observation()) {
        survives(&body)?;
    }

    #[test]
    fn joints_survive(body in joints()) {
        survives(&body)?;
    }
}

#[test]
fn what_is_nearly_a_frame_is_refused() {
    let observation = small_observation();
    let frame = Frame {
        head: observation.head.views[0].clone(),
        pixels: observation.images[0].clone(),
    };
    nearly_is_refused(&frame);
}

#[test]
fn what_is_nearly_an_observation_is_refused() {
    nearly_is_refused(&small_observation());
}

#[test]
fn too_many_views_slots_or_objects_are_refused() {
    let good = small_observation();
    let mut views = good.clone();
    views.head.views = vec![good.head.views[0].clone(); 9];
    views.images = vec![good.images[0].clone(); 9];
    let mut slots = good.clone();
    slots.head.state = vec![0.0; 65];
    let mut objects = good.clone();
    let plain = || Name::new("a").unwrap();
    let pose = PoseQuat {
        position_m: [0.0; 3],
        quaternion_xyzw: [0.0; 4],
    };
    let object = TrueObject {
        name: plain(),
        kind: plain(),
        label: plain(),
        pose,
        size_m: [0.0; 3],
    };
    objects.head.truth = Some(vec![object; 65]);
    for bad in [views, slots, objects] {
        let error = unpack::<Observation>(bad.pack().unwrap()).unwrap_err();
        assert!(matches!(error, CodecError::Inconsistent(_)), "{error}");
    }
}

#[test]
fn joint_lists_of_different_lengths_are_refused() {
    let good = JointState {
        tick: 0,
        servo_tick: 0,
        sampled_at_ns: 0,
        position: vec![0.0; 32],
        velocity: vec![0.0; 32],
        commanded: vec![0.0; 32],
        eef: vec![],
        standstill: true,
        still_since_ns: 0,
        rate: 1.0,
        echo: Echo::default(),
    };
    nearly_is_refused(&good);
    let spoil: [fn(&mut JointState); 3] = [
        |joints| joints.position.truncate(31),
        |joints| joints.velocity.push(0.0),
        |joints| joints.commanded.clear(),
    ];
    for spoil in spoil {
        let mut bad = good.clone();
        spoil(&mut bad);
        let error = unpack::<JointState>(bad.pack().unwrap()).unwrap_err();
        assert!(matches!(error, CodecError::Inconsistent(_)), "{error}");
    }
    let mut many = good;
    for list in [&mut many.position, &mut many.velocity, &mut many.commanded] {
        list.push(0.0);
    }
    assert!(unpack::<JointState>(many.pack().unwrap()).is_err());
}
