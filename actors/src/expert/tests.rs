//! Brain and action expert of two cells in virtual time, with a policy that does no more than count.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ulid::Ulid;
use vlad_bus::bus::Bus;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_motion::gate::Wanted;
use vlad_motion::guidance::Schedule;
use vlad_motion::planner::Replanning;
use vlad_motion::policy::{Act, ActRows, Capability, ContextFault, ContextSink, Think, ThinkJob};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{Clock, ManualClock};
use vlad_wire::codec::Body;
use vlad_wire::id::TaskId;
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::health::{Event, PolicyLabel};
use vlad_wire::msg::sense::{Echo, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{Chunk, Context, ContextHead, ContextPart, DType, PartData, PartHead};
use vlad_wire::stream::{
    AcceptedTargets, Chunks, Contexts, Events, Joints, Lane, Observations, Requests, Stream, Tasks,
};
use vlad_wire::text::{Instruction, Name};

use super::*;
use crate::brain::{Brain, BrainParts};

const CELLS: [&str; 2] = ["one", "two"];
const PARTS: u16 = 2;

/// Jobs and requests of each call.
#[derive(Debug, Default, Clone, PartialEq)]
struct Calls {
    thought: Vec<usize>,
    acted: Vec<usize>,
}

/// A chunk is the number in the context's parts, which is its observation's.
#[derive(Clone, Default)]
struct Counting {
    batch_max: usize,
    calls: Arc<Mutex<Calls>>,
    /// What a decision about nothing takes, by this clock.
    takes: Option<(Arc<ManualClock>, u64)>,
}

impl Policy for Counting {
    fn label(&self) -> PolicyLabel {
        PolicyLabel {
            name: Name::new("counting").unwrap(),
            note: Note::cleaned("counts"),
            model_hash: Digest::from(vec![7]),
            normaliser_hash: Digest::default(),
        }
    }

    fn capability(&self) -> Capability {
        Capability {
            batch_max: self.batch_max,
            ..Capability::default()
        }
    }

    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError> {
        Ok(Box::new(self.clone()))
    }

    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError> {
        Ok(Box::new(self.clone()))
    }
}

fn head_of(job: &ThinkJob) -> ContextHead {
    let observed = &job.observation.head;
    ContextHead {
        obs_seq: observed.seq,
        obs_tick: observed.tick,
        captured_at_ns: observed.captured_at_ns,
        model_hash: Digest::from(vec![7]),
        request: job.request,
        ..assembly::tests::head(0, PARTS)
    }
}

fn part_of(request_id: u64, index: u16, number: u64) -> ContextPart {
    let head = PartHead {
        request_id,
        index,
        name: Name::new("number").unwrap(),
        dtype: DType::Bytes,
        shape: vec![1],
        thinking: 0,
        ready_at_ns: 0,
    };
    let data = PartData::Bytes(vec![u8::try_from(number).unwrap()].into());
    ContextPart { head, data }
}

impl Think for Counting {
    fn think(
        &mut self,
        jobs: &[ThinkJob],
        sink: &mut dyn ContextSink,
    ) -> Vec<Result<(), PolicyError>> {
        self.calls.lock().unwrap().thought.push(jobs.len());
        for (at, job) in jobs.iter().enumerate() {
            sink.head(at, head_of(job));
        }
        for index in 0..PARTS {
            for (at, job) in jobs.iter().enumerate() {
                let part = part_of(job.request.id, index, job.observation.head.seq % 251);
                let PartData::Bytes(bytes) = part.data else {
                    unreachable!()
                };
                // Written in place, as a network's are.
                let write = &mut |out: &mut [u8]| {
                    out.copy_from_slice(&bytes);
                    Ok(())
                };
                sink.write(at, part.head, write).unwrap();
            }
        }
        vec![Ok(()); jobs.len()]
    }
}

impl Act for Counting {
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
        self.calls.lock().unwrap().acted.push(requests.len());
        let chunk = |request: &ActRequest| {
            if request.context.head().model_hash != vec![7] {
                let problem = "of another";
                return Err(PolicyError::context(ContextFault::OtherModel, problem));
            }
            let mut number = 0.0;
            for index in 0..PARTS {
                let PartData::Bytes(bytes) = request.context.part(index)?.data else {
                    unreachable!()
                };
                number = f32::from(bytes[0]);
            }
            Ok(ActRows {
                horizon: 1,
                width: 1,
                rows: vec![number],
            })
        };
        requests.iter().map(chunk).collect()
    }

    fn rehearse(&mut self, _: u16) -> Result<bool, PolicyError> {
        if let Some((clock, ns)) = &self.takes {
            clock.advance_to(clock.now_ns() + ns);
        }
        Ok(self.takes.is_some())
    }
}

