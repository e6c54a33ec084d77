//! The brain: observation and instruction → context, one prefill a request.
//!
//! | | |
//! |---|---|
//! | in | `request` (newest wins), `obs` (newest), `task` |
//! | out | `context/{part}`, `alive/brain`, `event` |
//! | period | 10 ms; woken by requests and observations |
//! | fails safe | no fitting observation or no task: thinks nothing; the guard stops by itself |
//!
//! What waits in several cells is thought in one call, as far as the policy can. A context's messages
//! are published as they become ready, its head before the prefill, or all at the end where
//! `brain.stream_layers` is false; `sink` does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{debug, debug_span, info, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_motion::noise::decision_seed;
use vlad_motion::policy::{Policy, PolicyError, Think, ThinkJob};
use vlad_wire::clock::{MS, SharedClock};
use vlad_wire::id::{CellId, Role};
use vlad_wire::msg::health::{Fitness, Severity};
use vlad_wire::msg::sense::Observation;
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::ThinkRequest;
use vlad_wire::stream::{Observations, Requests, Tasks};
use vlad_wire::text::Note;
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::device::DeviceName;

use crate::herald::{Herald, Saying};
use crate::policy::xr0::setup::WeightsChoice;
use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};
use crate::worker::{Outcome, Run, Worker};
use sink::{Publishers, Sink};

mod sink;

/// The brain's settings: the table `brain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrainConfig {
    /// Where a network's vision-language model computes: `cpu` or `cuda:N`.
    pub device: DeviceName,
    /// In which type its weights are kept: `auto`, `f32`, `bf16`, `q8` or `q4`.
    pub weights: WeightsChoice,
    /// How a network's context travels between processes: `exact` or `eight-bit`.
    pub context_encoding: Encoding,
    /// Whether a context's parts are published as each is ready, or all at the end.
    pub stream_layers: bool,
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
#[derive(Clone)]
pub struct BrainParts {
    /// The cells that it thinks for.
    pub cells: Vec<CellId>,
    /// Its policy.
    pub policy: Arc<dyn Policy>,
    /// Where the policy runs.
    pub placement: Placement,
    /// Whether a context's parts are published as each is ready.
    pub stream_layers: bool,
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
    worker: Worker<Vec<Job>, Vec<Thought>>,
    batch_max: usize,
    thinking: BTreeMap<CellId, u64>,
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
        let publishers = Publishers::new(bus, &parts.cells)?;
        for cell in parts.cells {
            let state = CellBrain::new(bus, &cell, waker, (clock, parts.session))?;
            cells.insert(cell, state);
        }
        let label = parts.policy.label();
        let batch_max = parts.policy.capability().batch_max.max(1);
        let how = How {
            clock: clock.clone(),
            session: parts.session,
            stream_layers: parts.stream_layers,
        };
        let open = open(parts.policy, publishers, how);
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
            batch_max,
            thinking: BTreeMap::new(),
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
            Some(Outcome::Done(thoughts)) => thoughts.iter().for_each(|one| self.conclude(one)),
            None => {}
        }
        Ok(())
    }

    fn conclude(&mut self, thought: &Thought) {
        self.thinking.remove(&thought.cell);
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
        let ready = self.cells.iter_mut().filter_map(|(cell, state)| {
            state.ready().map(|think| Job {
                cell: cell.clone(),
                think,
            })
        });
        let jobs: Vec<_> = ready.take(self.batch_max).collect();
        if jobs.is_empty() {
            return;
        }
        for job in &jobs {
            let request = job.think.request;
            let episode = job.think.task.episode();
            let _span = debug_span!("decision", cell = %job.cell, task = %request.task, %episode,
                obs = job.think.observation.head.seq)
            .entered();
            debug!(request = request.id, batch = jobs.len(), "thinking");
            self.thinking.insert(job.cell.clone(), request.id);
        }
        self.worker.submit(jobs);
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
            self.condition.in_flight = self.thinking.get(cell).copied();
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

/// What a call of the policy is made with.
struct How {
    clock: SharedClock,
    session: u64,
    stream_layers: bool,
}

fn open(
    policy: Arc<dyn Policy>,
    mut publishers: Publishers,
    how: How,
) -> impl FnOnce() -> Result<Run<Vec<Job>, Vec<Thought>>, String> + Send + 'static {
    move || {
        let clock = how.clock;
        let mut think: Box<dyn Think> = policy.open_think().map_err(|error| error.to_string())?;
        let from_ns = clock.now_ns();
        think.warm_up().map_err(|error| error.to_string())?;
        let took_ms = (clock.now_ns() - from_ns) / MS;
        info!(policy = %policy.label().name, took_ms, "the brain is warm");
        let mut calls = 0;
        Ok(Box::new(move |jobs: Vec<Job>| {
            calls += 1;
            let (cells, jobs): (Vec<_>, Vec<_>) =
                jobs.into_iter().map(|job| (job.cell, job.think)).unzip();
            let thinking = decision_seed(how.session, calls);
            let mut sink = Sink::new(&mut publishers, &clock, (&cells, thinking));
            if !how.stream_layers {
                sink.hold();
            }
            let results = think.think(&jobs, &mut sink);
            sink.release(&results);
            let nothing = || Err(PolicyError::Decide("the policy gave nothing".to_owned()));
            let results = results.into_iter().chain(std::iter::repeat_with(nothing));
            let thought = |((cell, job), result): ((CellId, ThinkJob), _)| Thought {
                cell,
                request: job.request,
                result,
            };
            cells
                .into_iter()
                .zip(jobs)
                .zip(results)
                .map(thought)
                .collect()
        }))
    }
}
