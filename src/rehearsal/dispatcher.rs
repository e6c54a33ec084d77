//! In the gateway's place: a [`Holder`] that hears what is said.

use anyhow::{Context as _, ensure};
use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::{Epoch, TaskId};
use vlad_wire::msg::command::Answer;
use vlad_wire::msg::execute::{Executed, ExecutedTicks, GuardState};
use vlad_wire::msg::health::Event;
use vlad_wire::msg::task::{Outcome, Verdict};
use vlad_wire::msg::think::ChunkHead;
use vlad_wire::stream::{Chunks, Command, Events, ExecutedActions, Guards, Verdicts};

use super::Run;
use super::holder::{self, Holder};

/// Faster than robots that begin or end their motion are told to go: of joints, rad/s,
const MOVING_RAD_S: f64 = 0.48;
/// and of TwoGate's point, whose plans go at 0.45 m/s.
const MOVING_M_S: f64 = 0.3;

/// Newest events that an error tells.
const EVENTS_SHOWN: usize = 12;

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
    holder: Holder,
    verdicts: Subscriber<Verdicts>,
    executed: Subscriber<ExecutedActions>,
    guards: Subscriber<Guards>,
    events: Subscriber<Events>,
    chunks: Subscriber<Chunks>,
    report: Report,
    /// A dof that goes farther from servo tick to servo tick moves well.
    moving: f64,
}

impl Dispatcher {
    /// Prepares one task with a seed of its own.
    ///
    /// # Errors
    /// An instruction that is too long, and what the bus says.
    pub fn new(run: &Run, instruction: &str, seed: u64) -> anyhow::Result<Self> {
        let (bus, cell) = (run.stepped.bus(), &run.config.cell.name);
        let robot = &run.config.robot;
        let speed = if robot.arms().is_empty() {
            MOVING_M_S
        } else {
            MOVING_RAD_S
        };
        Ok(Self {
            holder: Holder::new(&run.stepped, cell, (instruction, seed))?,
            verdicts: bus.subscriber(cell, "", None)?,
            executed: bus.subscriber(cell, "", None)?,
            guards: bus.subscriber(cell, "", None)?,
            events: bus.subscriber(cell, "", None)?,
            chunks: bus.subscriber(cell, "", None)?,
            report: Report::default(),
            moving: speed / robot.toml().servo_hz,
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
        for _ in 0..holder::acquaintance(&run.stepped) {
            self.step_silently(run)?;
        }
        let begun = self.holder.begin(&mut run.stepped);
        self.listen();
        begun
    }

    /// Asks the guard to be armed, naming no pose.
    ///
    /// # Errors
    /// No answer.
    pub fn rearm(&mut self, run: &mut Run, epoch: Epoch) -> anyhow::Result<Answer> {
        let answer = self.holder.rearm(&mut run.stepped, epoch);
        self.listen();
        answer
    }

    /// Asks for the cell under an epoch, which the task has from then on.
    ///
    /// # Errors
    /// No answer.
    pub fn take(&mut self, run: &mut Run, epoch: Epoch) -> anyhow::Result<Answer> {
        let answer = self.holder.take(&mut run.stepped, epoch);
        self.listen();
        answer
    }

    /// As [`holder::ask`], hearing what is said meanwhile.
    ///
    /// # Errors
    /// No answer.
    pub fn ask<C: Command<Answer = Answer>>(
        &mut self,
        run: &mut Run,
        asked: &C::Ask,
    ) -> anyhow::Result<Answer> {
        let answer = holder::ask::<C>(&mut run.stepped, &run.config.cell.name, asked);
        self.listen();
        answer
    }

    /// Goes on by one servo period, keeps the lease, and keeps what is said.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub fn step(&mut self, run: &mut Run) -> anyhow::Result<()> {
        self.holder.renew(run.stepped.clock().now_ns());
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
                "waited {} ms in vain: {what}; the guard is in {:?}; last: {}",
                for_ns / MS,
                self.mode(),
                self.newest_events()
            );
            self.step(run)?;
        }
        Ok(())
    }

    /// What was said last, for an error that must be understood.
    fn newest_events(&self) -> String {
        let events = self.report.events.iter().rev().take(EVENTS_SHOWN);
        let lines =
            events.map(|event| format!("{} {}: {}", event.at_ns / MS, event.kind, event.text));
        let lines: Vec<_> = lines.collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
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
        self.holder.renewed_at_ns()
    }

    /// The task, and which try it is.
    pub fn task(&self) -> (TaskId, u32) {
        self.holder.task()
    }

    /// The task goes on under another epoch, as after a resume.
    pub fn adopt(&mut self, epoch: Epoch) {
        self.holder.adopt(epoch);
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
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) > self.moving
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
}
