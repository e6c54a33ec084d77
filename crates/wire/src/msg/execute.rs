//! What the guard accepted and did.

use serde::{Deserialize, Serialize};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;

use super::DOFS_MAX;
use super::think::Strategy;
use crate::codec::{CodecError, Small};
use crate::id::{ChunkId, Epoch, TaskId, Tick};
use crate::robot_type::{HORIZON_MAX, WIDTH_MAX};
use crate::text::via_text;

/// The guard's buffer of accepted future targets: the prefix is read from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Highest epoch that the guard knows.
    pub epoch: Epoch,
    /// When this was said, on the guard's clock: with `tick`, a pair that maps ticks to time.
    pub sampled_at_ns: u64,
    /// The tick that the guard is in; row 0 of `rows` is for the tick after it.
    pub tick: Tick,
    /// The guard's mode.
    #[serde(with = "via_text")]
    pub mode: Mode,
    /// Why.
    #[serde(with = "via_text")]
    pub reason: Reason,
    /// The chunk that the last row came from.
    pub chunk: Option<ChunkId>,
    /// Its strategy.
    pub strategy: Option<Strategy>,
    /// Ticks that were played since the guard started; counted, never estimated.
    pub played: u64,
    /// Slots of a row.
    pub width: u16,
    /// Absolute targets in slots, row-major, one row a tick.
    pub rows: Vec<f32>,
}

impl Accepted {
    /// Ticks that remain after the current one.
    pub fn remaining(&self) -> usize {
        self.rows
            .len()
            .checked_div(usize::from(self.width))
            .unwrap_or(0)
    }
}

impl Small for Accepted {
    const MAX: usize = HORIZON_MAX * WIDTH_MAX * 5 + 256;

    fn check(&self) -> Result<(), CodecError> {
        let width = usize::from(self.width);
        if self
            .rows
            .len()
            .checked_rem(width)
            .unwrap_or(self.rows.len())
            != 0
            || WIDTH_MAX < width
        {
            return Err(CodecError::Inconsistent(
                "the accepted rows do not fit their width",
            ));
        }
        Ok(())
    }
}

/// Who a command came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A chunk.
    Policy,
    /// A person who guides the robot.
    Human,
    /// A stop, or standing still.
    Hold,
    /// The way to the park pose.
    Park,
}

/// What was commanded and measured at one servo tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Executed {
    /// Policy tick.
    pub tick: Tick,
    /// Servo tick.
    pub servo_tick: u64,
    /// Epoch.
    pub epoch: Epoch,
    /// When the servo tick should have begun.
    pub scheduled_at_ns: u64,
    /// When it did.
    pub woke_at_ns: u64,
    /// When the command was given to the robot.
    pub sent_at_ns: u64,
    /// Who the command came from.
    pub source: Source,
    /// The chunk, if the source is a policy.
    pub chunk: Option<ChunkId>,
    /// Row of that chunk.
    pub index: Option<u16>,
    /// Commanded positions, by dof.
    pub command: Vec<f64>,
    /// Measured positions, by dof.
    pub measured: Vec<f64>,
    /// Bits of `vlad_safety::envelope::flag`.
    pub flags: u32,
    /// The guard's mode.
    #[serde(with = "via_text")]
    pub mode: Mode,
}

/// Servo ticks, those of one policy tick or of a part of it: one message instead of eight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutedTicks {
    /// Servo ticks, oldest first.
    pub ticks: Vec<Executed>,
}

impl Small for ExecutedTicks {
    const MAX: usize = 64 * 1024;

    fn check(&self) -> Result<(), CodecError> {
        let fits = |t: &Executed| t.command.len() <= DOFS_MAX && t.measured.len() <= DOFS_MAX;
        if self.ticks.len() <= 64 && self.ticks.iter().all(fits) {
            Ok(())
        } else {
            Err(CodecError::Inconsistent("too many servo ticks or dofs"))
        }
    }
}

/// How often the guard refused or changed something, since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardCounters {
    /// Chunks that were accepted.
    pub accepted: u64,
    /// Chunks with numbers that no robot may be told (E2).
    pub not_finite: u64,
    /// Chunks of an old epoch, another task, model or shape (E1, E3).
    pub wrong_identity: u64,
    /// Chunks that were too old (E4).
    pub stale: u64,
    /// First actions too far from the robot (E7).
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
    /// Chunks with a row outside the envelope (E5, E7 by tick, E8, E9).
    #[serde(default)]
    pub outside: u64,
    /// Servo ticks whose motion the envelope refused: the stored stop was taken (E6, E8, E9).
    #[serde(default)]
    pub refused: u64,
    /// Chunks that came after their prefix was over and fitted all the same.
    #[serde(default)]
    pub prefix_overruns: u64,
    /// Chunks that came after their prefix was over and would have jumped.
    #[serde(default)]
    pub prefix_dropped: u64,
    /// Samples that no robot can have moved to.
    #[serde(default)]
    pub implausible: u64,
    /// Samples and notices that the bus side did not take in time.
    #[serde(default)]
    pub dropped: u64,
}

/// The guard's state, at every change and ten times a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardState {
    /// Mode.
    #[serde(with = "via_text")]
    pub mode: Mode,
    /// Why.
    #[serde(with = "via_text")]
    pub reason: Reason,
    /// Since when.
    pub since_ns: u64,
    /// When this was said.
    pub sent_at_ns: u64,
    /// Highest epoch that the guard knows.
    pub epoch: Epoch,
    /// The task that holds the lease.
    pub lease: Option<TaskId>,
    /// Policy tick.
    pub tick: Tick,
    /// Policy ticks per second that were really played in the last second.
    pub ticks_per_s: f64,
    /// Counters.
    pub counters: GuardCounters,
    /// The operator's speed fraction, above 0 and at most 1.
    #[serde(default = "full_speed")]
    pub speed_limit: f64,
    /// How long the stored stop takes from here, milliseconds.
    #[serde(default)]
    pub stop_ms: f64,
}

fn full_speed() -> f64 {
    1.0
}

impl Small for GuardState {
    const MAX: usize = 1024;
}
