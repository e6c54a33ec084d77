//! Commands to the guard: queries with answers.

use serde::{Deserialize, Serialize};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;

use super::DOFS_MAX;
use crate::codec::{CodecError, Small};
use crate::id::{Epoch, TaskId};
use crate::text::{Note, via_text};

/// Who asks, and why; part of every command that a person gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Name of the person, or of the part of `vlad` that acts for them.
    pub operator: Note,
    /// Why.
    pub reason: Note,
}

/// The right to command the cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lease {
    /// A task takes the cell.
    Grant {
        /// New epoch.
        epoch: Epoch,
        /// The task.
        task: TaskId,
        /// The try.
        attempt: u32,
        /// How long it holds without renewal.
        ttl_ms: u32,
    },
    /// The holder is alive.
    Renew {
        /// The lease's epoch.
        epoch: Epoch,
    },
    /// The task is over or cancelled.
    Release {
        /// The lease's epoch.
        epoch: Epoch,
    },
}

/// Leave disarmed or stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rearm {
    /// New epoch.
    pub epoch: Epoch,
    /// Who and why.
    pub by: Signature,
    /// Where the robot is believed to be, by dof; empty means wherever it is.
    pub expected_pose: Vec<f64>,
}

/// Go on after a pause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// New epoch.
    pub epoch: Epoch,
    /// Who and why.
    pub by: Signature,
    /// Where the robot was paused, by dof; it must be within 2° of it.
    pub expected_pose: Vec<f64>,
}

/// Hold at the next safe point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who and why.
    pub by: Signature,
}

/// Go to the park pose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Park {
    /// New epoch.
    pub epoch: Epoch,
    /// Who and why.
    pub by: Signature,
}

/// Change the speed fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Fraction r, above 0 and at most 1.
    pub rate: f64,
    /// Who and why.
    pub by: Signature,
}

/// Stop now, and latch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estop {
    /// Who and why.
    pub by: Signature,
}

/// Leave a latched mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// New epoch.
    pub epoch: Epoch,
    /// Who and why.
    pub by: Signature,
}

/// The guard's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub done: bool,
    /// Why not, or what was done.
    pub text: Note,
    /// The mode after it.
    #[serde(with = "via_text")]
    pub mode: Mode,
    /// The reason after it.
    #[serde(with = "via_text")]
    pub reason: Reason,
    /// Highest epoch that the guard knows.
    pub epoch: Epoch,
}

/// Longest command in bytes.
const MAX: usize = 2048;

fn check_pose(pose: &[f64]) -> Result<(), CodecError> {
    if pose.len() <= DOFS_MAX && pose.iter().all(|x| x.is_finite()) {
        Ok(())
    } else {
        Err(CodecError::Inconsistent(
            "the expected pose is too long or not finite",
        ))
    }
}

impl Small for Lease {
    const MAX: usize = MAX;
}

impl Small for Rearm {
    const MAX: usize = MAX;

    fn check(&self) -> Result<(), CodecError> {
        check_pose(&self.expected_pose)
    }
}

impl Small for Resume {
    const MAX: usize = MAX;

    fn check(&self) -> Result<(), CodecError> {
        check_pose(&self.expected_pose)
    }
}

impl Small for Pause {
    const MAX: usize = MAX;
}

impl Small for Park {
    const MAX: usize = MAX;
}

impl Small for Speed {
    const MAX: usize = MAX;

    fn check(&self) -> Result<(), CodecError> {
        if 0.0 < self.rate && self.rate <= 1.0 {
            Ok(())
        } else {
            Err(CodecError::Inconsistent(
                "the speed fraction must lie above 0 and at most at 1",
            ))
        }
    }
}

impl Small for Estop {
    const MAX: usize = MAX;
}

impl Small for Reset {
    const MAX: usize = MAX;
}

impl Small for Answer {
    const MAX: usize = MAX;
}
