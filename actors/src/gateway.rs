//! The gateway: tasks, leases and people's commands.
//!
//! | | |
//! |---|---|
//! | in | orders of the desk; `joints`, `guard`, `alive/*`, `verdict`, `frame/*`, `executed`, `event` |
//! | out | `task`, `cmd/*`; the desk's snapshot and events; the task store |
//! | period | 20 ms; woken by orders, guard states and verdicts |
//! | fails safe | a lease that is not renewed runs out, and the guard holds |
//!
//! What may follow what is `vlad-task`'s; what is durable is `vlad-store`'s. A task moves only
//! after its lease, then its intent, are on the disk: only then does the stream `task` name it, and
//! only then does the expert ask for a first decision.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use tracing::{info, warn};
use vlad_bus::bus::Bus;
use vlad_bus::waker::Waker;
use vlad_store::tasks::{SubmitError, TaskFilter, TaskStore, TaskStoreError};
use vlad_task::actor::Actor as Doer;
use vlad_task::record::{TaskRecord, VerdictResult};
use vlad_task::state::{Event, TaskState};
use vlad_wire::clock::{MS, SECOND, SharedClock};
use vlad_wire::id::{CellId, Role, TaskId};
use vlad_wire::msg::command::Signature;
use vlad_wire::text::Note;

use crate::role::{Core, CoreError};
use cell::{CellGate, CellSpec};
use desk::{DeskError, GuardOrder, Order, SharedDeskServer, TaskPage};
use view::{NumberedEvent, Readiness};

pub mod cell;
pub mod desk;
mod ear;
mod lease;
pub mod view;

/// Period of the snapshot: faster than an eye, slower than a core.
const SNAPSHOT_PERIOD_NS: u64 = 50 * MS;
/// Longest wait for standing still when the daemon ends.
const FINISH_NS: u64 = 3 * SECOND;

/// Everything that a gateway is made from.
pub struct GatewayParts {
    /// The cells that it serves.
    pub cells: Vec<CellSpec>,
    /// The task store, recovered.
    pub store: TaskStore,
    /// Its end of the desk.
    pub desk: SharedDeskServer,
    /// Set when a cell was armed at daemon start: a restarted gateway does not do so again.
    pub armed_once: Arc<AtomicBool>,
    /// Differs from start to start.
    pub session: u64,
}

/// The gateway of all cells of a process.
pub struct Gateway {
    cells: BTreeMap<CellId, CellGate>,
    store: TaskStore,
    desk: SharedDeskServer,
    next_event: u64,
    next_snapshot_ns: u64,
    finishing_since_ns: Option<u64>,
}

