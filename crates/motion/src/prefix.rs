//! The prefix codec: accepted absolute targets → relative to the new observation → normalised at
//! their new index, and back.
//!
//! A policy's row k means "k ticks after *this* observation, seen from *this* state". So a target
//! that an older chunk gave is not copied: it is made absolute, seen from the new state, and scaled
//! by the table row of its new index (reference A.4). Copied numbers would be wrong twice.
//!
//! | representation | a row holds |
//! |---|---|
//! | `joint_absolute` | joint positions |
//! | `joint_delta` | joint positions minus the observation's |
//! | `eef_delta` | position `Rᵀ(p* − p)` and rotation `Log(Rᵀ R*)` in the observation's tool frame; joints, where there are any, as `joint_delta` |
//! | `step_delta` | each row minus the row before it, in the base's axes: `p* − p`, `Log(R* Rᵀ)`, `q* − q` |
//!
//! Absolute rows and the state have the layout of the policy's rows: a tool's position in three
//! slots and its orientation as a rotation vector in three.

use vlad_wire::id::Tick;
use vlad_wire::manifest::ActionRepresentation;

use rotation::{Quaternion, Vector};

pub mod history;
pub mod rotation;

/// What the slots of a row hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A joint.
    Joint {
        /// Its slot.
        slot: usize,
    },
    /// A gripper.
    Gripper {
        /// Its slot.
        slot: usize,
        /// Whether the number is a difference, as a joint's; else it is what is commanded, in every
        /// representation. Checkpoints differ in it.
        delta: bool,
    },
    /// A tool: position and orientation belong together, for one is seen from the other.
    Tool {
        /// First of the position's three slots, metres.
        position: usize,
        /// First of the rotation vector's three slots, radians.
        rotation: usize,
    },
}

/// Where everything stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Slots of a row.
    pub width: usize,
    /// What they hold; slots that nobody names are 0.
    pub parts: Vec<Part>,
}

/// Mean and deviation by row and slot.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// `(horizon, width)` means, row-major.
    pub mean: &'a [f32],
    /// `(horizon, width)` deviations, row-major.
    pub std: &'a [f32],
}

/// Added to a deviation, in both directions (XR-0's training code, `io.py`).
const EPSILON: f32 = 1e-6;
/// A deviation up to it marks a slot that the robot type does not use (XR-0's action mask).
const UNUSED_STD: f32 = 1e-5;
/// A deviation below it in a slot that is used blows the number up: a millionth of a radian of
/// difference would be a hundredth of a deviation.
const STD_MIN: f32 = 1e-4;

/// Why a codec cannot be made or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A slot beyond the row.
    #[error("slot {slot} lies beyond the {width} slots of a row")]
    Beyond {
        /// The slot.
        slot: usize,
        /// Slots of a row.
        width: usize,
    },
    /// Two things in one slot.
    #[error("slot {slot} is named twice")]
    Twice {
        /// The slot.
        slot: usize,
    },
    /// A tool where rows are joints.
    #[error("a row of joints has no tool")]
    ToolOfJoints,
    /// Tables that are no whole rows of the layout's width, or of different lengths.
    #[error("mean has {mean} and std {std} numbers, neither or both must be rows of {width}")]
    Tables {
        /// Length of the means.
        mean: usize,
        /// Length of the deviations.
        std: usize,
        /// Slots of a row.
        width: usize,
    },
    /// A deviation that is too small to divide by.
    #[error("the deviation in row {row}, slot {slot} is too small to divide by")]
    Flat {
        /// Row of the table.
        row: usize,
        /// Slot.
        slot: usize,
    },
    /// Numbers that are no rows of the layout, or more rows than the tables have.
    #[error("{numbers} numbers are no whole rows of {width} slots, or more rows than the tables")]
    Rows {
        /// How many numbers came.
        numbers: usize,
        /// Slots of a row.
        width: usize,
    },
    /// A number that is not finite.
    #[error("a number is not finite")]
    NotFinite,
}

