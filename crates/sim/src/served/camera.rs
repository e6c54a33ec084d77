//! A served camera, as perception sees it: a thread keeps the newest frame.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vlad_cell::camera::{Camera, CameraError, CameraInfo};
use vlad_wire::msg::sense::Frame;

use super::parcel;
use super::remote::{Door, RETRY, RemoteError};
use super::words::Wish;

/// Longest silence of a camera that is there.
const SILENCE: Duration = Duration::from_secs(5);

struct Shared {
    slot: Mutex<Slot>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Slot {
    connected: bool,
    /// The newest frame that was not given yet.
    frame: Option<Frame>,
    /// Number and stamp of the newest frame of all.
    last: Option<(u64, u64)>,
    /// Added to the server's numbers: one that was started again counts anew.
    base: u64,
    stream: Option<UnixStream>,
}

/// A camera of a served world.
pub struct RemoteCamera {
    info: CameraInfo,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl RemoteCamera {
    pub(crate) fn open(door: Door, info: CameraInfo) -> Result<Self, RemoteError> {
        let shared = Arc::new(Shared {
            slot: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let wish = Wish::Camera(info.view.clone());
        let stream = shared.connect(&door, &wish)?;
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("sim-camera".to_owned())
            .spawn(move || in_thread.follow(stream, &door, &wish))
            .map_err(RemoteError::Thread)?;
        Ok(Self {
            info,
            shared,
            thread: Some(thread),
        })
    }

    /// Number of the newest frame that arrived.
    #[cfg(test)]
    pub(crate) fn arrived(&self) -> Arc<dyn Fn() -> Option<u64>> {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || shared.lock().last.map(|(seq, _)| seq))
    }
}

impl Camera for RemoteCamera {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn newest(&mut self) -> Result<Option<Frame>, CameraError> {
        let mut slot = self.shared.lock();
        if slot.connected {
            Ok(slot.frame.take())
        } else {
            Err(CameraError::Disconnected)
        }
    }
}

impl Drop for RemoteCamera {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(stream) = &self.shared.lock().stream {
            // It fails only if the other side has hung up before.
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Its panic was already reported by the panic hook, and there is nobody to hand it to.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, door: &Door, wish: &Wish) -> Result<UnixStream, RemoteError> {
        let stream = door.knock(wish.clone())?;
        stream
            .set_read_timeout(Some(SILENCE))
            .map_err(RemoteError::Thread)?;
        let mut slot = self.lock();
        slot.stream = Some(stream.try_clone().map_err(RemoteError::Thread)?);
        slot.connected = true;
        slot.base = slot.last.map_or(0, |(seq, _)| seq + 1);
        Ok(stream)
    }

    /// Keeps the newest frame until it is told to stop; looks for a lost world again and again.
    fn follow(&self, stream: UnixStream, door: &Door, wish: &Wish) {
        let mut stream = Some(stream);
        while !self.stop.load(Ordering::Acquire) {
            if let Some(stream) = &mut stream {
                while let Ok(frame) = parcel::read(stream) {
                    self.lock().keep(frame);
                }
                self.lock().connected = false;
            }
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            stream = self.connect(door, wish).ok();
            if stream.is_none() {
                std::thread::park_timeout(RETRY);
            }
        }
    }
}

impl Slot {
    fn keep(&mut self, mut frame: Frame) {
        frame.head.seq = frame.head.seq.saturating_add(self.base);
        let head = &frame.head;
        let grows = self
            .last
            .is_none_or(|(seq, at_ns)| seq < head.seq && at_ns < head.captured_at_ns);
        if grows {
            self.last = Some((head.seq, head.captured_at_ns));
            self.frame = Some(frame);
        }
    }
}
