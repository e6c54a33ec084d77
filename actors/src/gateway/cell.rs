//! One cell as the gateway serves it.

use std::time::Duration;

use tracing::{info, warn};
use vlad_bus::bus::Bus;
use vlad_bus::command::{Client, Pending};
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::waker::Waker;
use vlad_cell::description::RobotDescription;
use vlad_motion::progress::Progress;
use vlad_safety::mode::{Mode, State};
use vlad_safety::reason::Reason;
use vlad_store::tasks::lease::Intent;
use vlad_store::tasks::{TaskStore, TaskStoreError};
use vlad_task::record::TaskRecord;
use vlad_task::schedule::next_for;
use vlad_task::state::{Event, TaskState};
use vlad_wire::clock::{MS, SECOND, SharedClock};
use vlad_wire::id::{CellId, Role, TaskId};
use vlad_wire::msg::health::{Event as Line, Fitness, PolicyLabel, Severity};
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::task::{ActiveTask, EndedTask, Outcome, TaskNow};
use vlad_wire::stream::{
    EstopCommand, LeaseCommand, ParkCommand, RearmCommand, ResetCommand, SpeedCommand, Tasks,
};
use vlad_wire::text::{Name, Note};

use super::by_gateway;
use super::ear::Ear;
use super::lease::{Held, Holding, Lessor, TTL_MS};
use crate::herald::{Herald, Saying};
use command::{Waiting, remember_latch};
use start::AtStart;

mod command;
mod show;
mod start;

/// Period of the stream `task` when nothing changes.
const TASK_PERIOD_NS: u64 = 500 * MS;
/// Longest wait for the guard's answer to a person.
const ANSWER: Duration = Duration::from_secs(2);

/// What a cell is, as the gateway needs it.
#[derive(Debug, Clone)]
pub struct CellSpec {
    /// Its id.
    pub id: CellId,
    /// Its robot.
    pub robot: RobotDescription,
    /// Whether it is simulated.
    pub simulated: bool,
    /// Whether the guard is armed once at daemon start; simulated cells only.
    pub arm_at_start: bool,
    /// The strategy in use.
    pub strategy: Name,
}

/// How the gateway starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// Whether a cell may be armed at start.
    pub(super) may_arm: bool,
    /// Whether the cell was latched when the daemon ended.
    pub(super) latched: bool,
    /// Differs from start to start.
    pub(super) session: u64,
}

/// One cell.
pub(super) struct CellGate {
    spec: CellSpec,
    ear: Ear,
    lessor: Lessor,
    holding: Holding,
    tasks: Publisher<Tasks>,
    next_task_ns: u64,
    herald: Herald,
    pulse: crate::pulse::Pulse,
    estop: Client<EstopCommand>,
    rearm: Client<RearmCommand>,
    reset: Client<ResetCommand>,
    park: Client<ParkCommand>,
    speed: Client<SpeedCommand>,
    waiting: Vec<Waiting>,
    at_start: AtStart,
    last_state: Option<State>,
    last_task: Option<EndedTask>,
    progress: Progress,
    finishing: bool,
}