/// Translates rows of one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefixCodec {
    representation: ActionRepresentation,
    layout: Layout,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl PrefixCodec {
    /// Checks and takes layout and tables; empty tables leave numbers as they are.
    ///
    /// # Errors
    /// [`CodecError`] with the first thing that does not fit.
    pub fn new(
        representation: ActionRepresentation,
        layout: Layout,
        tables: Tables<'_>,
    ) -> Result<Self, CodecError> {
        check_layout(representation, &layout)?;
        check_tables(&layout, tables)?;
        Ok(Self {
            representation,
            layout,
            mean: tables.mean.to_vec(),
            std: tables.std.to_vec(),
        })
    }

    /// Gives the normalised rows of absolute targets, seen from `state`: both in the layout's
    /// slots, row-major, row 0 for the new chunk's first tick.
    ///
    /// # Errors
    /// [`CodecError::Rows`] or [`CodecError::NotFinite`].
    pub fn encode(&self, absolute: &[f32], state: &[f32]) -> Result<Vec<f32>, CodecError> {
        let mut relative = self.relative(absolute, state)?;
        for (number, table) in relative.iter_mut().zip(self.table()) {
            *number = table.map_or(*number, |(mean, std)| normalise(*number, mean, std));
        }
        Ok(relative)
    }

    /// Gives the absolute targets of normalised rows: [`PrefixCodec::encode`] the other way round.
    ///
    /// # Errors
    /// As [`PrefixCodec::encode`].
    pub fn decode(&self, normalised: &[f32], state: &[f32]) -> Result<Vec<f32>, CodecError> {
        self.check_rows(normalised, state)?;
        let physical = normalised.iter().zip(self.table());
        let physical = physical.map(|(number, table)| {
            table.map_or(*number, |(mean, std)| denormalise(*number, mean, std))
        });
        self.absolute(&physical.collect::<Vec<_>>(), state)
    }

    /// Gives rows in the policy's representation, before they are normalised, of absolute targets.
    ///
    /// # Errors
    /// As [`PrefixCodec::encode`].
    pub fn relative(&self, absolute: &[f32], state: &[f32]) -> Result<Vec<f32>, CodecError> {
        self.each_row(absolute, state, |parts, row, anchor, out| {
            for part in &parts.layout.parts {
                parts.part_to_relative(*part, row, anchor, out);
            }
            // Steps are from row to row; everything else is seen from the observation.
            parts.steps().then(|| row.to_vec())
        })
    }

    /// Gives the absolute targets of rows in the policy's representation.
    ///
    /// # Errors
    /// As [`PrefixCodec::encode`].
    pub fn absolute(&self, relative: &[f32], state: &[f32]) -> Result<Vec<f32>, CodecError> {
        self.each_row(relative, state, |parts, row, anchor, out| {
            for part in &parts.layout.parts {
                parts.part_to_absolute(*part, row, anchor, out);
            }
            parts.steps().then(|| out.to_vec())
        })
    }

    /// Rows that the tables have; `None` without tables.
    pub fn rows_max(&self) -> Option<usize> {
        let rows = self.mean.len().checked_div(self.layout.width);
        rows.filter(|rows| 0 < *rows)
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Translates row by row; `each` may give the anchor of the next row.
    fn each_row(
        &self,
        rows: &[f32],
        state: &[f32],
        each: impl Fn(&Self, &[f64], &[f64], &mut [f64]) -> Option<Vec<f64>>,
    ) -> Result<Vec<f32>, CodecError> {
        self.check_rows(rows, state)?;
        let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let mut anchor = wide(state);
        let mut translated = Vec::with_capacity(rows.len());
        for row in rows.chunks(self.layout.width) {
            let mut out = vec![0.0; self.layout.width];
            if let Some(next) = each(self, &wide(row), &anchor, &mut out) {
                anchor = next;
            }
            translated.extend(out.iter().map(|x| narrow(*x)));
        }
        Ok(translated)
    }

    fn check_rows(&self, rows: &[f32], state: &[f32]) -> Result<(), CodecError> {
        let width = self.layout.width;
        let whole = rows.len().is_multiple_of(width) && state.len() == width;
        if !whole || (!self.mean.is_empty() && self.mean.len() < rows.len()) {
            let numbers = rows.len();
            return Err(CodecError::Rows { numbers, width });
        }
        let finite = rows.iter().chain(state).all(|number| number.is_finite());
        if finite {
            Ok(())
        } else {
            Err(CodecError::NotFinite)
        }
    }

    /// Mean and deviation of each number, for ever.
    fn table(&self) -> impl Iterator<Item = Option<(f32, f32)>> + '_ {
        let tables = self.mean.iter().zip(&self.std);
        tables
            .map(|(mean, std)| Some((*mean, *std)))
            .chain(std::iter::repeat(None))
    }

    fn steps(&self) -> bool {
        self.representation == ActionRepresentation::StepDelta
    }

    fn part_to_relative(&self, part: Part, row: &[f64], anchor: &[f64], out: &mut [f64]) {
        match part {
            Part::Joint { slot } | Part::Gripper { slot, .. } => {
                let before = self.base(part, anchor, slot);
                put(out, slot, get(row, slot) - before);
            }
            Part::Tool { position, rotation } => {
                let moved = Vector::read(row, position) - Vector::read(anchor, position);
                let from = Quaternion::of_vector(Vector::read(anchor, rotation));
                let to = Quaternion::of_vector(Vector::read(row, rotation));
                let (moved, turned) = if self.steps() {
                    (moved, to * from.conjugate())
                } else {
                    (from.conjugate().rotate(moved), from.conjugate() * to)
                };
                moved.write(out, position);
                turned.to_vector().write(out, rotation);
            }
        }
    }

    fn part_to_absolute(&self, part: Part, row: &[f64], anchor: &[f64], out: &mut [f64]) {
        match part {
            Part::Joint { slot } | Part::Gripper { slot, .. } => {
                let before = self.base(part, anchor, slot);
                put(out, slot, before + get(row, slot));
            }
            Part::Tool { position, rotation } => {
                let at = Vector::read(anchor, position);
                let from = Quaternion::of_vector(Vector::read(anchor, rotation));
                let (moved, turned) = (Vector::read(row, position), Vector::read(row, rotation));
                let turned = Quaternion::of_vector(turned);
                let (to, orientation) = if self.steps() {
                    (at + moved, turned * from)
                } else {
                    (at + from.rotate(moved), from * turned)
                };
                to.write(out, position);
                orientation.to_vector().write(out, rotation);
            }
        }
    }

    /// What a joint's or gripper's number counts from.
    fn base(&self, part: Part, anchor: &[f64], slot: usize) -> f64 {
        let absolute = match part {
            Part::Gripper { delta, .. } => !delta,
            Part::Joint { .. } | Part::Tool { .. } => {
                self.representation == ActionRepresentation::JointAbsolute
            }
        };
        if absolute { 0.0 } else { get(anchor, slot) }
    }
}

