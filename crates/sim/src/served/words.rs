//! What client and server of a world say to each other.

use serde::{Deserialize, Serialize};
use vlad_cell::description::RobotDescription;
use vlad_wire::codec::{CodecError, Small};
use vlad_wire::id::View;
use vlad_wire::msg::DOFS_MAX;
use vlad_wire::msg::sense::TrueObject;
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::{Instruction, Note};

use crate::scene::Scene;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// To command the robot; one client at a time.
    Command,
    /// To read the robot.
    Watch,
    /// To see through a camera.
    Camera(View),
    /// To ask about the scene.
    Oracle,
}

/// The client's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the connection is for.
    pub wish: Wish,
    /// [`fingerprint`] of the client's own settings of this cell.
    pub fingerprint: u64,
}

impl Small for Hello {
    const MAX: usize = 128;
}

/// The server's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The wish is granted.
    Welcome,
    /// It is not, and why; the connection ends.
    Refused(Note),
}

impl Small for Reply {
    const MAX: usize = 512;
}

/// Where the robot is to go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// By degree of freedom: radians, and metres of opening.
    pub position: Vec<f64>,
}

impl Small for Command {
    const MAX: usize = 512;

    fn check(&self) -> Result<(), CodecError> {
        bounded(self.position.len())
    }
}

/// A command as it is written, without a copy of its list; the same bytes as [`Command`].
#[derive(Debug, Serialize)]
pub(crate) struct CommandRef<'a> {
    pub(crate) position: &'a [f64],
}

/// What the robot measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Steps of the world since its start; steps that were left out do not count.
    pub step: u64,
    /// When, on the host's monotonic clock.
    pub sampled_at_ns: u64,
    /// By degree of freedom: radians, and metres of opening.
    pub position: Vec<f64>,
    /// The same per second.
    pub velocity: Vec<f64>,
}

impl Small for Sample {
    const MAX: usize = 1024;

    fn check(&self) -> Result<(), CodecError> {
        if self.position.len() != self.velocity.len() {
            return Err(CodecError::Inconsistent(
                "lists of a sample differ in length",
            ));
        }
        bounded(self.position.len())
    }
}

/// What the oracle is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Whether this is done.
    Judge(Instruction),
    /// Where everything is.
    Truth,
}

impl Small for Question {
    const MAX: usize = 4096;
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Judge`].
    Judgement {
        /// How the task stands.
        outcome: Outcome,
        /// Why.
        reason: Note,
    },
    /// To [`Question::Truth`].
    Truth(Vec<TrueObject>),
}

impl Small for Answer {
    const MAX: usize = 16 * 1024;
}

fn bounded(n_dofs: usize) -> Result<(), CodecError> {
    if n_dofs <= DOFS_MAX {
        Ok(())
    } else {
        Err(CodecError::Inconsistent("too many degrees of freedom"))
    }
}

/// A number of a cell's robot and scene: both sides must have been started with the same ones, or
/// the guard's limits would be another robot's.
pub fn fingerprint(robot: &RobotDescription, scene: &Scene) -> u64 {
    // FNV-1a over the printed settings: short, and stable within one build. Another build may print
    // otherwise; that it is refused too is right.
    let text = format!("{:?}{:?}", robot.toml(), scene.toml());
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