/// What a cell's other roles say and hear.
struct Others {
    cell: CellId,
    seq: u64,
    tasks: Publisher<Tasks>,
    observations: Publisher<Observations>,
    accepted: Publisher<AcceptedTargets>,
    joints: Publisher<Joints>,
    requests: Subscriber<Requests>,
    contexts: Subscriber<Contexts>,
    intruder: Publisher<Contexts>,
    chunks: Subscriber<Chunks>,
    events: Subscriber<Events>,
}

fn task() -> ActiveTask {
    ActiveTask {
        id: TaskId(Ulid::from_parts(1, 1)),
        attempt: 1,
        epoch: 1,
        instruction: Instruction::new("count").unwrap(),
        seed: 1,
        deadline_ns: u64::MAX,
    }
}

impl Others {
    fn new(bus: &Bus, cell: &str) -> Self {
        let cell = Name::new(cell).unwrap();
        Self {
            seq: 0,
            tasks: bus.publisher(&cell, "").unwrap(),
            observations: bus.publisher(&cell, "").unwrap(),
            accepted: bus.publisher(&cell, "").unwrap(),
            joints: bus.publisher(&cell, "").unwrap(),
            requests: bus.subscriber(&cell, "", None).unwrap(),
            contexts: bus.subscriber(&cell, "*", None).unwrap(),
            intruder: bus.publisher(&cell, "head").unwrap(),
            chunks: bus.subscriber(&cell, "", None).unwrap(),
            events: bus.subscriber(&cell, "", None).unwrap(),
            cell,
        }
    }

    /// The arm stands, the guard has nothing to play, and somebody looks.
    fn say(&mut self, now_ns: u64) {
        self.seq += 1;
        self.tasks.put(&TaskNow {
            sent_at_ns: now_ns,
            task: Some(task()),
            last: None,
        });
        self.accepted.put(&Accepted {
            epoch: 1,
            sampled_at_ns: now_ns,
            tick: 1,
            mode: Mode::Armed,
            reason: Reason::Rearmed,
            chunk: None,
            strategy: None,
            played: 0,
            width: 1,
            rows: vec![],
        });
        self.joints.put(&JointState {
            tick: 1,
            servo_tick: 0,
            sampled_at_ns: now_ns,
            position: vec![],
            velocity: vec![],
            commanded: vec![],
            eef: vec![],
            standstill: true,
            still_since_ns: 0,
            rate: 1.0,
            echo: Echo::default(),
        });
        let head = ObservationHead {
            seq: self.seq,
            tick: 1,
            captured_at_ns: now_ns,
            views: vec![],
            state: vec![],
            state_at_ns: now_ns,
            truth: None,
        };
        let images = Vec::new();
        self.observations.put(&Observation { head, images });
    }
}

/// Brain and action expert of two cells, which may be stepped apart.
struct Floor {
    clock: Arc<ManualClock>,
    bus: Bus,
    others: Vec<Others>,
    brain: Brain,
    expert: Expert,
    refusals: Arc<Refusals>,
    calls: Arc<Mutex<Calls>>,
}

impl Floor {
    fn new(batch_max: usize, stream_layers: bool) -> Self {
        Self::rehearsing(batch_max, stream_layers, None)
    }