impl CellGate {
    pub(super) fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        (spec, start): (CellSpec, Start),
    ) -> Result<Self, BusError> {
        let cell = &spec.id;
        let at_start = AtStart::new(spec.arm_at_start, &start);
        Ok(Self {
            ear: Ear::new(bus, cell, waker)?,
            lessor: Lessor::new(bus, cell)?,
            holding: Holding::Free,
            tasks: bus.publisher(cell, "")?,
            next_task_ns: 0,
            herald: Herald::new(bus, cell, Role::Gateway, clock)?,
            pulse: crate::pulse::Pulse::new(bus, cell, Role::Gateway, start.session)?,
            estop: bus.client(cell)?,
            rearm: bus.client(cell)?,
            reset: bus.client(cell)?,
            park: bus.client(cell)?,
            speed: bus.client(cell)?,
            waiting: Vec::new(),
            at_start,
            last_state: None,
            last_task: None,
            progress: Progress::default(),
            finishing: false,
            spec,
        })
    }

    /// Takes everything that came.
    pub(super) fn listen(&mut self, now_ns: u64) {
        self.ear.listen(now_ns);
    }

    /// Gives the next event of the cell.
    pub(super) fn next_event(&mut self) -> Option<Line> {
        self.ear.next_event()
    }

    /// Whether nothing moves and no task has the cell.
    pub(super) fn quiet(&self, now_ns: u64) -> bool {
        let still = self.still(now_ns);
        matches!(self.holding, Holding::Free) && still
    }

    /// Does what is due.
    pub(super) fn follow(
        &mut self,
        store: &mut TaskStore,
        now_ns: u64,
    ) -> Result<(), TaskStoreError> {
        self.pulse.beat(&crate::pulse::Condition::fit(), now_ns);
        self.waiting.retain_mut(|waiting| !waiting(store));
        self.follow_guard(store)?;
        self.follow_start(store, now_ns)?;
        let followed = self.follow_task(store, now_ns);
        if self.next_task_ns <= now_ns {
            self.publish_task(now_ns);
        }
        followed
    }

    /// Keeps the latch of the store as the guard's, and latches a guard again that forgot: one whose
    /// process was restarted.
    fn follow_guard(&mut self, store: &mut TaskStore) -> Result<(), TaskStoreError> {
        let Some(guard) = &self.ear.guard else {
            return Ok(());
        };
        let state = State {
            mode: guard.mode,
            reason: guard.reason,
        };
        if self.last_state == Some(state) {
            return Ok(());
        }
        let why = Note::cleaned(state.reason.meaning());
        if state.mode.latched() {
            remember_latch(store, &self.spec.id, state)?;
        } else if state.reason == Reason::Reset {
            store.set_latch(&self.spec.id, None, &by_gateway(), &why)?;
        } else if store.latch(&self.spec.id)?.is_some() {
            self.at_start = AtStart::latch();
        }
        // Only now: a latch that the disk refused is tried again.
        self.last_state = Some(state);
        Ok(())
    }

    fn follow_task(&mut self, store: &mut TaskStore, now_ns: u64) -> Result<(), TaskStoreError> {
        match std::mem::replace(&mut self.holding, Holding::Free) {
            Holding::Free => self.begin(store, now_ns),
            Holding::Granting { task, answer } => self.follow_grant(store, task, answer, now_ns),
            Holding::Held(held) => self.follow_held(store, held, now_ns),
            Holding::Releasing { task, answer } => self.follow_release(store, task, answer, now_ns),
        }
    }

    /// Gives the cell to the next task, if it can take one.
    fn begin(&mut self, store: &mut TaskStore, now_ns: u64) -> Result<(), TaskStoreError> {
        if self.finishing || !self.free(now_ns) {
            return Ok(());
        }
        let queue = store.queue(&self.spec.id, 1)?;
        let Some(id) = next_for(true, &queue) else {
            return Ok(());
        };
        let task = store.grant_lease(&id, TTL_MS, &by_gateway())?;
        let Some(epoch) = task.epoch else {
            return Ok(());
        };
        info!(cell = %self.spec.id, task = %id, epoch, "lease");
        let answer = self.lessor.grant(&task, epoch);
        self.holding = Holding::Granting {
            task: Box::new(task),
            answer,
        };
        Ok(())
    }

    fn follow_grant(
        &mut self,
        store: &mut TaskStore,
        task: Box<TaskRecord>,
        mut answer: Pending<LeaseCommand>,
        now_ns: u64,
    ) -> Result<(), TaskStoreError> {
        let Some(result) = answer.try_take() else {
            self.holding = Holding::Granting { task, answer };
            return Ok(());
        };
        let granted = matches!(&result, Ok(answer) if answer.done);
        let epoch = task.epoch.unwrap_or_default();
        let current = store.get(&task.id)?;
        if granted && current.state == TaskState::Leased && !self.finishing {
            return self.run(store, &current, now_ns);
        }
        let event = match current.state {
            TaskState::Cancelling => Event::CancelDone,
            _ => Event::LeaseLostBeforeIntent,
        };
        let text = match result {
            Ok(answer) => answer.text,
            Err(error) => Note::cleaned(&error.to_string()),
        };
        warn!(cell = %self.spec.id, task = %task.id, %text, "no lease");
        store.apply(&task.id, event, &by_gateway(), &text)?;
        if granted {
            let answer = Some(self.lessor.release(epoch));
            self.holding = Holding::Releasing { task, answer };
        }
        Ok(())
    }

    /// Makes the intent durable; only then the stream `task` names the task.
    fn run(
        &mut self,
        store: &mut TaskStore,
        task: &TaskRecord,
        now_ns: u64,
    ) -> Result<(), TaskStoreError> {
        let epoch = task.epoch.unwrap_or_default();
        let pose = self
            .ear
            .joints
            .as_ref()
            .map(|joints| joints.position.clone());
        let intent = Intent {
            task: task.id,
            attempt: task.attempt,
            epoch,
            pose: pose.unwrap_or_default(),
            plan_hash: vlad_wire::msg::think::Digest::default(),
        };
        let task = match store.intend(&intent, &by_gateway()) {
            Ok(intended) => intended.record,
            Err(error) => {
                let answer = Some(self.lessor.release(epoch));
                self.holding = Holding::Releasing {
                    task: Box::new(task.clone()),
                    answer,
                };
                return Err(error);
            }
        };
        let active = ActiveTask {
            id: task.id,
            attempt: task.attempt,
            epoch,
            instruction: task.instruction.clone(),
            seed: task.seed,
            deadline_ns: now_ns + u64::from(task.max_duration_s) * SECOND,
        };
        self.progress.restart();
        let text = task.instruction.to_string();
        self.say(Severity::Info, "task_started", &text, Some(task.id));
        info!(cell = %self.spec.id, task = %task.id, episode = %active.episode(), "task runs");
        self.holding = Holding::Held(Box::new(Held::new(task, active, now_ns)));
        self.publish_task(now_ns);
        Ok(())
    }

    fn follow_held(
        &mut self,
        store: &mut TaskStore,
        mut held: Box<Held>,
        now_ns: u64,
    ) -> Result<(), TaskStoreError> {
        let lost = self
            .lost(&held, now_ns)
            .or_else(|| self.lessor.renew(&mut held, now_ns));
        let end = match lost {
            Some(why) => Some((Event::Lost, Note::cleaned(&why))),
            None => self.decided(&held, now_ns).or_else(|| self.loops(now_ns)),
        };
        let Some((event, reason)) = end else {
            self.holding = Holding::Held(held);
            return Ok(());
        };
        let task = match store.apply(&held.task.id, event, &by_gateway(), &reason) {
            Ok(task) => task,
            Err(error) => {
                // Not durable, not ended: the same end is tried again at the next step.
                self.holding = Holding::Held(held);
                return Err(error);
            }
        };
        info!(cell = %self.spec.id, task = %task.id, state = %task.state, %reason, "task ended");
        let severity = if event == Event::OracleDone {
            Severity::Info
        } else {
            Severity::Warn
        };
        let text = format!("{}: {reason}", task.state);
        self.say(severity, "task_ended", &text, Some(task.id));
        self.remember(&task);
        self.release(*held, now_ns);
        Ok(())
    }

    /// Why the guard no longer works for the task, if so.
    fn lost(&self, held: &Held, now_ns: u64) -> Option<String> {
        let guard = self.ear.guard.as_ref()?;
        let heard_ns = guard.sent_at_ns.max(held.granted_at_ns);
        if heard_ns + u64::from(TTL_MS) * MS < now_ns {
            return Some("the guard is silent".to_owned());
        }
        if guard.sent_at_ns < held.granted_at_ns {
            return None;
        }
        let ended = matches!(
            guard.mode,
            Mode::Stopping | Mode::Stopped | Mode::Estopped | Mode::Fault | Mode::Disarmed
        );
        let other = guard.lease != Some(held.task.id);
        (ended || other).then(|| guard.reason.meaning().to_owned())
    }

    /// Whether the oracle or the clock has decided.
    fn decided(&self, held: &Held, now_ns: u64) -> Option<(Event, Note)> {
        let verdict =
            self.ear.verdict.as_ref().filter(|verdict| {
                (verdict.task, verdict.attempt) == (held.task.id, held.task.attempt)
            });
        match verdict.map(|verdict| (verdict.outcome, &verdict.reason)) {
            Some((Outcome::Done, reason)) => return Some((Event::OracleDone, reason.clone())),
            Some((Outcome::Lost, reason)) => return Some((Event::OracleLost, reason.clone())),
            Some((Outcome::Open, _)) | None => {}
        }
        let late = held.active.deadline_ns <= now_ns;
        late.then(|| (Event::DeadlinePassed, Note::cleaned("deadline")))
    }

    /// Whether the robot gets nowhere (F32). A hold that a person asked for is no loop.
    fn loops(&mut self, now_ns: u64) -> Option<(Event, Note)> {
        let (guard, joints) = (self.ear.guard.as_ref()?, self.ear.joints.as_ref()?);
        if !matches!(guard.reason, Reason::Playing | Reason::Thinking) {
            return None;
        }
        let length_s = self.progress.note(now_ns, &joints.position)?;
        let text = format!("no progress: the robot repeats {length_s:.1} s of motion");
        Some((Event::OracleLost, Note::cleaned(&text)))
    }

    fn follow_release(
        &mut self,
        store: &mut TaskStore,
        task: Box<TaskRecord>,
        answer: Option<Pending<LeaseCommand>>,
        now_ns: u64,
    ) -> Result<(), TaskStoreError> {
        // No answer at all is an answer too: then the lease runs out at the guard.
        let answer = answer.and_then(|mut answer| match answer.try_take() {
            None => Some(answer),
            Some(_) => None,
        });
        let still = self.still(now_ns);
        if answer.is_some() || !still {
            self.holding = Holding::Releasing { task, answer };
            return Ok(());
        }
        let current = store.get(&task.id)?;
        if current.state == TaskState::Cancelling {
            let reason = current.reason.unwrap_or_else(|| Note::cleaned("cancelled"));
            let ended = store.apply(&task.id, Event::CancelDone, &by_gateway(), &reason)?;
            self.remember(&ended);
            self.say(Severity::Info, "task_ended", "cancelled", Some(task.id));
        }
        self.next_task_ns = now_ns;
        Ok(())
    }

    /// Whether nothing moves; joints that are no longer heard of cannot be waited for.
    fn still(&self, now_ns: u64) -> bool {
        let moving = |joints: &JointState| {
            let heard = now_ns.saturating_sub(joints.sampled_at_ns) <= u64::from(TTL_MS) * MS;
            heard && !joints.standstill
        };
        !self.ear.joints.as_ref().is_some_and(moving)
    }

    /// Ends a task that a person has ended or cancelled.
    pub(super) fn end_task(&mut self, task: &TaskRecord, now_ns: u64) {
        match std::mem::replace(&mut self.holding, Holding::Free) {
            Holding::Held(held) if held.task.id == task.id => {
                if task.state != TaskState::Cancelling {
                    self.remember(task);
                }
                self.release(*held, now_ns);
            }
            other => self.holding = other,
        }
    }

    /// Interrupts whatever runs: the daemon is ending.
    pub(super) fn interrupt(&mut self, store: &mut TaskStore, why: &str, now_ns: u64) {
        self.finishing = true;
        self.at_start = AtStart::Nothing;
        match std::mem::replace(&mut self.holding, Holding::Free) {
            Holding::Held(held) => {
                let reason = Note::cleaned(why);
                match store.apply(&held.task.id, Event::Lost, &by_gateway(), &reason) {
                    Ok(task) => self.remember(&task),
                    // The next start finds it moving and interrupts it then.
                    Err(error) => warn!(task = %held.task.id, %error, "the task store failed"),
                }
                self.release(*held, now_ns);
            }
            other => self.holding = other,
        }
    }

    fn release(&mut self, held: Held, now_ns: u64) {
        let answer = Some(self.lessor.release(held.active.epoch));
        self.holding = Holding::Releasing {
            task: Box::new(held.task),
            answer,
        };
        self.publish_task(now_ns);
    }

    fn publish_task(&mut self, now_ns: u64) {
        self.next_task_ns = now_ns + TASK_PERIOD_NS;
        let task = match &self.holding {
            Holding::Held(held) => Some(held.active.clone()),
            _ => None,
        };
        self.tasks.put(&TaskNow {
            sent_at_ns: now_ns,
            task,
            last: self.last_task.clone(),
        });
    }

    /// Remembers how a task ended, for the stream `task`.
    fn remember(&mut self, task: &TaskRecord) {
        let (Some(episode), Ok(state)) = (task.episode(), Name::new(task.state.name())) else {
            return;
        };
        let reason = task
            .reason
            .clone()
            .unwrap_or_else(|| Note::cleaned("no reason given"));
        self.last_task = Some(EndedTask {
            episode,
            state,
            reason,
        });
    }

    fn say(&self, severity: Severity, kind: &'static str, text: &str, task: Option<TaskId>) {
        self.herald.say(
            severity,
            kind,
            &Saying {
                text,
                task,
                ..Saying::default()
            },
        );
    }

    /// Whether a task may have the cell now.
    fn free(&self, now_ns: u64) -> bool {
        self.ear.guard.as_ref().is_some_and(|guard| {
            let idle = guard.mode == Mode::Armed
                || (guard.mode == Mode::Hold
                    && matches!(guard.reason, Reason::LeaseReleased | Reason::LeaseLost));
            idle && guard.lease.is_none()
        }) && self.not_warm(now_ns).is_empty()
    }

    fn not_warm(&self, now_ns: u64) -> Vec<Note> {
        let needed = [
            Role::Actuator,
            Role::Perception,
            Role::Brain,
            Role::ActionExpert,
        ];
        let lacks = needed
            .into_iter()
            .filter_map(|role| match self.ear.alive.get(&role) {
                None => Some(format!("{role} was not heard of")),
                Some((_, at_ns)) if show::ALIVE_NS < now_ns.saturating_sub(*at_ns) => {
                    Some(format!("{role} is silent"))
                }
                Some((alive, _)) => match &alive.fitness {
                    Fitness::Fit => None,
                    Fitness::Unfit(why) => Some(format!("{role}: {why}")),
                },
            });
        let label = |role| self.ear.alive.get(&role)?.0.policy.as_ref();
        let apart = different_models(label(Role::Brain), label(Role::ActionExpert));
        let lacks = lacks.chain(apart);
        lacks.map(|text| Note::cleaned(&text)).collect()
    }
}

