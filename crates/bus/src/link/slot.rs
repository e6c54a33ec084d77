//! What a slow reader keeps: the bounded place between a link and one reader.
//!
//! The link's thread only moves an item in and wakes; the reader's thread takes it out and decodes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlad_wire::codec::{Body, CodecError};
use vlad_wire::stream::Keep;

use crate::counters::RowCounters;
use crate::waker::Waker;

/// Most keys of which a latest-wins reader keeps a sample: more views, roles and tokens than a
/// cell has, so that a peer that invents keys cannot fill the memory.
const KEYS_MAX: usize = 64;

/// Something that a slot can hold.
pub(crate) trait Item: Send + 'static {
    /// Bytes of the small and of the raw part.
    fn sizes(&self) -> (usize, usize);

    /// Whether it lies in memory that is shared with who sent it.
    fn is_shared(&self) -> bool {
        false
    }
}

/// Bounds of a packet, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head: usize,
    pub(crate) raw: usize,
}

impl Limits {
    /// The bounds of a body.
    pub(crate) fn of<B: Body>() -> Self {
        Self {
            head: B::HEAD_MAX,
            raw: B::RAW_MAX,
        }
    }

    /// Checks the bytes of a small and of a raw part.
    pub(crate) fn check(self, (head, raw): (usize, usize)) -> Result<(), CodecError> {
        for (got, max) in [(head, self.head), (raw, self.raw)] {
            if max < got {
                return Err(CodecError::TooLong { got, max });
            }
        }
        Ok(())
    }
}

/// The bounded place between a link and one reader.
pub(crate) struct Slot<T> {
    keep: Keep,
    limits: Limits,
    counters: Arc<RowCounters>,
    waker: Option<Waker>,
    /// Each item with its key, oldest first; a ring needs no keys and leaves them empty.
    items: Mutex<VecDeque<(String, T)>>,
}

impl<T: Item> Slot<T> {
    pub(crate) fn new(
        keep: Keep,
        limits: Limits,
        counters: Arc<RowCounters>,
        waker: Option<Waker>,
    ) -> Self {
        Self {
            keep,
            limits,
            counters,
            waker,
            items: Mutex::default(),
        }
    }

    /// Keeps an item as the row says, and wakes the reader. Too long ones are dropped here, so
    /// that they cannot push out a good one.
    pub(crate) fn offer(&self, key: &str, item: T) {
        self.counters.count_received();
        if self.limits.check(item.sizes()).is_err() {
            self.counters.count_malformed();
            return;
        }
        if item.is_shared() {
            self.counters.count_received_shared();
        }
        let displaced = keep(&mut self.lock(), self.keep, key, item);
        if displaced.is_some() {
            self.counters.count_overwritten();
        }
        // Dropped after the lock is free: a displaced question answers its asker on the way out.
        drop(displaced);
        self.wake();
    }

    /// Takes the oldest item.
    pub(crate) fn take(&self) -> Option<T> {
        self.lock().pop_front().map(|(_, item)| item)
    }

    /// Wakes the reader without an item.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    pub(crate) fn counters(&self) -> &RowCounters {
        &self.counters
    }

    /// A panic elsewhere while the lock was held leaves a whole list behind: it stays in use.
    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, T)>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an item as the row says; gives what it displaced.
fn keep<T>(items: &mut VecDeque<(String, T)>, keep: Keep, key: &str, item: T) -> Option<T> {
    let (n_max, key) = match keep {
        Keep::Ring(n) => (usize::from(n).max(1), String::new()),
        Keep::Latest => {
            // In place, so that a key that speaks often cannot starve the others.
            if let Some((_, held)) = items.iter_mut().find(|(held, _)| held == key) {
                return Some(std::mem::replace(held, item));
            }
            (KEYS_MAX, key.to_owned())
        }
    };
    let displaced = if items.len() < n_max {
        None
    } else {
        items.pop_front()
    };
    items.push_back((key, item));
    displaced.map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventing_keys_does_not_fill_the_memory() {
        let mut items = VecDeque::new();
        for n in 0..3 * KEYS_MAX {
            keep(&mut items, Keep::Latest, &format!("frame/{n}"), n);
        }
        assert_eq!(items.len(), KEYS_MAX);
        assert_eq!(items.front().map(|(_, n)| *n), Some(2 * KEYS_MAX));
    }

    #[test]
    fn a_ring_gives_back_the_oldest_when_it_is_full() {
        let mut items = VecDeque::new();
        let displaced: Vec<_> = (0..5)
            .filter_map(|n| keep(&mut items, Keep::Ring(3), "chunk", n))
            .collect();
        assert_eq!(displaced, [0, 1]);
        assert_eq!(
            items.into_iter().map(|(_, n)| n).collect::<Vec<_>>(),
            [2, 3, 4]
        );
    }

    #[test]
    fn a_busy_key_does_not_starve_a_quiet_one() {
        let mut items = VecDeque::new();
        for (key, n) in [("ego", 1), ("wrist", 2), ("ego", 3), ("ego", 4)] {
            keep(&mut items, Keep::Latest, key, n);
        }
        assert_eq!(
            items.into_iter().map(|(_, n)| n).collect::<Vec<_>>(),
            [4, 2]
        );
    }
}
