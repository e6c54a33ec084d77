//! The path from a target to a motor: position and velocity clamps, and the stop.
//!
//! Position first, speed last: an arm that is found outside its limits walks back, it does not
//! jump. All functions are total; a number that is not finite becomes "stay where you are".

/// Limits of one degree of freedom; radians for joints, metres for grippers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Smallest position.
    pub min: f64,
    /// Largest position.
    pub max: f64,
    /// Largest speed, per second.
    pub speed_max: f64,
    /// Deceleration of a stop, per second squared.
    pub deceleration: f64,
}

/// What [`admit`] had to change; bits of `executed.flags`.
pub mod flag {
    /// A position lay outside its limits.
    pub const POSITION_CLAMPED: u32 = 1;
    /// A step exceeded the speed limit.
    pub const SPEED_CLAMPED: u32 = 1 << 1;
    /// A target was not finite.
    pub const NOT_FINITE: u32 = 1 << 2;
    /// The command came from the stop, not from a chunk.
    pub const STOP: u32 = 1 << 3;
    /// The servo tick began late by more than a period.
    pub const LATE: u32 = 1 << 4;
}

/// Gives the position that one motor is told, and which [`flag`]s apply.
///
/// `last` is the command before, `dt_s` the servo period. The result lies within `speed_max * dt_s`
/// of `last`, and within the position limits if `last` does. Where no such reach can be computed
/// (`last` or the reach is not finite, or the reach is negative) the result is `last` itself.
pub fn admit(limits: &Limits, last: f64, target: f64, dt_s: f64) -> (f64, u32) {
    let reach = limits.speed_max * dt_s;
    if !(last.is_finite() && reach.is_finite() && 0.0 <= reach) {
        return (last, flag::NOT_FINITE);
    }
    let mut flags = 0;
    let wanted = if target.is_finite() {
        target
    } else {
        flags |= flag::NOT_FINITE;
        last
    };
    let inside = wanted.clamp(limits.min, limits.max);
    if inside < wanted || wanted < inside {
        flags |= flag::POSITION_CLAMPED;
    }
    let command = inside.clamp(last - reach, last + reach);
    if command < inside || inside < command {
        flags |= flag::SPEED_CLAMPED;
    }
    (command, flags)
}

/// Gives the speed after one servo period of braking at the limits' deceleration: never faster than
/// `speed`, never beyond standstill.
pub fn brake(limits: &Limits, speed: f64, dt_s: f64) -> f64 {
    if !speed.is_finite() {
        return 0.0;
    }
    let slower = (speed.abs() - limits.deceleration * dt_s)
        .max(0.0)
        .min(speed.abs());
    slower.copysign(speed)
}

#[cfg(test)]
mod tests;
