//! Whether a motion can be reached from another within one servo period, inside velocity,
//! acceleration and jerk.
//!
//! The robot sees positions. Their differences over one, two and three periods are weighted means
//! of the velocity, the acceleration and the jerk in between; what is proven here about each single
//! period bounds those means over any sequence of periods:
//!
//! | of the positions | is bounded by |
//! |---|---|
//! | first difference | itself |
//! | second difference | the two halves of its weight, one in each of two periods: `q' − q − v·dt` and `v'·dt − (q' − q)`, each at most `a·dt²/2` |
//! | third difference | one course of jerk `u`, `abs(u) ≤ j`, that explains `q'`, `v'` and `a'` at once |
//!
//! Three bounds on `q'`, `v'` and `a'` alone would not do: independent of each other, they let the
//! third difference grow to 8/3 of the limit.

use crate::envelope::{Limits, Motion};
use crate::stop::coasting_velocity;

/// Relative tolerance of each bound: far above the rounding of a handful of operations, and a
/// billionth of a limit is below what any robot resolves.
const TOLERANCE: f64 = 1e-9;

/// Units in the last place by which a position may be rounded, here and where it was planned: some
/// tens of operations on numbers not larger than the terms that `magnitude` sums up.
const ROUNDED_ULPS: f64 = 64.0;

/// Whether `to` can be reached from `from` in `dt_s` seconds, and passed without exceeding the
/// speed limit later: a stop takes the acceleration to zero first, which still adds to the speed.
pub(crate) fn within(limits: &Limits, from: &Motion, to: &Motion, dt_s: f64) -> bool {
    let noise = ROUNDED_ULPS * f64::EPSILON * (magnitude(from, dt_s) + magnitude(to, dt_s));
    let speed_max = limits.speed_max * (1.0 + TOLERANCE);
    let half_bend = limits.acceleration_max * (1.0 + TOLERANCE) * dt_s * dt_s / 2.0 + noise;
    let moved = to.position - from.position;
    to.velocity.abs() <= speed_max
        && coasting_velocity(limits, to).abs() <= speed_max
        && moved.abs() <= speed_max * dt_s + noise
        && to.acceleration.abs() <= limits.acceleration_max * (1.0 + TOLERANCE)
        && (moved - from.velocity * dt_s).abs() <= half_bend
        && (to.velocity * dt_s - moved).abs() <= half_bend
        && one_course_of_jerk(limits, (from, to), (dt_s, noise))
}

/// The largest term of a position's Taylor expansion, and more.
fn magnitude(motion: &Motion, dt_s: f64) -> f64 {
    motion.position.abs() + dt_s * (motion.velocity.abs() + dt_s * motion.acceleration.abs())
}

/// Whether some course of jerk, never above the limit, explains position, velocity and acceleration
/// at once.
///
/// With time left `x` in `[0, 1]` and `u = jerk / limit`, the changes of acceleration, velocity and
/// position are the moments `∫u`, `∫x·u`, `∫x²·u`. The moments of functions bounded by one are a
/// convex body whose surface has `u` at ±1 with at most two changes of sign (Krein and Nudelman,
/// The Markov Moment Problem, 1977, for the system 1, x, x²): for given first two moments, the
/// third is largest with `u = −1` on one interval within and `+1` around it, and smallest for the
/// mirror image.
fn one_course_of_jerk(
    limits: &Limits,
    (from, to): (&Motion, &Motion),
    (dt_s, noise): (f64, f64),
) -> bool {
    // Near the largest jerk over a whole period the body ends in an edge, where rounding of the
    // third moment counts sixteenfold; see `edge` in the tests.
    let cube = limits.jerk_max * dt_s * dt_s * dt_s;
    let jerk = limits.jerk_max * (1.0 + TOLERANCE + 32.0 * noise / cube);
    let change = [
        (to.acceleration - from.acceleration) / (jerk * dt_s),
        (to.velocity - from.velocity - from.acceleration * dt_s) / (jerk * dt_s * dt_s),
        (to.position - from.position - dt_s * (from.velocity + dt_s * from.acceleration / 2.0))
            * 2.0
            / (jerk * dt_s * dt_s * dt_s),
    ];
    let mirrored = change.map(|moment| -moment);
    jerk.is_finite() && largest_third(change) && largest_third(mirrored)
}

/// Whether the third moment is at most the largest which the first two allow, and these are moments
/// at all.
fn largest_third([first, second, third]: [f64; 3]) -> bool {
    // The interval on which `u` is −1: its width and its middle.
    let width = (1.0 - first) / 2.0;
    let middle = (0.5 - second) / (2.0 * width);
    let fits = width / 2.0 <= middle && middle <= 1.0 - width / 2.0;
    fits && third <= 1.0 / 3.0 - 2.0 * width * middle * middle - width * width * width / 6.0
}

#[cfg(test)]
mod tests;
