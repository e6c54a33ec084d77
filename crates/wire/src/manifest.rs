//! The manifest, `vlad.toml` beside a checkpoint: what it can do and how to feed it.

use serde::{Deserialize, Serialize};

use crate::robot_type::{HORIZON_MAX, RobotType, SlotError, SlotMap, WIDTH_MAX};
use crate::text::{Name, Note};

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
    /// Differences from row to row.
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

/// Which camera is which image of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewLabel {
    /// The cell's view.
    pub view: Name,
    /// Its label in the prompt, such as `Ego View`.
    pub label: Note,
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

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the checkpoint.
    pub name: Name,
    /// What a person must know about it.
    pub note: Note,
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
    pub dt_ms: f64,
    /// Shape by robot type.
    pub robot_types: Vec<RobotType>,
    /// What a row means.
    pub action_representation: ActionRepresentation,
    /// Slots in use.
    pub slots: Vec<SlotLabel>,
    /// Views in the prompt's order.
    pub views: Vec<ViewLabel>,
    /// Most pixels of an image after preprocessing.
    pub image_pixels_max: u32,
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

/// One thing that is wrong with a manifest, or between it and a cell.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestFault {
    /// A field outside its range.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Two slots collide, or one lies outside.
    #[error("slots: {0}")]
    Slots(#[from] SlotError),
    /// The checkpoint does not know the cell's robot type.
    #[error("robot_types: the cell's robot type {0} is not among them")]
    RobotType(Name),
    /// The checkpoint needs a view that the cell lacks.
    #[error("views: the cell has no camera {0}")]
    View(Name),
    /// A joint that one side has and the other lacks, or has elsewhere.
    #[error("slots: slot {slot} is {manifest} here and {cell} in the cell")]
    Joint {
        /// The slot.
        slot: usize,
        /// Joint and unit in the manifest.
        manifest: String,
        /// Joint and unit in the cell.
        cell: String,
    },
    /// Different tick lengths.
    #[error("dt_ms: {manifest} here and {cell} in the cell")]
    Dt {
        /// The manifest's.
        manifest: f64,
        /// The cell's.
        cell: f64,
    },
}

