//! What the stories stand on: folders, ports, waiting, and a bound on daemons at a time.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use vlad_wire::clock::{Clock, SECOND, SystemClock};

pub(crate) mod cell;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod relay;

/// Long enough for a busy machine; nothing waits so long where all is well.
const PATIENCE_NS: u64 = 60 * SECOND;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Daemons at a time: each of them wants a core while it moves.
const PLACES: usize = 2;
/// Below the ports that the system gives to clients.
const FIRST_PORT: u16 = 20_000;

/// Waits for a moment between two looks.
pub(crate) fn pause() {
    let (_open, silent) = sync_channel::<()>(1);
    // Nothing is ever sent: this is the wait between two looks.
    let _ = silent.recv_timeout(PAUSE);
}

/// Looks until there is something to see, and gives it.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE_NS, what, look)
}

/// The same with a patience of its own, nanoseconds.
#[track_caller]
pub(crate) fn until_within<T>(
    patience_ns: u64,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let give_up_ns = SystemClock.now_ns() + patience_ns;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(SystemClock.now_ns() < give_up_ns, "waited in vain: {what}");
        pause();
    }
}

/// Gives a port of the loopback that is free now, and so is the one after it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at a time begin at different ports.
    let begin = FIRST_PORT + u16::try_from(std::process::id() % 400).unwrap() * 20;
    loop {
        let port = begin + NEXT.fetch_add(2, Ordering::Relaxed) % 4000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 1) {
            return port;
        }
    }
}

/// A folder that goes when the value goes.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vlad-scenarios-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Leave to run daemons, as long as it is held.
pub(crate) struct Places(usize);

static TAKEN: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

impl Places {
    /// Waits for so many places at once.
    pub(crate) fn take(n: usize) -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| PLACES < *taken + n;
        let mut taken = LEFT
            .wait_while(taken, full)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += n;
        Self(n)
    }

    /// Waits until no other daemon runs.
    pub(crate) fn take_all() -> Self {
        Self::take(PLACES)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        LEFT.notify_all();
    }
}
