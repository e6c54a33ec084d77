//! Where REST meets the gateway: a handle whose every method is one order with one answer.
//!
//! Orders wait in one bounded queue; the gateway's thread takes them between two steps. An order
//! that is not answered in time is an error, never a silent success.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use vlad_bus::waker::Waker;
use vlad_store::tasks::Submitted;
use vlad_task::record::{TaskRecord, VerdictResult};
use vlad_task::state::TaskState;
use vlad_task::submit::{IdempotencyKey, Submission};
use vlad_wire::id::{CellId, TaskId};
use vlad_wire::msg::command::{Answer, Signature};
use vlad_wire::text::Name;

use super::view::{CellView, FrameView, NumberedEvent, Readiness};

/// Orders that may wait; beyond it the daemon is overloaded and says so.
const ORDERS_MAX: usize = 64;
/// Longer than a slow commit on flash, shorter than an HTTP client's patience.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an order was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// No such task or cell.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// `task` or `cell`.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The idempotency key was used with another body.
    #[error("this idempotency key was used with another body")]
    KeyReused,
    /// The task's or the cell's state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The gateway, the guard or the store did not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The store failed.
    #[error("the task store failed: {0}")]
    Store(String),
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Of this cell only.
    pub cell: Option<CellId>,
    /// In this state only.
    pub state: Option<TaskState>,
    /// Older than this one.
    pub cursor: Option<TaskId>,
    /// At most so many, 1 to 1000.
    pub limit: usize,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, Default)]
pub struct TaskPage {
    /// The tasks.
    pub items: Vec<TaskRecord>,
    /// Where the next page begins.
    pub next: Option<TaskId>,
}

/// A command to a cell's guard that a person gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GuardOrder {
    /// Stop now, and latch.
    Estop,
    /// Leave a latched mode.
    Reset,
    /// Leave disarmed or stopped.
    Rearm,
    /// Go to the park pose.
    Park,
    /// Take this speed fraction, above 0 and at most 1.
    Speed(f64),
}

/// Answers travel here.
pub type Reply<T> = oneshot::Sender<Result<T, DeskError>>;

/// One order.
#[derive(Debug)]
pub enum Order {
    /// Take a task.
    Submit(Box<Submission>, Option<IdempotencyKey>, Reply<Submitted>),
    /// Show a task.
    Show(TaskId, Reply<TaskRecord>),
    /// List tasks.
    List(TaskQuery, Reply<TaskPage>),
    /// Cancel a task.
    Cancel(TaskId, Signature, Reply<TaskRecord>),
    /// Take a person's word on a task.
    Verdict(TaskId, VerdictResult, Signature, Reply<TaskRecord>),
    /// Command a guard.
    Guard(CellId, GuardOrder, Signature, Reply<Answer>),
}

/// What the gateway shows all the time, without being asked.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// All cells.
    pub cells: Vec<CellView>,
    /// Newest frame by cell and view.
    pub frames: Vec<(CellId, Name, FrameView)>,
    /// Whether the daemon can take tasks.
    pub readiness: Readiness,
}

/// The gateway's end of the desk.
#[derive(Debug)]
pub struct DeskServer {
    /// Orders, in their order.
    pub orders: mpsc::Receiver<Order>,
    /// The newest snapshot.
    pub snapshot: watch::Sender<Snapshot>,
    /// All events.
    pub events: broadcast::Sender<NumberedEvent>,
}

/// The gateway's end as it outlives a gateway: a restarted one takes it over.
pub type SharedDeskServer = Arc<Mutex<DeskServer>>;

/// The handle that REST holds.
#[derive(Debug, Clone)]
pub struct Desk {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    snapshot: watch::Receiver<Snapshot>,
    events: broadcast::Sender<NumberedEvent>,
}

