//! The action expert: context and state → one finished chunk.
//!
//! | | |
//! |---|---|
//! | in | `accepted`, `joints`, `task` (newest), `context/{part}`, `event` |
//! | out | `request`, `chunk`, `alive/action-expert` with the decision under way, `event` |
//! | period | 5 ms; woken by contexts and by the guard's buffer |
//! | fails safe | nothing to decide on: asks nothing; the guard stops by itself |
//!
//! ```text
//!  idle ── plan: ask ──► asked ── context complete ──► acting ── rows ──► settling ── accepted ──► idle
//!   ▲                      │ too long                    │ error             │ too long
//!   └──────────────────────┴─────────────────────────────┴───────────────────┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{debug, info, info_span, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_motion::noise::{decision_seed, standard_normal};
use vlad_motion::planner::{GuardView, Plan, PlannerConfig, decide, start};
use vlad_motion::policy::{ActRequest, ActRows, ContextSource, Policy, PolicyError};
use vlad_wire::clock::{MS, SharedClock};
use vlad_wire::id::{CellId, ChunkId, EpisodeId, Role};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::health::{Fitness, Severity};
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{Chunk, ChunkHead, Digest, Strategy, ThinkRequest};
use vlad_wire::robot_type::RobotType;
use vlad_wire::stream::{AcceptedTargets, Chunks, Contexts, Events, Joints, Requests, Tasks};
use vlad_wire::text::{Name, Note};
use vlad_xr0::device::DeviceName;

use crate::actuator::guard::CHUNK_REFUSED;
use crate::brain::Placement;
use crate::herald::{Herald, Saying};
use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};
use crate::worker::{Outcome, Run, Worker};
use assembly::{Assembly, Complete};

mod assembly;

/// How long a chunk may take from the expert to the guard's buffer and back: after it the chunk
/// was refused, and the next decision is made.
const SETTLE_NS: u64 = 150 * MS;
/// Pause after a policy that could not decide, so that its errors do not flood the log.
const RETRY_NS: u64 = 200 * MS;

/// The expert's settings: the table `expert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertConfig {
    /// Where a network's action expert computes: `cpu` or `cuda:N`.
    pub device: DeviceName,
    /// How consecutive chunks meet: `sync` or `naive`.
    pub strategy: Strategy,
    /// Ticks that are played between two decisions where chunks overlap (`T_e`).
    pub ticks_per_decision: u32,
    /// Euler steps of a flow policy.
    pub steps: u16,
    /// Longest wait for a context, milliseconds.
    pub context_timeout_ms: u32,
}

impl ExpertConfig {
    /// Lists what is wrong, as field and problem.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !matches!(self.strategy, Strategy::Sync | Strategy::Naive) {
            faults.push(("strategy", "must be sync or naive: this build has no other"));
        }
        if !(1..=200).contains(&self.ticks_per_decision) {
            faults.push(("ticks_per_decision", "must lie in 1 to 200"));
        }
        if !(1..=100).contains(&self.steps) {
            faults.push(("steps", "must lie in 1 to 100"));
        }
        if !(10..=60_000).contains(&self.context_timeout_ms) {
            faults.push(("context_timeout_ms", "must lie in 10 to 60000"));
        }
        faults
    }
}

/// One cell as the expert knows it.
#[derive(Debug, Clone)]
pub struct ExpertCell {
    /// The cell.
    pub id: CellId,
    /// Shape of its chunks.
    pub robot_type: RobotType,
    /// Length of a tick at full speed.
    pub dt_ns: u64,
}

/// Everything that an action expert is made from.
pub struct ExpertParts {
    /// The cells that it acts for.
    pub cells: Vec<ExpertCell>,
    /// Its policy.
    pub policy: Arc<dyn Policy>,
    /// Where the policy runs.
    pub placement: Placement,
    /// Settings.
    pub config: ExpertConfig,
    /// Differs from start to start.
    pub session: u64,
}

struct Job {
    cell: CellId,
    request: ThinkRequest,
    act: ActRequest,
    noise_seed: u64,
}

struct Done {
    cell: CellId,
    request: ThinkRequest,
    context: Arc<dyn ContextSource>,
    noise_seed: u64,
    from_ns: u64,
    until_ns: u64,
    result: Result<ActRows, PolicyError>,
}

enum Phase {
    Idle { not_before_ns: u64 },
    Asked { request: ThinkRequest },
    Acting { request: ThinkRequest },
    Settling { chunk: ChunkId, until_ns: u64 },
}

