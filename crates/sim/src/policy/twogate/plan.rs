//! The two plans that a demonstrator would choose from, and the context part that carries them.
//!
//! As a context part: `plan`, `f32`, shape `(2, 61)`; of each mode its weight, then x and y of its 30
//! actions, normalised.

use bytes::{Buf, BufMut, BytesMut};
use vlad_wire::msg::think::ContextPart;
use vlad_wire::text::TextError;

use super::{HORIZON, Row, WIDTH};
use crate::policy::handover;
use crate::twogate::{FIRST_GATE_M, GOAL_X_M, SECOND_GATE_M, TICK_S};

/// Speed along x, metres per second.
const SPEED_M_S: f64 = 0.45;
/// How far beside a gate's middle a plan passes, metres: twice the gate's radius.
const BESIDE_M: f64 = 0.14;
/// Width of the bend around a gate, metres.
const BEND_M: f64 = 0.16;
/// Distance along x within which a plan from elsewhere joins the ideal one, metres.
const JOIN_M: f64 = 0.06;
/// A gate counts as passed this far behind its middle, metres.
const PASSED_M: f64 = 0.05;
/// Between these two x both ways past the second gate are open; before, the demonstrator has not
/// chosen yet, metres.
const CHOOSES_FROM_M: f64 = 0.7;
/// Up to this x behind the second gate the bend's side is still remembered, metres.
const BENT_UNTIL_M: f64 = 1.25;
/// Offset at which a demonstrator prefers the nearer side by e to 1, metres.
const PREFERENCE_M: f64 = 0.02;
/// Metres of one unit of a normalised action.
pub(super) const SCALE_M: f64 = 0.05;
/// Numbers of a mode in the part.
const MODE_LEN: usize = 1 + HORIZON * WIDTH;

/// Actions of one chunk.
pub(super) type Rows = [Row; HORIZON];

/// Two plans and how likely each is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mixture {
    /// Sum 1; never 0, so that its logarithm is finite.
    pub(super) weights: [f64; 2],
    /// Normalised actions.
    pub(super) means: [Rows; 2],
}

/// The plan from a point to the goal, past the first and second gate on the given sides (1, −1 or 0
/// for straight on), metres.
pub(super) fn plan([x0, y0]: Row, goal_y_m: f64, sides: [f64; 2]) -> Rows {
    let bump = |x: f64, gate_x: f64| (-((x - gate_x) / BEND_M).powi(2)).exp();
    let profile = |x: f64| {
        let bends = sides[0] * BESIDE_M * bump(x, FIRST_GATE_M[0])
            + sides[1] * BESIDE_M * bump(x, SECOND_GATE_M[0]);
        let rise = ((x - 1.15) / 0.35).clamp(0.0, 1.0);
        bends + goal_y_m * (rise * rise * (3.0 - 2.0 * rise))
    };
    let off_m = y0 - profile(x0);
    std::array::from_fn(|row| {
        let x = (x0 + SPEED_M_S * TICK_S * (row as f64 + 1.0)).min(GOAL_X_M);
        [x, profile(x) + off_m * (-(x - x0) / JOIN_M).exp()]
    })
}

/// The plans of a demonstrator who sees the point at `p` and the goal's height, and how likely it
/// takes each.
pub(super) fn mixture(p: Row, goal_y_m: f64) -> Mixture {
    let [x, y] = p;
    let nearer = 1.0 / (1.0 + (-y / PREFERENCE_M).exp());
    let side = if y == 0.0 { 0.0 } else { y.signum() };
    let (sides, left) = if x < FIRST_GATE_M[0] + PASSED_M {
        ([[1.0, 0.0], [-1.0, 0.0]], nearer)
    } else if x < SECOND_GATE_M[0] + PASSED_M {
        let bent = if x < CHOOSES_FROM_M { side } else { 0.0 };
        let left = if CHOOSES_FROM_M < x { nearer } else { 0.5 };
        ([[bent, 1.0], [bent, -1.0]], left)
    } else {
        let bent = if x < BENT_UNTIL_M { side } else { 0.0 };
        ([[0.0, bent]; 2], 0.5)
    };
    let weights = [left, 1.0 - left].map(|weight| weight.clamp(1e-6, 1.0));
    let sum: f64 = weights.iter().sum();
    let normalised = |rows: Rows| rows.map(|[a, b]| [(a - x) / SCALE_M, (b - y) / SCALE_M]);
    Mixture {
        weights: weights.map(|weight| weight / sum),
        means: sides.map(|sides| normalised(plan(p, goal_y_m, sides))),
    }
}

/// Packs a mixture.
///
/// # Errors
/// None in fact: the part's name is a name.
pub(super) fn pack(request_id: u64, mixture: &Mixture) -> Result<ContextPart, TextError> {
    let mut data = BytesMut::with_capacity(2 * MODE_LEN * 4);
    for (weight, means) in mixture.weights.iter().zip(&mixture.means) {
        data.put_f32_le(*weight as f32);
        for value in means.iter().flatten() {
            data.put_f32_le(*value as f32);
        }
    }
    let shape = vec![2, MODE_LEN as u32];
    handover::part(request_id, shape, data.freeze())
}

/// Reads a mixture, or says what does not fit.
pub(super) fn unpack(part: &ContextPart) -> Result<Mixture, String> {
    let data = handover::data(part, |shape| shape == [2, MODE_LEN as u32])
        .ok_or_else(|| format!("part {} is no plan of the policy twogate", part.head.index))?;
    let mut data = data.clone();
    let mut next = || f64::from(data.get_f32_le());
    let mut mixture = Mixture {
        weights: [0.0; 2],
        means: [[[0.0; WIDTH]; HORIZON]; 2],
    };
    for mode in 0..2 {
        mixture.weights[mode] = next();
        for value in mixture.means[mode].iter_mut().flatten() {
            *value = next();
        }
    }
    let likely = mixture.weights.iter().all(|w| 0.0 < *w && *w <= 1.0);
    let finite = |rows: &Rows| rows.iter().flatten().all(|x| x.is_finite());
    if likely && mixture.means.iter().all(finite) {
        Ok(mixture)
    } else {
        Err("a plan holds a weight or an action that is none".to_owned())
    }
}