impl Manifest {
    /// Lists everything that is wrong with the manifest by itself.
    pub fn faults(&self) -> Vec<ManifestFault> {
        let mut faults = Vec::new();
        let mut demand = |holds: bool, field: &'static str, problem: &str| {
            if !holds {
                faults.push(ManifestFault::Field {
                    field,
                    problem: problem.to_owned(),
                });
            }
        };
        demand(
            1.0 <= self.dt_ms && self.dt_ms <= 1000.0,
            "dt_ms",
            "must lie between 1 and 1000",
        );
        demand(
            !self.robot_types.is_empty(),
            "robot_types",
            "must not be empty",
        );
        demand(!self.views.is_empty(), "views", "must not be empty");
        let shape_fits = |t: &RobotType| {
            (1..=WIDTH_MAX).contains(&t.width) && (1..=HORIZON_MAX).contains(&t.horizon)
        };
        demand(
            self.robot_types.iter().all(shape_fits),
            "robot_types",
            "has a shape out of bounds",
        );
        let asynchronous = self.profile == Profile::B;
        demand(
            asynchronous || self.prefix_trained_max == 0,
            "prefix_trained_max",
            "must be 0: profile A was trained synchronously",
        );
        demand(
            asynchronous == (self.local_window.is_some() && self.position_gap.is_some()),
            "profile",
            "B needs local_window and position_gap, A has neither",
        );
        demand(!self.vjp || self.flow, "vjp", "needs a flow");
        let is_digest = |text: &Option<String>| {
            text.as_ref()
                .is_none_or(|t| t.len() == 64 && t.chars().all(|c| c.is_ascii_hexdigit()))
        };
        demand(
            is_digest(&self.model_sha256),
            "model_sha256",
            "must be 64 hexadecimal digits",
        );
        demand(
            is_digest(&self.normaliser_sha256),
            "normaliser_sha256",
            "must be 64 hexadecimal digits",
        );
        let used: Vec<_> = self.slots.iter().map(|label| label.slot).collect();
        let width = self
            .robot_types
            .iter()
            .map(|t| t.width)
            .min()
            .unwrap_or(WIDTH_MAX);
        if let Err(fault) = SlotMap::new(width, used) {
            faults.push(fault.into());
        }
        faults
    }

    /// Lists everything that keeps this checkpoint from driving `cell`.
    pub fn mismatches(&self, cell: &CellShape) -> Vec<ManifestFault> {
        let mut faults = Vec::new();
        if !self.robot_types.contains(&cell.robot_type) {
            faults.push(ManifestFault::RobotType(cell.robot_type.name.clone()));
        }
        for label in &self.views {
            if !cell.views.contains(&label.view) {
                faults.push(ManifestFault::View(label.view.clone()));
            }
        }
        for slot in 0..cell.robot_type.width {
            let find = |labels: &[SlotLabel]| {
                let label = labels.iter().find(|label| label.slot == slot);
                label.map_or("unused".to_owned(), |l| {
                    format!("{} in {}", l.joint, l.unit)
                })
            };
            let (manifest, cell) = (find(&self.slots), find(&cell.slots));
            if manifest != cell {
                faults.push(ManifestFault::Joint {
                    slot,
                    manifest,
                    cell,
                });
            }
        }
        if 0.01 < (self.dt_ms - cell.dt_ms).abs() {
            faults.push(ManifestFault::Dt {
                manifest: self.dt_ms,
                cell: cell.dt_ms,
            });
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn label(slot: usize, joint: &str, unit: &str) -> SlotLabel {
        SlotLabel {
            slot,
            joint: name(joint),
            unit: name(unit),
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            name: name("tiny"),
            note: Note::new("untrained").unwrap(),
            profile: Profile::A,
            local_window: None,
            position_gap: None,
            rope_inv_freq_bf16: false,
            dt_ms: 33.333,
            robot_types: vec![RobotType {
                name: name("dual_arm"),
                width: 8,
                horizon: 30,
            }],
            action_representation: ActionRepresentation::JointAbsolute,
            slots: vec![label(6, "gripper", "m"), label(7, "joint_1", "rad")],
            views: vec![ViewLabel {
                view: name("ego"),
                label: Note::new("Ego View").unwrap(),
            }],
            image_pixels_max: 90_000,
            prefix_trained_max: 0,
            flow: true,
            vjp: false,
            model_sha256: None,
            normaliser_sha256: None,
            self_test: None,
        }
    }

    fn cell() -> CellShape {
        let manifest = manifest();
        CellShape {
            robot_type: manifest.robot_types[0].clone(),
            slots: manifest.slots,
            views: vec![name("wrist"), name("ego")],
            dt_ms: 33.333,
        }
    }

    #[test]
    fn a_good_pair_has_no_fault() {
        assert_eq!(manifest().faults(), []);
        assert_eq!(manifest().mismatches(&cell()), []);
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let bad = Manifest {
            dt_ms: f64::NAN,
            prefix_trained_max: 6,
            vjp: true,
            flow: false,
            model_sha256: Some("xyz".to_owned()),
            slots: vec![label(1, "a", "rad"), label(1, "b", "rad")],
            ..manifest()
        };
        let text: Vec<_> = bad.faults().iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 5, "{text:?}");
        assert!(text.iter().any(|t| t.starts_with("dt_ms")));
        assert!(text.contains(&"slots: slot 1 is used twice".to_owned()));
    }

    #[test]
    fn all_mismatches_are_listed_at_once() {
        let other = CellShape {
            robot_type: RobotType {
                horizon: 10,
                ..cell().robot_type
            },
            slots: vec![label(6, "gripper", "rad")],
            views: vec![],
            dt_ms: 20.0,
        };
        let faults = manifest().mismatches(&other);
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(faults.contains(&ManifestFault::View(name("ego"))));
    }
}
