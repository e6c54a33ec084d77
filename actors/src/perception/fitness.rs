//! Whether a camera can be believed: judged frame by frame, without a clock of its own.
//!
//! | what | known by | then |
//! |---|---|---|
//! | late, doubled, reordered frames | number and stamp must both grow | the frame is dropped, counted |
//! | another size or view | the camera's own promise | the frame is dropped, counted; unfit |
//! | another device | the serial number that its driver gives | its frames are dropped, counted; unfit |
//! | frozen, with new stamps | the very same pixels `frozen_frames` times more | unfit |
//! | frozen, with old stamps | its newest frame's age | unfit |
//! | black, white, one colour, noise | [`picture`], `blind_frames` in a row | unfit |
//!
//! A sensor's noise makes no two frames alike. A simulated camera has none: what stands still looks
//! the same, so its frames count as frozen only while the joints that move its picture have moved by
//! `frozen_motion_mrad`. For the same reason a camera's place is not known by what it sees: the
//! picture of a workcell changes with every object in it, so two cameras of one kind that a person
//! has swapped are known by their serial numbers or not at all.

use std::fmt;

use vlad_cell::camera::CameraInfo;
use vlad_wire::clock::MS;
use vlad_wire::msg::sense::Frame;
use vlad_wire::text::Name;

use super::picture::{self, Blind, Exposure};

/// What makes a camera unfit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Age of the newest frame above which it is stale, nanoseconds.
    pub stale_ns: u64,
    /// Repetitions of the same pixels at which it is frozen.
    pub frozen_frames: u32,
    /// How far a joint must have moved meanwhile, radians; 0 where sensors have noise.
    pub frozen_motion_rad: f64,
    /// Blind frames in a row that make it unfit.
    pub blind_frames: u32,
    /// What is blind.
    pub exposure: Exposure,
}

/// Why a camera cannot be believed. Its words stay the same for as long as it lasts: each change of a
/// role's condition is a heartbeat more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has given no frame yet.
    NoFrame,
    /// Its newest frame is older than this.
    Stale {
        /// The limit.
        limit_ms: u64,
    },
    /// Its driver failed, in its words.
    Failed(String),
    /// It gives another size or view than it promised.
    Format {
        /// What came, such as `640×480 ego`.
        got: String,
        /// What was promised.
        promised: String,
    },
    /// It is not the device that it was.
    OtherDevice {
        /// The serial number that it has now.
        got: String,
        /// The one that it must have.
        pinned: String,
    },
    /// It repeats one picture under new stamps.
    Frozen,
    /// Its frames show nothing.
    Blind(Blind),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrame => f.write_str("has given no frame yet"),
            Self::Stale { limit_ms } => write!(f, "is stale: no frame for {limit_ms} ms"),
            Self::Failed(words) => write!(f, "failed: {words}"),
            Self::Format { got, promised } => write!(f, "gives {got} instead of {promised}"),
            Self::OtherDevice { got, pinned } => {
                write!(f, "is another device: serial {got} instead of {pinned}")
            }
            Self::Frozen => f.write_str("is frozen: the same picture again and again"),
            Self::Blind(blind) => blind.fmt(f),
        }
    }
}

/// Frames of one camera, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Taken.
    pub taken: u64,
    /// Dropped, because their number or stamp had been reached before.
    pub old: u64,
    /// Dropped, because another device gave them.
    pub strange: u64,
    /// Dropped, because of their size or view.
    pub format: u64,
    /// Taken, with the pixels of the frame before.
    pub alike: u64,
    /// Taken, and blind.
    pub blind: u64,
}

/// What is known of one camera.
#[derive(Debug, Clone)]
pub struct Sight {
    rules: Rules,
    pinned: Option<Name>,
    newest: Option<(u64, u64)>,
    alike: u32,
    /// The joints at the first of frames that are alike.
    joints_then: Vec<f64>,
    moved_rad: f64,
    blind: Option<(Blind, u32)>,
    format: Option<Fault>,
    device: Option<Fault>,
    failure: Option<String>,
    counts: Counts,
}

impl Sight {
    /// Knows nothing yet. `pinned` is the serial number that the device must have; without one it is
    /// that of the first frame's.
    pub fn new(rules: Rules, pinned: Option<Name>) -> Self {
        Self {
            rules,
            pinned,
            newest: None,
            alike: 0,
            joints_then: Vec::new(),
            moved_rad: 0.0,
            blind: None,
            format: None,
            device: None,
            failure: None,
            counts: Counts::default(),
        }
    }

