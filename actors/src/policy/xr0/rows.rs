//! What stands between absolute targets, as everything above a policy has them, and rows as the
//! checkpoint was trained on (reference A.4, §7.7).
//!
//! ```text
//!  accepted targets ─ seen from the new observation ─ normalised at their new index ─► prefix
//!  chunk ─ decoded at its index ─ made absolute from the observation ─► targets
//! ```
//!
//! What a row counts from is looked up by slot or by name:
//!
//! | representation | counts from |
//! |---|---|
//! | `joint_absolute` | nothing |
//! | `joint_delta` | the state's number in the same slot |
//! | `eef_delta`, `step_delta` | the state's quantity of the same name |
//!
//! Six quantities `eef_x` to `eef_z` and `eef_rx` to `eef_rz`, with anything before `eef`, are a tool's
//! pose: its place, and its orientation as axis times angle. Without one these rows mean nothing here.
//!
//! A gripper that the manifest lists under `grippers` has numbers of its own, and counts from
//! nothing. The codec is `vlad-motion`'s, without tables: scaling stays with the checkpoint's own
//! normaliser, whose deviations may be smaller than that codec's.

use vlad_motion::policy::PolicyError;
use vlad_motion::prefix::{CodecError, Layout, Part, PrefixCodec, Tables};
use vlad_wire::manifest::{ActionRepresentation, Manifest, Quantity};

use super::error::Xr0Error;

/// Ends of the names of a tool's position and rotation vector, behind `eef_`.
const AXES: [&str; 3] = ["x", "y", "z"];

/// How a checkpoint's rows become absolute targets, and back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rows {
    /// They are joint positions, in these slots; the numbers in other slots mean nothing.
    Joints(Vec<usize>),
    /// They are seen from the observation's state.
    Seen(Box<Seen>),
    /// The manifest does not say what they count from.
    Unknown,
}

/// Rows that count from a state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    codec: PrefixCodec,
    /// Slot of the row, and slot of the state that it counts from.
    anchors: Vec<(usize, usize)>,
}

impl Rows {
    /// Reads a manifest; rows have `width` slots.
    ///
    /// # Errors
    /// A slot that is named twice, or lies beyond the row.
    pub(super) fn of(manifest: &Manifest, width: usize) -> Result<Self, Xr0Error> {
        let Some(representation) = manifest.action_representation else {
            return Ok(Self::Unknown);
        };
        let labelled = manifest.slots.iter().map(|label| label.slot);
        let (parts, anchors) = match representation {
            ActionRepresentation::JointAbsolute => return Ok(Self::Joints(labelled.collect())),
            ActionRepresentation::JointDelta => {
                let part = |slot| number(manifest, slot, true);
                (
                    labelled.clone().map(part).collect(),
                    labelled.map(|slot| (slot, slot)).collect(),
                )
            }
            ActionRepresentation::EefDelta | ActionRepresentation::StepDelta => {
                let Some(named) = by_name(manifest) else {
                    return Ok(Self::Unknown);
                };
                named
            }
        };
        let none = Tables {
            mean: &[],
            std: &[],
        };
        let codec = PrefixCodec::new(representation, Layout { width, parts }, none);
        let codec = codec.map_err(|error| Xr0Error::input(error.to_string()))?;
        Ok(Self::Seen(Box::new(Seen { codec, anchors })))
    }

    /// Gives the rows, not yet normalised, of absolute targets as they are seen from `state`.
    ///
    /// # Errors
    /// [`PolicyError::Decide`] for numbers that are no rows, or where the manifest does not say what
    /// they count from.
    pub(super) fn relative(
        &self,
        absolute: &[f32],
        state: &[f32],
    ) -> Result<Vec<f32>, PolicyError> {
        match self {
            Self::Joints(_) => Ok(absolute.to_vec()),
            Self::Seen(seen) => {
                let rows = seen.codec.relative(absolute, &seen.anchor(state));
                rows.map_err(decide)
            }
            Self::Unknown => Err(PolicyError::Decide(
                "the manifest does not say what a row counts from: name the state's quantities as \
                 those of the actions (eef_x to eef_rz)"
                    .to_owned(),
            )),
        }
    }

