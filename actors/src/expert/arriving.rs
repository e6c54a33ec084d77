//! A context whose parts may still be arriving: the role puts them in as they come, and the policy
//! on its worker's thread waits for the one that it needs next.
//!
//! ```text
//!  role's thread ── take(part) ──► parts ── wakes ──► worker's thread: part(i)
//!                   end(error) ──►                      … at most until the deadline
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vlad_motion::policy::{ContextFault, ContextSource, PolicyError};
use vlad_wire::clock::SharedClock;
use vlad_wire::msg::think::{ContextHead, ContextPart};

/// A context: its head, and the parts that came so far.
pub(crate) struct Arriving {
    head: ContextHead,
    deadline_ns: u64,
    clock: SharedClock,
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    parts: BTreeMap<u16, ContextPart>,
    ended: Option<PolicyError>,
}

impl fmt::Debug for Arriving {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let came = self.lock().parts.len();
        write!(
            formatter,
            "context of request {}, {came} of {} parts",
            self.head.request.id, self.head.n_parts
        )
    }
}

impl Arriving {
    /// Begins with the head; parts are waited for until the deadline.
    pub(crate) fn new(head: ContextHead, deadline_ns: u64, clock: SharedClock) -> Self {
        Self {
            head,
            deadline_ns,
            clock,
            state: Mutex::default(),
            came: Condvar::new(),
        }
    }

    /// Takes a part. The same one again changes nothing; another one in its place means that
    /// neither can be trusted, so that the whole context is given up.
    ///
    /// # Errors
    /// [`PolicyError::Context`] for a part that does not belong here.
    pub(crate) fn take(&self, part: ContextPart) -> Result<(), PolicyError> {
        let index = part.head.index;
        if part.head.thinking != self.head.thinking {
            let problem = format!("part {index} is of another thinking than the head");
            return Err(PolicyError::context(ContextFault::OtherThinking, problem));
        }
        if self.head.n_parts <= index {
            let n_parts = self.head.n_parts;
            let problem = format!("part {index} came, there are {n_parts}");
            return Err(PolicyError::context(ContextFault::Unshaped, problem));
        }
        let mut state = self.lock();
        match state.parts.get(&index) {
            Some(known) if *known == part => Ok(()),
            Some(_) => {
                let problem = format!("part {index} came twice, with different content");
                let error = PolicyError::context(ContextFault::Doubled, problem);
                state.ended.get_or_insert_with(|| error.clone());
                drop(state);
                self.came.notify_all();
                Err(error)
            }
            None => {
                state.parts.insert(index, part);
                drop(state);
                self.came.notify_all();
                Ok(())
            }
        }
    }

    /// Whether every part is there.
    pub(crate) fn complete(&self) -> bool {
        self.lock().parts.len() == usize::from(self.head.n_parts)
    }

    /// The first part that is not there; `None` if every part is.
    pub(crate) fn missing(&self) -> Option<u16> {
        let state = self.lock();
        (0..self.head.n_parts).find(|index| !state.parts.contains_key(index))
    }

    /// Gives it up: whoever waits for a part, or asks for one, gets this error.
    pub(crate) fn end(&self, error: PolicyError) {
        self.lock().ended.get_or_insert(error);
        self.came.notify_all();
    }

    /// Why it was given up, if it was.
    pub(crate) fn ended(&self) -> Option<PolicyError> {
        self.lock().ended.clone()
    }

    /// A panic elsewhere while the lock was held leaves a whole map behind: it stays in use.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ContextSource for Arriving {
    fn head(&self) -> &ContextHead {
        &self.head
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            if let Some(part) = state.parts.get(&index) {
                return Ok(part.clone());
            }
            let left_ns = self.deadline_ns.saturating_sub(self.clock.now_ns());
            if left_ns == 0 || self.head.n_parts <= index {
                return Err(PolicyError::Late { index });
            }
            let waited = self.came.wait_timeout(state, Duration::from_nanos(left_ns));
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    use vlad_wire::clock::{ManualClock, SECOND, SystemClock};

    use super::*;
    use crate::expert::assembly::tests::{head, part};

    fn system() -> SharedClock {
        Arc::new(SystemClock)
    }

    fn arriving(n_parts: u16, deadline_ns: u64) -> Arriving {
        Arriving::new(head(7, n_parts), deadline_ns, system())
    }

    #[test]
    fn a_part_is_waited_for_until_it_comes() {
        let deadline_ns = system().now_ns() + 60 * SECOND;
        let context = Arc::new(arriving(2, deadline_ns));
        context.take(part(7, 0)).unwrap();
        let (send, waiting) = sync_channel(1);
        let reader = std::thread::spawn({
            let context = context.clone();
            move || {
                let first = context.part(0).unwrap().head.index;
                send.send(()).unwrap();
                (first, context.part(1).unwrap().head.index)
            }
        });
        waiting.recv().unwrap();
        assert!(!context.complete());
        context.take(part(7, 1)).unwrap();
        assert_eq!(reader.join().unwrap(), (0, 1));
        assert!(context.complete());
    }

    #[test]
    fn a_part_that_does_not_come_is_late_at_the_deadline() {
        let context = arriving(2, system().now_ns() + 1_000_000);
        context.take(part(7, 0)).unwrap();
        assert_eq!(context.part(1), Err(PolicyError::Late { index: 1 }));
        assert!(context.part(0).is_ok(), "what is there is not late");
        // None waits for a part that will never be.
        let open = arriving(2, u64::MAX);
        assert_eq!(open.part(2), Err(PolicyError::Late { index: 2 }));
    }

    #[test]
    fn the_deadline_is_the_passed_in_clocks() {
        let clock = Arc::new(ManualClock::default());
        clock.advance_to(10);
        let context = Arriving::new(head(7, 1), 10, clock);
        assert_eq!(context.part(0), Err(PolicyError::Late { index: 0 }));
    }

    #[test]
    fn who_waits_is_told_that_the_context_was_given_up() {
        let context = Arc::new(arriving(1, u64::MAX));
        let reader = std::thread::spawn({
            let context = context.clone();
            move || context.part(0)
        });
        context.end(PolicyError::Decide("the task is over".to_owned()));
        let error = reader.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("the task is over"));
    }

    #[test]
    fn the_same_part_twice_is_one_and_another_one_spoils_the_context() {
        let context = arriving(1, u64::MAX);
        context.take(part(7, 0)).unwrap();
        context.take(part(7, 0)).unwrap();
        assert!(context.part(0).is_ok() && context.ended().is_none());
        let mut other = part(7, 0);
        other.data = vlad_wire::msg::think::PartData::Bytes(vec![9].into());
        let error = context.take(other).unwrap_err();
        assert_eq!(error.fault(), Some(ContextFault::Doubled));
        assert_eq!(context.part(0), Err(error.clone()));
        assert_eq!(context.ended(), Some(error));
    }

    #[test]
    fn a_part_that_does_not_belong_is_refused_and_spoils_nothing() {
        let context = arriving(1, u64::MAX);
        let mut foreign = part(7, 0);
        foreign.head.thinking += 1;
        let fault = |part| context.take(part).unwrap_err().fault();
        assert_eq!(fault(foreign), Some(ContextFault::OtherThinking));
        assert_eq!(fault(part(7, 1)), Some(ContextFault::Unshaped));
        context.take(part(7, 0)).unwrap();
        assert!(context.part(0).is_ok());
    }
}
