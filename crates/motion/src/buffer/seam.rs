//! Where a late chunk meets what is played (reference A.6, M3a).

use vlad_wire::msg::think::Chunk;
use vlad_wire::robot_type::{HORIZON_MAX, SlotMap};

/// Steps below it are standing still, radians or metres: a chunk that stays where it is must not
/// make every difference look like a jump.
pub const STILL_STEP: f64 = 1e-3;

/// A switch from one chunk to another at one tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seam {
    /// Distance between both chunks' targets for that tick, over all degrees of freedom.
    pub jump: f64,
    /// The new chunk's own large step: the 95th percentile of the distances between its rows.
    pub step: f64,
}

impl Seam {
    /// The jump in large steps.
    pub fn ratio(self) -> f64 {
        self.jump / self.step.max(STILL_STEP)
    }
}

/// Gives the Euclidean distance of two rows of targets.
pub fn distance(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    a.zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Gives the 95th percentile (nearest rank) of the distances between consecutive rows of a chunk;
/// 0 for a chunk of one row. Takes no memory: it runs on the servo thread.
pub fn large_step(chunk: &Chunk, slots: &SlotMap) -> f64 {
    let mut steps = [0.0_f64; HORIZON_MAX];
    let mut n_steps = 0;
    for (at, step) in steps.iter_mut().enumerate() {
        let (Some(row), Some(next)) = (chunk.row(at), chunk.row(at + 1)) else {
            break;
        };
        *step = distance(slots.to_dofs(row), slots.to_dofs(next));
        n_steps = at + 1;
    }
    let Some(steps) = steps.get_mut(..n_steps) else {
        return 0.0;
    };
    steps.sort_unstable_by(f64::total_cmp);
    let rank = (n_steps * 95).div_ceil(100);
    steps.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
