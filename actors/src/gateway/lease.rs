//! The dance of one cell's lease: grant, renew, release.
//!
//! ```text
//!  free ── task waits, cell ready ──► granting ── yes ──► held ── end ──► releasing ──► free
//!   ▲                                    │ no               │ lost                        ▲
//!   └────────── task queued again ───────┘                  └──── task interrupted ───────┘
//! ```

use std::time::Duration;

use vlad_bus::bus::Bus;
use vlad_bus::command::{Client, Pending};
use vlad_bus::error::BusError;
use vlad_task::record::TaskRecord;
use vlad_wire::clock::MS;
use vlad_wire::id::{CellId, Epoch};
use vlad_wire::msg::command::Lease;
use vlad_wire::msg::task::ActiveTask;
use vlad_wire::stream::LeaseCommand;

/// How long a lease holds without renewal (reference B.5).
pub(super) const TTL_MS: u32 = 2000;
/// How often it is renewed.
const RENEW_NS: u64 = 500 * MS;
/// Longest wait for the guard's answer: shorter than the lease.
const ANSWER: Duration = Duration::from_secs(1);

/// Where the lease stands.
pub(super) enum Holding {
    /// No task has the cell.
    Free,
    /// The guard was asked.
    Granting {
        /// The task that shall have it.
        task: Box<TaskRecord>,
        /// The guard's answer.
        answer: Pending<LeaseCommand>,
    },
    /// A task has the cell.
    Held(Box<Held>),
    /// The lease is being given back.
    Releasing {
        /// The task that had it.
        task: Box<TaskRecord>,
        /// The guard's answer, until it has come: then only standstill is waited for.
        answer: Option<Pending<LeaseCommand>>,
    },
}

/// A lease that is held.
pub(super) struct Held {
    /// The task, as it was when it began to run.
    pub(super) task: TaskRecord,
    /// The same, for the stream `task`.
    pub(super) active: ActiveTask,
    /// When the guard granted it.
    pub(super) granted_at_ns: u64,
    next_renewal_ns: u64,
    renewal: Option<Pending<LeaseCommand>>,
}

impl Held {
    pub(super) fn new(task: TaskRecord, active: ActiveTask, now_ns: u64) -> Self {
        let next_renewal_ns = now_ns + RENEW_NS;
        Self {
            task,
            active,
            granted_at_ns: now_ns,
            next_renewal_ns,
            renewal: None,
        }
    }
}

/// Asks the guard about leases.
pub(super) struct Lessor {
    client: Client<LeaseCommand>,
}

impl Lessor {
    pub(super) fn new(bus: &Bus, cell: &CellId) -> Result<Self, BusError> {
        Ok(Self {
            client: bus.client(cell)?,
        })
    }

    pub(super) fn grant(&self, task: &TaskRecord, epoch: Epoch) -> Pending<LeaseCommand> {
        let ask = Lease::Grant {
            epoch,
            task: task.id,
            attempt: task.attempt,
            ttl_ms: TTL_MS,
        };
        self.client.ask(&ask, ANSWER)
    }

    pub(super) fn release(&self, epoch: Epoch) -> Pending<LeaseCommand> {
        self.client.ask(&Lease::Release { epoch }, ANSWER)
    }

    /// Renews a held lease when it is time; `Some` says why it is lost.
    pub(super) fn renew(&self, held: &mut Held, now_ns: u64) -> Option<String> {
        if let Some(renewal) = &mut held.renewal {
            let answer = renewal.try_take()?;
            held.renewal = None;
            match answer {
                Ok(answer) if answer.done => {}
                Ok(answer) => return Some(answer.text.to_string()),
                // The next renewal tries again; if the guard is gone, the lease runs out there.
                Err(_) => return None,
            }
        }
        if held.next_renewal_ns <= now_ns {
            held.next_renewal_ns = now_ns + RENEW_NS;
            let ask = Lease::Renew {
                epoch: held.active.epoch,
            };
            held.renewal = Some(self.client.ask(&ask, ANSWER));
        }
        None
    }
}
