//! Time, which is passed in.
//!
//! All stamps are nanoseconds of the machine's monotonic clock (`CLOCK_MONOTONIC`), which all
//! processes of one host share. Wall time is only logged beside and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Nanoseconds of the monotonic clock; never goes back.
    fn now_ns(&self) -> u64;
    /// Nanoseconds since 1970; may jump.
    fn wall_ns(&self) -> u64;
}

/// A clock as it is handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ns(&self) -> u64 {
        read(ClockId::Monotonic)
    }

    fn wall_ns(&self) -> u64 {
        read(ClockId::Realtime)
    }
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A clock that goes only when told: virtual time.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ns: AtomicU64,
    /// By how much the wall clock was set since the start.
    wall_set_ns: AtomicI64,
}

impl ManualClock {
    /// Wall time of a virtual run: 2026-01-01, so that logs of such runs look like logs.
    const WALL_START_NS: u64 = 1_767_225_600 * SECOND;

    /// Moves the clock forward; an earlier time changes nothing.
    pub fn advance_to(&self, now_ns: u64) {
        self.now_ns.fetch_max(now_ns, Ordering::AcqRel);
    }

    /// Sets the wall clock forward, or back; monotonic time goes on as it does.
    pub fn jump_wall(&self, by_ns: i64) {
        self.wall_set_ns.fetch_add(by_ns, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Acquire)
    }

    fn wall_ns(&self) -> u64 {
        let set_ns = self.wall_set_ns.load(Ordering::Acquire);
        (Self::WALL_START_NS + self.now_ns()).saturating_add_signed(set_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_does_not_go_back() {
        let first = SystemClock.now_ns();
        assert!(first <= SystemClock.now_ns());
        assert!(ManualClock::WALL_START_NS < SystemClock.wall_ns());
    }

    #[test]
    fn a_manual_clock_goes_only_forward() {
        let clock = ManualClock::default();
        clock.advance_to(5);
        clock.advance_to(3);
        assert_eq!(clock.now_ns(), 5);
        assert_eq!(clock.wall_ns(), ManualClock::WALL_START_NS + 5);
        clock.jump_wall(-3);
        assert_eq!(clock.wall_ns(), ManualClock::WALL_START_NS + 2);
        assert_eq!(clock.now_ns(), 5);
    }
}
