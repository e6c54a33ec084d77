//! Puts contexts together: a head and its parts, which come in any order.
//!
//! Two whole sets are kept, never one message: the parts of a new context may begin to arrive while
//! the old one is still read. The oldest incomplete set is dropped when a third one begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use vlad_motion::policy::{ContextSource, PolicyError};
use vlad_wire::msg::think::{Context, ContextHead, ContextPart};

/// Sets under assembly.
const SETS_KEPT: usize = 2;

/// A complete context.
#[derive(Debug)]
pub(super) struct Complete {
    head: ContextHead,
    parts: BTreeMap<u16, ContextPart>,
}

impl ContextSource for Complete {
    fn head(&self) -> &ContextHead {
        &self.head
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        self.parts
            .get(&index)
            .cloned()
            .ok_or(PolicyError::Late { index })
    }
}

#[derive(Debug, Default)]
struct Set {
    head: Option<ContextHead>,
    parts: BTreeMap<u16, ContextPart>,
}

impl Set {
    fn complete(&self) -> bool {
        let expected = self.head.as_ref().map(|head| head.n_parts);
        expected.is_some_and(|n| (0..n).all(|index| self.parts.contains_key(&index)))
    }
}

/// Contexts under assembly, of one cell, by the id of their request.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    sets: BTreeMap<u64, Set>,
    dropped: u64,
}

impl Assembly {
    /// Takes one message; gives the context if that made it complete.
    pub(super) fn take(&mut self, message: Context) -> Option<Arc<Complete>> {
        let request_id = match &message {
            Context::Head(head) => head.request.id,
            Context::Part(part) => part.head.request_id,
        };
        let set = self.sets.entry(request_id).or_default();
        match message {
            Context::Head(head) => set.head = Some(*head),
            Context::Part(part) => {
                set.parts.insert(part.head.index, part);
            }
        }
        if set.complete() {
            let Set { head, parts } = self.sets.remove(&request_id)?;
            return Some(Arc::new(Complete { head: head?, parts }));
        }
        if SETS_KEPT < self.sets.len() {
            self.sets.pop_first();
            self.dropped += 1;
        }
        None
    }

    /// Incomplete sets that were dropped.
    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;
    use vlad_wire::id::TaskId;
    use vlad_wire::msg::think::{DType, Digest, PartHead, ThinkRequest};
    use vlad_wire::text::Name;

    use super::*;

    fn head(id: u64, n_parts: u16) -> Context {
        let request = ThinkRequest {
            id,
            epoch: 1,
            task: TaskId(Ulid::from_parts(1, 1)),
            attempt: 1,
            requested_at_ns: 0,
            earliest_tick: 0,
            earliest_captured_ns: 0,
        };
        Context::Head(Box::new(ContextHead {
            request,
            obs_seq: 1,
            obs_tick: 1,
            captured_at_ns: 0,
            view_captured_ns: vec![],
            state: vec![],
            p_end: 0,
            mask: vec![],
            n_tokens: 0,
            n_parts,
            model_hash: Digest::default(),
            thought_from_ns: 0,
            thought_until_ns: 0,
        }))
    }

    fn part(request_id: u64, index: u16) -> Context {
        let name = Name::new("plan").unwrap();
        let head = PartHead {
            request_id,
            index,
            name,
            dtype: DType::Bytes,
            shape: vec![1],
        };
        Context::Part(ContextPart {
            head,
            data: vec![0].into(),
        })
    }

    #[test]
    fn parts_may_come_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let messages = [head(7, 2), part(7, 0), part(7, 1)];
            let mut assembly = Assembly::default();
            let results = order.map(|at: usize| assembly.take(messages[at].clone()));
            assert!(results[0].is_none() && results[1].is_none());
            let complete = results[2].as_ref().unwrap();
            assert_eq!(complete.head().request.id, 7);
            assert!(complete.part(1).is_ok() && complete.part(2).is_err());
        }
    }

    #[test]
    fn two_sets_are_kept_and_the_third_drops_the_oldest() {
        let mut assembly = Assembly::default();
        for id in 1..=3 {
            assert!(assembly.take(head(id, 1)).is_none());
        }
        assert_eq!(assembly.dropped(), 1);
        assert!(assembly.take(part(2, 0)).is_some());
        assert!(assembly.take(part(3, 0)).is_some());
        assert!(assembly.take(part(1, 0)).is_none(), "its head was dropped");
    }
}