    /// With decisions about nothing that take so long.
    fn rehearsing(batch_max: usize, stream_layers: bool, takes_ns: Option<u64>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let shared: SharedClock = clock.clone();
        let bus = Bus::queue(shared.clone(), |_| 0);
        let policy = Counting {
            batch_max,
            takes: takes_ns.map(|ns| (clock.clone(), ns)),
            ..Counting::default()
        };
        let calls = policy.calls.clone();
        let policy: Arc<dyn Policy> = Arc::new(policy);
        let cells: Vec<CellId> = CELLS.map(|cell| Name::new(cell).unwrap()).into();
        let brain = BrainParts {
            cells: cells.clone(),
            policy: policy.clone(),
            placement: Placement::Inline,
            stream_layers,
            session: 1,
        };
        let of_cell = |id: CellId| ExpertCell {
            id,
            robot_type: RobotType {
                name: Name::new("arm").unwrap(),
                horizon: 1,
                width: 1,
            },
            dt_ns: MS,
            age_limit_ns: 1_000 * MS,
            camera_ns: MS,
        };
        let refusals = Arc::<Refusals>::default();
        let expert = ExpertParts {
            cells: cells.into_iter().map(of_cell).collect(),
            policy,
            placement: Placement::Inline,
            config: ExpertConfig {
                device: DeviceName::Cpu,
                weights: WeightsChoice::Auto,
                strategy: Wanted::Fixed(Strategy::Sync),
                replanning: Replanning::Cadence,
                ticks_per_decision: 10,
                slow_allowed: true,
                quiet_ms: 10_000,
                guidance_schedule: Schedule::Exponential,
                steps: 5,
                context_timeout_ms: 900,
                added_delay_ms: 0,
            },
            refusals: refusals.clone(),
            session: 2,
        };
        let waker = Waker::new();
        Self {
            others: CELLS.map(|cell| Others::new(&bus, cell)).into(),
            brain: Brain::new(&bus, &shared, &waker, brain).unwrap(),
            expert: Expert::new(&bus, &shared, &waker, expert).unwrap(),
            clock,
            bus,
            refusals,
            calls,
        }
    }

    /// A millisecond in which everybody says something; the brain works only if asked to.
    fn step(&mut self, brain_works: bool) {
        let now_ns = self.clock.now_ns() + MS;
        self.clock.advance_to(now_ns);
        for others in &mut self.others {
            others.say(now_ns);
        }
        if brain_works {
            self.brain.step(now_ns).unwrap();
        }
        self.expert.step(now_ns).unwrap();
    }

    /// Steps until both cells have asked, without the brain; gives their requests.
    fn asked(&mut self) -> Vec<ThinkRequest> {
        for _ in 0..10 {
            self.step(false);
        }
        let newest = |others: &mut Others| std::iter::from_fn(|| others.requests.try_next()).last();
        self.others.iter_mut().filter_map(newest).collect()
    }

    fn steps(&mut self, n: usize) {
        for _ in 0..n {
            self.step(true);
        }
    }

    fn chunks(&mut self) -> Vec<Vec<Chunk>> {
        let all = |others: &mut Others| std::iter::from_fn(|| others.chunks.try_next()).collect();
        self.others.iter_mut().map(all).collect()
    }

    fn events(&mut self, cell: usize) -> Vec<Event> {
        let events = &mut self.others[cell].events;
        std::iter::from_fn(|| events.try_next()).collect()
    }

    fn count(&self, fault: ContextFault) -> u64 {
        let counted = self.refusals.read();
        counted.iter().find(|(kind, _)| *kind == fault).unwrap().1
    }

    fn intrude(&mut self, message: &Context) {
        self.others[0].intruder.put(message);
    }
}

fn head(request: ThinkRequest, thinking: u64) -> ContextHead {
    ContextHead {
        request,
        thinking,
        model_hash: Digest::from(vec![7]),
        obs_seq: 42,
        ..assembly::tests::head(0, PARTS)
    }
}

fn whole(head: ContextHead) -> Context {
    Context::Head(Box::new(head))
}

fn part(request: ThinkRequest, index: u16, thinking: u64) -> ContextPart {
    let mut part = part_of(request.id, index, 42);
    part.head.thinking = thinking;
    part
}

