//! What the gateway shows of a cell: a snapshot, made anew at every step.

use bytes::Bytes;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::id::{CellId, Epoch, Role, TaskId, Tick};
use vlad_wire::msg::execute::GuardCounters;
use vlad_wire::msg::health::{Event, PolicyLabel};
use vlad_wire::msg::sense::{FrameHead, PoseQuat};
use vlad_wire::text::{Name, Note};

/// A role as its heartbeats show it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleView {
    /// Which.
    pub role: Role,
    /// Whether its heartbeats are fresh.
    pub alive: bool,
    /// Why it is unfit, if it is.
    pub unfit: Option<Note>,
    /// Its policy, if it runs one.
    pub policy: Option<PolicyLabel>,
    /// Its package version.
    pub version: Note,
    /// Age of its newest heartbeat.
    pub age_ms: f64,
}

/// One degree of freedom.
#[derive(Debug, Clone, PartialEq)]
pub struct JointView {
    /// Such as `left_joint_1`.
    pub name: Name,
    /// `rad` or `m`.
    pub unit: Name,
    /// Measured position.
    pub position: f64,
    /// Measured speed, per second.
    pub velocity: f64,
    /// Commanded position.
    pub commanded: f64,
}

/// One stream as the gateway receives it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamView {
    /// Its key in the table, with the view for frames.
    pub key: String,
    /// Messages per second over the last seconds.
    pub rate_hz: f64,
    /// Age of the newest message, counted from its sampling.
    pub age_ms: f64,
}

/// One camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraView {
    /// Which view.
    pub view: Name,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Frames per second as described.
    pub rate_hz: f64,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub struct CellView {
    /// Its id.
    pub id: CellId,
    /// Name of its robot's description.
    pub robot: Name,
    /// Whether it is simulated.
    pub simulated: bool,
    /// The guard's mode, if the guard was heard of.
    pub mode: Option<Mode>,
    /// Its reason.
    pub reason: Option<Reason>,
    /// For how long, milliseconds.
    pub mode_age_ms: f64,
    /// Highest epoch.
    pub epoch: Epoch,
    /// Policy tick.
    pub tick: Tick,
    /// Policy ticks per second.
    pub ticks_per_s: f64,
    /// The operator's speed fraction, above 0 and at most 1.
    pub speed_limit: f64,
    /// The guard's counters.
    pub counters: GuardCounters,
    /// The joints, in the robot's order; empty before the first sample.
    pub joints: Vec<JointView>,
    /// Tool poses by arm.
    pub eef: Vec<PoseQuat>,
    /// The roles.
    pub roles: Vec<RoleView>,
    /// The streams.
    pub streams: Vec<StreamView>,
    /// The cameras.
    pub cameras: Vec<CameraView>,
    /// The running task.
    pub task: Option<TaskId>,
    /// Strategy in use.
    pub strategy: Name,
    /// Why the cell takes no task now; empty if it does.
    pub not_ready: Vec<Note>,
    /// Which roles are missing or unfit: what `/readyz` waits for.
    pub not_warm: Vec<Note>,
}

/// The newest frame of a view, as the camera gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameView {
    /// What it is.
    pub head: FrameHead,
    /// 8-bit RGB.
    pub pixels: Bytes,
}

/// An event with its number, for server-sent events.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberedEvent {
    /// Grows by one per event since the daemon started.
    pub id: u64,
    /// The event.
    pub event: Event,
}

/// Whether the daemon can take tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// What is missing; empty means ready.
    pub missing: Vec<String>,
}