/// Gives both ends of a desk; `waker` wakes the gateway's thread.
pub fn desk(waker: Waker) -> (Desk, DeskServer) {
    let (order_tx, order_rx) = mpsc::channel(ORDERS_MAX);
    let (snapshot_tx, snapshot_rx) = watch::channel(Snapshot {
        readiness: Readiness {
            missing: vec!["the gateway is starting".to_owned()],
        },
        ..Snapshot::default()
    });
    let (events, _) = broadcast::channel(256);
    let server = DeskServer {
        orders: order_rx,
        snapshot: snapshot_tx,
        events: events.clone(),
    };
    (
        Desk {
            orders: order_tx,
            waker,
            snapshot: snapshot_rx,
            events,
        },
        server,
    )
}

impl Desk {
    /// Takes a task durably.
    ///
    /// # Errors
    /// [`DeskError`]; `KeyReused` for another body under the same key.
    pub async fn submit(
        &self,
        submission: Submission,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, DeskError> {
        self.order(|reply| Order::Submit(Box::new(submission), key, reply))
            .await
    }

    /// Shows a task.
    ///
    /// # Errors
    /// [`DeskError`]; `NotFound` if there is none.
    pub async fn task(&self, id: TaskId) -> Result<TaskRecord, DeskError> {
        self.order(|reply| Order::Show(id, reply)).await
    }

    /// Lists tasks, newest first.
    ///
    /// # Errors
    /// [`DeskError`] if the store fails.
    pub async fn tasks(&self, query: TaskQuery) -> Result<TaskPage, DeskError> {
        self.order(|reply| Order::List(query, reply)).await
    }

    /// Cancels a task: at once if it waits, by a controlled stop if it moves.
    ///
    /// # Errors
    /// [`DeskError`]; `Conflict` if it has ended.
    pub async fn cancel(&self, id: TaskId, by: Signature) -> Result<TaskRecord, DeskError> {
        self.order(|reply| Order::Cancel(id, by, reply)).await
    }

    /// Takes a person's word on a task.
    ///
    /// # Errors
    /// [`DeskError`]; `Conflict` if its state takes none.
    pub async fn verdict(
        &self,
        id: TaskId,
        result: VerdictResult,
        by: Signature,
    ) -> Result<TaskRecord, DeskError> {
        self.order(|reply| Order::Verdict(id, result, by, reply))
            .await
    }

    /// Commands a cell's guard.
    ///
    /// # Errors
    /// [`DeskError`]; an answer with `done: false` is a refusal by the guard, not an error.
    pub async fn guard(
        &self,
        cell: CellId,
        order: GuardOrder,
        by: Signature,
    ) -> Result<Answer, DeskError> {
        self.order(|reply| Order::Guard(cell, order, by, reply))
            .await
    }

    /// Gives the newest snapshot.
    pub fn snapshot(&self) -> watch::Ref<'_, Snapshot> {
        self.snapshot.borrow()
    }

    /// Gives one cell of the newest snapshot.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn cell(&self, id: &CellId) -> Result<CellView, DeskError> {
        let snapshot = self.snapshot.borrow();
        let cell = snapshot.cells.iter().find(|cell| cell.id == *id).cloned();
        cell.ok_or_else(|| DeskError::NotFound {
            kind: "cell",
            id: id.to_string(),
        })
    }

    /// Gives the newest frame of a view, if there was one.
    pub fn frame(&self, cell: &CellId, view: &Name) -> Option<FrameView> {
        let snapshot = self.snapshot.borrow();
        let found = snapshot
            .frames
            .iter()
            .find(|(c, v, _)| c == cell && v == view);
        found.map(|(_, _, frame)| frame.clone())
    }

    /// Follows all events from now on.
    pub fn events(&self) -> broadcast::Receiver<NumberedEvent> {
        self.events.subscribe()
    }

    async fn order<T>(&self, make: impl FnOnce(Reply<T>) -> Order) -> Result<T, DeskError> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(make(reply)).map_err(|_| {
            DeskError::Unavailable("the gateway is busy or restarting: try again".to_owned())
        })?;
        self.waker.wake();
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            _ => Err(DeskError::Unavailable(
                "the gateway did not answer in time".to_owned(),
            )),
        }
    }
}
