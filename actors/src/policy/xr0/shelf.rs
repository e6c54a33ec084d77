//! Contexts that are handed over by reference: keys and values stay where they were computed, and the
//! message on the bus names their place.
//!
//! A shelf belongs to one process and holds the newest contexts alone, so that what nobody takes is
//! gone soon. Whoever has a handle of another process, or of a context that is gone, gets nothing.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vlad_wire::msg::think::{Context, Handle};
use vlad_xr0::context::KvLayer;

/// The newest contexts of a process.
#[derive(Debug)]
pub(super) struct Shelf {
    id: u64,
    most: usize,
    contexts: Mutex<Contexts>,
}

#[derive(Debug, Default)]
struct Contexts {
    next: u64,
    newest: VecDeque<Shelved>,
}

#[derive(Debug)]
struct Shelved {
    place: u64,
    request_id: u64,
    layers: Vec<Option<KvLayer>>,
}

/// A context's place on the shelf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u64);

impl Shelf {
    /// Makes an empty shelf for so many contexts.
    pub(super) fn new(most: usize) -> Self {
        Self {
            // Keyed by the system: differs from process to process.
            id: RandomState::new().build_hasher().finish(),
            most: most.max(1),
            contexts: Mutex::default(),
        }
    }

    /// Begins the context of a request, and lets the oldest one go.
    pub(super) fn begin(&self, request_id: u64) -> Place {
        let mut contexts = self.lock();
        let place = contexts.next;
        contexts.next += 1;
        contexts.newest.push_back(Shelved {
            place,
            request_id,
            layers: Vec::new(),
        });
        if self.most < contexts.newest.len() {
            contexts.newest.pop_front();
        }
        Place(place)
    }

    /// Puts one layer of a context there.
    pub(super) fn put(&self, place: Place, index: u16, layer: KvLayer) -> Handle {
        let mut contexts = self.lock();
        let mut newest = contexts.newest.iter_mut();
        if let Some(shelved) = newest.find(|shelved| shelved.place == place.0) {
            let (at, layers) = (usize::from(index), &mut shelved.layers);
            layers.resize(layers.len().max(at + 1), None);
            if let Some(slot) = layers.get_mut(at) {
                *slot = Some(layer);
            }
        }
        Handle {
            shelf: self.id,
            key: place.0 * u64::from(Context::PARTS_MAX) + u64::from(index),
        }
    }

    /// Gives what a handle stands for: layer `index` of the context of a request.
    ///
    /// # Errors
    /// A handle of another process, of a place that is empty, or of another part than this one.
    pub(super) fn get(
        &self,
        handle: Handle,
        (request_id, index): (u64, u16),
    ) -> Result<KvLayer, &'static str> {
        if handle.shelf != self.id {
            return Err("its handle is of another process, which cannot share its memory");
        }
        let parts = u64::from(Context::PARTS_MAX);
        let (place, at) = (handle.key / parts, handle.key % parts);
        let contexts = self.lock();
        let found = contexts.newest.iter().find(|known| known.place == place);
        let empty = "its handle names a place that is empty: newer contexts took it";
        let shelved = found.ok_or(empty)?;
        if shelved.request_id != request_id || at != u64::from(index) {
            return Err("its handle names another part");
        }
        let layer = shelved.layers.get(usize::from(index));
        layer.cloned().flatten().ok_or(empty)
    }

    /// A panic elsewhere while the lock was held leaves a whole list behind: it stays in use.
    fn lock(&self) -> MutexGuard<'_, Contexts> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::xr0::tests::layer_of;

    fn number(layer: &KvLayer) -> Vec<f32> {
        layer.k.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn what_was_put_there_is_found_again_in_any_order() {
        let shelf = Shelf::new(2);
        let (one, two) = (shelf.begin(1), shelf.begin(2));
        let late = shelf.put(one, 3, layer_of(1.5));
        let first = shelf.put(two, 0, layer_of(2.5));
        assert_eq!(number(&shelf.get(late, (1, 3)).unwrap()), [1.5]);
        assert_eq!(number(&shelf.get(first, (2, 0)).unwrap()), [2.5]);
        assert_eq!(number(&shelf.get(late, (1, 3)).unwrap()), [1.5], "twice");
        let between = Handle {
            key: late.key - 1,
            ..late
        };
        assert!(shelf.get(between, (1, 2)).unwrap_err().contains("empty"));
    }

    #[test]
    fn a_handle_is_good_for_its_own_part_alone() {
        let shelf = Shelf::new(2);
        let handle = shelf.put(shelf.begin(1), 3, layer_of(1.5));
        for other in [(2, 3), (1, 2)] {
            assert!(
                shelf
                    .get(handle, other)
                    .unwrap_err()
                    .contains("another part")
            );
        }
    }

    #[test]
    fn the_newest_contexts_stay_and_the_oldest_goes() {
        let shelf = Shelf::new(2);
        let handles = [1_u8, 2, 3].map(|number| {
            let place = shelf.begin(number.into());
            shelf.put(place, 0, layer_of(number.into()))
        });
        let [oldest, kept @ ..] = handles;
        assert!(
            shelf
                .get(oldest, (1, 0))
                .unwrap_err()
                .contains("newer contexts")
        );
        for (handle, expected) in kept.into_iter().zip([2_u8, 3]) {
            let found = shelf.get(handle, (expected.into(), 0)).unwrap();
            assert_eq!(number(&found), [f32::from(expected)]);
        }
    }

    #[test]
    fn a_layer_of_a_context_that_is_gone_takes_no_room() {
        let shelf = Shelf::new(1);
        let gone = shelf.begin(1);
        let _newest = shelf.begin(2);
        let handle = shelf.put(gone, 0, layer_of(1.0));
        assert!(shelf.get(handle, (1, 0)).is_err());
    }

    #[test]
    fn a_handle_of_another_process_is_refused() {
        let (ours, theirs) = (Shelf::new(1), Shelf::new(1));
        let handle = theirs.put(theirs.begin(1), 0, layer_of(1.0));
        let _same_place = ours.put(ours.begin(1), 0, layer_of(2.0));
        let refused = ours.get(handle, (1, 0)).unwrap_err();
        assert!(refused.contains("another process"));
    }
}
