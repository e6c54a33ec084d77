//! Puts contexts together: a head and its parts, which come in any order.
//!
//! A context exists from its head on, while its parts still arrive. Only what was asked for is taken:
//! the newest two requests, since parts of a context may come while the next one is asked for. All
//! else is refused, with the kind of fault.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use vlad_motion::policy::{ContextFault, ContextSource, PolicyError};
use vlad_wire::clock::SharedClock;
use vlad_wire::msg::think::{Context, ContextHead, ContextPart, ThinkRequest};

use super::arriving::Arriving;

/// Contexts that are kept.
const SETS_KEPT: usize = 2;

enum State {
    /// Parts that came before their head.
    Headless(BTreeMap<u16, ContextPart>),
    Headed(Arc<Arriving>),
    /// The chunk is made, or it was given up: what still comes is let go.
    Over(Option<Box<ContextHead>>),
}

struct Set {
    request: ThinkRequest,
    deadline_ns: u64,
    state: State,
}

/// Contexts under assembly, of one cell.
pub(super) struct Assembly {
    clock: SharedClock,
    /// The newest last.
    sets: VecDeque<Set>,
}

impl Assembly {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            sets: VecDeque::new(),
        }
    }

    /// A context was asked for; its parts are waited for until the deadline.
    pub(super) fn expect(&mut self, request: ThinkRequest, deadline_ns: u64) {
        if SETS_KEPT <= self.sets.len() {
            self.sets.pop_front();
        }
        self.sets.push_back(Set {
            request,
            deadline_ns,
            state: State::Headless(BTreeMap::new()),
        });
    }

    /// Takes one message; gives what was refused.
    pub(super) fn take(&mut self, message: Context) -> Vec<PolicyError> {
        let request_id = match &message {
            Context::Head(head) => head.request.id,
            Context::Part(part) => part.head.request_id,
        };
        let clock = &self.clock;
        let mut sets = self.sets.iter_mut();
        let Some(set) = sets.find(|set| set.request.id == request_id) else {
            let problem = format!("request {request_id} was not made, or is long over");
            return vec![PolicyError::context(ContextFault::OtherRequest, problem)];
        };
        match message {
            Context::Head(head) => set.take_head(*head, clock),
            Context::Part(part) => set.take_part(part).err().into_iter().collect(),
        }
    }

    /// The context of a request, once its head is there.
    pub(super) fn context(&self, request: &ThinkRequest) -> Option<Arc<Arriving>> {
        let set = self.sets.iter().find(|set| set.request == *request)?;
        match &set.state {
            State::Headed(context) => Some(context.clone()),
            State::Headless(_) | State::Over(_) => None,
        }
    }

    /// The first part of a request's context that is not there; `None` if the context is complete.
    pub(super) fn missing(&self, request: &ThinkRequest) -> Option<u16> {
        let context = self.context(request);
        // Parts without their head cannot be used: then it lacks its first one, too.
        context.map_or(Some(0), |context| context.missing())
    }

    /// A request is over: frees its parts, and tells whoever waits for one.
    pub(super) fn end(&mut self, request: &ThinkRequest) {
        let mut sets = self.sets.iter_mut();
        let Some(set) = sets.find(|set| set.request == *request) else {
            return;
        };
        let over = State::Over(None);
        if let State::Headed(context) = std::mem::replace(&mut set.state, over) {
            context.end(PolicyError::Decide("the request is over".to_owned()));
            set.state = State::Over(Some(Box::new(context.head().clone())));
        }
    }
}

impl Set {
    fn take_head(&mut self, head: ContextHead, clock: &SharedClock) -> Vec<PolicyError> {
        if head.request != self.request {
            let id = head.request.id;
            let problem = format!("the head answers another request {id} than the one made");
            return vec![PolicyError::context(ContextFault::OtherRequest, problem)];
        }
        let known = match &self.state {
            State::Headless(_) => None,
            State::Headed(context) => Some(context.head()),
            State::Over(None) => return Vec::new(),
            State::Over(Some(known)) => Some(known.as_ref()),
        };
        match known {
            Some(known) if *known == head => Vec::new(),
            Some(_) => {
                let problem = "a second head came, with different content";
                vec![PolicyError::context(ContextFault::Doubled, problem)]
            }
            None => self.begin(head, clock),
        }
    }

    fn begin(&mut self, head: ContextHead, clock: &SharedClock) -> Vec<PolicyError> {
        let context = Arc::new(Arriving::new(head, self.deadline_ns, clock.clone()));
        let state = State::Headed(context.clone());
        let State::Headless(early) = std::mem::replace(&mut self.state, state) else {
            return Vec::new();
        };
        let refused = |part| context.take(part).err();
        early.into_values().filter_map(refused).collect()
    }

