//! What a gripper may be told beyond its limits (reference E10): no flutter, no crushing.

/// Reversals of direction that a gripper may make within a second.
pub const FLIPS_MAX: usize = 4;

/// Lets a gripper's target through, but for reversals beyond [`FLIPS_MAX`] a second: those freeze
/// the target where it is until an older reversal is a second old.
///
/// Movements back by less than a stroke are no reversals: they are how a policy's output trembles.
#[derive(Debug, Clone)]
pub struct FlipFilter {
    /// Smallest movement back that counts, metres.
    stroke: f64,
    /// Ticks that are a second.
    second: u64,
    /// Ticks of the last reversals, oldest first.
    flips: [Option<u64>; FLIPS_MAX],
    direction: Direction,
    /// The farthest target since the last reversal.
    farthest: f64,
    /// The last target that was let through.
    admitted: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Direction {
    Opening,
    Closing,
}

impl FlipFilter {
    /// Makes a filter for a gripper at `position` (metres of opening), with the smallest `stroke`
    /// that counts as a movement, and the `second` in the ticks that [`admit`](Self::admit) gets.
    pub fn new(position: f64, stroke: f64, second: u64) -> Self {
        Self {
            stroke,
            second,
            flips: [None; FLIPS_MAX],
            direction: Direction::Opening,
            farthest: position,
            admitted: position,
        }
    }

    /// Gives the target that the gripper is told at tick `now` (never smaller than before) instead
    /// of `wanted`, metres: `wanted` itself, or the last target where that would be one reversal
    /// too many, or where `wanted` is not finite.
    pub fn admit(&mut self, now: u64, wanted: f64) -> f64 {
        if !wanted.is_finite() {
            return self.admitted;
        }
        let ahead = match self.direction {
            Direction::Opening => wanted - self.farthest,
            Direction::Closing => self.farthest - wanted,
        };
        if ahead < -self.stroke {
            if !self.may_flip(now) {
                return self.admitted;
            }
            self.direction = match self.direction {
                Direction::Opening => Direction::Closing,
                Direction::Closing => Direction::Opening,
            };
            self.farthest = wanted;
        } else if 0.0 < ahead {
            self.farthest = wanted;
        }
        self.admitted = wanted;
        wanted
    }

    /// Notes a reversal, if the oldest of the last ones is over.
    fn may_flip(&mut self, now: u64) -> bool {
        let [oldest, rest @ ..] = self.flips;
        if oldest.is_some_and(|then| now.saturating_sub(then) < self.second) {
            return false;
        }
        let [a, b, c] = rest;
        self.flips = [a, b, c, Some(now)];
        true
    }
}

/// Gives the opening that a gripper is told instead of `wanted`, metres: at most `squeeze_max`
/// narrower than what is `measured`, since a position loop pushes in proportion to that.
///
/// A measurement that is not finite bounds nothing: it is [`plausible`](crate::follow::plausible)'s
/// case, which stops the robot.
pub fn squeeze(wanted: f64, measured: f64, squeeze_max: f64) -> f64 {
    wanted.max(measured - squeeze_max)
}

#[cfg(test)]
mod tests;