    /// Gives the absolute targets of decoded rows; 0 in slots that nobody names. `None` where the
    /// manifest does not say what they count from.
    ///
    /// # Errors
    /// [`PolicyError::Decide`] for numbers that are no rows.
    pub(super) fn absolute(
        &self,
        decoded: &[f32],
        (state, width): (&[f32], usize),
    ) -> Result<Option<Vec<f32>>, PolicyError> {
        match self {
            Self::Joints(slots) => {
                let in_slot = |(at, value): (usize, &f32)| {
                    let used = at
                        .checked_rem(width)
                        .is_some_and(|slot| slots.contains(&slot));
                    if used { *value } else { 0.0 }
                };
                Ok(Some(decoded.iter().enumerate().map(in_slot).collect()))
            }
            Self::Seen(seen) => {
                let rows = seen.codec.absolute(decoded, &seen.anchor(state));
                rows.map(Some).map_err(decide)
            }
            Self::Unknown => Ok(None),
        }
    }
}

impl Seen {
    /// The state in the rows' slots.
    fn anchor(&self, state: &[f32]) -> Vec<f32> {
        let mut anchor = vec![0.0; self.codec.layout().width];
        for (slot, from) in &self.anchors {
            if let (Some(place), Some(value)) = (anchor.get_mut(*slot), state.get(*from)) {
                *place = *value;
            }
        }
        anchor
    }
}

fn decide(error: CodecError) -> PolicyError {
    PolicyError::Decide(error.to_string())
}

/// A number of a row that is no part of a pose. Only what counts from the state is a joint.
fn number(manifest: &Manifest, slot: usize, counts: bool) -> Part {
    if !counts || manifest.grippers.iter().any(|gripper| gripper.slot == slot) {
        return Part::Gripper { slot, delta: false };
    }
    Part::Joint { slot }
}

/// Parts of a row, and which number of the state each number counts from.
type Named = (Vec<Part>, Vec<(usize, usize)>);

/// Parts and anchors of rows whose numbers have names; `None` without a tool whose pose the state
/// holds too.
fn by_name(manifest: &Manifest) -> Option<Named> {
    let (mut parts, mut anchors, mut posed) = (Vec::new(), Vec::new(), Vec::new());
    for stem in manifest.actions.iter().filter_map(|action| stem(action)) {
        let pose = |quantities| Some((axes(quantities, stem, "")?, axes(quantities, stem, "r")?));
        let (ours, theirs) = (pose(&manifest.actions)?, pose(&manifest.state)?);
        parts.push(Part::Tool {
            position: ours.0,
            rotation: ours.1,
        });
        for axis in 0..AXES.len() {
            anchors.push((ours.0 + axis, theirs.0 + axis));
            anchors.push((ours.1 + axis, theirs.1 + axis));
            posed.extend([ours.0 + axis, ours.1 + axis]);
        }
    }
    if posed.is_empty() {
        return None;
    }
    for action in manifest
        .actions
        .iter()
        .filter(|action| !posed.contains(&action.slot))
    {
        let from = slot_of(&manifest.state, action.name.as_str());
        parts.push(number(manifest, action.slot, from.is_some()));
        anchors.extend(from.map(|from| (action.slot, from)));
    }
    Some((parts, anchors))
}

/// The name up to its axis, if it is that of a tool's first one.
fn stem(action: &Quantity) -> Option<&str> {
    let stem = action.name.as_str().strip_suffix('x')?;
    let (before, end) = stem.split_at_checked(stem.len().checked_sub("eef_".len())?)?;
    let whole = before.is_empty() || before.ends_with('_');
    (end == "eef_" && whole).then_some(stem)
}

/// The first of three slots in a row: those of a tool's position, or of its rotation vector.
fn axes(quantities: &[Quantity], stem: &str, kind: &str) -> Option<usize> {
    let slot = |axis: &&str| slot_of(quantities, &format!("{stem}{kind}{axis}"));
    let slots = AXES.iter().map(slot).collect::<Option<Vec<_>>>()?;
    let first = *slots.first()?;
    slots
        .iter()
        .copied()
        .eq(first..first + AXES.len())
        .then_some(first)
}

fn slot_of(quantities: &[Quantity], name: &str) -> Option<usize> {
    let found = quantities
        .iter()
        .find(|quantity| quantity.name.as_str() == name);
    found.map(|quantity| quantity.slot)
}
