//! The plan that the brain's half hands to the action expert's half: moves for each arm.
//!
//! As a context part: `f32`, shape `(moves, 8)`, rows of arm, kind, x, y, z, yaw, gripper opening,
//! seconds. Arms are indices of the robot's description, lengths metres, angles radians.

use bytes::{BufMut, Bytes, BytesMut};
use vlad_safety::kinematics::Vec3;
use vlad_wire::msg::think::ContextPart;
use vlad_wire::text::TextError;

use crate::policy::handover;

/// Numbers of a move.
const WIDTH: usize = 8;
/// Longest plan: two arms, and a dozen moves each.
const MOVES_MAX: usize = 32;

/// What an arm does next. All end at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The tool goes to a place, joints straight.
    Reach,
    /// The tool goes to a place, the tool straight.
    Line,
    /// The arm stands, the gripper goes to its opening.
    Grip,
    /// The arm goes to its home pose.
    Home,
}

/// One move of one arm; the tool points straight down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Move {
    pub(super) arm_idx: usize,
    pub(super) kind: Kind,
    /// Of [`Kind::Reach`] and [`Kind::Line`].
    pub(super) position_m: Vec3,
    /// Likewise.
    pub(super) yaw_rad: f64,
    /// Opening at its end, metres.
    pub(super) gripper_m: f64,
    /// Shortest duration, seconds.
    pub(super) seconds: f64,
}

const KINDS: [Kind; 4] = [Kind::Reach, Kind::Line, Kind::Grip, Kind::Home];

/// Packs a plan.
///
/// # Errors
/// None in fact: the part's name is a name.
pub(super) fn pack(request_id: u64, moves: &[Move]) -> Result<ContextPart, TextError> {
    let mut data = BytesMut::with_capacity(moves.len() * WIDTH * 4);
    for each in moves {
        let kind = KINDS.iter().position(|kind| *kind == each.kind);
        data.put_f32_le(each.arm_idx as f32);
        data.put_f32_le(kind.unwrap_or(0) as f32);
        let [x, y, z] = each.position_m;
        for value in [x, y, z, each.yaw_rad, each.gripper_m, each.seconds] {
            data.put_f32_le(value as f32);
        }
    }
    let shape = vec![moves.len() as u32, WIDTH as u32];
    handover::part(request_id, shape, data.freeze())
}

/// Reads a plan of an arm count, or says what does not fit.
pub(super) fn unpack(part: &ContextPart, n_arms: usize) -> Result<Vec<Move>, String> {
    let fits = |shape: &[u32]| matches!(shape, [n, width] if *n as usize <= MOVES_MAX && *width as usize == WIDTH);
    let data = handover::data(part, fits)
        .ok_or_else(|| format!("part {} is no plan of the policy scripted", part.head.index))?;
    let rows = data.chunks_exact(WIDTH * 4);
    rows.map(|row| read(row, n_arms)).collect()
}

fn read(row: &[u8], n_arms: usize) -> Result<Move, String> {
    let mut row = Bytes::copy_from_slice(row);
    let mut values = [0.0; WIDTH];
    for value in &mut values {
        *value = f64::from(bytes::Buf::get_f32_le(&mut row));
    }
    let [arm, kind, x, y, z, yaw_rad, gripper_m, seconds] = values;
    let kind = KINDS.get(kind as usize).copied();
    let finite = values.iter().all(|value| value.is_finite());
    match kind {
        Some(kind) if finite && 0.0 <= arm && (arm as usize) < n_arms => Ok(Move {
            arm_idx: arm as usize,
            kind,
            position_m: [x, y, z],
            yaw_rad,
            gripper_m,
            seconds: seconds.clamp(0.0, 10.0),
        }),
        _ => Err("a plan holds a move that is none".to_owned()),
    }
}
