//! The gateway's part, without a store, so that a run has no random number in it: arms the guard,
//! leases the cell to one task, keeps the lease, and hears what is said.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ulid::Ulid;
use vlad_bus::command::{Client, Pending};
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::{Epoch, TaskId};
use vlad_wire::msg::command::{Answer, Lease, Rearm, Signature};
use vlad_wire::msg::execute::{Executed, ExecutedTicks, GuardState};
use vlad_wire::msg::health::Event;
use vlad_wire::msg::task::{ActiveTask, Outcome, TaskNow, Verdict};
use vlad_wire::msg::think::ChunkHead;
use vlad_wire::stream::{
    Chunks, Command, Events, ExecutedActions, Guards, LeaseCommand, RearmCommand, Tasks, Verdicts,
};
use vlad_wire::text::{Instruction, Note};

use super::Run;

/// Servo periods until the roles know each other: a second.
const ACQUAINTANCE: u32 = 240;
/// How long the guard may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a lease holds without renewal, milliseconds, and how often it is renewed (reference B.5).
pub const LEASE_MS: u32 = 2000;
const RENEW_NS: u64 = 500 * MS;
/// Epoch of the first arming; the first lease has the one after it.
const FIRST_EPOCH: Epoch = 1;
/// Farther between two servo ticks than a robot that begins or ends its motion is told to go, rad.
const MOVING_RAD: f64 = 2e-3;

/// What was said so far.
#[derive(Default)]
pub struct Report {
    /// The oracle's newest word.
    pub verdict: Option<Verdict>,
    /// Seconds that the task took so far.
    pub seconds: u64,
    /// What was commanded and measured.
    pub executed: Vec<ExecutedTicks>,
    /// The guard's states.
    pub guards: Vec<GuardState>,
    /// Everything worth a line.
    pub events: Vec<Event>,
    /// Heads of all chunks that the expert sent.
    pub chunks: Vec<ChunkHead>,
}

impl Report {
    /// Whether the scene's oracle is satisfied.
    pub fn done(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|verdict| verdict.outcome == Outcome::Done)
    }

    /// Every servo tick, oldest first.
    pub fn ticks(&self) -> impl DoubleEndedIterator<Item = &Executed> {
        self.executed.iter().flat_map(|executed| &executed.ticks)
    }
}

/// Arms, leases, renews and hears.
pub struct Dispatcher {
    tasks: Publisher<Tasks>,
    lease: Client<LeaseCommand>,
    verdicts: Subscriber<Verdicts>,
    executed: Subscriber<ExecutedActions>,
    guards: Subscriber<Guards>,
    events: Subscriber<Events>,
    chunks: Subscriber<Chunks>,
    renewal: Option<Pending<LeaseCommand>>,
    active: ActiveTask,
    next_ns: u64,
    report: Report,
}

/// Who rehearses, for commands that want a name.
pub fn signature() -> Signature {
    Signature {
        operator: Note::cleaned("rehearsal"),
        reason: Note::cleaned("a run in virtual time"),
    }
}

/// Asks the guard, and lets the cell go on until it answers.
///
/// # Errors
/// No answer within a second.
pub fn ask<C: Command<Answer = Answer>>(run: &mut Run, ask: &C::Ask) -> anyhow::Result<Answer> {
    let client: Client<C> = run.stepped.bus().client(&run.config.cell.name)?;
    let mut pending = client.ask(ask, ANSWER);
    for _ in 0..ACQUAINTANCE {
        run.stepped.step()?;
        if let Some(answer) = pending.try_take() {
            return Ok(answer?);
        }
    }
    anyhow::bail!("the guard does not answer")
}

impl Dispatcher {
    /// Prepares one task with a seed of its own.
    ///
    /// # Errors
    /// An instruction that is too long, and what the bus says.
    pub fn new(run: &Run, instruction: &str, seed: u64) -> anyhow::Result<Self> {
        let (bus, cell) = (run.stepped.bus(), &run.config.cell.name);
        Ok(Self {
            tasks: bus.publisher(cell, "")?,
            lease: bus.client(cell)?,
            verdicts: bus.subscriber(cell, "", None)?,
            executed: bus.subscriber(cell, "", None)?,
            guards: bus.subscriber(cell, "", None)?,
            events: bus.subscriber(cell, "", None)?,
            chunks: bus.subscriber(cell, "", None)?,
            renewal: None,
            active: ActiveTask {
                id: TaskId(Ulid::from_parts(1, u128::from(seed))),
                attempt: 1,
                epoch: FIRST_EPOCH + 1,
                instruction: Instruction::new(instruction)?,
                seed,
                deadline_ns: u64::MAX,
            },
            next_ns: 0,
            report: Report::default(),
        })
    }

    /// Runs the task for at most `seconds` of virtual time.
    ///
    /// # Errors
    /// As [`Dispatcher::begin`] and [`Dispatcher::follow`].
    pub fn run(mut self, run: &mut Run, seconds: u64) -> anyhow::Result<Report> {
        self.begin(run)?;
        self.follow(run, seconds)
    }

    /// Waits until the roles know each other, arms the guard and takes the cell.
    ///
    /// # Errors
    /// A core that cannot go on; a guard that refuses.
    pub fn begin(&mut self, run: &mut Run) -> anyhow::Result<()> {
        for _ in 0..ACQUAINTANCE {
            self.step_silently(run)?;
        }
        let armed = self.rearm(run, FIRST_EPOCH)?;
        ensure!(armed.done, "the guard is not armed: {}", armed.text);
        let leased = self.take(run, FIRST_EPOCH + 1)?;
        ensure!(leased.done, "the cell is not leased: {}", leased.text);
        Ok(())
    }

