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
//!  idle ── plan: ask ──► asked ── the context's head ──► acting ── rows ──► settling ── accepted ──► idle
//!   ▲                      │ too long                      │ error             │ too long
//!   └──────────────────────┴───────────────────────────────┴───────────────────┘
//! ```
//!
//! Acting begins with the context's head, while its parts still arrive; in virtual time, where
//! nothing can arrive meanwhile, with the whole context. What waits in several cells is acted on in
//! one call, as far as the policy can. A context that does not fit is refused, counted by its kind of
//! fault, and said as `context_refused`; one that does not come in time as `context_late`.
//!
//! | module | holds |
//! |---|---|
//! | `cell` | one cell: what is asked, and what became of it |
//! | `newest` | the chunk that was accepted last |
//! | `assembly`, `arriving` | contexts from their messages |
//! | `warm` | what a decision takes before the first one |
//! | [`refusals`] | counters |

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tracing::{debug, info};
use vlad_bus::bus::Bus;
use vlad_bus::waker::Waker;
use vlad_cell::description::RobotDescription;
use vlad_motion::gate::delay::DelayMeter;
use vlad_motion::gate::{Ability, Gate, GateConfig, Wanted};
use vlad_motion::guidance::Schedule;
use vlad_motion::planner::Replanning;
use vlad_motion::policy::{ActRequest, ActRows, Capability, Policy, PolicyError};
use vlad_wire::clock::{MS, SharedClock};
use vlad_wire::id::CellId;
use vlad_wire::msg::health::Fitness;
use vlad_wire::msg::think::{Digest, Strategy, ThinkRequest};
use vlad_wire::robot_type::RobotType;
use vlad_wire::text::Note;
use vlad_xr0::device::DeviceName;

use crate::brain::Placement;
use crate::policy::xr0::setup::WeightsChoice;
use crate::pulse::Condition;
use crate::role::{Core, CoreError};
use crate::worker::{Outcome, Run, Worker};
use arriving::Arriving;
use cell::CellExpert;
use refusals::Refusals;

pub(crate) mod arriving;
mod assembly;
mod cell;
mod newest;
pub mod refusals;
mod warm;

/// The expert's settings: the table `expert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertConfig {
    /// Where a network's action expert computes: `cpu` or `cuda:N`.
    pub device: DeviceName,
    /// In which type its weights are kept: `auto`, `f32`, `bf16`, `q8` or `q4`.
    pub weights: WeightsChoice,
    /// How consecutive chunks meet: `auto`, or always `sync`, `naive`, `ensemble`, `blend`, `guided`
    /// or `clean-prefix`.
    pub strategy: Wanted,
    /// When the next decision is asked for while the robot moves.
    pub replanning: Replanning,
    /// Ticks that are played between two decisions where chunks overlap (`T_e`), if the delay allows.
    pub ticks_per_decision: u32,
    /// Whether the robot may be slowed down, to half its speed at most, so that a prefix covers the
    /// delay.
    pub slow_allowed: bool,
    /// How long every delay must have allowed a better strategy before it is taken, milliseconds.
    pub quiet_ms: u32,
    /// How the weights of guidance fall.
    pub guidance_schedule: Schedule,
    /// Euler steps of a flow policy.
    pub steps: u16,
    /// Longest wait for a context, milliseconds.
    pub context_timeout_ms: u32,
    /// By how much every decision is held back, milliseconds: to try how a cell fares with a slower
    /// model or a farther one.
    pub added_delay_ms: u32,
}

impl ExpertConfig {
    /// Lists what is wrong, as field and problem.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !(100..=600_000).contains(&self.quiet_ms) {
            faults.push(("quiet_ms", "must lie in 100 to 600000"));
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
        if 2000 < self.added_delay_ms {
            faults.push(("added_delay_ms", "must be at most 2000"));
        }
        faults
    }

    /// What the strategy gate of a cell follows.
    pub fn gate(&self, cell: &ExpertCell) -> GateConfig {
        GateConfig {
            wanted: self.strategy,
            slow_allowed: self.slow_allowed,
            ticks_per_decision: u64::from(self.ticks_per_decision),
            dt_ns: cell.dt_ns,
            camera_ns: cell.camera_ns,
            age_limit_ns: cell.age_limit_ns,
            quiet_ns: u64::from(self.quiet_ms) * MS,
        }
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
    /// The guard's limit of an action's age.
    pub age_limit_ns: u64,
    /// From what a camera sees to the observation that shows it, at the latest.
    pub camera_ns: u64,
}

