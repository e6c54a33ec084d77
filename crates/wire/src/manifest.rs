//! The manifest, `vlad.toml` beside a checkpoint: what it can do and how to feed it.
//!
//! | module | holds |
//! |---|---|
//! | [`faults`] | what can be wrong with a manifest, or between it and a cell |
//! | [`gripper`] | what a gripper's number means, and what it commands |
//! | [`image`] | what is done to a camera's image before the network's own preprocessing |
//! | [`instruction`] | how a sentence is written into the prompt |
//!
//! What a manifest does not say is unknown, never guessed: a released checkpoint whose views nobody
//! published has none, and drives no cell until a `vlad.toml` names them.

use serde::{Deserialize, Serialize};

use crate::robot_type::RobotType;
use crate::text::{Name, Note};

use gripper::Gripper;
use image::ImageStep;
use instruction::InstructionRule;

pub mod faults;
pub mod gripper;
pub mod image;
pub mod instruction;
#[cfg(test)]
mod tests;

/// The two kinds of action expert (reference §6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Trained synchronously: no prefix, full attention among actions.
    A,
    /// Trained asynchronously: clean prefix, local window, position gap.
    B,
}

/// What a row of a chunk means before the adapter makes it an absolute target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionRepresentation {
    /// Joint positions.
    JointAbsolute,
    /// Joint positions minus the observation's.
    JointDelta,
    /// Tool poses in the observation's tool frame.
    EefDelta,
    /// Differences from row to row, in the units of the action layout.
    StepDelta,
}

/// One slot of the state and action vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotLabel {
    /// Which slot.
    pub slot: usize,
    /// Which joint or gripper of the robot type, such as `left_joint_1`.
    pub joint: Name,
    /// `rad` or `m`.
    pub unit: Name,
}

/// One number of a state or of an action that is no joint of a cell's robot (reference §7.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    /// Which slot.
    pub slot: usize,
    /// What stands there, such as `eef_x`.
    pub name: Name,
    /// Its unit, such as `m`; `one` for a bare number.
    pub unit: Name,
}

/// Which camera is which image of the prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewLabel {
    /// The cell's view.
    pub view: Name,
    /// Its label in the prompt, such as `Ego View`.
    pub label: Note,
    /// Most image tokens that it may take; without it the images' common limits alone hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u32>,
    /// What is done to the camera's image first, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ImageStep>,
}

/// A golden self-test that travels with the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// File beside the manifest with inputs and outputs.
    pub file: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// Where a checkpoint was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Repository on the hub, `organisation/name`.
    pub repository: String,
    /// Commit, 40 hexadecimal digits.
    pub revision: String,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the checkpoint.
    pub name: Name,
    /// What a person must know about it.
    pub note: Note,
    /// Where it was published.
    pub published: Option<Publication>,
    /// Kind of action expert.
    pub profile: Profile,
    /// Actions before itself that an action attends to (profile B).
    pub local_window: Option<u16>,
    /// Gap in positions between prefix and free actions (profile B).
    pub position_gap: Option<u16>,
    /// Whether the rotary frequencies are rounded to bf16.
    #[serde(default)]
    pub rope_inv_freq_bf16: bool,
    /// Length of a tick, milliseconds.
    pub dt_ms: Option<f64>,
    /// Shape by robot type.
    pub robot_types: Vec<RobotType>,
    /// What a row means.
    pub action_representation: Option<ActionRepresentation>,
    /// Slots in use where state and actions are joints of a cell's robot.
    #[serde(default)]
    pub slots: Vec<SlotLabel>,
    /// The state's numbers where they are none; the other slots are 0.
    #[serde(default)]
    pub state: Vec<Quantity>,
    /// The actions' numbers likewise; the other slots mean nothing.
    #[serde(default)]
    pub actions: Vec<Quantity>,
    /// Grippers among the actions.
    #[serde(default)]
    pub grippers: Vec<Gripper>,
    /// Views in the prompt's order.
    #[serde(default)]
    pub views: Vec<ViewLabel>,
    /// How a task's sentence is written into the prompt.
    #[serde(default)]
    pub instruction: InstructionRule,
    /// Fewest pixels of an image after preprocessing; without it the checkpoint's own limit.
    pub image_pixels_min: Option<u32>,
    /// Most pixels of an image after preprocessing; likewise.
    pub image_pixels_max: Option<u32>,
    /// Actions of a chunk that are executed before the next one is asked for (reference §10).
    pub replan_steps: Option<u16>,
    /// Longest clean prefix that it was trained with; 0 for profile A.
    #[serde(default)]
    pub prefix_trained_max: u16,
    /// Whether it integrates a flow.
    #[serde(default)]
    pub flow: bool,
    /// Whether it offers a vector-Jacobian product for guidance.
    #[serde(default)]
    pub vjp: bool,
    /// SHA-256 of the weights, hexadecimal, if pinned.
    pub model_sha256: Option<String>,
    /// SHA-256 of the normaliser, hexadecimal, if pinned.
    pub normaliser_sha256: Option<String>,
    /// Golden self-test, if it has one.
    pub self_test: Option<SelfTest>,
}

/// What a cell offers, to be compared with a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct CellShape {
    /// Robot type.
    pub robot_type: RobotType,
    /// Name, slot and unit of each degree of freedom.
    pub slots: Vec<SlotLabel>,
    /// The cameras' views.
    pub views: Vec<Name>,
    /// Length of a policy tick, milliseconds.
    pub dt_ms: f64,
}

impl Manifest {
    /// The slots of an action that mean something, as far as the manifest names them.
    pub fn action_slots(&self) -> Vec<usize> {
        let joints = self.slots.iter().map(|label| label.slot);
        let quantities = self.actions.iter().map(|quantity| quantity.slot);
        match self.action_representation {
            Some(ActionRepresentation::JointAbsolute | ActionRepresentation::JointDelta) => {
                joints.collect()
            }
            _ => quantities.collect(),
        }
    }
}
