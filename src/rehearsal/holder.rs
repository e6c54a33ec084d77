//! Who holds the cell for one task: arms the guard, takes the lease, keeps it and says the task. The
//! gateway's part without a store, so that a run has no random number in it.

use std::time::Duration;

use anyhow::ensure;
use ulid::Ulid;
use vlad_actors::stepped::Stepped;
use vlad_bus::command::{Client, Pending};
use vlad_bus::publisher::Publisher;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::{CellId, Epoch, TaskId};
use vlad_wire::msg::command::{Answer, Lease, Rearm, Signature};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::stream::{Command, LeaseCommand, RearmCommand, Tasks};
use vlad_wire::text::{Instruction, Note};

/// How long the guard may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a lease holds without renewal, milliseconds, and how often it is renewed (reference B.5).
pub const LEASE_MS: u32 = 2000;
const RENEW_NS: u64 = 500 * MS;
/// Epoch of the first arming; the first lease has the one after it.
const FIRST_EPOCH: Epoch = 1;

/// Holds one cell.
pub struct Holder {
    cell: CellId,
    tasks: Publisher<Tasks>,
    lease: Client<LeaseCommand>,
    renewal: Option<Pending<LeaseCommand>>,
    active: ActiveTask,
    next_ns: u64,
}

/// Who rehearses, for commands that want a name.
pub fn signature() -> Signature {
    Signature {
        operator: Note::cleaned("rehearsal"),
        reason: Note::cleaned("a run in virtual time"),
    }
}

/// Servo periods until the roles know each other: those of a second.
pub fn acquaintance(stepped: &Stepped) -> u64 {
    (SECOND + stepped.period_ns() / 2) / stepped.period_ns()
}

/// Asks the guard, and lets the cell go on until it answers.
///
/// # Errors
/// No answer within a second.
pub fn ask<C: Command<Answer = Answer>>(
    stepped: &mut Stepped,
    cell: &CellId,
    asked: &C::Ask,
) -> anyhow::Result<Answer> {
    let client: Client<C> = stepped.bus().client(cell)?;
    let mut pending = client.ask(asked, ANSWER);
    for _ in 0..acquaintance(stepped) {
        stepped.step()?;
        if let Some(answer) = pending.try_take() {
            return Ok(answer?);
        }
    }
    anyhow::bail!("the guard does not answer")
}

impl Holder {
    /// Prepares one task with a seed of its own.
    ///
    /// # Errors
    /// An instruction that is too long, and what the bus says.
    pub fn new(
        stepped: &Stepped,
        cell: &CellId,
        (instruction, seed): (&str, u64),
    ) -> anyhow::Result<Self> {
        Ok(Self {
            cell: cell.clone(),
            tasks: stepped.bus().publisher(cell, "")?,
            lease: stepped.bus().client(cell)?,
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
        })
    }

    /// Arms the guard and takes the cell; the roles must know each other.
    ///
    /// # Errors
    /// A core that cannot go on; a guard that refuses.
    pub fn begin(&mut self, stepped: &mut Stepped) -> anyhow::Result<()> {
        let armed = self.rearm(stepped, FIRST_EPOCH)?;
        ensure!(armed.done, "the guard is not armed: {}", armed.text);
        let leased = self.take(stepped, FIRST_EPOCH + 1)?;
        ensure!(leased.done, "the cell is not leased: {}", leased.text);
        Ok(())
    }

    /// Asks the guard to be armed, naming no pose.
    ///
    /// # Errors
    /// No answer.
    pub fn rearm(&self, stepped: &mut Stepped, epoch: Epoch) -> anyhow::Result<Answer> {
        let rearm = Rearm {
            epoch,
            by: signature(),
            expected_pose: Vec::new(),
        };
        ask::<RearmCommand>(stepped, &self.cell, &rearm)
    }

    /// Asks for the cell under an epoch, which the task has from then on.
    ///
    /// # Errors
    /// No answer.
    pub fn take(&mut self, stepped: &mut Stepped, epoch: Epoch) -> anyhow::Result<Answer> {
        self.adopt(epoch);
        let grant = Lease::Grant {
            epoch,
            task: self.active.id,
            attempt: self.active.attempt,
            ttl_ms: LEASE_MS,
        };
        ask::<LeaseCommand>(stepped, &self.cell, &grant)
    }

    /// The task goes on under another epoch, as after a resume.
    pub fn adopt(&mut self, epoch: Epoch) {
        self.active.epoch = epoch;
        self.next_ns = 0;
    }

    /// Renews the lease and says the task, when it is time.
    pub fn renew(&mut self, now_ns: u64) {
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

    /// When the lease was renewed last.
    pub fn renewed_at_ns(&self) -> u64 {
        self.next_ns.saturating_sub(RENEW_NS)
    }

    /// The task, and which try it is.
    pub fn task(&self) -> (TaskId, u32) {
        (self.active.id, self.active.attempt)
    }
}