/// Gives how long an observation may take from what its slowest camera sees: a frame's period, and
/// half of one for its way.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "rates were checked: a period has fewer than 2^53 nanoseconds and is positive"
)]
pub fn camera_ns(robot: &RobotDescription) -> u64 {
    let slowest = robot.cameras().iter().map(|camera| camera.rate_hz);
    let rate_hz = slowest.fold(f64::INFINITY, f64::min);
    (1.5e9 / rate_hz) as u64
}

/// Everything that an action expert is made from.
#[derive(Clone)]
pub struct ExpertParts {
    /// The cells that it acts for.
    pub cells: Vec<ExpertCell>,
    /// Its policy.
    pub policy: Arc<dyn Policy>,
    /// Where the policy runs.
    pub placement: Placement,
    /// Settings.
    pub config: ExpertConfig,
    /// Where refused contexts are counted.
    pub refusals: Arc<Refusals>,
    /// Differs from start to start.
    pub session: u64,
}

struct Job {
    about: About,
    act: ActRequest,
}

/// What a decision is about, beside the numbers that the policy reads.
struct About {
    cell: CellId,
    request: ThinkRequest,
    context: Arc<Arriving>,
    noise_seed: u64,
    meeting: Meeting,
}

/// How a chunk meets the one before it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Meeting {
    strategy: Strategy,
    prefix_len: u16,
    frozen_len: u16,
    rate: f64,
}

struct Done {
    about: About,
    from_ns: u64,
    until_ns: u64,
    result: Result<ActRows, PolicyError>,
}

/// What all cells of a process share.
struct Common {
    config: ExpertConfig,
    /// Of the checkpoint and of its normaliser.
    hashes: (Digest, Digest),
    refusals: Arc<Refusals>,
    /// Whether a policy may begin while parts still arrive.
    streams: bool,
}

impl Common {
    fn context_timeout_ns(&self) -> u64 {
        u64::from(self.config.context_timeout_ms) * MS
    }
}

/// The action expert of all cells of a process.
pub struct Expert {
    cells: BTreeMap<CellId, CellExpert>,
    worker: Worker<Vec<Job>, Vec<Done>>,
    common: Common,
    capability: Capability,
    /// What decisions about nothing took, once the policy is open.
    warm: Arc<OnceLock<Vec<u64>>>,
    condition: Condition,
    /// Decisions that are held back, with the time until which.
    held: VecDeque<(u64, Done)>,
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
            refusals,
            session,
        } = parts;
        let label = policy.label();
        let hashes = (policy.model_hash(), policy.normaliser_hash());
        let capability = policy.capability();
        let mut states = BTreeMap::new();
        for cell in cells {
            let gate = gate(&cell, &config, (&capability, &[]))?;
            let state = CellExpert::new(bus, clock, waker, (cell.clone(), session, gate))?;
            states.insert(cell.id, state);
        }
        let warm = Arc::default();
        let open = open(policy, clock.clone(), (config.steps, Arc::clone(&warm)));
        let worker = match placement {
            Placement::Thread => Worker::thread("act", waker.clone(), open)
                .map_err(|error| CoreError::Failed(error.to_string()))?,
            Placement::Inline => Worker::inline(open),
        };
        let condition = Condition {
            fitness: Fitness::Unfit(Note::cleaned("the policy is being loaded")),
            in_flight: None,
            policy: Some(label),
        };
        let common = Common {
            config,
            hashes,
            refusals,
            streams: placement == Placement::Thread,
        };
        Ok(Self {
            cells: states,
            worker,
            common,
            capability,
            warm,
            condition,
            held: VecDeque::new(),
        })
    }

    fn take_outcome(&mut self, now_ns: u64) -> Result<(), CoreError> {
        match self.worker.try_take() {
            Some(Outcome::Opened) => {
                if let Some(label) = &self.condition.policy {
                    info!(policy = %label.name, note = %label.note, "policy loaded");
                }
                let took_ns = self.warm.get().map_or(&[][..], Vec::as_slice);
                for cell in self.cells.values_mut() {
                    cell.begin_with(took_ns, &self.common.config, &self.capability)?;
                }
                self.condition.fitness = Fitness::Fit;
            }
            Some(Outcome::Failed(error)) => return Err(CoreError::Failed(error)),
            Some(Outcome::Done(done)) => {
                let due_ns = now_ns + u64::from(self.common.config.added_delay_ms) * MS;
                self.held
                    .extend(done.into_iter().map(|done| (due_ns, done)));
            }
            None => {}
        }
        // All are held back equally: the first one is due first.
        while let Some((_, done)) = self.held.pop_front_if(|(due_ns, _)| *due_ns <= now_ns) {
            if let Some(cell) = self.cells.get_mut(&done.about.cell) {
                cell.conclude(&done, &self.common, now_ns);
            }
        }
        Ok(())
    }

    /// Gives the worker what waits in all cells, as much as it takes in one call.
    fn act(&mut self) {
        if !self.worker.free() {
            return;
        }
        let common = &self.common;
        let ready = self
            .cells
            .values_mut()
            .filter_map(|cell| cell.ready(common));
        let jobs: Vec<_> = ready.take(self.capability.batch_max.max(1)).collect();
        if jobs.is_empty() {
            return;
        }
        for Job { about, .. } in &jobs {
            let (batch, request) = (jobs.len(), &about.request);
            debug!(cell = %about.cell, task = %request.task, request = request.id, batch, "acting");
        }
        self.worker.submit(jobs);
    }
}