    fn take_part(&mut self, part: ContextPart) -> Result<(), PolicyError> {
        match &mut self.state {
            State::Headed(context) => context.take(part),
            State::Over(_) => Ok(()),
            State::Headless(parts) => match parts.get(&part.head.index) {
                Some(known) if *known != part => {
                    let index = part.head.index;
                    let problem = format!("part {index} came twice before the head, unlike");
                    Err(PolicyError::context(ContextFault::Doubled, problem))
                }
                _ => {
                    parts.insert(part.head.index, part);
                    Ok(())
                }
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ulid::Ulid;
    use vlad_wire::clock::ManualClock;
    use vlad_wire::id::TaskId;
    use vlad_wire::msg::think::{DType, Digest, PartData, PartHead};
    use vlad_wire::text::Name;

    use super::*;

    fn request(id: u64) -> ThinkRequest {
        ThinkRequest {
            id,
            epoch: 1,
            task: TaskId(Ulid::from_parts(1, 1)),
            attempt: 1,
            requested_at_ns: 0,
            earliest_tick: 0,
            earliest_captured_ns: 0,
        }
    }

    /// A head of thinking 5.
    pub(in crate::expert) fn head(id: u64, n_parts: u16) -> ContextHead {
        ContextHead {
            request: request(id),
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
            thinking: 5,
            thought_from_ns: 0,
            prepared_at_ns: 0,
        }
    }

    /// A part of thinking 5.
    pub(in crate::expert) fn part(request_id: u64, index: u16) -> ContextPart {
        let head = PartHead {
            request_id,
            index,
            name: Name::new("plan").unwrap(),
            dtype: DType::Bytes,
            shape: vec![1],
            thinking: 5,
            ready_at_ns: 0,
        };
        let data = PartData::Bytes(vec![0].into());
        ContextPart { head, data }
    }

    fn assembly(ids: &[u64]) -> Assembly {
        let mut assembly = Assembly::new(Arc::new(ManualClock::default()));
        for id in ids {
            assembly.expect(request(*id), u64::MAX);
        }
        assembly
    }

    fn whole(head: ContextHead) -> Context {
        Context::Head(Box::new(head))
    }

    fn faults(refused: &[PolicyError]) -> Vec<Option<ContextFault>> {
        refused.iter().map(PolicyError::fault).collect()
    }

    #[test]
    fn parts_may_come_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let messages = [
                whole(head(7, 2)),
                Context::Part(part(7, 0)),
                Context::Part(part(7, 1)),
            ];
            let mut assembly = assembly(&[7]);
            for at in order {
                let begun = assembly.context(&request(7));
                assert!(begun.is_none_or(|context| !context.complete()));
                assert!(assembly.take(messages[at].clone()).is_empty());
            }
            let context = assembly.context(&request(7)).unwrap();
            assert!(context.complete());
            assert!(context.part(1).is_ok() && context.part(2).is_err());
        }
    }

    #[test]
    fn a_context_begins_with_its_head() {
        let mut assembly = assembly(&[7]);
        assert!(assembly.take(Context::Part(part(7, 0))).is_empty());
        assert!(assembly.context(&request(7)).is_none());
        assert!(assembly.take(whole(head(7, 2))).is_empty());
        let context = assembly.context(&request(7)).unwrap();
        assert!(context.part(0).is_ok() && !context.complete());
    }

    #[test]
    fn the_first_missing_part_is_named_and_a_complete_context_misses_none() {
        let mut assembly = assembly(&[7]);
        assert!(assembly.take(Context::Part(part(7, 0))).is_empty());
        assert_eq!(assembly.missing(&request(7)), Some(0), "no head");
        assert!(assembly.take(whole(head(7, 3))).is_empty());
        for (index, missing) in [(2, Some(1)), (1, None)] {
            assert!(assembly.take(Context::Part(part(7, index))).is_empty());
            assert_eq!(assembly.missing(&request(7)), missing);
        }
    }

    #[test]
    fn two_sets_are_kept_and_what_was_never_asked_for_is_refused() {
        let mut assembly = assembly(&[1, 2, 3]);
        for id in [2, 3] {
            assert!(assembly.take(whole(head(id, 1))).is_empty());
            assert!(assembly.take(Context::Part(part(id, 0))).is_empty());
            assert!(assembly.context(&request(id)).unwrap().complete());
        }
        for id in [1, 4] {
            for message in [whole(head(id, 1)), Context::Part(part(id, 0))] {
                let refused = assembly.take(message);
                assert_eq!(faults(&refused), [Some(ContextFault::OtherRequest)]);
            }
        }
        let mut other = head(3, 1);
        other.request.epoch += 1;
        let refused = assembly.take(whole(other));
        assert_eq!(faults(&refused), [Some(ContextFault::OtherRequest)]);
    }

    #[test]
    fn a_second_head_is_refused_unless_it_is_the_same() {
        let mut assembly = assembly(&[7]);
        assert!(assembly.take(whole(head(7, 1))).is_empty());
        assert!(assembly.take(whole(head(7, 1))).is_empty());
        let mut other = head(7, 1);
        other.p_end = 3;
        let refused = assembly.take(whole(other.clone()));
        assert_eq!(faults(&refused), [Some(ContextFault::Doubled)]);
        assembly.end(&request(7));
        let refused = assembly.take(whole(other));
        assert_eq!(faults(&refused), [Some(ContextFault::Doubled)]);
    }

    #[test]
    fn early_parts_of_another_thinking_are_refused_when_the_head_comes() {
        let mut assembly = assembly(&[7]);
        let mut foreign = part(7, 0);
        foreign.head.thinking = 6;
        assert!(assembly.take(Context::Part(foreign)).is_empty());
        let refused = assembly.take(whole(head(7, 1)));
        assert_eq!(faults(&refused), [Some(ContextFault::OtherThinking)]);
        assert!(assembly.take(Context::Part(part(7, 0))).is_empty());
        assert!(assembly.context(&request(7)).unwrap().complete());
    }

    #[test]
    fn a_request_that_is_over_frees_its_context_and_lets_go_what_still_comes() {
        let mut assembly = assembly(&[7]);
        assert!(assembly.take(whole(head(7, 2))).is_empty());
        let context = assembly.context(&request(7)).unwrap();
        assembly.end(&request(7));
        assert!(assembly.context(&request(7)).is_none());
        assert!(context.part(0).is_err(), "nobody waits any more");
        assert!(assembly.take(Context::Part(part(7, 0))).is_empty());
        assert!(assembly.take(whole(head(7, 2))).is_empty());
    }
}
