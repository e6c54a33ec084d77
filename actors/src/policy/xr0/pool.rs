//! The threads of one half of the network.
//!
//! Matrix products split their work over the rayon pool that they are called in. Each half has one
//! of its own, so that a prefill cannot keep a chunk waiting, and so that no model work ever runs on
//! the threads of a role, of the bus or of the guard. (Element-wise work on large tensors goes to
//! threads of candle's own, `candle-bp-N`.) How the work is split does not change a result's bits.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::error::Xr0Error;

/// Named threads, as many as [`threads`] gives.
pub(super) struct Pool(ThreadPool);

impl Pool {
    /// Starts the threads `{name}-0`, `{name}-1`, ….
    pub(super) fn new(name: &'static str) -> Result<Self, Xr0Error> {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of(name, threads(cores))
    }

    /// The same with so many threads.
    pub(super) fn of(name: &'static str, threads: usize) -> Result<Self, Xr0Error> {
        let builder = ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder
            .thread_name(move |idx| format!("{name}-{idx}"))
            .build();
        let refused = |error| Xr0Error::input(format!("cannot start the threads {name}: {error}"));
        pool.map(Self).map_err(refused)
    }

    /// Does work on them, and waits for it.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

/// Threads of a half on a machine with so many cores: all but one, which is left to the servo loop,
/// the bus and the rest of the daemon. With two cores or one there is none to spare.
fn threads(cores: usize) -> usize {
    match cores {
        0..=2 => cores.max(1),
        more => more - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_the_pools_own_threads() {
        let pool = Pool::new("think").unwrap();
        let name = pool.run(|| std::thread::current().name().map(str::to_owned));
        assert!(name.unwrap().starts_with("think-"));
    }

    #[test]
    fn one_core_is_left_to_the_servo_loop_where_there_are_more_than_two() {
        let of = [0, 1, 2, 3, 4, 16].map(threads);
        assert_eq!(of, [1, 1, 2, 2, 3, 15]);
    }

    #[test]
    fn a_pool_has_as_many_threads_as_were_asked_for() {
        for n in 1..=3 {
            let pool = Pool::of("act", n).unwrap();
            assert_eq!(pool.run(rayon::current_num_threads), n);
        }
    }
}
