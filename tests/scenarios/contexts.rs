//! A real action expert, and a brain that sends it what it must not use: this process, which plays
//! the rest as well.

use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;
use vlad::config::{Config, Sources};
use vlad_actors::policy::cell_shape;
use vlad_actors::policy::xr0::setup::Setup;
use vlad_actors::policy::xr0::{Xr0Policy, preset};
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_motion::noise::{decision_seed, standard_normal};
use vlad_motion::policy::{
    ActRequest, ContextSink, ContextSource, Policy, PolicyError, Think, ThinkJob,
};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::codec::{Body, Packet};
use vlad_wire::id::{CellId, TaskId};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::health::Event;
use vlad_wire::msg::sense::{FrameHead, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{
    Chunk, Context, ContextHead, ContextPart, Handle, PartData, ThinkRequest,
};
use vlad_wire::stream::{
    AcceptedTargets, Chunks, Contexts, Events, Joints, Requests, Stream, Tasks,
};
use vlad_wire::text::{Instruction, Name};

use crate::support::process::Process;
use crate::support::{Places, TempDir, free_port, pause, until};

/// Edge of the images, pixels.
const EDGE: u16 = 64;
/// Looks, 50 ms apart, in which no chunk may come out of a bad context.
const LOOKS: usize = 6;

/// A context as it would go onto the bus.
#[derive(Clone, Default)]
struct Thought {
    head: Option<ContextHead>,
    parts: Vec<ContextPart>,
}

impl ContextSink for Thought {
    fn head(&mut self, _: usize, head: ContextHead) {
        self.head = Some(head);
    }

    fn part(&mut self, _: usize, part: ContextPart) {
        self.parts.push(part);
    }
}

impl ContextSource for Thought {
    fn head(&self) -> &ContextHead {
        self.head.as_ref().unwrap()
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        Ok(self.parts[usize::from(index)].clone())
    }
}

impl Thought {
    fn head_mut(&mut self) -> &mut ContextHead {
        self.head.as_mut().unwrap()
    }

    fn bytes(&self, part: usize) -> Bytes {
        let PartData::Bytes(bytes) = &self.parts[part].data else {
            panic!("part {part} is a handle");
        };
        bytes.clone()
    }

    fn put(&mut self, part: usize, bytes: Vec<u8>) {
        self.parts[part].data = PartData::Bytes(bytes.into());
    }
}

fn task() -> ActiveTask {
    ActiveTask {
        id: TaskId(Ulid::from_parts(1, 1)),
        attempt: 1,
        epoch: 1,
        instruction: Instruction::new("put the red block in the left tray").unwrap(),
        seed: 11,
        deadline_ns: u64::MAX,
    }
}

/// Everything but the action expert.
struct Rest {
    bus: Bus,
    cell: CellId,
    state: Vec<f32>,
    policy: Xr0Policy,
    think: Box<dyn Think>,
    tasks: Publisher<Tasks>,
    joints: Publisher<Joints>,
    accepted: Publisher<AcceptedTargets>,
    requests: Subscriber<Requests>,
    chunks: Subscriber<Chunks>,
    events: Subscriber<Events>,
}

impl Rest {
    /// Nothing moves, and the guard has nothing to play.
    fn stand(&self) {
        self.tasks.put(&TaskNow {
            sent_at_ns: 0,
            task: Some(task()),
            last: None,
        });
        self.joints.put(&JointState::still(0, 0));
        self.accepted.put(&Accepted {
            epoch: 1,
            sampled_at_ns: 0,
            tick: 0,
            mode: Mode::Armed,
            reason: Reason::Rearmed,
            chunk: None,
            strategy: None,
            played: 0,
            width: 0,
            rows: Vec::new(),
        });
    }

    /// The newest request, if one came: the expert asks again where nothing good comes.
    fn asked(&mut self) -> Option<ThinkRequest> {
        self.stand();
        std::iter::from_fn(|| self.requests.try_next()).last()
    }

    /// A good context, thought by this process.
    fn thought(&mut self, request: ThinkRequest) -> Thought {
        let views = ["ego", "left_wrist", "right_wrist"].map(|view| FrameHead {
            view: Name::new(view).unwrap(),
            seq: 1,
            captured_at_ns: 5,
            width: EDGE,
            height: EDGE,
        });
        let n = usize::from(EDGE) * usize::from(EDGE) * 3;
        let images = [1, 2, 3].map(|shade| Bytes::from(vec![shade; n]));
        let head = ObservationHead {
            seq: 3,
            tick: 0,
            captured_at_ns: 5,
            views: views.to_vec(),
            state: self.state.clone(),
            state_at_ns: 5,
            truth: None,
        };
        let observation = Observation {
            head,
            images: images.to_vec(),
        };
        let job = ThinkJob {
            request,
            observation: Arc::new(observation),
            task: task(),
        };
        let mut thought = Thought::default();
        let done = self.think.think(&[job], &mut thought);
        for done in done {
            done.unwrap();
        }
        thought
    }

    fn send(&self, message: &Context) {
        self.send_packet(message, message.pack().unwrap());
    }

    fn send_packet(&self, message: &Context, packet: Packet) {
        let part = match message {
            Context::Head(_) => "head".to_owned(),
            Context::Part(part) => format!("p{}", part.head.index),
        };
        let key = Contexts::key(&self.cell, &part);
        self.bus.put_raw(&key, Contexts::ROW.lane, packet).unwrap();
    }

    fn send_all(&self, thought: &Thought) {
        self.send(&Context::Head(Box::new(thought.head().clone())));
        for part in &thought.parts {
            self.send(&Context::Part(part.clone()));
        }
    }

    /// Answers requests with bad contexts until the refusal is said; no chunk may come of them.
    fn refused(&mut self, (reason, intrude): Intrusion) {
        let said = |event: &Event| {
            event.kind.as_str() == "context_refused" && event.text.as_str().starts_with(reason)
        };
        let text = until(&format!("{reason} is said"), || {
            if let Some(request) = self.asked() {
                let thought = self.thought(request);
                intrude(self, thought);
            }
            let events = std::iter::from_fn(|| self.events.try_next());
            events.filter(said).last().map(|event| event.text)
        });
        assert!(text.as_str().contains(" so far: "), "{}", text.as_str());
        for _ in 0..LOOKS {
            let chunk = self.chunks.try_next();
            assert!(
                chunk.is_none(),
                "{reason}: a chunk of a context that was refused"
            );
            pause();
        }
    }

    /// Answers requests with good contexts until a chunk comes; gives it with its context.
    fn chunk(&mut self) -> (Chunk, Thought) {
        let mut sent = Vec::new();
        let chunk = until("a chunk of a good context", || {
            if let Some(request) = self.asked() {
                let good = self.thought(request);
                self.send_all(&good);
                sent.push(good);
            }
            self.chunks.try_next()
        });
        let answered = |good: &Thought| good.head().request.id == chunk.head.request_id;
        let context = sent.into_iter().find(answered).unwrap();
        (chunk, context)
    }
}

/// What is sent instead of the context, and the kind of fault that is said.
type Intrusion = (&'static str, fn(&Rest, Thought));

const INTRUSIONS: &[Intrusion] = &[
    ("malformed", |rest, thought| {
        rest.send(&Context::Head(Box::new(thought.head().clone())));
        for part in thought.parts {
            let message = Context::Part(part);
            let mut packet = message.pack().unwrap();
            let mut flipped = packet.raw.to_vec();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            packet.raw = flipped.into();
            rest.send_packet(&message, packet);
        }
    }),
    ("other_model", |rest, mut thought| {
        thought.head_mut().model_hash[0] ^= 1;
        rest.send_all(&thought);
    }),
    // Its last tokens are cut off, and it says so.
    ("unshaped", |rest, mut thought| {
        thought.parts[1].head.shape[2] -= 1;
        let n_bytes = thought.parts[1].head.n_bytes().unwrap();
        let cut = thought.bytes(1).slice(..n_bytes).to_vec();
        thought.put(1, cut);
        rest.send_all(&thought);
    }),
    ("not_finite", |rest, mut thought| {
        let mut bytes = thought.bytes(0).to_vec();
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        thought.put(0, bytes);
        rest.send_all(&thought);
    }),
    ("handle", |rest, mut thought| {
        for part in &mut thought.parts {
            part.data = PartData::Handle(Handle { shelf: 1, key: 1 });
        }
        rest.send_all(&thought);
    }),
    ("other_thinking", |rest, mut thought| {
        thought.parts[0].head.thinking += 1;
        rest.send_all(&thought);
    }),
    // Another content in the same place, before the last part: the expert still waits.
    ("doubled", |rest, thought| {
        let mut held = thought.clone();
        held.parts.pop();
        rest.send_all(&held);
        let mut other = thought;
        let mut bytes = other.bytes(0).to_vec();
        bytes[0] ^= 1;
        other.put(0, bytes);
        rest.send(&Context::Part(other.parts.swap_remove(0)));
        rest.send(&Context::Part(held.parts.swap_remove(0)));
    }),
    ("other_request", |rest, mut thought| {
        thought.head_mut().request.id += 1_000_000;
        for part in &mut thought.parts {
            part.head.request_id += 1_000_000;
        }
        rest.send_all(&thought);
    }),
];

/// Each is refused and said, none becomes a chunk; then a good context does, the one that this
/// process would make of it.
#[test]
fn bad_contexts_are_refused_and_said_and_never_become_a_chunk() {
    let _place = Places::take(1);
    let dir = TempDir::new();
    let config = Config::load(&Sources::default()).unwrap();
    let robot = &config.cells[0].robot;
    let checkpoint = dir.path().join("tiny");
    preset::ensure_tiny(robot, 3, &checkpoint).unwrap();
    let policy = Xr0Policy::open(&checkpoint, &[cell_shape(robot)], Setup::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let listening = ZenohConfig {
        listen: vec![endpoint.clone()],
        ..ZenohConfig::default()
    };
    let bus = runtime.block_on(Bus::zenoh(listening)).unwrap();
    let args = format!("run --role action-expert --connect {endpoint} --checkpoint");
    let mut args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
    args.push(checkpoint.display().to_string());
    let mut expert = Process::spawn(&args, dir.path().join("expert.log"));
    let cell = Name::new("demo").unwrap();
    let mut rest = Rest {
        state: robot.slots().to_slots(robot.home()),
        think: policy.open_think().unwrap(),
        policy,
        tasks: bus.publisher(&cell, "").unwrap(),
        joints: bus.publisher(&cell, "").unwrap(),
        accepted: bus.publisher(&cell, "").unwrap(),
        requests: bus.subscriber(&cell, "", None).unwrap(),
        chunks: bus.subscriber(&cell, "", None).unwrap(),
        events: bus.subscriber(&cell, "", None).unwrap(),
        bus,
        cell,
    };
    for intrusion in INTRUSIONS {
        rest.refused(*intrusion);
    }
    let (chunk, good) = rest.chunk();
    let noise_seed = decision_seed(task().seed, good.head().obs_seq);
    let own = ActRequest {
        state: good.head().state.clone(),
        context: Arc::new(good),
        prefix: Vec::new(),
        guidance: None,
        noise: standard_normal(noise_seed, chunk.rows.len()),
        steps: config.expert.steps,
    };
    let own = rest
        .policy
        .open_act()
        .unwrap()
        .act(&[own])
        .remove(0)
        .unwrap();
    let bits = |rows: &[f32]| rows.iter().map(|row| row.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&own.rows), bits(&chunk.rows));
    assert_eq!(expert.term(), 0, "a clean end");
    runtime.block_on(rest.bus.close());
}
