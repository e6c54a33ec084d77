//! Cells as clients see them, and the commands that a person gives to one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use vlad_actors::gateway::view::{CellView, JointView, RoleView, StreamView};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::msg::command::{Answer, Signature};
use vlad_wire::msg::execute::GuardCounters;
use vlad_wire::text::Note;

use super::finite;
use super::task::words;

/// A cell.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Cell {
    /// Its id.
    #[schema(example = "demo")]
    pub id: String,
    /// Name of its robot's description.
    pub robot: String,
    /// Whether it is simulated.
    pub simulated: bool,
    /// The guard's mode; `null` until the guard is heard of.
    #[schema(schema_with = modes)]
    pub mode: Option<String>,
    /// Why it is in that mode.
    pub reason: Option<ModeReason>,
    /// For how long, milliseconds.
    pub mode_age_ms: Option<f64>,
    /// Why the cell takes no task now; empty if it does.
    pub not_ready: Vec<String>,
    /// The policy that decides.
    pub policy: Option<Policy>,
    /// How consecutive chunks meet.
    pub strategy: String,
    /// The task that it does now.
    pub task: Option<String>,
    /// Highest epoch that the guard knows.
    pub epoch: u64,
    /// The guard's policy tick.
    pub tick: i64,
    /// Policy ticks played per second.
    pub ticks_per_s: Option<f64>,
    /// The operator's speed fraction, above 0 and at most 1.
    pub speed_limit: Option<f64>,
    /// The joints, in the robot's order; empty before the first sample.
    pub joints: Vec<Joint>,
    /// Tool poses by arm.
    pub tools: Vec<Pose>,
    /// Rates and ages of what the gateway receives.
    pub streams: Vec<StreamHealth>,
    /// The parts of the daemon by their heartbeats.
    pub roles: Vec<RoleHealth>,
    /// The cameras.
    pub cameras: Vec<Camera>,
    /// How often the guard refused or changed something.
    pub counters: Counters,
}

/// Why the guard is in its mode.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModeReason {
    /// Name.
    #[schema(schema_with = reasons)]
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// What a person can do about it.
    pub what_to_do: String,
}

/// A policy, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Policy {
    /// Name.
    #[schema(example = "scripted")]
    pub name: String,
    /// What a person must know about it.
    pub note: String,
}

/// One joint.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Joint {
    /// Name.
    pub name: String,
    /// `rad` or `m`.
    pub unit: String,
    /// Measured position, in the unit.
    pub position: Option<f64>,
    /// Measured speed, in the unit per second.
    pub velocity: Option<f64>,
    /// Commanded position, in the unit.
    pub commanded: Option<f64>,
}

/// Where a tool is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Pose {
    /// Position in the cell, metres.
    pub position_m: [f64; 3],
    /// Orientation as unit quaternion x, y, z, w.
    pub quaternion_xyzw: [f64; 4],
}

/// One stream as the gateway receives it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamHealth {
    /// Key below `vlad/{cell}/`.
    pub key: String,
    /// Messages per second.
    pub rate_hz: Option<f64>,
    /// Age of the newest message, milliseconds, from its sampling.
    pub age_ms: Option<f64>,
}

/// One part of the daemon.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RoleHealth {
    /// Which.
    pub role: String,
    /// Whether its heartbeats are fresh.
    pub alive: bool,
    /// Whether it can do its work.
    pub fit: bool,
    /// Why not.
    pub unfit_reason: Option<String>,
    /// Its policy, if it runs one.
    pub policy: Option<Policy>,
    /// Its package version.
    pub version: String,
    /// Age of its newest heartbeat, milliseconds.
    pub age_ms: Option<f64>,
}

/// One camera.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Camera {
    /// Which view.
    pub view: String,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Frames per second as described.
    pub rate_hz: Option<f64>,
    /// Path of its newest frame.
    #[schema(example = "/v1/cells/demo/frames/ego")]
    pub frame: String,
}

/// How often the guard refused or changed something, since it started.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Counters {
    /// Chunks that were accepted.
    pub accepted: u64,
    /// Chunks with numbers that no robot may be told.
    pub not_finite: u64,
    /// Chunks of an old epoch, another task, model or shape.
    pub wrong_identity: u64,
    /// Chunks that were too old.
    pub stale: u64,
    /// First actions too far from the robot.
    pub jumps: u64,
    /// Chunks that came twice or too late to matter.
    pub superseded: u64,
    /// Chunks that came in a mode that takes none.
    pub not_now: u64,
    /// Commands of an old epoch.
    pub old_epochs: u64,
    /// Servo ticks with a clamped position or speed.
    pub clamped: u64,
    /// Servo ticks that began late by more than a period.
    pub late: u64,
    /// Policy ticks without an action while one was due.
    pub stalled: u64,
    /// Chunks with a row outside the envelope: position, speed, workspace, distance of arms.
    pub outside: u64,
    /// Servo ticks whose motion the envelope refused: the stored stop was taken.
    pub refused: u64,
    /// Chunks that came after their prefix was over and fitted all the same.
    pub prefix_overruns: u64,
    /// Chunks that came after their prefix was over and would have jumped.
    pub prefix_dropped: u64,
    /// Samples that no robot can have moved to.
    pub implausible: u64,
    /// Samples and notices that the guard's bus side did not take in time.
    pub dropped: u64,
}

/// All cells.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CellList {
    /// The cells.
    pub items: Vec<Cell>,
    /// Always absent: all cells fit on one page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Who commands a cell, and why.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Who.
    #[schema(value_type = String, min_length = 1, max_length = 256, example = "ada")]
    pub operator: Note,
    /// Why.
    #[schema(value_type = String, min_length = 1, max_length = 256, example = "cell is clear")]
    pub reason: Note,
}