/// Says how many rows of a prefix that begins at `first` are needed so that a chunk which arrives
/// in tick `arrival` still begins within it: one more than the ticks that are over by then.
pub fn rows_to_cover(first: Tick, arrival: Tick) -> usize {
    let over = arrival.saturating_sub(first).saturating_add(1);
    usize::try_from(over).unwrap_or(0)
}

fn normalise(number: f32, mean: f32, std: f32) -> f32 {
    if UNUSED_STD < std {
        (number - mean) / (std + EPSILON)
    } else {
        0.0
    }
}

fn denormalise(number: f32, mean: f32, std: f32) -> f32 {
    if UNUSED_STD < std {
        number * (std + EPSILON) + mean
    } else {
        0.0
    }
}

fn get(row: &[f64], slot: usize) -> f64 {
    row.get(slot).copied().unwrap_or(f64::NAN)
}

fn put(row: &mut [f64], slot: usize, value: f64) {
    if let Some(place) = row.get_mut(slot) {
        *place = value;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "models read f32"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn slots(part: Part) -> impl Iterator<Item = usize> {
    let (first, second) = match part {
        Part::Joint { slot } | Part::Gripper { slot, .. } => (slot..slot + 1, 0..0),
        Part::Tool { position, rotation } => (position..position + 3, rotation..rotation + 3),
    };
    first.chain(second)
}

fn check_layout(representation: ActionRepresentation, layout: &Layout) -> Result<(), CodecError> {
    let width = layout.width;
    let mut used = vec![false; width];
    for part in &layout.parts {
        let of_joints = matches!(
            representation,
            ActionRepresentation::JointAbsolute | ActionRepresentation::JointDelta
        );
        if of_joints && matches!(part, Part::Tool { .. }) {
            return Err(CodecError::ToolOfJoints);
        }
        for slot in slots(*part) {
            let place = used.get_mut(slot);
            let place = place.ok_or(CodecError::Beyond { slot, width })?;
            if std::mem::replace(place, true) {
                return Err(CodecError::Twice { slot });
            }
        }
    }
    if width == 0 {
        return Err(CodecError::Beyond { slot: 0, width });
    }
    Ok(())
}

fn check_tables(layout: &Layout, tables: Tables<'_>) -> Result<(), CodecError> {
    let (width, mean, std) = (layout.width, tables.mean.len(), tables.std.len());
    if mean != std || !mean.is_multiple_of(width) {
        return Err(CodecError::Tables { mean, std, width });
    }
    let numbers = tables.mean.iter().chain(tables.std);
    if !numbers.into_iter().all(|number| number.is_finite()) {
        return Err(CodecError::NotFinite);
    }
    for (row, deviations) in tables.std.chunks(width).enumerate() {
        for slot in layout.parts.iter().flat_map(|part| slots(*part)) {
            if deviations.get(slot).is_some_and(|std| *std < STD_MIN) {
                return Err(CodecError::Flat { row, slot });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
