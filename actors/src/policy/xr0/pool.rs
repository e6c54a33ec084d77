//! The threads of one half of the network.
//!
//! Matrix products split their work over the rayon pool that they are called in. Each half has one
//! of its own, so that a prefill cannot keep a chunk waiting, and so that no model work ever runs on
//! the threads of a role, of the bus or of the guard. (Element-wise work on large tensors goes to
//! threads of candle's own, `candle-bp-N`.) How the work is split does not change a result's bits.
//!
//! There is a thread for each core, since a product is cut into as many pieces, and one thread less
//! would work off the last piece alone. So that the servo loop, the bus and the roles still get a
//! core when they want one, these threads stand behind them in priority.

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::process::setpriority_process;
use tracing::debug;

use super::error::Xr0Error;

/// How far behind the rest of the daemon: of a core that both want, the others get nine tenths.
const NICE: i32 = 10;

/// Named threads, one for each core.
pub(super) struct Pool(ThreadPool);

impl Pool {
    /// Starts the threads `{name}-0`, `{name}-1`, ….
    pub(super) fn new(name: &'static str) -> Result<Self, Xr0Error> {
        // 0: as many as there are cores.
        Self::of(name, 0)
    }

    /// The same with so many threads; 0 stands for one a core.
    pub(super) fn of(name: &'static str, threads: usize) -> Result<Self, Xr0Error> {
        let builder = ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder
            .thread_name(move |idx| format!("{name}-{idx}"))
            .start_handler(|_| stand_behind())
            .build();
        let refused = |error| Xr0Error::input(format!("cannot start the threads {name}: {error}"));
        pool.map(Self).map_err(refused)
    }

    /// Does work on them, and waits for it.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

/// Lowers the priority of the calling thread: on Linux each thread has its own.
fn stand_behind() {
    if let Err(error) = setpriority_process(None, NICE) {
        debug!(%error, "model threads keep their priority");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn work_runs_on_the_pools_own_threads() {
        let pool = Pool::new("think").unwrap();
        let name = pool.run(|| std::thread::current().name().map(str::to_owned));
        assert!(name.unwrap().starts_with("think-"));
    }

    #[test]
    fn the_pools_threads_stand_behind_the_callers() {
        let own = getpriority_process(None).unwrap();
        let pool = Pool::of("act", 2).unwrap();
        let theirs = pool.run(|| getpriority_process(None).unwrap());
        assert!(own < theirs || own == 19, "{own} and {theirs}");
        assert_eq!(
            getpriority_process(None).unwrap(),
            own,
            "the caller keeps its own"
        );
    }

    #[test]
    fn a_pool_has_as_many_threads_as_were_asked_for() {
        for n in 1..=3 {
            let pool = Pool::of("act", n).unwrap();
            assert_eq!(pool.run(rayon::current_num_threads), n);
        }
    }
}
