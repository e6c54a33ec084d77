//! The threads of one half of the network.
//!
//! Matrix products split their work over the rayon pool that they are called in. Each half has one
//! of its own, so that a prefill cannot keep a chunk waiting, and so that no model work ever runs on
//! the threads of a role, of the bus or of the guard. (Element-wise work on large tensors goes to
//! threads of candle's own, `candle-bp-N`.) How the work is split does not change a result's bits.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::error::Xr0Error;

/// Named threads, as many as the machine has cores (or as `RAYON_NUM_THREADS` says).
pub(super) struct Pool(ThreadPool);

impl Pool {
    /// Starts the threads `{name}-0`, `{name}-1`, ….
    pub(super) fn new(name: &'static str) -> Result<Self, Xr0Error> {
        let builder = ThreadPoolBuilder::new().thread_name(move |idx| format!("{name}-{idx}"));
        let pool = builder.build();
        let refused = |error| Xr0Error::input(format!("cannot start the threads {name}: {error}"));
        pool.map(Self).map_err(refused)
    }

    /// Does work on them, and waits for it.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
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
}