/// Says so if brain and action expert run different models: no decision could ever be made.
fn different_models(brain: Option<&PolicyLabel>, expert: Option<&PolicyLabel>) -> Option<String> {
    let (brain, expert) = (brain?, expert?);
    let same = (&brain.model_hash, &brain.normaliser_hash)
        == (&expert.model_hash, &expert.normaliser_hash);
    (!same).then(|| {
        let (brain, expert) = (&brain.name, &expert.name);
        format!("brain and action-expert run different models ({brain}, {expert}): give both the same files")
    })
}

#[cfg(test)]
mod tests {
    use vlad_wire::msg::think::Digest;
    use vlad_wire::text::Name;

    use super::*;

    fn label(model: u8, normaliser: u8) -> PolicyLabel {
        PolicyLabel {
            name: Name::new("xr0").unwrap(),
            note: Note::cleaned(""),
            model_hash: Digest::from(vec![model]),
            normaliser_hash: Digest::from(vec![normaliser]),
        }
    }

    #[test]
    fn brain_and_expert_must_run_the_same_model() {
        let one = label(1, 1);
        assert_eq!(different_models(Some(&one), Some(&one)), None);
        assert_eq!(
            different_models(Some(&one), None),
            None,
            "one is not heard of"
        );
        for other in [label(2, 1), label(1, 2)] {
            let said = different_models(Some(&one), Some(&other)).unwrap();
            assert!(said.contains("different models"), "{said}");
        }
    }
}
