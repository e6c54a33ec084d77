//! What a camera's driver promises perception.
//!
//! * **Stamps.** A frame carries the middle of its exposure on the host's monotonic clock, never
//!   the time of its arrival. Stamps and sequence numbers grow strictly.
//! * **Newest wins.** [`Camera::newest`] gives the newest frame and drops older ones; it never waits
//!   for longer than one frame period.
//! * **Format.** 8-bit RGB of exactly the size in [`CameraInfo`], for the life of the driver. What
//!   comes otherwise is dropped by perception, which is then unfit.
//! * **Identity.** [`CameraInfo::serial`] is the number of the very device that gives the frames, and
//!   changes when the driver finds another one behind its port. Perception believes one device only.
//! * **Drop** stops the stream and frees the device.

use vlad_wire::msg::sense::Frame;
use vlad_wire::text::Name;

/// What a camera delivers.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraInfo {
    /// The view that it is in the cell.
    pub view: Name,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Frames per second.
    pub rate_hz: f64,
    /// Serial number of the device; `None` if it has none, so that it cannot be told from another.
    pub serial: Option<Name>,
}

/// Why a camera gives no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CameraError {
    /// The device is gone.
    #[error("the camera is disconnected")]
    Disconnected,
    /// Anything else, in the driver's words.
    #[error("the camera's driver failed: {0}")]
    Driver(String),
}

/// A camera of the cell.
pub trait Camera: Send {
    /// What it delivers.
    fn info(&self) -> &CameraInfo;

    /// Gives the newest frame, or `None` if there is none since the last call.
    ///
    /// # Errors
    /// [`CameraError`] if the device fails.
    fn newest(&mut self) -> Result<Option<Frame>, CameraError>;
}
