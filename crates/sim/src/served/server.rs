//! The socket of a world, its connections and their counts.
//!
//! | | |
//! |---|---|
//! | threads | one that accepts, one for each connection |
//! | bounds | [`CONNECTIONS_MAX`] connections; parcels by their messages; a time for the first words |
//! | fails safe | a client that ends, lies or sleeps loses its connection; the robot's watchdog stops it |
//! | stops | on drop: the socket goes, connections are shut, threads are joined |

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tracing::{debug, info, warn};
use vlad_wire::text::Note;

use super::parcel;
use super::words::{Hello, Reply, Wish, fingerprint};
use crate::world::SimWorld;

mod serve;

/// Connections at a time: a guard's two, perception's four, and some who watch.
pub const CONNECTIONS_MAX: usize = 32;
/// A client that has not said what it wants by then has nothing to say.
const HELLO_PATIENCE: Duration = Duration::from_secs(2);
/// A client that takes nothing for so long is gone; one that was stopped for a while is not.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a world cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process serves there.
    #[error("another world is served at {0}: name another --socket, or end that one")]
    Taken(PathBuf),
    /// There is a file of another kind.
    #[error("{0} is there and is no socket: name another --socket")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot serve at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What clients did, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that were granted their wish.
    pub welcomed: u64,
    /// Connections that were refused with words.
    pub refused: u64,
    /// Connections that were closed for what they sent.
    pub malformed: u64,
    /// Commands that the robot took.
    pub commands: u64,
}

#[derive(Default)]
struct Counters {
    welcomed: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    commands: AtomicU64,
}

/// What the threads share.
struct Hall {
    world: SimWorld,
    fingerprint: u64,
    counters: Counters,
    stop: AtomicBool,
    robot_taken: AtomicBool,
    guests: Mutex<BTreeMap<u64, UnixStream>>,
}

/// A served world, for as long as this value lives.
pub struct WorldServer {
    hall: Arc<Hall>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
    /// Locked as long as the socket is ours; a dead server's socket may be taken over.
    _lock: File,
}

impl WorldServer {
    /// Serves a world at a socket that its user alone can reach (mode 0600).
    ///
    /// # Errors
    /// [`ServeError`] if the place is taken, or the system refuses.
    pub fn start(world: SimWorld, path: &Path) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Io {
            path: path.to_owned(),
            source,
        };
        let lock = claim(path)?;
        let listener = listen(path).map_err(refused)?;
        let hall = Arc::new(Hall {
            fingerprint: fingerprint(world.description(), world.scene()),
            world,
            counters: Counters::default(),
            stop: AtomicBool::new(false),
            robot_taken: AtomicBool::new(false),
            guests: Mutex::default(),
        });
        let in_thread = Arc::clone(&hall);
        let thread = std::thread::Builder::new()
            .name("sim-socket".to_owned())
            .spawn(move || accept(&listener, &in_thread))
            .map_err(refused)?;
        Ok(Self {
            hall,
            path: path.to_owned(),
            thread: Some(thread),
            _lock: lock,
        })
    }

    /// What clients did.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let counters = &self.hall.counters;
        Counts {
            welcomed: of(&counters.welcomed),
            refused: of(&counters.refused),
            malformed: of(&counters.malformed),
            commands: of(&counters.commands),
        }
    }
}

impl Drop for WorldServer {
    fn drop(&mut self) {
        self.hall.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts; it fails only if that thread is gone already.
        drop(UnixStream::connect(&self.path));
        drop(fs::remove_file(&self.path));
        if let Some(thread) = self.thread.take() {
            // Its panic was already reported by the panic hook, and there is nobody to hand it to.
            drop(thread.join());
        }
    }
}

/// Locks the place, and clears it of a dead server's socket.
fn claim(path: &Path) -> Result<File, ServeError> {
    let refused = |source| ServeError::Io {
        path: path.to_owned(),
        source,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = File::create(path.with_file_name(name)).map_err(refused)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(ServeError::Taken(path.to_owned())),
        Err(error) => return Err(refused(error.into())),
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(lock),
        Err(error) => Err(refused(error)),
        Ok(found) if is_socket(&found) => {
            fs::remove_file(path).map_err(refused)?;
            Ok(lock)
        }
        Ok(_) => Err(ServeError::NoSocket(path.to_owned())),
    }
}

fn is_socket(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.file_type().is_socket()
}

/// Binds under another name and moves the socket to its place when nobody else can reach it.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unready = path.with_file_name(name);
    match fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&unready)?;
    fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
    fs::rename(&unready, path)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, hall: &Arc<Hall>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut number = 0;
    for stream in listener.incoming() {
        if hall.stop.load(Ordering::Acquire) {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        let Ok(stream) = stream else {
            // Out of file descriptors, for instance: the next one may go.
            std::thread::park_timeout(Duration::from_millis(10));
            continue;
        };
        number += 1;
        if let Some(thread) = hall.receive(number, stream, threads.len()) {
            threads.push(thread);
        }
    }
    for stream in hall.guests().values() {
        drop(stream.shutdown(Shutdown::Both));
    }
    for thread in threads {
        drop(thread.join());
    }
}

impl Hall {
    fn guests(&self) -> MutexGuard<'_, BTreeMap<u64, UnixStream>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a connection its thread, if there is room.
    fn receive(
        self: &Arc<Self>,
        number: u64,
        mut stream: UnixStream,
        n_guests: usize,
    ) -> Option<JoinHandle<()>> {
        let limits = stream
            .set_read_timeout(Some(HELLO_PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_PATIENCE)));
        if CONNECTIONS_MAX <= n_guests || limits.is_err() {
            self.refuse(&mut stream, "the world has too many connections");
            return None;
        }
        self.guests().insert(number, stream.try_clone().ok()?);
        let hall = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("sim-guest".to_owned())
            .spawn(move || {
                hall.host(number, stream);
                hall.guests().remove(&number);
            });
        if spawned.is_err() {
            self.guests().remove(&number);
        }
        spawned.ok()
    }

    fn refuse(&self, stream: &mut UnixStream, why: &str) {
        self.counters.refused.fetch_add(1, Ordering::AcqRel);
        debug!(why, "a client of the world is refused");
        // Who does not listen learns nothing.
        drop(parcel::write(stream, &Reply::Refused(Note::cleaned(why))));
    }

    /// One connection from its first words to its end.
    fn host(&self, number: u64, mut stream: UnixStream) {
        let hello: Hello = match parcel::read(&mut stream) {
            Ok(hello) => hello,
            Err(error) => return self.part(number, &error.into()),
        };
        if hello.fingerprint != self.fingerprint {
            let why = "the world was made from another robot or scene, or by another build: start \
                       both with the same settings";
            return self.refuse(&mut stream, why);
        }
        debug!(number, ?hello, "a client of the world");
        let ended = match hello.wish {
            Wish::Command => self.host_commander(&mut stream),
            Wish::Watch => self.host_watcher(&mut stream),
            Wish::Camera(view) => self.host_viewer(&mut stream, &view),
            Wish::Oracle => self.host_asker(&mut stream),
        };
        if let Err(error) = ended {
            self.part(number, &error);
        }
    }

    /// Says why a connection ends.
    fn part(&self, number: u64, why: &serve::End) {
        match why {
            serve::End::Malformed(error) => {
                self.counters.malformed.fetch_add(1, Ordering::AcqRel);
                warn!(number, %error, "a client of the world is sent away");
            }
            serve::End::Gone(error) => info!(number, %error, "a client of the world is gone"),
        }
    }
}
