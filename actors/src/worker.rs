//! Blocking work beside a role: its own named thread and a one-slot channel.
//!
//! A policy is opened on the worker's thread, so that loading a checkpoint blocks nothing, and one
//! job is under way at a time. In virtual time the same work runs inline.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::Builder;

use vlad_bus::waker::Waker;

/// What came out of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// The work can begin.
    Opened,
    /// It cannot, and never will.
    Failed(String),
    /// One job is done.
    Done(R),
}

/// The work itself.
pub type Run<J, R> = Box<dyn FnMut(J) -> R + Send>;

/// Where work is done.
pub struct Worker<J, R> {
    place: Place<J, R>,
    busy: bool,
    opened: bool,
}

enum Place<J, R> {
    Thread {
        jobs: SyncSender<J>,
        outcomes: Receiver<Outcome<R>>,
    },
    Inline {
        run: Option<Run<J, R>>,
        outcome: Option<Outcome<R>>,
    },
}

impl<J: Send + 'static, R: Send + 'static> Worker<J, R> {
    /// Opens the work on a thread of its own, which ends when the worker is dropped.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn thread(
        name: &str,
        waker: Waker,
        open: impl FnOnce() -> Result<Run<J, R>, String> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel::<J>(1);
        let (outbox, outcomes) = sync_channel(2);
        Builder::new().name(name.to_owned()).spawn(move || {
            let send = |outcome| {
                let sent = outbox.send(outcome).is_ok();
                waker.wake();
                sent
            };
            let mut run = match open() {
                Ok(run) => run,
                Err(error) => {
                    send(Outcome::Failed(error));
                    return;
                }
            };
            if !send(Outcome::Opened) {
                return;
            }
            while let Ok(job) = inbox.recv() {
                if !send(Outcome::Done(run(job))) {
                    return;
                }
            }
        })?;
        Ok(Self {
            place: Place::Thread { jobs, outcomes },
            busy: false,
            opened: false,
        })
    }

    /// Opens the work on the caller's thread: virtual time.
    pub fn inline(open: impl FnOnce() -> Result<Run<J, R>, String>) -> Self {
        let (run, outcome) = match open() {
            Ok(run) => (Some(run), Outcome::Opened),
            Err(error) => (None, Outcome::Failed(error)),
        };
        let place = Place::Inline {
            run,
            outcome: Some(outcome),
        };
        Self {
            place,
            busy: false,
            opened: false,
        }
    }

    /// Whether a job would be taken.
    pub fn free(&self) -> bool {
        self.opened && !self.busy
    }

    /// Whether the work was opened.
    pub fn opened(&self) -> bool {
        self.opened
    }

    /// Gives the worker a job; `false` if it is not free.
    pub fn submit(&mut self, job: J) -> bool {
        if !self.free() {
            return false;
        }
        self.busy = match &mut self.place {
            Place::Thread { jobs, .. } => jobs.try_send(job).is_ok(),
            Place::Inline { run, outcome } => {
                *outcome = run.as_mut().map(|run| Outcome::Done(run(job)));
                outcome.is_some()
            }
        };
        self.busy
    }

    /// Gives what came out, if something did. A thread that panicked is a failure.
    pub fn try_take(&mut self) -> Option<Outcome<R>> {
        let outcome = match &mut self.place {
            Place::Thread { outcomes, .. } => match outcomes.try_recv() {
                Ok(outcome) => outcome,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    Outcome::Failed("its thread has ended".to_owned())
                }
            },
            Place::Inline { outcome, .. } => outcome.take()?,
        };
        match outcome {
            Outcome::Opened => self.opened = true,
            Outcome::Failed(_) => self.opened = false,
            Outcome::Done(_) => self.busy = false,
        }
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "the shape of every opening")]
    fn doubler() -> Result<Run<u32, u32>, String> {
        Ok(Box::new(|job| job * 2))
    }

    #[test]
    fn inline_work_is_opened_then_done() {
        let mut worker = Worker::inline(doubler);
        assert!(!worker.submit(1), "nothing runs before it was opened");
        assert_eq!(worker.try_take(), Some(Outcome::Opened));
        assert!(worker.submit(21) && !worker.submit(1));
        assert_eq!(worker.try_take(), Some(Outcome::Done(42)));
        assert!(worker.free() && worker.try_take().is_none());
    }

    #[tokio::test]
    async fn a_thread_does_the_same() {
        let waker = Waker::new();
        let mut worker = Worker::thread("doubler", waker.clone(), doubler).unwrap();
        let next = async |worker: &mut Worker<u32, u32>| loop {
            if let Some(outcome) = worker.try_take() {
                return outcome;
            }
            waker.woken().await;
        };
        assert_eq!(next(&mut worker).await, Outcome::Opened);
        assert!(worker.submit(4));
        assert_eq!(next(&mut worker).await, Outcome::Done(8));
    }

    #[test]
    fn work_that_cannot_be_opened_fails_once_and_takes_no_job() {
        let mut worker: Worker<u32, u32> = Worker::inline(|| Err("no weights".to_owned()));
        assert_eq!(
            worker.try_take(),
            Some(Outcome::Failed("no weights".to_owned()))
        );
        assert!(!worker.submit(1));
    }
}