#[test]
fn what_waits_in_two_cells_is_thought_and_acted_on_in_one_call() {
    for stream_layers in [true, false] {
        let mut floor = Floor::new(8, stream_layers);
        assert_eq!(floor.asked().len(), 2);
        floor.steps(3);
        let calls = floor.calls.lock().unwrap().clone();
        assert_eq!((calls.thought[0], calls.acted[0]), (2, 2), "{calls:?}");
        for chunks in floor.chunks() {
            let chunk = &chunks[0];
            // The number in its own context's parts.
            let seen = u8::try_from(chunk.head.obs_seq).unwrap();
            assert_eq!(chunk.rows, [f32::from(seen)]);
        }
    }
}

#[test]
fn a_policy_that_takes_one_at_a_time_gets_one_at_a_time() {
    let mut floor = Floor::new(1, true);
    floor.asked();
    floor.steps(6);
    let calls = floor.calls.lock().unwrap().clone();
    assert!(2 <= calls.acted.len(), "{calls:?}");
    assert!(
        calls.thought.iter().chain(&calls.acted).all(|n| *n == 1),
        "{calls:?}"
    );
    assert!(floor.chunks().iter().all(|chunks| !chunks.is_empty()));
}

/// Messages carry what the policy does not know: times, and one number for head and parts.
#[test]
fn head_and_parts_of_a_context_carry_one_thinking_and_the_next_another() {
    let mut floor = Floor::new(8, true);
    floor.asked();
    floor.steps(200);
    let messages = &mut floor.others[0].contexts;
    let mut thinkings = Vec::new();
    while let Some(message) = messages.try_next() {
        match message {
            Context::Head(head) => {
                assert!(0 < head.thought_from_ns && head.thought_from_ns <= head.prepared_at_ns);
                thinkings.push(head.thinking);
            }
            Context::Part(part) => {
                assert_eq!(Some(&part.head.thinking), thinkings.last());
                assert!(0 < part.head.ready_at_ns);
            }
        }
    }
    assert!(2 <= thinkings.len());
    assert_ne!(thinkings[0], thinkings[1]);
}

#[test]
fn parts_that_never_come_are_late_and_the_next_request_works() {
    let mut floor = Floor::new(8, true);
    let request = floor.asked()[0];
    floor.intrude(&whole(head(request, 1)));
    floor.intrude(&Context::Part(part(request, 0, 1)));
    for _ in 0..950 {
        floor.step(false);
    }
    assert!(floor.chunks()[0].is_empty());
    assert_eq!(floor.count(ContextFault::Late), 2, "one of each cell");
    let events = floor.events(0);
    let said = |event: &Event| event.kind.as_str() == "context_late";
    assert_eq!(events.iter().filter(|event| said(event)).count(), 1);
    floor.steps(20);
    assert!(floor.chunks().iter().all(|chunks| !chunks.is_empty()));
}

/// The first head that answers is of another checkpoint: no chunk, a count, an event; then goes on.
#[test]
fn a_context_of_another_model_makes_no_chunk() {
    let mut floor = Floor::new(8, true);
    let request = floor.asked()[0];
    let mut foreign = head(request, 1);
    foreign.model_hash = Digest::from(vec![8]);
    floor.intrude(&whole(foreign));
    for index in 0..PARTS {
        floor.intrude(&Context::Part(part(request, index, 1)));
    }
    floor.step(false);
    floor.step(false);
    assert_eq!(floor.count(ContextFault::OtherModel), 1);
    assert!(floor.chunks()[0].is_empty());
    let events = floor.events(0);
    let refused = events
        .iter()
        .find(|event| event.kind.as_str() == "context_refused")
        .unwrap();
    assert!(
        refused.text.as_str().starts_with("other_model, 1 so far: "),
        "{}",
        refused.text.as_str()
    );
    floor.steps(400);
    assert!(!floor.chunks()[0].is_empty());
}

