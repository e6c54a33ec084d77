//! Robot types: the slots of the model-facing state and action vectors.
//!
//! A model sees a robot as a vector of slots; which joint stands in which slot is the robot type's
//! layout (reference §7.7 of XR-0). Model code knows no robot: the robot's description names the
//! slot of each of its degrees of freedom, and only those are active.

use serde::{Deserialize, Serialize};

use crate::text::Name;

/// Longest state or action vector of any robot type.
pub const WIDTH_MAX: usize = 64;
/// Longest chunk of any robot type, in ticks.
pub const HORIZON_MAX: usize = 256;

/// The shape of a model-facing vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotType {
    /// Name in checkpoints, such as `dual_arm`.
    pub name: Name,
    /// Slots of a state or of one action.
    pub width: usize,
    /// Actions of a chunk (T or H).
    pub horizon: usize,
}

/// Which slot each degree of freedom of a robot stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    width: usize,
    slot_of_dof: Vec<usize>,
}

/// A slot map that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// A slot beyond the vector.
    #[error("slot {slot} lies beyond the width {width}")]
    Beyond {
        /// The slot.
        slot: usize,
        /// The vector's width.
        width: usize,
    },
    /// Two degrees of freedom in one slot.
    #[error("slot {slot} is used twice")]
    Twice {
        /// The slot.
        slot: usize,
    },
}

impl SlotMap {
    /// Checks and takes the slot of each degree of freedom.
    ///
    /// # Errors
    /// [`SlotError`] if a slot is beyond `width` or used twice.
    pub fn new(width: usize, slot_of_dof: Vec<usize>) -> Result<Self, SlotError> {
        for (dof, &slot) in slot_of_dof.iter().enumerate() {
            if width <= slot {
                return Err(SlotError::Beyond { slot, width });
            }
            if slot_of_dof.iter().take(dof).any(|other| *other == slot) {
                return Err(SlotError::Twice { slot });
            }
        }
        Ok(Self { width, slot_of_dof })
    }

    /// Slots of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Degrees of freedom.
    pub fn n_dofs(&self) -> usize {
        self.slot_of_dof.len()
    }

    /// The slot of each degree of freedom, in the robot's order.
    pub fn slots(&self) -> &[usize] {
        &self.slot_of_dof
    }

    /// Gives the slot vector of joint values; slots without a joint are 0.
    pub fn to_slots(&self, by_dof: &[f64]) -> Vec<f32> {
        let mut slots = vec![0.0; self.width];
        self.write_slots(by_dof, &mut slots);
        slots
    }

    /// Writes joint values into their slots; the others stay as they are.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::as_conversions,
        reason = "models compute in 32 bits"
    )]
    pub fn write_slots(&self, by_dof: &[f64], slots: &mut [f32]) {
        for (&slot, &value) in self.slot_of_dof.iter().zip(by_dof) {
            if let Some(place) = slots.get_mut(slot) {
                *place = value as f32;
            }
        }
    }

    /// Gives the joint values of a slot vector, in the robot's order; a missing slot is NaN.
    pub fn to_dofs<'a>(&'a self, slots: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        self.slot_of_dof
            .iter()
            .map(|slot| slots.get(*slot).map_or(f64::NAN, |v| f64::from(*v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_out_of_their_slots() {
        let map = SlotMap::new(8, vec![6, 2, 3]).unwrap();
        let slots = map.to_slots(&[0.5, 1.5, -2.0]);
        assert_eq!(slots, [0.0, 0.0, 1.5, -2.0, 0.0, 0.0, 0.5, 0.0]);
        assert_eq!(map.to_dofs(&slots).collect::<Vec<_>>(), [0.5, 1.5, -2.0]);
        assert!(map.to_dofs(&slots[..3]).next().unwrap().is_nan());
    }

    #[test]
    fn bad_maps_are_refused() {
        assert_eq!(
            SlotMap::new(2, vec![2]),
            Err(SlotError::Beyond { slot: 2, width: 2 })
        );
        assert_eq!(
            SlotMap::new(4, vec![1, 1]),
            Err(SlotError::Twice { slot: 1 })
        );
    }
}
