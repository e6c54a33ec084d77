//! The thread that lets a world go with the clock.
//!
//! | | |
//! |---|---|
//! | period | the world's step, on an absolute schedule; a late thread catches up by a few steps, then skips |
//! | counts | [`RealtimeWorld::n_skipped`]: steps that were left out |
//! | stops | on drop, within a period, and is joined |
//!
//! A skipped step is time that passes while nothing moves: stamps stay those of the clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use vlad_wire::clock::{SECOND, SharedClock};

/// Steps that are made up for after a late wake-up: some 30 ms, more than a scheduler's usual hiccup,
/// and less than the command watchdog, so that no command is played late.
const CATCH_UP_STEPS: u32 = 8;

/// A world that goes on by steps. Each call takes the world's lock by itself, so that cameras and
/// oracle get their turn in between.
pub(crate) trait Steps: Send + 'static {
    /// When the next step ends.
    fn next_step_ns(&self) -> u64;

    /// Makes the next step if it ends at or before `now_ns`; says whether it did.
    fn step_if_due(&self, now_ns: u64) -> bool;

    /// Leaves out the steps up to `now_ns`: time jumps, nothing moves. Gives how many.
    fn skip_to(&self, now_ns: u64) -> u64;
}

/// A world that goes with the clock for as long as this value lives.
pub struct RealtimeWorld {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    n_skipped: AtomicU64,
}

impl RealtimeWorld {
    pub(crate) fn start(world: impl Steps, clock: SharedClock) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let in_thread = Arc::clone(&shared);
        world.skip_to(clock.now_ns());
        let thread = std::thread::Builder::new()
            .name("sim-world".to_owned())
            .spawn(move || run(&world, &clock, &in_thread))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Steps that were left out because the thread came too late.
    pub fn n_skipped(&self) -> u64 {
        self.shared.n_skipped.load(Ordering::Relaxed)
    }
}

impl Drop for RealtimeWorld {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Its panic was already reported by the panic hook, and there is nobody to hand it to.
            drop(thread.join());
        }
    }
}

fn run(world: &impl Steps, clock: &SharedClock, shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        let next_ns = world.next_step_ns();
        // An interrupted sleep is repeated by the loop: the schedule is absolute.
        let _interrupted = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(next_ns));
        let now_ns = clock.now_ns();
        for _ in 0..=CATCH_UP_STEPS {
            if !world.step_if_due(now_ns) {
                break;
            }
        }
        let n_skipped = world.skip_to(now_ns);
        if 0 < n_skipped {
            shared.n_skipped.fetch_add(n_skipped, Ordering::Relaxed);
            tracing::debug!(n_skipped, "the simulated world came too late");
        }
    }
}

fn timespec(at_ns: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(at_ns / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at_ns % SECOND).unwrap_or(0),
    }
}
