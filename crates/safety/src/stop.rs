//! The closed-form, time-optimal, jerk-limited stop of one degree of freedom.
//!
//! ```text
//!  acceleration   start ╲                       jerk −j until the deceleration is deep enough,
//!                        ╲           ╱ 0        at most acceleration_max, then held, then
//!                         ╲_________╱           jerk +j back to zero: velocity arrives with it
//! ```
//!
//! Source: reference B.4 (a velocity of zero, an acceleration of zero, position free); the general
//! start is the velocity interface of Berscheid and Kröger, Jerk-limited Real-time Trajectory
//! Generation with Arbitrary Target States (2021).

use crate::envelope::{Limits, Motion};

/// A span of time at constant jerk.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Phase {
    seconds: f64,
    jerk: f64,
}

/// A stop: where one degree of freedom is at each moment until it stands still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    start: Motion,
    phases: [Phase; 3],
    end: f64,
}

impl Stop {
    /// Gives the fastest stop from `start` under the jerk and acceleration limits.
    ///
    /// Total: limits that no stop can be computed from (zero, negative or not finite) and a start
    /// that is not finite give a stop that is over at once, at the start's position. The envelope
    /// lets nothing move under such limits.
    pub fn new(limits: &Limits, start: &Motion) -> Self {
        let (jerk, deceleration_max) = (limits.jerk_max.max(0.0), limits.acceleration_max.max(0.0));
        // Where the velocity would end if the acceleration went to zero at once: its sign is the
        // side from which standstill is reached. The other side is the mirror image.
        let coasting = coasting_velocity(limits, start);
        let side = 1.0_f64.copysign(coasting);
        let (velocity, acceleration) = (side * start.velocity, side * start.acceleration);
        let peak = (jerk * velocity + acceleration * acceleration / 2.0)
            .max(0.0)
            .sqrt()
            .min(deceleration_max);
        let deepen = (acceleration + peak) / jerk;
        let first = Phase {
            seconds: deepen.abs(),
            jerk: -jerk.copysign(deepen),
        };
        let left = velocity + (acceleration - peak) / 2.0 * first.seconds;
        let held_s = (left - peak * peak / (2.0 * jerk)) / deceleration_max;
        let phases = [
            first,
            Phase {
                seconds: held_s.max(0.0),
                jerk: 0.0,
            },
            Phase {
                seconds: peak / jerk,
                jerk,
            },
        ]
        .map(|phase| Phase {
            jerk: side * phase.jerk,
            ..phase
        });
        let end = phases
            .iter()
            .fold(*start, |motion, phase| {
                after(&motion, phase.jerk, phase.seconds)
            })
            .position;
        if end.is_finite() {
            Self {
                start: *start,
                phases,
                end,
            }
        } else {
            Self {
                start: Motion::at_rest(start.position),
                phases: [Phase::default(); 3],
                end: start.position,
            }
        }
    }

    /// Gives how long the stop takes, seconds.
    pub fn duration_s(&self) -> f64 {
        let [first, held, last] = self.phases;
        first.seconds + held.seconds + last.seconds
    }

    /// Gives the motion `t_s` seconds after the start: before zero the start, from the end on
    /// exactly at rest.
    pub fn at(&self, t_s: f64) -> Motion {
        let (mut motion, mut left_s) = (self.start, t_s);
        if left_s <= 0.0 {
            return motion;
        }
        for phase in self.phases {
            if left_s < phase.seconds {
                return after(&motion, phase.jerk, left_s);
            }
            motion = after(&motion, phase.jerk, phase.seconds);
            left_s -= phase.seconds;
        }
        Motion::at_rest(self.end)
    }

    /// Gives the smallest and the largest position on the way, turning point included.
    pub fn span(&self) -> (f64, f64) {
        let turn = self.turning_point();
        let (low, high) = (
            self.start.position.min(self.end),
            self.start.position.max(self.end),
        );
        (low.min(turn), high.max(turn))
    }

    /// Gives the position of standstill.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// The position where the velocity changes its sign, else one between start and end.
    ///
    /// The sign changes only while the first phase takes back an acceleration against the velocity
    /// which is too large to end at zero. Where the first phase is over before the moment that is
    /// computed here, the stop goes farther than that phase would have gone until then.
    fn turning_point(&self) -> f64 {
        let [Phase { jerk, .. }, ..] = self.phases;
        let Motion {
            position,
            velocity,
            acceleration,
        } = self.start;
        let root = (acceleration * acceleration - 2.0 * jerk * velocity).sqrt();
        let turn_s = -2.0 * velocity / (acceleration + root.copysign(acceleration));
        if 0.0 < turn_s {
            after(&self.start, jerk, turn_s).position
        } else {
            position
        }
    }
}

/// How long a stop takes and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Seconds until standstill.
    pub time_s: f64,
    /// Distance until standstill, radians or metres.
    pub distance: f64,
}

/// Gives the longest stop out of a `speed` while still accelerating by `acceleration` (reference
/// B.4, both not negative): margins computed from the speed alone would be too small.
pub fn worst_case(speed: f64, acceleration: f64, limits: &Limits) -> Prediction {
    let stop = Stop::new(
        limits,
        &Motion {
            position: 0.0,
            velocity: speed,
            acceleration,
        },
    );
    Prediction {
        time_s: stop.duration_s(),
        distance: stop.end(),
    }
}

/// Gives the velocity that remains when the acceleration is taken to zero at the largest jerk: the
/// extreme velocity of the stop where acceleration and velocity have one sign.
pub(crate) fn coasting_velocity(limits: &Limits, motion: &Motion) -> f64 {
    motion.velocity + motion.acceleration * motion.acceleration.abs() / (2.0 * limits.jerk_max)
}

fn after(motion: &Motion, jerk: f64, seconds: f64) -> Motion {
    let Motion {
        position,
        velocity,
        acceleration,
    } = *motion;
    Motion {
        position: position
            + seconds * (velocity + seconds * (acceleration / 2.0 + seconds * jerk / 6.0)),
        velocity: velocity + seconds * (acceleration + seconds * jerk / 2.0),
        acceleration: acceleration + seconds * jerk,
    }
}

#[cfg(test)]
mod tests;
