//! One cell as the action expert sees it: what was asked, what came, what became of the chunk.

use std::collections::BTreeMap;

use tracing::{debug, info, info_span, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_motion::noise::{decision_seed, standard_normal};
use vlad_motion::planner::{GuardView, Plan, decide, start};
use vlad_motion::policy::{ActRequest, ActRows, ContextFault, ContextSource, PolicyError};
use vlad_wire::clock::{MS, SECOND, SharedClock};
use vlad_wire::id::{ChunkId, EpisodeId, Role, TaskId};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::health::Severity;
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{Chunk, ChunkHead, ThinkRequest};
use vlad_wire::stream::{AcceptedTargets, Chunks, Contexts, Events, Joints, Requests, Tasks};
use vlad_wire::text::Name;

use super::assembly::Assembly;
use super::{Common, Done, ExpertCell, Job};
use crate::actuator::guard::CHUNK_REFUSED;
use crate::herald::{Herald, Saying};
use crate::pulse::Pulse;

/// How long a chunk may take from the expert to the guard's buffer and back: after it the chunk
/// was refused, and the next decision is made.
const SETTLE_NS: u64 = 150 * MS;
/// Pause after a policy that could not decide, so that its errors do not flood the log.
const RETRY_NS: u64 = 200 * MS;
/// Shortest time between two events on one kind of fault: all are counted, but a flood of bad
/// messages must not become a flood of events.
const SAY_NS: u64 = SECOND;

enum Phase {
    Idle { not_before_ns: u64 },
    Asked { request: ThinkRequest },
    Acting { request: ThinkRequest },
    Settling { chunk: ChunkId, until_ns: u64 },
}

/// One cell.
pub(super) struct CellExpert {
    shape: ExpertCell,
    pub(super) pulse: Pulse,
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
    /// Malformed messages of contexts so far.
    malformed: u64,
    /// When an event on a kind of fault may be sent again.
    say_again_ns: BTreeMap<ContextFault, u64>,
    played_at_last: Option<u64>,
    last_request_id: u64,
    seq: (u64, u64),
}

impl CellExpert {
    pub(super) fn new(
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
            assembly: Assembly::new(clock.clone()),
            buffer: None,
            measured: None,
            task: None,
            phase: Phase::Idle { not_before_ns: 0 },
            anticipating: false,
            malformed: 0,
            say_again_ns: BTreeMap::new(),
            played_at_last: None,
            // Stamps grow from start to start, so ids do too.
            last_request_id: clock.now_ns(),
            seq: (0, 0),
            shape,
        })
    }

    pub(super) fn take_inputs(&mut self, common: &Common, now_ns: u64) {
        while let Some(TaskNow { task, .. }) = self.tasks.try_next() {
            if task != self.task {
                // What is waited for is waited for no longer.
                if let Phase::Asked { request } | Phase::Acting { request } = self.phase {
                    self.assembly.end(&request);
                }
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
        self.take_contexts(common, now_ns);
        self.settle();
    }

    fn take_contexts(&mut self, common: &Common, now_ns: u64) {
        while let Some(message) = self.contexts.try_next() {
            for refused in self.assembly.take(message) {
                self.refuse(&refused, 1, (common, now_ns));
            }
        }
        let malformed = self.contexts.malformed();
        let more = malformed - self.malformed;
        if 0 < more {
            self.malformed = malformed;
            let problem = "messages cannot be read, or their checksum is wrong";
            let refused = PolicyError::context(ContextFault::Malformed, problem);
            self.refuse(&refused, more, (common, now_ns));
        }
    }

    /// Counts what was refused of contexts, and says it.
    fn refuse(&mut self, refused: &PolicyError, more: u64, (common, now_ns): (&Common, u64)) {
        let Some(fault) = refused.fault() else { return };
        let so_far = common.refusals.count(fault, more);
        let may_ns = self.say_again_ns.entry(fault).or_default();
        if now_ns < *may_ns {
            return;
        }
        *may_ns = now_ns + SAY_NS;
        let (kind, name) = match fault {
            ContextFault::Late => ("context_late", fault.name()),
            _ => ("context_refused", fault.name()),
        };
        warn!(cell = %self.shape.id, fault = name, so_far, %refused, "a context is not used");
        // The count first: a long text is cut.
        let text = format!("{name}, {so_far} so far: {refused}");
        let saying = Saying {
            text: &text,
            task: self.task.as_ref().map(|task| task.id),
            ..Saying::default()
        };
        self.herald.say(Severity::Warn, kind, &saying);
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

    pub(super) fn give_up_what_is_late(&mut self, common: &Common, now_ns: u64) {
        let timeout_ns = common.context_timeout_ns();
        match self.phase {
            Phase::Asked { request } if request.requested_at_ns + timeout_ns < now_ns => {
                let cell = &self.shape.id;
                if let Some(index) = self.assembly.missing(&request) {
                    warn!(%cell, request = request.id, "no context in time");
                    self.refuse(&PolicyError::Late { index }, 1, (common, now_ns));
                } else {
                    // It is whole: what is late is the action expert, busy with other work.
                    warn!(%cell, request = request.id, "no decision in time");
                }
                self.assembly.end(&request);
                self.phase = Phase::Idle {
                    not_before_ns: now_ns,
                };
            }
            Phase::Settling { until_ns, .. } if until_ns < now_ns => {
                self.phase = Phase::Idle {
                    not_before_ns: now_ns,
                };
            }
            _ => {}
        }
    }

    pub(super) fn plan(&mut self, common: &Common, now_ns: u64) {
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
        match decide(&common.planner, &view) {
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
                let deadline_ns = now_ns + common.context_timeout_ns();
                self.assembly.expect(request, deadline_ns);
                self.requests.put(&request);
                self.phase = Phase::Asked { request };
            }
        }
    }

    /// The decision whose context is there, or begins to be.
    pub(super) fn ready(&mut self, common: &Common) -> Option<Job> {
        let Phase::Asked { request } = self.phase else {
            return None;
        };
        let context = self.assembly.context(&request)?;
        if !common.streams && !context.complete() {
            return None;
        }
        let seed = self.task.as_ref()?.seed;
        let noise_seed = decision_seed(seed, context.head().obs_seq);
        let count = self.shape.robot_type.horizon * self.shape.robot_type.width;
        let act = ActRequest {
            state: context.head().state.clone(),
            context: context.clone(),
            prefix: Vec::new(),
            guidance: None,
            noise: standard_normal(noise_seed, count),
            steps: common.config.steps,
        };
        self.phase = Phase::Acting { request };
        Some(Job {
            cell: self.shape.id.clone(),
            request,
            context,
            act,
            noise_seed,
        })
    }

    pub(super) fn conclude(&mut self, done: &Done, common: &Common, now_ns: u64) {
        let ours = matches!(&self.phase, Phase::Acting { request } if *request == done.request);
        if !ours {
            debug!(request = done.request.id, "a chunk for a task that is over");
            return;
        }
        // A context may turn out to be wrong after its parts were used.
        let spoilt = done.context.ended();
        self.assembly.end(&done.request);
        match (&done.result, spoilt) {
            (Ok(rows), None) => self.send(done, rows, common, now_ns),
            // Counted and said when it was found.
            (_, Some(error)) => {
                warn!(cell = %self.shape.id, request = done.request.id, %error, "no chunk");
                self.phase = Phase::Idle {
                    not_before_ns: now_ns + RETRY_NS,
                };
            }
            (Err(error), None) => {
                warn!(cell = %self.shape.id, request = done.request.id, %error, "no chunk");
                self.say_failure(error, done.request.task, (common, now_ns));
                self.phase = Phase::Idle {
                    not_before_ns: now_ns + RETRY_NS,
                };
            }
        }
    }

    fn say_failure(&mut self, error: &PolicyError, task: TaskId, now: (&Common, u64)) {
        if error.fault().is_some() {
            return self.refuse(error, 1, now);
        }
        let text = error.to_string();
        let saying = Saying {
            text: &text,
            task: Some(task),
            ..Saying::default()
        };
        self.herald.say(Severity::Warn, "act_failed", &saying);
    }

    fn send(&mut self, done: &Done, rows: &ActRows, common: &Common, now_ns: u64) {
        let (strategy, hashes) = (common.config.strategy, &common.hashes);
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
    pub(super) fn in_flight(&self) -> Option<u64> {
        match &self.phase {
            Phase::Asked { request } | Phase::Acting { request } => Some(request.id),
            Phase::Settling { chunk, .. } => Some(chunk.request),
            Phase::Idle { .. } => self.anticipating.then_some(self.last_request_id),
        }
    }
}
