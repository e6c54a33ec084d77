//! Observations to think about, and contexts to act on.

use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;
use vlad_motion::noise::standard_normal;
use vlad_motion::policy::{
    ActRequest, ActRows, ContextSink, ContextSource, Policy, PolicyError, ThinkJob,
};
use vlad_wire::id::TaskId;
use vlad_wire::msg::sense::{FrameHead, Observation, ObservationHead};
use vlad_wire::msg::task::ActiveTask;
use vlad_wire::msg::think::{ContextHead, ContextPart, PartData, ThinkRequest};
use vlad_wire::text::{Instruction, Name};

use super::robot;
use crate::policy::xr0::Xr0Policy;

pub(super) const TEXT: &str = "put the red block in the left tray";
pub(super) const EDGE: u16 = 96;

/// Takes a context, and gives it to the action expert.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) head: Option<ContextHead>,
    pub(super) parts: Vec<ContextPart>,
}

impl ContextSink for Given {
    fn head(&mut self, _: usize, head: ContextHead) {
        assert!(self.parts.is_empty(), "the head comes before the parts");
        self.head = Some(head);
    }

    fn part(&mut self, _: usize, part: ContextPart) {
        self.parts.push(part);
    }
}

impl ContextSource for Given {
    fn head(&self) -> &ContextHead {
        self.head.as_ref().unwrap()
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        let found = self.parts.iter().find(|part| part.head.index == index);
        found.cloned().ok_or(PolicyError::Late { index })
    }
}

/// A view of stripes, which `shade` makes another one.
pub(super) fn pixels(shade: u8) -> Vec<u8> {
    let n = usize::from(EDGE) * usize::from(EDGE) * 3;
    (0..n)
        .map(|at| u8::try_from(at % 251).unwrap().wrapping_mul(shade))
        .collect()
}

pub(super) fn state() -> Vec<f32> {
    let robot = robot();
    robot.slots().to_slots(robot.home())
}

pub(super) fn job(shade: u8) -> ThinkJob {
    let task = TaskId(Ulid::from_parts(1, 1));
    // Not in the manifest's order: views are found by name.
    let views = ["right_wrist", "ego", "left_wrist"].map(|view| FrameHead {
        view: Name::new(view).unwrap(),
        seq: 1,
        captured_at_ns: 5,
        width: EDGE,
        height: EDGE,
    });
    let images = [shade.wrapping_add(2), shade, shade.wrapping_add(1)];
    let observation = Observation {
        head: ObservationHead {
            seq: 3,
            tick: 9,
            captured_at_ns: 5,
            views: views.to_vec(),
            state: state(),
            state_at_ns: 6,
            truth: None,
        },
        images: images.map(|shade| Bytes::from(pixels(shade))).to_vec(),
    };
    ThinkJob {
        request: ThinkRequest {
            id: 7,
            epoch: 1,
            task,
            attempt: 1,
            requested_at_ns: 0,
            earliest_tick: 0,
            earliest_captured_ns: 0,
        },
        observation: Arc::new(observation),
        task: ActiveTask {
            id: task,
            attempt: 1,
            epoch: 1,
            instruction: Instruction::new(TEXT).unwrap(),
            seed: 1,
            deadline_ns: 0,
        },
    }
}

pub(super) fn thought(policy: &Xr0Policy, shade: u8) -> Given {
    let mut given = Given::default();
    policy
        .open_think()
        .unwrap()
        .think(&[job(shade)], &mut given)
        .remove(0)
        .unwrap();
    given
}

pub(super) fn request(context: Given, seed: u64) -> ActRequest {
    ActRequest {
        state: context.head().state.clone(),
        context: Arc::new(context),
        prefix: Vec::new(),
        guidance: None,
        noise: standard_normal(seed, 30 * 32),
        steps: 5,
    }
}

pub(super) fn act(policy: &Xr0Policy, request: ActRequest) -> Result<ActRows, PolicyError> {
    policy.open_act().unwrap().act(&[request]).remove(0)
}

/// The bytes of a part that has some.
pub(super) fn bytes(part: &ContextPart) -> &Bytes {
    let PartData::Bytes(bytes) = &part.data else {
        panic!("part {} is a handle", part.head.index);
    };
    bytes
}
