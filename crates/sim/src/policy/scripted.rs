//! The policy `scripted`: solves the scene's task from its object poses. It is not a network.
//!
//! It goes through the same traits, chunks and guard as a network, and reads nothing of the
//! simulation but `observation.head.truth`. It keeps no state: every decision infers from truth and
//! joints how far the task is.
//!
//! ```text
//!  away ──► above the block ──► around it ──► holding it ──► above the tray ──► in the tray ──► home
//!    ▲            │ Reach         │ Line, Grip     │ Line, Reach    │ Line, Grip      │ Line, Home
//!    └────────────┴───────────────┴── the block is not where the phase wants it ◄─────┘
//! ```
//!
//! | half | does |
//! |---|---|
//! | `think` | truth + instruction + state → a plan: what is left to do, as moves of each arm |
//! | `act` | plan + state → rows: minimum-jerk motion, at most 60 % of the speed limits, each chunk ends at rest |

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use vlad_cell::description::RobotDescription;
use vlad_motion::policy::{Act, Capability, Policy, PolicyError, Think};
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::{Name, Note};

mod act;
mod inverse;
mod plan;
mod sight;
mod think;

/// What its hash covers: a change of what it does is a change of this text.
const PARAMETERS: &str = "scripted 1: grasp from above, one arm, minimum jerk, 60 % speed";

/// The policy `scripted` for one robot.
pub struct ScriptedPolicy {
    description: Arc<RobotDescription>,
    name: Name,
}

impl ScriptedPolicy {
    /// Makes the policy for a robot.
    ///
    /// # Errors
    /// [`PolicyError::Open`] if the robot has an arm without a waist to turn, which it needs.
    pub fn new(description: Arc<RobotDescription>) -> Result<Self, PolicyError> {
        let name = Name::new("scripted").map_err(|error| PolicyError::Open(error.to_string()))?;
        if description.arms().iter().any(|arm| arm.n_joints() < 6) {
            return Err(PolicyError::Open(
                "scripted needs arms of six joints or more".to_owned(),
            ));
        }
        Ok(Self { description, name })
    }
}

impl Policy for ScriptedPolicy {
    fn label(&self) -> PolicyLabel {
        PolicyLabel {
            name: self.name.clone(),
            note: Note::cleaned("reads the scene's object poses; not a network"),
            model_hash: model_hash(),
            normaliser_hash: Digest::from(Sha256::digest(b"none").to_vec()),
        }
    }

    fn capability(&self) -> Capability {
        Capability {
            prefix_trained_max: 0,
            guidance: false,
            batch_max: 8,
        }
    }

    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError> {
        Ok(Box::new(think::ScriptedThink::new(Arc::clone(
            &self.description,
        ))))
    }

    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError> {
        Ok(Box::new(act::ScriptedAct::new(Arc::clone(
            &self.description,
        ))))
    }
}

/// SHA-256 of what the policy is.
fn model_hash() -> Digest {
    Digest::from(Sha256::digest(PARAMETERS.as_bytes()).to_vec())
}

#[cfg(test)]
mod tests;
