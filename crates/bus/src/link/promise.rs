//! The answer to one ask, before and after it is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlad_wire::clock::SharedClock;
use vlad_wire::codec::Packet;

use crate::error::BusError;
use crate::link::{Parcel, Reply};
use crate::waker::Waker;

enum Progress {
    /// Nothing yet.
    Open,
    /// Answered, visible from `due_ns` on.
    Kept { due_ns: u64, parcel: Parcel },
    /// There will be none.
    Broken(BusError),
    /// The asker has it.
    Taken,
}

/// The clock by which a promise expires, where the link does not see to that itself.
pub(crate) struct Expiry {
    pub(crate) clock: SharedClock,
    pub(crate) at_ns: u64,
}

/// The answer to one ask: kept or broken once, taken once.
pub(crate) struct Promise {
    progress: Mutex<Progress>,
    expiry: Option<Expiry>,
    waker: Waker,
}

impl Promise {
    pub(crate) fn new(expiry: Option<Expiry>) -> Arc<Self> {
        Arc::new(Self {
            progress: Mutex::new(Progress::Open),
            expiry,
            waker: Waker::new(),
        })
    }

    /// Answers; visible from `due_ns` of the expiry's clock on. The first answer counts.
    pub(crate) fn keep(&self, due_ns: u64, parcel: Parcel) {
        self.settle(Progress::Kept { due_ns, parcel });
    }

    /// Says that there will be no answer, unless there is one.
    pub(crate) fn break_with(&self, error: BusError) {
        self.settle(Progress::Broken(error));
    }

    /// Takes what is known by now; `None` if that is nothing yet, or was taken before.
    pub(crate) fn take(&self) -> Option<Result<Parcel, BusError>> {
        // Without an expiry the link is one of real time: what is there is visible.
        let (now_ns, expires_ns) = match &self.expiry {
            Some(expiry) => (expiry.clock.now_ns(), expiry.at_ns),
            None => (0, u64::MAX),
        };
        let mut progress = self.lock();
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Kept { due_ns, parcel } if due_ns <= now_ns.min(expires_ns) => {
                Some(Ok(parcel))
            }
            Progress::Broken(error) => Some(Err(error)),
            Progress::Open | Progress::Kept { .. } if expires_ns <= now_ns => {
                Some(Err(BusError::NoAnswer))
            }
            other => {
                *progress = other;
                None
            }
        }
    }

    /// Whether the answer was taken.
    pub(crate) fn is_spent(&self) -> bool {
        matches!(*self.lock(), Progress::Taken)
    }

    /// Waits until something is new.
    pub(crate) async fn settled(&self) {
        self.waker.woken().await;
    }

    fn settle(&self, outcome: Progress) {
        let mut progress = self.lock();
        if matches!(*progress, Progress::Open) {
            *progress = outcome;
        }
        drop(progress);
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side that answers a promise: dropped without an answer, it breaks it.
pub(crate) struct Debt {
    promise: Option<Arc<Promise>>,
}

impl Debt {
    pub(crate) fn new(promise: &Arc<Promise>) -> Self {
        Self {
            promise: Some(Arc::clone(promise)),
        }
    }

    pub(crate) fn pay(&self, due_ns: u64, parcel: Parcel) {
        if let Some(promise) = &self.promise {
            promise.keep(due_ns, parcel);
        }
    }

    /// Leaves the asker to find out by the clock: a message was lost on the way.
    pub(crate) fn lose(mut self) {
        self.promise = None;
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if let Some(promise) = &self.promise {
            promise.break_with(BusError::NoAnswer);
        }
    }
}

/// A debt whose answer takes time to travel.
pub(crate) struct TimedReply<F> {
    pub(crate) debt: Debt,
    /// Gives when an answer of now is visible; `None` if it is lost on the way.
    pub(crate) due_ns: F,
}

impl<F: Fn() -> Option<u64> + Send> Reply for TimedReply<F> {
    fn send(self: Box<Self>, packet: Packet) -> Result<(), BusError> {
        match (self.due_ns)() {
            Some(due_ns) => self.debt.pay(due_ns, Parcel::Packet(packet)),
            None => self.debt.lose(),
        }
        Ok(())
    }
}