/// A change of speed.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeedOrder {
    /// Fraction of full speed, above 0 and at most 1.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0, example = 0.5)]
    pub rate: f64,
    /// Who and why.
    pub by: Order,
}

impl From<Order> for Signature {
    fn from(order: Order) -> Self {
        Self {
            operator: order.operator,
            reason: order.reason,
        }
    }
}

/// The guard's answer to a command that it took.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OrderAnswer {
    /// What was done.
    pub text: String,
    /// The mode after it.
    #[schema(schema_with = modes)]
    pub mode: String,
    /// Why it is in that mode.
    pub reason: ModeReason,
    /// Highest epoch that the guard knows.
    pub epoch: u64,
}

impl From<&CellView> for Cell {
    fn from(view: &CellView) -> Self {
        let cameras = view.cameras.iter().map(|camera| Camera {
            view: camera.view.to_string(),
            width: camera.width,
            height: camera.height,
            rate_hz: finite(camera.rate_hz),
            frame: format!("/v1/cells/{}/frames/{}", view.id, camera.view),
        });
        let tools = view.eef.iter().map(|pose| Pose {
            position_m: pose.position_m,
            quaternion_xyzw: pose.quaternion_xyzw,
        });
        Self {
            id: view.id.to_string(),
            robot: view.robot.to_string(),
            simulated: view.simulated,
            mode: view.mode.map(|mode| mode.to_string()),
            reason: view.reason.map(ModeReason::from),
            mode_age_ms: finite(view.mode_age_ms),
            not_ready: view.not_ready.iter().map(ToString::to_string).collect(),
            policy: view.roles.iter().find_map(policy),
            strategy: view.strategy.to_string(),
            task: view.task.map(|task| task.to_string()),
            epoch: view.epoch,
            tick: view.tick,
            ticks_per_s: finite(view.ticks_per_s),
            speed_limit: finite(view.speed_limit),
            joints: view.joints.iter().map(Joint::from).collect(),
            tools: tools.collect(),
            streams: view.streams.iter().map(StreamHealth::from).collect(),
            roles: view.roles.iter().map(RoleHealth::from).collect(),
            cameras: cameras.collect(),
            counters: Counters::from(view.counters),
        }
    }
}

impl From<Reason> for ModeReason {
    fn from(reason: Reason) -> Self {
        Self {
            name: reason.name().to_owned(),
            meaning: reason.meaning().to_owned(),
            what_to_do: reason.what_to_do().to_owned(),
        }
    }
}

impl From<&JointView> for Joint {
    fn from(joint: &JointView) -> Self {
        Self {
            name: joint.name.to_string(),
            unit: joint.unit.to_string(),
            position: finite(joint.position),
            velocity: finite(joint.velocity),
            commanded: finite(joint.commanded),
        }
    }
}

impl From<&StreamView> for StreamHealth {
    fn from(stream: &StreamView) -> Self {
        Self {
            key: stream.key.clone(),
            rate_hz: finite(stream.rate_hz),
            age_ms: finite(stream.age_ms),
        }
    }
}

fn policy(role: &RoleView) -> Option<Policy> {
    let label = role.policy.as_ref()?;
    Some(Policy {
        name: label.name.to_string(),
        note: label.note.to_string(),
    })
}

impl From<&RoleView> for RoleHealth {
    fn from(view: &RoleView) -> Self {
        Self {
            role: view.role.to_string(),
            alive: view.alive,
            fit: view.unfit.is_none(),
            unfit_reason: view.unfit.as_ref().map(ToString::to_string),
            policy: policy(view),
            version: view.version.to_string(),
            age_ms: finite(view.age_ms),
        }
    }
}

impl From<GuardCounters> for Counters {
    fn from(counters: GuardCounters) -> Self {
        Self {
            accepted: counters.accepted,
            not_finite: counters.not_finite,
            wrong_identity: counters.wrong_identity,
            stale: counters.stale,
            jumps: counters.jumps,
            superseded: counters.superseded,
            not_now: counters.not_now,
            old_epochs: counters.old_epochs,
            clamped: counters.clamped,
            late: counters.late,
            stalled: counters.stalled,
            outside: counters.outside,
            refused: counters.refused,
            prefix_overruns: counters.prefix_overruns,
            prefix_dropped: counters.prefix_dropped,
            implausible: counters.implausible,
            dropped: counters.dropped,
        }
    }
}

impl Counters {
    /// Gives each counter with its name, for the metrics.
    pub fn named(&self) -> [(&'static str, u64); 17] {
        [
            ("accepted", self.accepted),
            ("not_finite", self.not_finite),
            ("wrong_identity", self.wrong_identity),
            ("stale", self.stale),
            ("jumps", self.jumps),
            ("superseded", self.superseded),
            ("not_now", self.not_now),
            ("old_epochs", self.old_epochs),
            ("clamped", self.clamped),
            ("late", self.late),
            ("stalled", self.stalled),
            ("outside", self.outside),
            ("refused", self.refused),
            ("prefix_overruns", self.prefix_overruns),
            ("prefix_dropped", self.prefix_dropped),
            ("implausible", self.implausible),
            ("dropped", self.dropped),
        ]
    }
}

impl From<&Answer> for OrderAnswer {
    fn from(answer: &Answer) -> Self {
        Self {
            text: answer.text.to_string(),
            mode: answer.mode.to_string(),
            reason: answer.reason.into(),
            epoch: answer.epoch,
        }
    }
}

fn modes() -> Schema {
    words(Mode::ALL.map(Mode::name))
}

fn reasons() -> Schema {
    words(Reason::all().map(Reason::name))
}
