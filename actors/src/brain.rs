//! The brain: observation and instruction → context, one prefill a request.
//!
//! | | |
//! |---|---|
//! | in | `request` (newest wins), `obs` (newest), `task` |
//! | out | `context/{part}`, `alive/brain`, `event` |
//! | period | 10 ms; woken by requests and observations |
//! | fails safe | no fitting observation or no task: thinks nothing; the guard stops by itself |

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{debug, debug_span, info, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_motion::policy::{ContextSink, Policy, PolicyError, Think, ThinkJob};
use vlad_wire::clock::SharedClock;
use vlad_wire::id::{CellId, Role};
use vlad_wire::msg::health::{Fitness, Severity};
use vlad_wire::msg::sense::Observation;
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{Context, ContextHead, ContextPart, ThinkRequest};
use vlad_wire::stream::{Contexts, Observations, Requests, Tasks};
use vlad_wire::text::Note;
use vlad_xr0::device::DeviceName;

use crate::herald::{Herald, Saying};
use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};
use crate::worker::{Outcome, Run, Worker};

/// The brain's settings: the table `brain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrainConfig {
    /// Where a network's vision-language model computes: `cpu` or `cuda:N`.
    pub device: DeviceName,
}

/// Where a policy's half runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On a thread of its own.
    Thread,
    /// On the caller's, in virtual time.
    Inline,
}

/// Everything that a brain is made from.
pub struct BrainParts {
    /// The cells that it thinks for.
    pub cells: Vec<CellId>,
    /// Its policy.
    pub policy: Arc<dyn Policy>,
    /// Where the policy runs.
    pub placement: Placement,
    /// Differs from start to start.
    pub session: u64,
}

struct Job {
    cell: CellId,
    think: ThinkJob,
}

struct Thought {
    cell: CellId,
    request: ThinkRequest,
    result: Result<(), PolicyError>,
}

struct CellBrain {
    pulse: Pulse,
    herald: Herald,
    requests: Subscriber<Requests>,
    observations: Subscriber<Observations>,
    tasks: Subscriber<Tasks>,
    wanted: Option<ThinkRequest>,
    newest: Option<Arc<Observation>>,
    task: Option<ActiveTask>,
}

/// The brain of all cells of a process.
pub struct Brain {
    cells: BTreeMap<CellId, CellBrain>,
    worker: Worker<Job, Thought>,
    thinking: Option<(CellId, u64)>,
    condition: Condition,
}

impl Brain {
    /// Opens the streams, and begins to open the policy.
    ///
    /// # Errors
    /// [`CoreError`] if the bus or the system refuses.
    pub fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        parts: BrainParts,
    ) -> Result<Self, CoreError> {
        let mut cells = BTreeMap::new();
        let mut publishers = BTreeMap::new();
        for cell in parts.cells {
            publishers.insert(cell.clone(), ContextPublisher::new(bus, &cell)?);
            let state = CellBrain::new(bus, &cell, waker, (clock, parts.session))?;
            cells.insert(cell, state);
        }
        let label = parts.policy.label();
        let open = open(parts.policy, publishers, clock.clone());
        let worker = match parts.placement {
            Placement::Thread => Worker::thread("think", waker.clone(), open)
                .map_err(|error| CoreError::Failed(error.to_string()))?,
            Placement::Inline => Worker::inline(open),
        };
        let condition = Condition {
            fitness: Fitness::Unfit(Note::cleaned("the policy is being loaded")),
            in_flight: None,
            policy: Some(label),
        };
        Ok(Self {
            cells,
            worker,
            thinking: None,
            condition,
        })
    }

    fn take_outcome(&mut self) -> Result<(), CoreError> {
        match self.worker.try_take() {
            Some(Outcome::Opened) => {
                if let Some(label) = &self.condition.policy {
                    info!(policy = %label.name, note = %label.note, "policy loaded");
                }
                self.condition.fitness = Fitness::Fit;
            }
            Some(Outcome::Failed(error)) => return Err(CoreError::Failed(error)),
            Some(Outcome::Done(thought)) => self.conclude(&thought),
            None => {}
        }
        Ok(())
    }

    fn conclude(&mut self, thought: &Thought) {
        self.thinking = None;
        let Err(error) = &thought.result else { return };
        warn!(cell = %thought.cell, request = thought.request.id, %error, "no context");
        if let Some(cell) = self.cells.get(&thought.cell) {
            let text = error.to_string();
            let saying = Saying {
                text: &text,
                task: Some(thought.request.task),
                ..Saying::default()
            };
            cell.herald.say(Severity::Warn, "think_failed", &saying);
        }
    }

    fn begin(&mut self) {
        if !self.worker.free() {
            return;
        }
        let ready = self.cells.iter_mut().find_map(|(cell, state)| {
            state.ready().map(|think| Job {
                cell: cell.clone(),
                think,
            })
        });
        if let Some(job) = ready {
            let request = job.think.request;
            let episode = job.think.task.episode();
            let _span = debug_span!("decision", cell = %job.cell, task = %request.task, %episode,
                obs = job.think.observation.head.seq)
            .entered();
            debug!(request = request.id, "thinking");
            self.thinking = Some((job.cell.clone(), request.id));
            self.worker.submit(job);
        }
    }
}

