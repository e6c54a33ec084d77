//! The policy `twogate`: an analytic flow policy, which nobody had to train. It is not a network.
//!
//! A point goes from left to right past two gates, each of which may be passed on either side, to a
//! goal that jumps on the way. The demonstrations that a learned policy would have imitated are a
//! mixture of two Gaussians around two plans, and of such a mixture the rectified flow, its
//! vector-Jacobian product and its distribution behind a given prefix have closed forms. So every
//! strategy can be measured without a checkpoint, and what it gets wrong is its own.
//!
//! | half | does |
//! |---|---|
//! | `think` | the observation's state and the true goal → two plans with their weights |
//! | `act` | noise → rows, by Euler steps through the mixture's flow; behind a prefix, or guided |
//!
//! Actions are absolute targets in metres, width 2, 30 rows. Inside, an action is its distance from
//! the observed position divided by 0.05 m. Reference: `tests/oracle/twogate.py`, function by function.

use sha2::{Digest as _, Sha256};
use vlad_motion::policy::{Act, Capability, Policy, PolicyError, Think};
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::{Name, Note};

mod act;
mod flow;
mod matrix;
mod plan;
mod think;

/// Rows of a chunk.
pub const HORIZON: usize = 30;
/// Slots of a row: x and y.
pub const WIDTH: usize = 2;
/// Longest prefix that leaves a row to decide.
pub const PREFIX_MAX: u16 = 29;

/// A target of the point: x and y, or a difference of two.
type Row = [f64; WIDTH];

/// What its hash covers: a change of what it does is a change of this text.
const PARAMETERS: &str = "twogate 1: two modes, kernel 12 mm over 6 rows, scale 50 mm, 0.45 m/s";

/// The policy `twogate`.
pub struct TwoGatePolicy {
    name: Name,
    prefix_trained_max: u16,
}

impl TwoGatePolicy {
    /// Makes the policy. Its conditional distribution is exact behind a prefix of any length;
    /// `prefix_trained_max` makes it refuse longer ones, as a trained policy would have to: 6 as
    /// Xiaomi-Robotics-0 was trained, 29 for the ideal.
    ///
    /// # Errors
    /// [`PolicyError::Open`] if `prefix_trained_max` is above [`PREFIX_MAX`].
    pub fn new(prefix_trained_max: u16) -> Result<Self, PolicyError> {
        if PREFIX_MAX < prefix_trained_max {
            let problem = format!("twogate takes a prefix of {PREFIX_MAX} rows at most");
            return Err(PolicyError::Open(problem));
        }
        let name = Name::new("twogate").map_err(|error| PolicyError::Open(error.to_string()))?;
        Ok(Self {
            name,
            prefix_trained_max,
        })
    }
}

impl Policy for TwoGatePolicy {
    fn label(&self) -> PolicyLabel {
        PolicyLabel {
            name: self.name.clone(),
            note: Note::cleaned("a closed formula that reads the goal's true place; not a network"),
            model_hash: model_hash(),
            normaliser_hash: Digest::from(Sha256::digest(b"none").to_vec()),
        }
    }

    fn capability(&self) -> Capability {
        Capability {
            prefix_trained_max: self.prefix_trained_max,
            guidance: true,
            batch_max: 8,
        }
    }

    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError> {
        Ok(Box::new(think::TwoGateThink))
    }

    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError> {
        Ok(Box::new(act::TwoGateAct::new(usize::from(
            self.prefix_trained_max,
        ))))
    }
}

/// SHA-256 of what the policy is.
fn model_hash() -> Digest {
    Digest::from(Sha256::digest(PARAMETERS.as_bytes()).to_vec())
}

#[cfg(test)]
mod tests;