impl Gateway {
    /// Opens the streams of all cells.
    ///
    /// # Errors
    /// [`CoreError`] if the bus refuses or the store cannot be read.
    pub fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        parts: GatewayParts,
    ) -> Result<Self, CoreError> {
        let GatewayParts {
            cells,
            store,
            desk,
            armed_once,
            session,
        } = parts;
        let may_arm = !armed_once.swap(true, Ordering::AcqRel);
        let mut gates = BTreeMap::new();
        for spec in cells {
            let latch = store.latch(&spec.id).map_err(|error| failed(&error))?;
            let id = spec.id.clone();
            let start = cell::Start {
                may_arm,
                latched: latch.is_some(),
                session,
            };
            gates.insert(id, CellGate::new(bus, clock, waker, (spec, start))?);
        }
        Ok(Self {
            cells: gates,
            store,
            desk,
            next_event: 0,
            next_snapshot_ns: 0,
            finishing_since_ns: None,
        })
    }

    /// Everything that was ordered, emergency stops first: they wait for no commit but one that is
    /// under way.
    fn orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Some(order) = self.next_order() {
            orders.push(order);
        }
        orders.sort_by_key(|order| !matches!(order, Order::Guard(_, GuardOrder::Estop, ..)));
        orders
    }

    fn next_order(&self) -> Option<Order> {
        self.desk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .orders
            .try_recv()
            .ok()
    }

    fn take_orders(&mut self, now_ns: u64) {
        for order in self.orders() {
            // A client that no longer waits has nobody to tell.
            match order {
                Order::Submit(submission, key, reply) => {
                    let client = Note::cleaned("rest");
                    let result = if self.cells.contains_key(&submission.cell) {
                        let key = key.as_ref();
                        self.store
                            .submit(&submission, key, &client)
                            .map_err(submit_error)
                    } else {
                        Err(no_cell(&submission.cell))
                    };
                    if let Ok(submitted) = &result {
                        let task = &submitted.record;
                        info!(cell = %task.cell, task = %task.id, "task accepted");
                    }
                    drop(reply.send(result));
                }
                Order::Show(id, reply) => {
                    drop(reply.send(self.store.get(&id).map_err(store_error)));
                }
                Order::List(query, reply) => {
                    let filter = TaskFilter {
                        cell: query.cell,
                        state: query.state,
                    };
                    let limit = u32::try_from(query.limit).unwrap_or(u32::MAX);
                    let page = self.store.list(&filter, query.cursor, limit);
                    let page = page.map(|(items, next)| TaskPage { items, next });
                    drop(reply.send(page.map_err(store_error)));
                }
                Order::Cancel(id, by, reply) => drop(reply.send(self.cancel(&id, &by, now_ns))),
                Order::Verdict(id, result, by, reply) => {
                    drop(reply.send(self.verdict(&id, result, &by, now_ns)));
                }
                Order::Guard(cell, order, by, reply) => match self.cells.get_mut(&cell) {
                    Some(gate) => gate.command(&mut self.store, order, by, reply),
                    None => drop(reply.send(Err(no_cell(&cell)))),
                },
            }
        }
    }

    fn cancel(
        &mut self,
        id: &TaskId,
        by: &Signature,
        now_ns: u64,
    ) -> Result<TaskRecord, DeskError> {
        let doer = Doer::Operator(by.operator.clone());
        let task = self
            .store
            .apply(id, Event::CancelAsked, &doer, &by.reason)
            .map_err(store_error)?;
        info!(cell = %task.cell, task = %id, operator = %by.operator, "cancel");
        if task.state == TaskState::Cancelling
            && let Some(gate) = self.cells.get_mut(&task.cell)
        {
            gate.end_task(&task, now_ns);
        }
        Ok(task)
    }

    fn verdict(
        &mut self,
        id: &TaskId,
        result: VerdictResult,
        by: &Signature,
        now_ns: u64,
    ) -> Result<TaskRecord, DeskError> {
        let doer = Doer::Operator(by.operator.clone());
        let task = self
            .store
            .apply(id, result.event(), &doer, &by.reason)
            .map_err(store_error)?;
        info!(cell = %task.cell, task = %id, operator = %by.operator, verdict = result.name(), "verdict");
        if let Some(gate) = self.cells.get_mut(&task.cell) {
            gate.end_task(&task, now_ns);
        }
        Ok(task)
    }

    fn pass_events_on(&mut self) {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        for gate in self.cells.values_mut() {
            while let Some(event) = gate.next_event() {
                self.next_event += 1;
                // Nobody may be listening.
                drop(desk.events.send(NumberedEvent {
                    id: self.next_event,
                    event,
                }));
            }
        }
    }

    fn show(&mut self, now_ns: u64) {
        if now_ns < self.next_snapshot_ns {
            return;
        }
        self.next_snapshot_ns = now_ns + SNAPSHOT_PERIOD_NS;
        let cells: Vec<_> = self
            .cells
            .values_mut()
            .map(|gate| gate.view(now_ns))
            .collect();
        let mut missing = Vec::new();
        for cell in &cells {
            missing.extend(
                cell.not_warm
                    .iter()
                    .map(|what| format!("{}: {what}", cell.id)),
            );
        }
        let frames = self.cells.values().flat_map(CellGate::frames).collect();
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.snapshot.send_replace(desk::Snapshot {
            cells,
            frames,
            readiness: Readiness { missing },
        });
    }
}

impl Core for Gateway {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        for gate in self.cells.values_mut() {
            gate.listen(now_ns);
        }
        self.take_orders(now_ns);
        for (cell, gate) in &mut self.cells {
            if let Err(error) = gate.follow(&mut self.store, now_ns) {
                // The store may be full or slow: motion goes on or stops by the guard's own rules.
                warn!(%cell, %error, "the task store failed");
            }
        }
        self.pass_events_on();
        self.show(now_ns);
        Ok(())
    }

    fn finish(&mut self, now_ns: u64) -> bool {
        let first = self.finishing_since_ns.is_none();
        let since_ns = *self.finishing_since_ns.get_or_insert(now_ns);
        let mut quiet = true;
        for gate in self.cells.values_mut() {
            gate.listen(now_ns);
            if first {
                gate.interrupt(&mut self.store, "the daemon was stopped", now_ns);
            }
            if let Err(error) = gate.follow(&mut self.store, now_ns) {
                warn!(%error, "the task store failed");
            }
            quiet &= gate.quiet(now_ns);
        }
        self.pass_events_on();
        quiet || since_ns + FINISH_NS < now_ns
    }
}

/// What the gateway does by itself.
pub(crate) fn by_gateway() -> Doer {
    Doer::System(Role::Gateway)
}

pub(crate) fn no_cell(cell: &CellId) -> DeskError {
    DeskError::NotFound {
        kind: "cell",
        id: cell.to_string(),
    }
}

/// Says which of the store's refusals are the client's.
pub(crate) fn store_error(error: TaskStoreError) -> DeskError {
    match error {
        TaskStoreError::NotFound(task) => DeskError::NotFound {
            kind: "task",
            id: task.to_string(),
        },
        TaskStoreError::Refused(refused) => DeskError::Conflict(refused.to_string()),
        other => DeskError::Store(with_causes(&other)),
    }
}

fn submit_error(error: SubmitError) -> DeskError {
    match error {
        SubmitError::Conflict { .. } => DeskError::KeyReused,
        SubmitError::Store(error) => store_error(error),
        SubmitError::QueueFull { .. } => DeskError::Unavailable(error.to_string()),
        SubmitError::Invalid(invalid) => DeskError::Conflict(invalid.to_string()),
    }
}

fn failed(error: &TaskStoreError) -> CoreError {
    CoreError::Failed(with_causes(error))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