impl Core for Brain {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        for state in self.cells.values_mut() {
            state.take_inputs();
        }
        self.take_outcome()?;
        self.begin();
        for (cell, state) in &mut self.cells {
            let ours = self
                .thinking
                .as_ref()
                .filter(|(thinking, _)| thinking == cell);
            self.condition.in_flight = ours.map(|(_, request)| *request);
            state.pulse.beat(&self.condition, now_ns);
        }
        Ok(())
    }
}

impl CellBrain {
    fn new(
        bus: &Bus,
        cell: &CellId,
        waker: &Waker,
        (clock, session): (&SharedClock, u64),
    ) -> Result<Self, BusError> {
        Ok(Self {
            pulse: Pulse::new(bus, cell, Role::Brain, session)?,
            herald: Herald::new(bus, cell, Role::Brain, clock)?,
            requests: bus.subscriber(cell, "", Some(waker.clone()))?,
            observations: bus.subscriber(cell, "", Some(waker.clone()))?,
            tasks: bus.subscriber(cell, "", None)?,
            wanted: None,
            newest: None,
            task: None,
        })
    }

    fn take_inputs(&mut self) {
        while let Some(TaskNow { task, .. }) = self.tasks.try_next() {
            self.task = task;
        }
        while let Some(observation) = self.observations.try_next() {
            self.newest = Some(Arc::new(observation));
        }
        while let Some(request) = self.requests.try_next() {
            self.wanted = Some(request);
        }
    }

    /// The wanted decision, if there is an observation that satisfies it and its task still runs.
    fn ready(&mut self) -> Option<ThinkJob> {
        let request = self.wanted?;
        let observation = self.newest.as_ref()?;
        let task = self.task.as_ref()?;
        let ours =
            (task.id, task.attempt, task.epoch) == (request.task, request.attempt, request.epoch);
        if !ours || !satisfies(observation, &request) {
            return None;
        }
        self.wanted = None;
        Some(ThinkJob {
            request,
            observation: observation.clone(),
            task: task.clone(),
        })
    }
}

fn satisfies(observation: &Observation, request: &ThinkRequest) -> bool {
    request.earliest_tick <= observation.head.tick
        && request.earliest_captured_ns <= observation.head.captured_at_ns
}

/// Publishes a context's messages as they become ready, from the worker's thread.
struct ContextPublisher {
    bus: Bus,
    cell: CellId,
    head: Publisher<Contexts>,
    parts: Vec<Publisher<Contexts>>,
}

impl ContextPublisher {
    fn new(bus: &Bus, cell: &CellId) -> Result<Self, BusError> {
        let head = bus.publisher(cell, "head")?;
        Ok(Self {
            bus: bus.clone(),
            cell: cell.clone(),
            head,
            parts: Vec::new(),
        })
    }

    fn part(&mut self, index: u16) -> Option<&Publisher<Contexts>> {
        while self.parts.len() <= usize::from(index) {
            let part = format!("p{}", self.parts.len());
            self.parts.push(self.bus.publisher(&self.cell, &part).ok()?);
        }
        self.parts.get(usize::from(index))
    }
}

struct Sink<'a> {
    publisher: &'a mut ContextPublisher,
    clock: &'a SharedClock,
    from_ns: u64,
}

impl ContextSink for Sink<'_> {
    fn head(&mut self, mut head: ContextHead) {
        head.thought_from_ns = self.from_ns;
        head.thought_until_ns = self.clock.now_ns();
        self.publisher.head.put(&Context::Head(Box::new(head)));
    }

    fn part(&mut self, part: ContextPart) {
        if let Some(publisher) = self.publisher.part(part.head.index) {
            publisher.put(&Context::Part(part));
        }
    }
}

fn open(
    policy: Arc<dyn Policy>,
    mut publishers: BTreeMap<CellId, ContextPublisher>,
    clock: SharedClock,
) -> impl FnOnce() -> Result<Run<Job, Thought>, String> + Send + 'static {
    move || {
        let mut think: Box<dyn Think> = policy.open_think().map_err(|error| error.to_string())?;
        Ok(Box::new(move |job: Job| {
            let request = job.think.request;
            let result = match publishers.get_mut(&job.cell) {
                Some(publisher) => {
                    let mut sink = Sink {
                        publisher,
                        clock: &clock,
                        from_ns: clock.now_ns(),
                    };
                    think.think(&[job.think], &mut sink)
                }
                None => Err(PolicyError::Decide("no such cell".to_owned())),
            };
            Thought {
                cell: job.cell,
                request,
                result,
            }
        }))
    }
}