    /// Asks the guard to be armed, naming no pose.
    ///
    /// # Errors
    /// No answer.
    pub fn rearm(&mut self, run: &mut Run, epoch: Epoch) -> anyhow::Result<Answer> {
        let rearm = Rearm {
            epoch,
            by: signature(),
            expected_pose: Vec::new(),
        };
        self.ask::<RearmCommand>(run, &rearm)
    }

    /// Asks for the cell under an epoch, which the task has from then on.
    ///
    /// # Errors
    /// No answer.
    pub fn take(&mut self, run: &mut Run, epoch: Epoch) -> anyhow::Result<Answer> {
        self.active.epoch = epoch;
        self.next_ns = 0;
        let grant = Lease::Grant {
            epoch,
            task: self.active.id,
            attempt: self.active.attempt,
            ttl_ms: LEASE_MS,
        };
        self.ask::<LeaseCommand>(run, &grant)
    }

    /// As [`ask`], hearing what is said meanwhile.
    ///
    /// # Errors
    /// No answer.
    pub fn ask<C: Command<Answer = Answer>>(
        &mut self,
        run: &mut Run,
        asked: &C::Ask,
    ) -> anyhow::Result<Answer> {
        let answer = ask::<C>(run, asked);
        self.listen();
        answer
    }

    /// Goes on by one servo period, keeps the lease, and keeps what is said.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn step(&mut self, run: &mut Run) -> anyhow::Result<()> {
        self.renew(run.stepped.clock().now_ns());
        run.stepped.step()?;
        self.listen();
        Ok(())
    }

    /// The same, as one whose process is stopped: it says nothing, and hears later.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn step_silently(&mut self, run: &mut Run) -> anyhow::Result<()> {
        run.stepped.step()?;
        self.listen();
        Ok(())
    }

    /// Goes on until `seen` says so.
    ///
    /// # Errors
    /// It does not within `for_ns`; `what` is what was waited for.
    pub fn until(
        &mut self,
        run: &mut Run,
        (what, for_ns): (&str, u64),
        mut seen: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let clock = run.stepped.clock();
        let give_up_ns = clock.now_ns() + for_ns;
        while !seen(self) {
            ensure!(
                clock.now_ns() < give_up_ns,
                "waited {} ms in vain: {what}; the guard is in {:?}",
                for_ns / MS,
                self.mode()
            );
            self.step(run)?;
        }
        Ok(())
    }

    /// Goes on for so many nanoseconds.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn pass(&mut self, run: &mut Run, for_ns: u64) -> anyhow::Result<()> {
        let clock = run.stepped.clock();
        let until_ns = clock.now_ns() + for_ns;
        while clock.now_ns() < until_ns {
            self.step(run)?;
        }
        Ok(())
    }

    /// Follows the task to its verdict, for at most `seconds` of virtual time.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn follow(&mut self, run: &mut Run, seconds: u64) -> anyhow::Result<Report> {
        let clock = run.stepped.clock();
        let began_ns = clock.now_ns();
        while clock.now_ns() < began_ns + seconds * SECOND {
            self.step(run)?;
            self.report.seconds = (clock.now_ns() - began_ns) / SECOND;
            let verdict = &self.report.verdict;
            if verdict.as_ref().is_some_and(|v| v.outcome != Outcome::Open) {
                break;
            }
        }
        Ok(std::mem::take(&mut self.report))
    }

    /// When the lease was renewed last.
    pub fn renewed_at_ns(&self) -> u64 {
        self.next_ns.saturating_sub(RENEW_NS)
    }

    /// The task, and which try it is.
    pub fn task(&self) -> (TaskId, u32) {
        (self.active.id, self.active.attempt)
    }

    /// The task goes on under another epoch, as after a resume.
    pub fn adopt(&mut self, epoch: Epoch) {
        self.active.epoch = epoch;
        self.next_ns = 0;
    }

    /// What was heard so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The guard's newest mode, and why.
    pub fn mode(&self) -> Option<(Mode, Reason)> {
        let guard = self.report.guards.last()?;
        Some((guard.mode, guard.reason))
    }

    /// The guard's newest state.
    ///
    /// # Errors
    /// It has said nothing yet.
    pub fn guard(&self) -> anyhow::Result<&GuardState> {
        self.report.guards.last().context("the guard says nothing")
    }

    /// Whether the arms were told to move well in the last tick that was executed.
    pub fn moving(&self) -> bool {
        let mut ticks = self.report.ticks().rev();
        let (Some(now), Some(before)) = (ticks.next(), ticks.next()) else {
            return false;
        };
        let pairs = now.command.iter().zip(&before.command);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) > MOVING_RAD
    }

    fn listen(&mut self) {
        let report = &mut self.report;
        while let Some(executed) = self.executed.try_next() {
            report.executed.push(executed);
        }
        while let Some(guard) = self.guards.try_next() {
            report.guards.push(guard);
        }
        while let Some(event) = self.events.try_next() {
            report.events.push(event);
        }
        while let Some(chunk) = self.chunks.try_next() {
            report.chunks.push(chunk.head);
        }
        report.verdict = self.verdicts.try_next().or(report.verdict.take());
    }

    fn renew(&mut self, now_ns: u64) {
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + RENEW_NS;
        let ask = Lease::Renew {
            epoch: self.active.epoch,
        };
        self.renewal = Some(self.lease.ask(&ask, ANSWER));
        self.tasks.put(&TaskNow {
            sent_at_ns: now_ns,
            task: Some(self.active.clone()),
            last: None,
        });
    }
}
