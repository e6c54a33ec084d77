//! A camera that lies as it is told.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlad_actors::stepped::Skew;
use vlad_cell::camera::{Camera, CameraError, CameraInfo};
use vlad_wire::clock::MS;
use vlad_wire::msg::sense::Frame;
use vlad_wire::text::Name;

/// By how much stamps are put back, nanoseconds (F40).
const SKEW_NS: u64 = 100 * MS;
/// What another device calls itself.
const OTHER_SERIAL: &str = "another-device";

/// How a camera lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It does not.
    None,
    /// The same picture under new stamps.
    Frozen,
    /// The same frame again and again.
    FrozenOld,
    /// Every pixel 0.
    Black,
    /// Every pixel 255.
    White,
    /// Random pixels.
    Noise,
    /// Stamps of a tenth of a second ago.
    Skewed,
    /// Half the width.
    Format,
    /// Another device behind the port.
    Swapped,
    /// Of ten frames one is left out, one comes twice, and two change places.
    Reordered,
}

const LIES: [Lie; 10] = [
    Lie::None,
    Lie::Frozen,
    Lie::FrozenOld,
    Lie::Black,
    Lie::White,
    Lie::Noise,
    Lie::Skewed,
    Lie::Format,
    Lie::Swapped,
    Lie::Reordered,
];

/// What a camera is told to do now; clones tell the same one.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    lie: Arc<AtomicU8>,
    host: Arc<Mutex<Host>>,
}

/// The host that cameras are at.
#[derive(Debug, Default)]
struct Host {
    skew: Skew,
    /// When frames were really captured.
    captures_ns: Vec<u64>,
}

impl Orders {
    /// Tells it.
    pub fn tell(&self, lie: Lie) {
        let number = LIES.iter().position(|other| *other == lie);
        let number = number.and_then(|number| u8::try_from(number).ok());
        self.lie.store(number.unwrap_or(0), Ordering::Release);
    }

    /// Lets this camera and its companions stamp with another clock.
    pub fn skew(&self, skew: Skew) {
        self.host().skew = skew;
    }

    /// Orders of another camera at the same host.
    #[must_use]
    pub fn companion(&self) -> Self {
        Self {
            lie: Arc::default(),
            host: self.host.clone(),
        }
    }

    /// When frames were really captured, before anybody stamped them anew.
    pub fn captures_ns(&self) -> Vec<u64> {
        self.host().captures_ns.clone()
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> Lie {
        let number = usize::from(self.lie.load(Ordering::Acquire));
        LIES.get(number).copied().unwrap_or(Lie::None)
    }

    /// Puts the liar around a camera.
    pub fn around(&self, inner: Box<dyn Camera>) -> Box<dyn Camera> {
        let honest = inner.info().clone();
        Box::new(Liar {
            orders: self.clone(),
            inner,
            info: honest.clone(),
            honest,
            last: None,
            held: None,
            n_frames: 0,
            random: 1,
        })
    }
}

struct Liar {
    orders: Orders,
    inner: Box<dyn Camera>,
    honest: CameraInfo,
    info: CameraInfo,
    last: Option<Frame>,
    held: Option<Frame>,
    n_frames: u64,
    random: u64,
}

impl Liar {
    /// Park and Miller's generator: noise that is the same in every run.
    fn noise(&mut self) -> u8 {
        self.random = self.random * 48_271 % 0x7fff_ffff;
        u8::try_from(self.random >> 8 & 0xff).unwrap_or(0)
    }

    fn paint(&mut self, frame: &Frame, mut colour: impl FnMut(&mut Self) -> u8) -> Frame {
        let bytes = (0..frame.pixels.len()).map(|_| colour(self)).collect();
        Frame {
            pixels: bytes,
            head: frame.head.clone(),
        }
    }

    fn reordered(&mut self, frame: Frame) -> Option<Frame> {
        self.n_frames += 1;
        match self.n_frames % 10 {
            2 => None,
            5 => self.last.clone(),
            7 => {
                self.held = Some(frame);
                None
            }
            9 => self.held.take(),
            _ => Some(frame),
        }
    }

    fn twisted(&mut self, lie: Lie, frame: Frame) -> Option<Frame> {
        let last = self.last.clone().unwrap_or_else(|| frame.clone());
        match lie {
            Lie::None | Lie::Swapped => Some(frame),
            Lie::Frozen => Some(Frame {
                pixels: last.pixels,
                ..frame
            }),
            Lie::FrozenOld => Some(last),
            Lie::Black => Some(self.paint(&frame, |_| 0)),
            Lie::White => Some(self.paint(&frame, |_| 255)),
            Lie::Noise => Some(self.paint(&frame, Self::noise)),
            Lie::Skewed => {
                let mut frame = frame;
                frame.head.captured_at_ns = frame.head.captured_at_ns.saturating_sub(SKEW_NS);
                Some(frame)
            }
            Lie::Format => {
                let mut frame = frame;
                frame.head.width /= 2;
                frame.pixels = frame.pixels.slice(..frame.head.n_bytes());
                Some(frame)
            }
            Lie::Reordered => self.reordered(frame),
        }
    }
}

impl Camera for Liar {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn newest(&mut self) -> Result<Option<Frame>, CameraError> {
        let lie = self.orders.told();
        self.info.clone_from(&self.honest);
        if lie == Lie::Swapped {
            self.info.serial = Name::new(OTHER_SERIAL).ok();
        }
        let Some(mut frame) = self.inner.newest()? else {
            return Ok(None);
        };
        let mut host = self.orders.host();
        host.captures_ns.push(frame.head.captured_at_ns);
        frame.head.captured_at_ns = host.skew.shown(frame.head.captured_at_ns);
        drop(host);
        let told = self.twisted(lie, frame);
        if matches!(lie, Lie::None | Lie::Reordered) && told.is_some() {
            self.last.clone_from(&told);
        }
        Ok(told)
    }
}