struct CellExpert {
    shape: ExpertCell,
    pulse: Pulse,
    herald: Herald,
    accepted: Subscriber<AcceptedTargets>,
    joints: Subscriber<Joints>,
    tasks: Subscriber<Tasks>,
    contexts: Subscriber<Contexts>,
    events: Subscriber<Events>,
    requests: Publisher<Requests>,
    chunks: Publisher<Chunks>,
    assembly: Assembly,
    buffer: Option<Accepted>,
    measured: Option<JointState>,
    task: Option<ActiveTask>,
    phase: Phase,
    anticipating: bool,
    context: Option<Arc<Complete>>,
    played_at_last: Option<u64>,
    last_request_id: u64,
    seq: (u64, u64),
}

/// The action expert of all cells of a process.
pub struct Expert {
    cells: BTreeMap<CellId, CellExpert>,
    worker: Worker<Job, Done>,
    planner: PlannerConfig,
    config: ExpertConfig,
    hashes: (Digest, Digest),
    condition: Condition,
}

impl Expert {
    /// Opens the streams, and begins to open the policy.
    ///
    /// # Errors
    /// [`CoreError`] if the bus or the system refuses.
    pub fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        parts: ExpertParts,
    ) -> Result<Self, CoreError> {
        let ExpertParts {
            cells,
            policy,
            placement,
            config,
            session,
        } = parts;
        let mut states = BTreeMap::new();
        for cell in cells {
            let state = CellExpert::new(bus, clock, waker, (cell.clone(), session))?;
            states.insert(cell.id, state);
        }
        let label = policy.label();
        let hashes = (policy.model_hash(), policy.normaliser_hash());
        let open = open(policy, clock.clone());
        let worker = match placement {
            Placement::Thread => Worker::thread("act", waker.clone(), open)
                .map_err(|error| CoreError::Failed(error.to_string()))?,
            Placement::Inline => Worker::inline(open),
        };
        let planner = PlannerConfig {
            strategy: config.strategy,
            ticks_per_decision: u64::from(config.ticks_per_decision),
        };
        let condition = Condition {
            fitness: Fitness::Unfit(Note::cleaned("the policy is being loaded")),
            in_flight: None,
            policy: Some(label),
        };
        Ok(Self {
            cells: states,
            worker,
            planner,
            config,
            hashes,
            condition,
        })
    }

    fn take_outcome(&mut self, now_ns: u64) -> Result<(), CoreError> {
        match self.worker.try_take() {
            Some(Outcome::Opened) => {
                if let Some(label) = &self.condition.policy {
                    info!(policy = %label.name, note = %label.note, "policy loaded");
                }
                self.condition.fitness = Fitness::Fit;
            }
            Some(Outcome::Failed(error)) => return Err(CoreError::Failed(error)),
            Some(Outcome::Done(done)) => {
                if let Some(cell) = self.cells.get_mut(&done.cell) {
                    cell.conclude(&done, (self.config.strategy, &self.hashes), now_ns);
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Gives the worker the first cell's complete context.
    fn act(&mut self) {
        if !self.worker.free() {
            return;
        }
        let steps = self.config.steps;
        if let Some(job) = self.cells.values_mut().find_map(|cell| cell.ready(steps)) {
            debug!(cell = %job.cell, task = %job.request.task, request = job.request.id, "acting");
            self.worker.submit(job);
        }
    }
}

impl Core for Expert {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        for cell in self.cells.values_mut() {
            cell.take_inputs();
        }
        self.take_outcome(now_ns)?;
        let timeout_ns = u64::from(self.config.context_timeout_ms) * MS;
        for cell in self.cells.values_mut() {
            cell.give_up_what_is_late(now_ns, timeout_ns);
            if self.worker.opened() {
                cell.plan(&self.planner, now_ns);
            }
        }
        self.act();
        for cell in self.cells.values_mut() {
            self.condition.in_flight = cell.in_flight();
            cell.pulse.beat(&self.condition, now_ns);
        }
        Ok(())
    }
}

impl CellExpert {
    fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        (shape, session): (ExpertCell, u64),
    ) -> Result<Self, BusError> {
        let cell = &shape.id;
        Ok(Self {
            pulse: Pulse::new(bus, cell, Role::ActionExpert, session)?,
            herald: Herald::new(bus, cell, Role::ActionExpert, clock)?,
            accepted: bus.subscriber(cell, "", Some(waker.clone()))?,
            joints: bus.subscriber(cell, "", None)?,
            tasks: bus.subscriber(cell, "", None)?,
            contexts: bus.subscriber(cell, "*", Some(waker.clone()))?,
            events: bus.subscriber(cell, "", None)?,
            requests: bus.publisher(cell, "")?,
            chunks: bus.publisher(cell, "")?,
            assembly: Assembly::default(),
            buffer: None,
            measured: None,
            task: None,
            phase: Phase::Idle { not_before_ns: 0 },
            anticipating: false,
            context: None,
            played_at_last: None,
            // Stamps grow from start to start, so ids do too.
            last_request_id: clock.now_ns(),
            seq: (0, 0),
            shape,
        })
    }

    fn take_inputs(&mut self) {
        while let Some(TaskNow { task, .. }) = self.tasks.try_next() {
            if task != self.task {
                self.phase = Phase::Idle { not_before_ns: 0 };
                self.played_at_last = None;
            }
            self.task = task;
        }
        while let Some(accepted) = self.accepted.try_next() {
            self.buffer = Some(accepted);
        }
        while let Some(joints) = self.joints.try_next() {
            self.measured = Some(joints);
        }
        while let Some(message) = self.contexts.try_next() {
            let Some(context) = self.assembly.take(message) else {
                continue;
            };
            let asked = matches!(&self.phase, Phase::Asked { request } if *request == context.head().request);
            if asked {
                self.context = Some(context);
            }
        }
        self.settle();
    }

    /// Follows what became of the chunk that was sent: accepted by the buffer, refused by an event.
    fn settle(&mut self) {
        let accepted = self.buffer.as_ref().and_then(|buffer| buffer.chunk);
        while let Some(event) = self.events.try_next() {
            let refused = event.kind.as_str() == CHUNK_REFUSED;
            if refused
                && matches!(self.phase, Phase::Settling { chunk, .. } if event.chunk == Some(chunk))
            {
                self.phase = Phase::Idle {
                    not_before_ns: event.at_ns,
                };
            }
        }
        if matches!(self.phase, Phase::Settling { chunk, .. } if accepted == Some(chunk)) {
            self.phase = Phase::Idle { not_before_ns: 0 };
        }
    }

    fn give_up_what_is_late(&mut self, now_ns: u64, timeout_ns: u64) {
        match &self.phase {
            Phase::Asked { request } if request.requested_at_ns + timeout_ns < now_ns => {
                warn!(cell = %self.shape.id, request = request.id, "no context in time");
                self.phase = Phase::Idle {
                    not_before_ns: now_ns,
                };
            }
            Phase::Settling { until_ns, .. } if *until_ns < now_ns => {
                self.phase = Phase::Idle {
                    not_before_ns: now_ns,
                };
            }
            _ => {}
        }
    }

    fn plan(&mut self, planner: &PlannerConfig, now_ns: u64) {
        self.anticipating = false;
        let Phase::Idle { not_before_ns } = self.phase else {
            return;
        };
        let (Some(accepted), Some(joints), Some(task)) = (&self.buffer, &self.measured, &self.task)
        else {
            return;
        };
        // The guard's epoch is the lease's: anything else is a lease that it has not seen yet.
        if accepted.epoch != task.epoch || now_ns < not_before_ns {
            return;
        }
        let view = GuardView {
            accepted,
            joints,
            played_at_last: self.played_at_last,
        };
        match decide(planner, &view) {
            Plan::Wait => {}
            Plan::Anticipate => self.anticipating = true,
            Plan::Ask {
                earliest_tick,
                earliest_captured_ns,
            } => {
                self.last_request_id += 1;
                let request = ThinkRequest {
                    id: self.last_request_id,
                    epoch: task.epoch,
                    task: task.id,
                    attempt: task.attempt,
                    requested_at_ns: now_ns,
                    earliest_tick,
                    earliest_captured_ns,
                };
                self.played_at_last = Some(accepted.played);
                debug!(cell = %self.shape.id, task = %task.id, request = request.id, "asking");
                self.requests.put(&request);
                self.context = None;
                self.phase = Phase::Asked { request };
            }
        }
    }

    fn ready(&mut self, steps: u16) -> Option<Job> {
        let Phase::Asked { request } = self.phase else {
            return None;
        };
        let context = self.context.take()?;
        let seed = self.task.as_ref()?.seed;
        let noise_seed = decision_seed(seed, context.head().obs_seq);
        let count = self.shape.robot_type.horizon * self.shape.robot_type.width;
        let act = ActRequest {
            state: context.head().state.clone(),
            context,
            prefix: Vec::new(),
            guidance: None,
            noise: standard_normal(noise_seed, count),
            steps,
        };
        self.phase = Phase::Acting { request };
        Some(Job {
            cell: self.shape.id.clone(),
            request,
            act,
            noise_seed,
        })
    }

    fn conclude(&mut self, done: &Done, made_by: (Strategy, &(Digest, Digest)), now_ns: u64) {
        let ours = matches!(&self.phase, Phase::Acting { request } if *request == done.request);
        if !ours {
            debug!(request = done.request.id, "a chunk for a task that is over");
            return;
        }
        match &done.result {
            Ok(rows) => self.send(done, rows, made_by, now_ns),
            Err(error) => {
                warn!(cell = %self.shape.id, request = done.request.id, %error, "no chunk");
                let text = error.to_string();
                let saying = Saying {
                    text: &text,
                    task: Some(done.request.task),
                    ..Saying::default()
                };
                self.herald.say(Severity::Warn, "act_failed", &saying);
                self.phase = Phase::Idle {
                    not_before_ns: now_ns + RETRY_NS,
                };
            }
        }
    }

    fn send(
        &mut self,
        done: &Done,
        rows: &ActRows,
        (strategy, hashes): (Strategy, &(Digest, Digest)),
        now_ns: u64,
    ) {
        let (Some(buffer), Ok(convention)) = (&self.buffer, Name::new("joint_absolute")) else {
            return;
        };
        let (epoch, last_seq) = self.seq;
        let seq = if epoch == done.request.epoch {
            last_seq + 1
        } else {
            1
        };
        self.seq = (done.request.epoch, seq);
        let context = done.context.head();
        let id = ChunkId {
            epoch: done.request.epoch,
            request: done.request.id,
        };
        let episode = EpisodeId {
            task: done.request.task,
            attempt: done.request.attempt,
        };
        let head = ChunkHead {
            cell: self.shape.id.clone(),
            epoch: done.request.epoch,
            seq,
            id,
            task: done.request.task,
            attempt: done.request.attempt,
            obs_seq: context.obs_seq,
            obs_tick: context.obs_tick,
            view_captured_ns: context.view_captured_ns.clone(),
            captured_at_ns: context.captured_at_ns,
            requested_at_ns: done.request.requested_at_ns,
            acted_from_ns: done.from_ns,
            acted_until_ns: done.until_ns,
            start: start(strategy, buffer.mode, context.obs_tick),
            horizon: rows.horizon,
            width: rows.width,
            prefix_len: 0,
            frozen_len: 0,
            request_id: done.request.id,
            strategy,
            rate: 1.0,
            dt_ns: self.shape.dt_ns,
            noise_seed: done.noise_seed,
            model_hash: hashes.0.clone(),
            normaliser_hash: hashes.1.clone(),
            frame_convention: convention,
            mac: None,
        };
        let _span = info_span!("decision", cell = %self.shape.id, task = %head.task,
            episode = %episode, obs = head.obs_seq, chunk = %id)
        .entered();
        info!(start = ?head.start, "chunk sent");
        self.chunks.put(&Chunk {
            head,
            rows: rows.rows.clone(),
        });
        self.phase = Phase::Settling {
            chunk: id,
            until_ns: now_ns + SETTLE_NS,
        };
    }

    /// The decision under way, from waiting for standstill to the chunk's acceptance.
    fn in_flight(&self) -> Option<u64> {
        match &self.phase {
            Phase::Asked { request } | Phase::Acting { request } => Some(request.id),
            Phase::Settling { chunk, .. } => Some(chunk.request),
            Phase::Idle { .. } => self.anticipating.then_some(self.last_request_id),
        }
    }
}

fn open(
    policy: Arc<dyn Policy>,
    clock: SharedClock,
) -> impl FnOnce() -> Result<Run<Job, Done>, String> + Send + 'static {
    move || {
        let mut act = policy.open_act().map_err(|error| error.to_string())?;
        Ok(Box::new(move |job: Job| {
            let from_ns = clock.now_ns();
            let context = job.act.context.clone();
            let mut results = act.act(std::slice::from_ref(&job.act));
            let nothing = || Err(PolicyError::Decide("the policy gave nothing".to_owned()));
            let result = results.pop().unwrap_or_else(nothing);
            Done {
                cell: job.cell,
                request: job.request,
                context,
                noise_seed: job.noise_seed,
                from_ns,
                until_ns: clock.now_ns(),
                result,
            }
        }))
    }
}