impl Core for Expert {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        for cell in self.cells.values_mut() {
            cell.take_inputs(&self.common, now_ns);
        }
        self.take_outcome(now_ns)?;
        for cell in self.cells.values_mut() {
            cell.give_up_what_is_late(&self.common, now_ns);
            if self.worker.opened() {
                cell.plan(&self.common, now_ns);
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

/// What a policy can do for one cell.
pub fn ability(cell: &ExpertCell, capability: &Capability) -> Ability {
    Ability {
        prefix_trained_max: capability.prefix_trained_max,
        guidance: capability.guidance,
        horizon: u16::try_from(cell.robot_type.horizon).unwrap_or(u16::MAX),
    }
}

/// The strategy gate of one cell, which begins with these delays, or why strategy, policy and cell
/// can never work together.
fn gate(
    cell: &ExpertCell,
    config: &ExpertConfig,
    (capability, delays_ns): (&Capability, &[u64]),
) -> Result<Gate, CoreError> {
    let ability = ability(cell, capability);
    let meter: DelayMeter = delays_ns.iter().copied().collect();
    Gate::new(config.gate(cell), ability, meter)
        .map_err(|impossible| CoreError::Failed(format!("{}: {impossible}", impossible.field())))
}

fn open(
    policy: Arc<dyn Policy>,
    clock: SharedClock,
    (steps, warm): (u16, Arc<OnceLock<Vec<u64>>>),
) -> impl FnOnce() -> Result<Run<Vec<Job>, Vec<Done>>, String> + Send + 'static {
    move || {
        let mut act = policy.open_act().map_err(|error| error.to_string())?;
        let from_ns = clock.now_ns();
        act.warm_up().map_err(|error| error.to_string())?;
        let took_ms = (clock.now_ns() - from_ns) / MS;
        let rehearsed = warm::rehearse(act.as_mut(), &clock, steps);
        let rehearsed = rehearsed.map_err(|error| error.to_string())?;
        let decision_ms = rehearsed.iter().max().map(|longest| longest / MS);
        info!(policy = %policy.label().name, took_ms, decision_ms, "the action expert is warm");
        warm.get_or_init(|| rehearsed);
        Ok(Box::new(move |jobs: Vec<Job>| {
            let from_ns = clock.now_ns();
            let (requests, rest): (Vec<_>, Vec<_>) =
                jobs.into_iter().map(|job| (job.act, job.about)).unzip();
            let nothing = || Err(PolicyError::Decide("the policy gave nothing".to_owned()));
            let results = act.act(&requests).into_iter();
            let results = results.chain(std::iter::repeat_with(nothing));
            let until_ns = clock.now_ns();
            let done = |(about, result)| Done {
                about,
                from_ns,
                until_ns,
                result,
            };
            rest.into_iter().zip(results).map(done).collect()
        }))
    }
}

#[cfg(test)]
mod tests;
