//! One cell as the action expert sees it: what was asked, what came, what became of the chunk.

use std::collections::BTreeMap;

use tracing::{debug, info, info_span, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_motion::gate::{Because, Fate, Gate};
use vlad_motion::guidance::{Known, Mask, towards};
use vlad_motion::noise::{decision_seed, standard_normal};
use vlad_motion::overlap::Overlap;
use vlad_motion::planner::{GuardView, Plan, PlannerConfig, decide, disagreement, start};
use vlad_motion::policy::{
    ActRequest, ActRows, Capability, ContextFault, ContextSource, Guidance, PolicyError,
};
use vlad_motion::prefix::history::History;
use vlad_safety::mode::Mode;
use vlad_wire::clock::{MS, SECOND, SharedClock};
use vlad_wire::id::{ChunkId, EpisodeId, Role, TaskId, Tick};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::health::Severity;
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{Chunk, ChunkHead, Start, Strategy, ThinkRequest};
use vlad_wire::stream::{AcceptedTargets, Chunks, Contexts, Events, Joints, Requests, Tasks};
use vlad_wire::text::Name;

use super::assembly::Assembly;
use super::newest::Newest;
use super::{About, Common, Done, ExpertCell, ExpertConfig, Job, Meeting, gate};
use crate::actuator::guard::{CHUNK_LATE, CHUNK_REFUSED};
use crate::herald::{Herald, Saying};
use crate::perception::SCENE_CHANGED;
use crate::pulse::Pulse;
use crate::role::CoreError;

/// How long a chunk may take from the expert to the guard's buffer and back: after it the chunk
/// was refused, and the next decision is made.
const SETTLE_NS: u64 = 150 * MS;
/// Pause after a policy that could not decide, so that its errors do not flood the log.
const RETRY_NS: u64 = 200 * MS;
/// Shortest time between two events on one kind of fault: all are counted, but a flood of bad
/// messages must not become a flood of events.
const SAY_NS: u64 = SECOND;

/// A chunk that is farther from what was accepted, in its own large steps, is a change of mind
/// (reference A.6, M3a).
const DISAGREEMENT: f64 = 2.0;

enum Phase {
    Idle { not_before_ns: u64 },
    Asked { request: ThinkRequest },
    Acting { request: ThinkRequest },
    Settling { sent: Sent, until_ns: u64 },
}

/// A chunk on its way to the guard.
#[derive(Debug, Clone, Copy)]
struct Sent {
    chunk: ChunkId,
    captured_at_ns: u64,
    /// The first tick that its prefix does not cover; `None` without a prefix.
    prefix_end: Option<Tick>,
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
    /// Whether a picture changed or chunks disagreed since the last decision was asked for.
    changed: bool,
    gate: Gate,
    history: History,
    overlap: Overlap,
    newest: Newest,
    last_request_id: u64,
    seq: (u64, u64),
}

impl CellExpert {
    pub(super) fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        (shape, session, gate): (ExpertCell, u64, Gate),
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
            changed: false,
            gate,
            history: History::default(),
            overlap: Overlap::default(),
            newest: Newest::NONE,
            // Stamps grow from start to start, so ids do too.
            last_request_id: clock.now_ns(),
            seq: (0, 0),
            shape,
        })
    }

    /// Begins with what decisions about nothing took; without any it knows no delay.
    pub(super) fn begin_with(
        &mut self,
        delays_ns: &[u64],
        config: &ExpertConfig,
        capability: &Capability,
    ) -> Result<(), CoreError> {
        self.gate = gate(&self.shape, config, (capability, delays_ns))?;
        Ok(())
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
                self.overlap.clear();
                self.history.clear();
            }
            self.task = task;
        }
        while let Some(accepted) = self.accepted.try_next() {
            self.history.take(&accepted);
            if accepted.mode != Mode::Running {
                // Nothing from before a standstill is conditioned on, or mixed in.
                self.history.clear();
                self.overlap.clear();
            }
            self.buffer = Some(accepted);
        }
        while let Some(joints) = self.joints.try_next() {
            self.measured = Some(joints);
        }
        self.take_contexts(common, now_ns);
        self.settle(now_ns);
        if let Some(because) = self.gate.tick(now_ns) {
            self.say_choice(because);
        }
    }

    fn take_contexts(&mut self, common: &Common, now_ns: u64) {
        while let Some(message) = self.contexts.try_next() {
            for refused in self.assembly.take(message) {
                self.refuse(&refused, 1, (common, now_ns));
            }
        }
        let more = self.contexts.malformed() - self.malformed;
        if 0 < more {
            self.malformed += more;
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
    fn settle(&mut self, now_ns: u64) {
        while let Some(event) = self.events.try_next() {
            let kind = event.kind.as_str();
            self.changed |= kind == SCENE_CHANGED;
            let Phase::Settling { sent, .. } = self.phase else {
                continue;
            };
            if event.chunk != Some(sent.chunk) || (kind != CHUNK_REFUSED && kind != CHUNK_LATE) {
                continue;
            }
            self.phase = Phase::Idle {
                not_before_ns: event.at_ns,
            };
            if kind == CHUNK_LATE {
                self.note_delay(event.at_ns, &sent, (Fate::Discarded, now_ns));
            }
        }
        let Phase::Settling { sent, .. } = self.phase else {
            return;
        };
        let Some(buffer) = self
            .buffer
            .as_ref()
            .filter(|buffer| buffer.chunk == Some(sent.chunk))
        else {
            return;
        };
        let old_at_ns = sent.captured_at_ns.saturating_add(self.shape.age_limit_ns);
        self.newest.accepted(buffer, old_at_ns, &mut self.overlap);
        let late = sent.prefix_end.is_some_and(|end| end <= buffer.tick);
        let fate = if late { Fate::Overrun } else { Fate::Accepted };
        let at_ns = buffer.sampled_at_ns;
        self.phase = Phase::Idle { not_before_ns: 0 };
        self.note_delay(at_ns, &sent, (fate, now_ns));
    }

    /// Tells the gate how long a decision took, and says so if that changes anything.
    fn note_delay(&mut self, at_ns: u64, sent: &Sent, (fate, now_ns): (Fate, u64)) {
        let delay_ns = at_ns.saturating_sub(sent.captured_at_ns);
        if let Some(because) = self.gate.note(delay_ns, fate, now_ns) {
            self.say_choice(because);
        }
    }

    fn say_choice(&mut self, because: Because) {
        let choice = self.gate.choice();
        let (severity, kind) = match because {
            Because::Degraded => (Severity::Warn, "degraded"),
            Because::Slower | Because::Faster | Because::Recovered => {
                (Severity::Info, "strategy_changed")
            }
        };
        let text = choice.to_string();
        info!(cell = %self.shape.id, kind, "{text}");
        let saying = Saying {
            text: &text,
            task: self.task.as_ref().map(|task| task.id),
            ..Saying::default()
        };
        self.herald.say(severity, kind, &saying);
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
        let choice = self.gate.choice();
        let rates = (joints.rate, choice.rate);
        let view = GuardView {
            accepted,
            joints,
            played_at_last: self.played_at_last,
            changed: self.changed,
            young_ticks: self.newest.young_ticks(now_ns, self.shape.dt_ns, rates),
        };
        let planner = PlannerConfig::of(&choice, common.config.replanning);
        match decide(&planner, &view) {
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
                self.changed = false;
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
        let head = context.head();
        let noise_seed = decision_seed(seed, head.obs_seq);
        let count = self.shape.robot_type.horizon * self.shape.robot_type.width;
        let (prefix, guidance, meeting) = self.meet(head.obs_tick, common);
        let act = ActRequest {
            state: head.state.clone(),
            context: context.clone(),
            prefix,
            guidance,
            noise: standard_normal(noise_seed, count),
            steps: common.config.steps,
        };
        self.phase = Phase::Acting { request };
        let about = About {
            cell: self.shape.id.clone(),
            request,
            context,
            noise_seed,
            meeting,
        };
        Some(Job { about, act })
    }

    /// What a chunk on the observation of `obs_tick` is conditioned on. From standstill nothing is.
    fn meet(&self, obs_tick: Tick, common: &Common) -> (Vec<Vec<f32>>, Option<Guidance>, Meeting) {
        let choice = self.gate.choice();
        let mut meeting = Meeting {
            strategy: choice.strategy,
            prefix_len: 0,
            frozen_len: 0,
            rate: choice.rate,
        };
        let moves = self
            .buffer
            .as_ref()
            .is_some_and(|buffer| buffer.mode == Mode::Running);
        let (first, horizon) = (obs_tick.saturating_add(1), self.shape.robot_type.horizon);
        match choice.strategy {
            Strategy::CleanPrefix if moves => {
                let prefix = self.history.rows(first, usize::from(choice.prefix_len));
                meeting.prefix_len = u16::try_from(prefix.len()).unwrap_or(u16::MAX);
                (prefix, None, meeting)
            }
            Strategy::Guided if moves => {
                let rows = self.history.rows(first, horizon);
                let known = Known {
                    accepted: rows.len(),
                    executed: usize::try_from(choice.ticks_per_decision).unwrap_or(horizon),
                };
                let delay = usize::try_from(choice.delay_ticks).unwrap_or(horizon);
                let mask = Mask::new(common.config.guidance_schedule, horizon, delay, known);
                meeting.frozen_len = u16::try_from(mask.frozen).unwrap_or(u16::MAX);
                (Vec::new(), towards(&rows, horizon, &mask), meeting)
            }
            _ => (Vec::new(), None, meeting),
        }
    }

    pub(super) fn conclude(&mut self, done: &Done, common: &Common, now_ns: u64) {
        let ours =
            matches!(&self.phase, Phase::Acting { request } if *request == done.about.request);
        if !ours {
            debug!(
                request = done.about.request.id,
                "a chunk for a task that is over"
            );
            return;
        }
        // A context may turn out to be wrong after its parts were used.
        let spoilt = done.about.context.ended();
        self.assembly.end(&done.about.request);
        let error = match (&done.result, &spoilt) {
            (Ok(rows), None) => return self.send(done, rows, common, now_ns),
            // Counted and said when it was found.
            (_, Some(error)) => error,
            (Err(error), None) => {
                self.say_failure(error, done.about.request.task, (common, now_ns));
                error
            }
        };
        warn!(cell = %self.shape.id, request = done.about.request.id, %error, "no chunk");
        self.phase = Phase::Idle {
            not_before_ns: now_ns + RETRY_NS,
        };
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
        let mut meeting = done.about.meeting;
        let Some(buffer) = &self.buffer else { return };
        let context = done.about.context.head();
        let obs_tick = context.obs_tick;
        let start = start(meeting.strategy, buffer.mode, buffer.strategy, obs_tick);
        if start == Start::OnArrival && (0 < meeting.prefix_len || 0 < meeting.frozen_len) {
            // The robot stopped meanwhile: the chunk was made to go on from a motion that is over.
            self.phase = Phase::Idle { not_before_ns: 0 };
            return;
        }
        if start == Start::OnArrival {
            // Where the gate may choose, a chunk that nothing follows in time ends in a planned gap.
            let took_ns = now_ns.saturating_sub(context.captured_at_ns) + self.shape.dt_ns;
            let after = self.gate.after(took_ns, now_ns);
            (meeting.strategy, meeting.rate) = (after.strategy, after.rate);
        }
        let rows = self.finish_rows(start, rows, meeting.strategy);
        let Some(head) = self.head(done, (start, &rows, meeting), common) else {
            return;
        };
        self.newest.sent(start, &rows);
        let episode = EpisodeId {
            task: head.task,
            attempt: head.attempt,
        };
        let _span = info_span!("decision", cell = %self.shape.id, task = %head.task,
            episode = %episode, obs = head.obs_seq, chunk = %head.id)
        .entered();
        info!(start = ?head.start, "chunk sent");
        let sent = Sent {
            chunk: head.id,
            captured_at_ns: head.captured_at_ns,
            prefix_end: (0 < meeting.prefix_len)
                .then(|| obs_tick.saturating_add(1 + Tick::from(meeting.prefix_len))),
        };
        self.chunks.put(&Chunk {
            head,
            rows: rows.rows,
        });
        self.phase = Phase::Settling {
            sent,
            until_ns: now_ns + SETTLE_NS,
        };
    }

    /// Everything about a chunk but its rows, with the next number of its epoch.
    fn head(
        &mut self,
        done: &Done,
        (start, rows, meeting): (Start, &ActRows, Meeting),
        common: &Common,
    ) -> Option<ChunkHead> {
        let request = &done.about.request;
        let (epoch, last_seq) = self.seq;
        let seq = if epoch == request.epoch {
            last_seq + 1
        } else {
            1
        };
        self.seq = (request.epoch, seq);
        let context = done.about.context.head();
        Some(ChunkHead {
            cell: self.shape.id.clone(),
            epoch: request.epoch,
            seq,
            id: ChunkId {
                epoch: request.epoch,
                request: request.id,
            },
            task: request.task,
            attempt: request.attempt,
            obs_seq: context.obs_seq,
            obs_tick: context.obs_tick,
            view_captured_ns: context.view_captured_ns.clone(),
            captured_at_ns: context.captured_at_ns,
            requested_at_ns: request.requested_at_ns,
            acted_from_ns: done.from_ns,
            acted_until_ns: done.until_ns,
            start,
            horizon: rows.horizon,
            width: rows.width,
            prefix_len: meeting.prefix_len,
            frozen_len: meeting.frozen_len,
            request_id: request.id,
            strategy: meeting.strategy,
            rate: meeting.rate,
            dt_ns: self.shape.dt_ns,
            noise_seed: done.about.noise_seed,
            model_hash: common.hashes.0.clone(),
            normaliser_hash: common.hashes.1.clone(),
            frame_convention: Name::new("joint_absolute").ok()?,
            mac: None,
        })
    }

    /// Mixes a chunk with the ones that it overlaps, where the strategy does so; notes whether it
    /// contradicts what was accepted.
    fn finish_rows(&mut self, start: Start, rows: &ActRows, strategy: Strategy) -> ActRows {
        let Start::At(first) = start else {
            return rows.clone();
        };
        let accepted = self.history.rows(first, usize::from(rows.horizon));
        self.changed |= DISAGREEMENT < disagreement(&accepted, &rows.rows);
        let width = usize::from(rows.width);
        let mixed = match strategy {
            Strategy::Ensemble => self.overlap.ensemble(first, width, rows.rows.clone()),
            Strategy::Blend => self.overlap.blend(first, width, rows.rows.clone()),
            Strategy::Sync | Strategy::Naive | Strategy::Guided | Strategy::CleanPrefix => {
                rows.rows.clone()
            }
        };
        ActRows {
            rows: mixed,
            ..rows.clone()
        }
    }

    /// The decision under way, from waiting for standstill to the chunk's acceptance.
    pub(super) fn in_flight(&self) -> Option<u64> {
        match &self.phase {
            Phase::Asked { request } | Phase::Acting { request } => Some(request.id),
            Phase::Settling { sent, .. } => Some(sent.chunk.request),
            Phase::Idle { .. } => self.anticipating.then_some(self.last_request_id),
        }
    }
}
