//! Counts the contexts, and messages of contexts, that were refused: each kind of fault by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use vlad_motion::policy::ContextFault;

/// The counters of a process's action expert; kept from one start of the role to the next.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; ContextFault::ALL.len()]);

impl Refusals {
    /// Counts some more, and gives how many of the kind there are now.
    pub(super) fn count(&self, fault: ContextFault, more: u64) -> u64 {
        let mut counters = ContextFault::ALL.iter().zip(&self.0);
        let counter = counters.find(|(kind, _)| **kind == fault);
        counter.map_or(0, |(_, counter)| {
            counter.fetch_add(more, Ordering::Relaxed) + more
        })
    }

    /// Gives every kind with its count.
    pub fn read(&self) -> Vec<(ContextFault, u64)> {
        let counters = ContextFault::ALL.into_iter().zip(&self.0);
        counters
            .map(|(fault, counter)| (fault, counter.load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself() {
        let refusals = Refusals::default();
        assert_eq!(refusals.count(ContextFault::Late, 2), 2);
        assert_eq!(refusals.count(ContextFault::Malformed, 1), 1);
        assert_eq!(refusals.count(ContextFault::Late, 1), 3);
        let counted = refusals.read();
        assert_eq!(counted.len(), ContextFault::ALL.len());
        assert_eq!(counted.iter().map(|(_, n)| n).sum::<u64>(), 4);
        assert!(counted.contains(&(ContextFault::Late, 3)));
    }
}
