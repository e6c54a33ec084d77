//! A served robot, as the guard sees it, and as those see it who only watch.
//!
//! | | |
//! |---|---|
//! | thread | `sim-watch` keeps the newest sample; the guard's thread reads it without a lock |
//! | commands | written at once and without waiting; a full socket is an error, never a wait |
//! | fails safe | a world that is gone is `disconnected`; the thread looks for it again |

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{info, warn};
use vlad_cell::robot::{Measured, Robot, RobotError};

use super::parcel;
use super::remote::{Door, RETRY, RemoteError};
use super::slate::Slate;
use super::words::{CommandRef, Sample, Wish};
use crate::robot::check_command;
use crate::world::servo::WATCHDOG;

/// Longest silence of a world that is there. One that was stopped for longer is looked for anew.
const SILENCE: Duration = Duration::from_secs(5);

/// What a driver and its thread share.
struct Shared {
    slate: Slate,
    /// Commands that were sent.
    sent: AtomicU64,
    connected: AtomicBool,
    stop: AtomicBool,
    /// Samples come here.
    samples: Mutex<Option<UnixStream>>,
    /// Commands go here; the guard only tries this lock, which the thread holds while it replaces
    /// a lost connection.
    commands: Mutex<Option<UnixStream>>,
}

/// A robot's samples, for those who do not command it.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn open(door: Door, n_dofs: usize) -> Result<Self, RemoteError> {
        Self::start(door, n_dofs, false)
    }

    /// Opens the connections, waits for the first sample and starts the thread.
    fn start(door: Door, n_dofs: usize, commands: bool) -> Result<Self, RemoteError> {
        let shared = Arc::new(Shared {
            slate: Slate::new(n_dofs),
            sent: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            samples: Mutex::new(None),
            commands: Mutex::new(None),
        });
        let stream = shared.connect(&door, commands)?;
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("sim-watch".to_owned())
            .spawn(move || in_thread.follow(stream, &door, commands))
            .map_err(RemoteError::Thread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Copies the newest sample and gives the world's step that it is of, which grows by one with
    /// each step that the world really made.
    ///
    /// # Errors
    /// [`RobotError::Disconnected`] if the world is gone.
    pub fn newest(&self, to: &mut Measured) -> Result<u64, RobotError> {
        if !self.shared.connected.load(Ordering::Acquire) {
            return Err(RobotError::Disconnected);
        }
        // The writer needs less than a microsecond; who never finds it resting is told so.
        let busy = || RobotError::Driver(String::new());
        self.shared.slate.read(to).ok_or_else(busy)
    }
}

/// What a robot's driver has sent and received, for tests that must let it arrive.
#[cfg(test)]
pub(crate) struct Arrivals(Arc<Shared>);

#[cfg(test)]
impl Arrivals {
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Acquire)
    }

    pub(crate) fn sampled_at_ns(&self) -> u64 {
        self.0.slate.sampled_at_ns()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        hang_up(&self.shared.samples);
        hang_up(&self.shared.commands);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Its panic was already reported by the panic hook, and there is nobody to hand it to.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Opens both connections and waits for the first sample.
    fn connect(&self, door: &Door, commands: bool) -> Result<UnixStream, RemoteError> {
        if commands {
            let stream = door.knock(Wish::Command)?;
            stream.set_nonblocking(true).map_err(RemoteError::Thread)?;
            *lock(&self.commands) = Some(stream);
        }
        let mut stream = door.knock(Wish::Watch)?;
        let first = parcel::read(&mut stream).map_err(|source| door.strange(source))?;
        self.slate.write(&first);
        let other = stream.try_clone().map_err(RemoteError::Thread)?;
        stream
            .set_read_timeout(Some(SILENCE))
            .map_err(RemoteError::Thread)?;
        *lock(&self.samples) = Some(other);
        self.connected.store(true, Ordering::Release);
        Ok(stream)
    }

    /// Keeps the newest sample until it is told to stop; looks for a lost world again and again.
    fn follow(&self, stream: UnixStream, door: &Door, commands: bool) {
        let mut stream = Some(stream);
        while !self.stop.load(Ordering::Acquire) {
            if let Some(stream) = &mut stream {
                let lost = self.take_samples(stream);
                self.connected.store(false, Ordering::Release);
                hang_up(&self.commands);
                *lock(&self.commands) = None;
                if self.stop.load(Ordering::Acquire) {
                    break;
                }
                warn!(%lost, "the simulated world is gone");
            }
            stream = self.connect(door, commands).ok();
            match &stream {
                Some(_) => info!("the simulated world is there again"),
                None => std::thread::park_timeout(RETRY),
            }
        }
    }

    fn take_samples(&self, stream: &mut UnixStream) -> parcel::ParcelError {
        loop {
            match parcel::read::<Sample>(stream) {
                Ok(sample) => {
                    self.slate.write(&sample);
                }
                Err(error) => return error,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hang_up(stream: &Mutex<Option<UnixStream>>) {
    if let Some(stream) = &*lock(stream) {
        // It fails only if the other side has hung up before.
        drop(stream.shutdown(Shutdown::Both));
    }
}

/// The robot of a served world.
pub struct RemoteRobot {
    watch: Watch,
    n_dofs: usize,
    /// The newest whole sample.
    last: Measured,
    /// Where a sample is read to, so that one that is being written spoils nothing.
    scratch: Measured,
    buffer: Vec<u8>,
}

impl RemoteRobot {
    pub(crate) fn open(door: Door, n_dofs: usize) -> Result<Self, RemoteError> {
        let blank = || Measured {
            sampled_at_ns: 0,
            position: vec![0.0; n_dofs],
            velocity: vec![0.0; n_dofs],
        };
        let watch = Watch::start(door, n_dofs, true)?;
        let mut last = blank();
        watch.shared.slate.read(&mut last);
        Ok(Self {
            watch,
            n_dofs,
            last,
            scratch: blank(),
            buffer: Vec::with_capacity(1024),
        })
    }

    #[cfg(test)]
    pub(crate) fn arrivals(&self) -> Arrivals {
        Arrivals(Arc::clone(&self.watch.shared))
    }

    /// Writes what is in the buffer, whole or not at all.
    fn send(&self, stream: &mut UnixStream) -> Result<(), RobotError> {
        match stream.write(&self.buffer) {
            Ok(n) if n == self.buffer.len() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(RobotError::Driver(
                "the simulated world takes no commands: it is stopped or far behind".to_owned(),
            )),
            // Half a command cannot be taken back: this connection is of no use any more, and the
            // thread opens another.
            Ok(_) | Err(_) => {
                drop(stream.shutdown(Shutdown::Both));
                hang_up(&self.watch.shared.samples);
                Err(RobotError::Disconnected)
            }
        }
    }
}

impl Robot for RemoteRobot {
    fn n_dofs(&self) -> usize {
        self.n_dofs
    }

    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        match self.watch.newest(&mut self.scratch) {
            Ok(_) => std::mem::swap(&mut self.last, &mut self.scratch),
            Err(RobotError::Driver(_)) => {}
            Err(error) => return Err(error),
        }
        measured.sampled_at_ns = self.last.sampled_at_ns;
        measured.position.clone_from(&self.last.position);
        measured.velocity.clone_from(&self.last.velocity);
        Ok(())
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        check_command(position, self.n_dofs)?;
        parcel::fill(&mut self.buffer, &CommandRef { position })
            .map_err(|error| RobotError::Driver(error.to_string()))?;
        let shared = Arc::clone(&self.watch.shared);
        let mut commands = match shared.commands.try_lock() {
            Ok(commands) => commands,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(RobotError::Disconnected),
        };
        let stream = commands.as_mut().ok_or(RobotError::Disconnected)?;
        self.send(stream)?;
        shared.sent.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn watchdog(&self) -> Option<Duration> {
        Some(WATCHDOG)
    }

    fn simulated(&self) -> bool {
        true
    }
}