    /// Notes that the driver gave no frame but an error.
    pub fn failed(&mut self, words: String) {
        self.failure = Some(words);
    }

    /// Judges a frame after `before`, the one that was taken last; `true` if it may be used.
    ///
    /// `joints` are those whose motion changes the picture, radians, when the frame was taken.
    pub fn see(
        &mut self,
        frame: &Frame,
        before: Option<&Frame>,
        info: &CameraInfo,
        joints: &[f64],
    ) -> bool {
        self.failure = None;
        self.check_device(info);
        if self.device.is_some() {
            self.counts.strange += 1;
            return false;
        }
        self.format = format_fault(frame, info);
        if self.format.is_some() {
            self.counts.format += 1;
            return false;
        }
        let head = &frame.head;
        let grows = |(seq, at_ns)| seq < head.seq && at_ns < head.captured_at_ns;
        if !self.newest.is_none_or(grows) {
            self.counts.old += 1;
            return false;
        }
        self.newest = Some((head.seq, head.captured_at_ns));
        self.counts.taken += 1;
        self.compare(frame, before, joints);
        self.look(frame);
        true
    }

    /// Why the camera cannot be believed now, if so: the gravest first.
    pub fn fault(&self, now_ns: u64) -> Option<Fault> {
        if let Some(words) = &self.failure {
            return Some(Fault::Failed(words.clone()));
        }
        if let Some(fault) = self.device.as_ref().or(self.format.as_ref()) {
            return Some(fault.clone());
        }
        let Some((_, captured_at_ns)) = self.newest else {
            return Some(Fault::NoFrame);
        };
        let age_ns = now_ns.saturating_sub(captured_at_ns);
        if self.rules.stale_ns < age_ns {
            let limit_ms = self.rules.stale_ns / MS;
            return Some(Fault::Stale { limit_ms });
        }
        let moved = self.rules.frozen_motion_rad <= self.moved_rad;
        if self.rules.frozen_frames <= self.alike && moved {
            return Some(Fault::Frozen);
        }
        let blind = self.blind.filter(|(_, n)| self.rules.blind_frames <= *n);
        blind.map(|(blind, _)| Fault::Blind(blind))
    }

    /// What came so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn check_device(&mut self, info: &CameraInfo) {
        let pinned = match (&self.pinned, &info.serial) {
            (Some(pinned), _) => pinned,
            // A device without a number cannot be told from another.
            (None, serial) => {
                self.pinned.clone_from(serial);
                return;
            }
        };
        self.device = (info.serial.as_ref() != Some(pinned)).then(|| Fault::OtherDevice {
            got: info
                .serial
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string),
            pinned: pinned.to_string(),
        });
    }

    fn compare(&mut self, frame: &Frame, before: Option<&Frame>, joints: &[f64]) {
        if before.is_some_and(|before| before.pixels == frame.pixels) {
            self.counts.alike += 1;
            self.alike = self.alike.saturating_add(1);
            let pairs = self.joints_then.iter().zip(joints);
            let moved = pairs.map(|(then, now)| (then - now).abs());
            self.moved_rad = moved.fold(self.moved_rad, f64::max);
        } else {
            self.alike = 0;
            self.moved_rad = 0.0;
            self.joints_then.clear();
            self.joints_then.extend_from_slice(joints);
        }
    }

    fn look(&mut self, frame: &Frame) {
        let width = usize::from(frame.head.width);
        let found = picture::judge(&frame.pixels, width, &self.rules.exposure);
        let before = self.blind.map_or(0, |(_, n)| n);
        self.blind = found.map(|blind| (blind, before.saturating_add(1)));
        self.counts.blind += u64::from(found.is_some());
    }
}

fn format_fault(frame: &Frame, info: &CameraInfo) -> Option<Fault> {
    let head = &frame.head;
    let fits = (head.width, head.height) == (info.width, info.height)
        && head.view == info.view
        && frame.pixels.len() == head.n_bytes();
    (!fits).then(|| Fault::Format {
        got: format!(
            "{}×{} {} in {} bytes",
            head.width,
            head.height,
            head.view,
            frame.pixels.len()
        ),
        promised: format!("{}×{} {}", info.width, info.height, info.view),
    })
}

#[cfg(test)]
mod tests;