/// Doubled with other content after it was read: the chunk that was made of it is not sent.
#[test]
fn a_context_that_is_spoilt_after_it_was_read_makes_no_chunk() {
    let mut floor = Floor::new(8, true);
    let request = floor.asked()[0];
    floor.intrude(&whole(head(request, 1)));
    for index in 0..PARTS {
        floor.intrude(&Context::Part(part(request, index, 1)));
    }
    // Read and acted on in this step; the outcome is taken in the next one.
    floor.step(false);
    assert_eq!(floor.calls.lock().unwrap().acted, [1]);
    let mut other = part(request, 0, 1);
    other.data = PartData::Bytes(Bytes::from_static(&[9]));
    floor.intrude(&Context::Part(other));
    floor.step(false);
    assert_eq!(floor.count(ContextFault::Doubled), 1);
    assert!(floor.chunks()[0].is_empty());
}

#[test]
fn what_does_not_belong_is_refused_and_the_right_context_is_used() {
    let mut floor = Floor::new(8, true);
    let request = floor.asked()[0];
    let mut other = request;
    other.id += 1000;
    floor.intrude(&whole(head(other, 1)));
    floor.intrude(&Context::Part(part(other, 0, 1)));
    floor.intrude(&whole(head(request, 1)));
    floor.intrude(&whole(head(request, 2)));
    floor.intrude(&Context::Part(part(request, 0, 2)));
    floor.intrude(&Context::Part(part(request, 7, 1)));
    for index in 0..PARTS {
        floor.intrude(&Context::Part(part(request, index, 1)));
        // The very same again is nothing.
        floor.intrude(&Context::Part(part(request, index, 1)));
    }
    floor.step(false);
    floor.step(false);
    let counted = [
        (ContextFault::OtherRequest, 2),
        (ContextFault::Doubled, 1),
        (ContextFault::OtherThinking, 1),
        (ContextFault::Unshaped, 1),
        (ContextFault::Late, 0),
    ];
    for (fault, n) in counted {
        assert_eq!(floor.count(fault), n, "{fault:?}");
    }
    assert_eq!(floor.chunks()[0][0].rows, [42.0]);
    // All are counted, one event a second is said of each kind.
    let events = floor.events(0);
    let refused = events
        .iter()
        .filter(|event| event.kind.as_str() == "context_refused");
    assert_eq!(refused.count(), 4);
}

#[test]
fn a_part_with_a_flipped_bit_is_counted_and_the_right_one_is_used() {
    let mut floor = Floor::new(8, true);
    let request = floor.asked()[0];
    floor.intrude(&whole(head(request, 1)));
    let mut packet = Context::Part(part(request, 0, 1)).pack().unwrap();
    let mut flipped = packet.raw.to_vec();
    flipped[0] ^= 1;
    packet.raw = flipped.into();
    let key = Contexts::key(&floor.others[0].cell, "p0");
    floor.bus.put_raw(&key, Lane::Bulk, packet).unwrap();
    floor.step(false);
    assert_eq!(floor.count(ContextFault::Malformed), 1);
    assert!(floor.calls.lock().unwrap().acted.is_empty());
    for index in 0..PARTS {
        floor.intrude(&Context::Part(part(request, index, 1)));
    }
    floor.step(false);
    floor.step(false);
    assert_eq!(floor.chunks()[0][0].rows, [42.0]);
    let events = floor.events(0);
    let said = |event: &Event| event.text.as_str().starts_with("malformed, 1 so far: ");
    assert_eq!(events.iter().filter(|event| said(event)).count(), 1);
}

/// The gate begins with what decisions about nothing take: a second is the age limit, and no action
/// would be young enough.
#[test]
fn a_policy_that_is_too_slow_for_the_age_limit_is_refused_before_it_decides() {
    for (takes_ms, runs) in [(900, true), (1_100, false)] {
        let mut floor = Floor::rehearsing(1, false, Some(takes_ms * MS));
        let stepped = floor.expert.step(floor.clock.now_ns());
        assert_eq!(stepped.is_ok(), runs, "{takes_ms} ms");
        if let Err(error) = stepped {
            let text = error.to_string();
            assert!(text.contains("guard.action_age_limit_ms"), "{text}");
        }
    }
}
