//! Many independent runs on some threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;

/// Does `work` for each number below `count`, on so many threads, which take the numbers in turns;
/// gives the results in the numbers' order.
///
/// # Errors
/// The first that a thread met; a run that panicked.
pub(super) fn in_turns<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let turn = || -> anyhow::Result<Vec<(usize, T)>> {
        let mut mine = Vec::new();
        loop {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            if count <= idx {
                return Ok(mine);
            }
            mine.push((idx, work(idx)?));
        }
    };
    let mut results = thread::scope(|scope| -> anyhow::Result<Vec<(usize, T)>> {
        let threads = threads.clamp(1, count.max(1));
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(turn)).collect();
        let mut results = Vec::with_capacity(count);
        for worker in workers {
            let mine = worker.join().ok().context("a run has panicked")?;
            results.extend(mine?);
        }
        Ok(results)
    })?;
    results.sort_unstable_by_key(|(idx, _)| *idx);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
