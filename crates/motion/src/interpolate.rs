//! From policy ticks to servo ticks, within velocity, acceleration and jerk.
//!
//! An action for tick n is reached at the end of tick n. Each tick's way starts at the motion that
//! was really commanded, so that a command that the envelope refused never makes a jump.
//!
//! | way | when |
//! |---|---|
//! | a polynomial of fifth degree through both ends' position, velocity and acceleration | its Bernstein coefficients, which bound it, lie inside all limits: a policy's smooth motion comes through as it is |
//! | the fastest way inside the limits, stretched to the tick (Ruckig: Berscheid and Kröger 2021) | the polynomial does not fit |
//! | the same to rest at the target | the target's velocity cannot be reached in a tick: the robot follows later, and does not shoot past |
//!
//! Velocity and acceleration at a target are the central differences of the targets around it; at
//! the last known target both are zero. Nothing here allocates after construction, except for the
//! text of an error of the generator, which its inputs, checked here, do not cause.

use std::cell::Cell;

use rsruckig::error::ThrowErrorHandler;
use rsruckig::input_parameter::InputParameter;
use rsruckig::ruckig::Ruckig;
use rsruckig::trajectory::Trajectory;
use rsruckig::util::DataArrayOrVec;
use vlad_safety::envelope::{Limits, Motion};

/// Share of each limit that is used here: the envelope checks against the whole, and rounding must
/// not decide.
const SHARE: f64 = 1.0 - 1e-6;
/// Share of the velocity limit that a target may be passed with, and of the acceleration that the
/// rest leaves room for.
const PASSING_SHARE: f64 = 0.95;

/// The targets around one policy tick, by degree of freedom.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'t> {
    /// Where the tick before should have ended.
    pub before: &'t [f64],
    /// Where this tick ends.
    pub target: &'t [f64],
    /// Where the next tick ends, where that is known.
    pub next: Option<&'t [f64]>,
}

/// The ways of all degrees of freedom through one policy tick.
#[derive(Debug, Clone)]
pub struct Interpolator {
    axes: Vec<Axis>,
}

#[derive(Debug, Clone)]
struct Axis {
    snaps: bool,
    limits: Limits,
    way: Way,
    generator: Ruckig<1, ThrowErrorHandler>,
    input: InputParameter<1>,
    trajectory: Trajectory<1>,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// There is none: the answer is not a number, which the envelope refuses.
    None,
    /// A polynomial of fifth degree.
    Smooth(Quintic),
    /// The generator's.
    Fastest,
}

impl Interpolator {
    /// Makes an interpolator for a robot's limits, by degree of freedom.
    ///
    /// What `snaps` (a gripper) is not led along its targets: policies command it from open to closed
    /// in one tick. It goes to each target as fast as its limits let it, and rests there.
    pub fn new(limits: &[Limits], snaps: &[bool]) -> Self {
        let axis = |(limits, snaps): (&Limits, &bool)| Axis {
            snaps: *snaps,
            limits: Limits {
                speed_max: limits.speed_max * SHARE,
                acceleration_max: limits.acceleration_max * SHARE,
                jerk_max: limits.jerk_max * SHARE,
                ..*limits
            },
            way: Way::None,
            generator: Ruckig::new(None, 0.0),
            input: InputParameter::new(None),
            trajectory: Trajectory::new(None),
        };
        Self {
            axes: limits.iter().zip(snaps).map(axis).collect(),
        }
    }

    /// Plans the way from `now` through a tick of `tick_s` seconds.
    pub fn begin(&mut self, now: &[Motion], targets: &Targets<'_>, tick_s: f64) {
        for (dof, axis) in self.axes.iter_mut().enumerate() {
            let at = |list: &[f64]| list.get(dof).copied();
            let ends = at(targets.before).zip(at(targets.target));
            axis.way = match (now.get(dof), ends) {
                (Some(now), Some((before, target))) => {
                    let next = targets.next.and_then(at);
                    let end = axis.passing((before, target, next), tick_s);
                    axis.plan(now, &end, tick_s)
                }
                _ => Way::None,
            };
        }
    }

    /// Plans the fastest way from `now` to rest at `to` with a `share` of every limit; all degrees
    /// of freedom arrive together.
    pub fn go(&mut self, now: &[Motion], to: &[f64], share: f64) {
        let mut longest_s = 0.0_f64;
        for least_s in [false, true] {
            for ((axis, now), to) in self.axes.iter_mut().zip(now).zip(to) {
                let (end, least_s) = (Motion::at_rest(*to), if least_s { longest_s } else { 0.0 });
                axis.way = axis
                    .fastest(now, &end, (least_s, share))
                    .map_or(Way::None, |_| Way::Fastest);
                longest_s = longest_s.max(axis.trajectory.get_duration());
            }
        }
    }

    /// Gives the duration of the longest way that the generator planned, seconds.
    pub fn duration_s(&self) -> f64 {
        let durations = self.axes.iter().map(|axis| axis.trajectory.get_duration());
        durations.fold(0.0, f64::max)
    }

    /// Gives the motion of degree of freedom `dof` after `t_s` seconds of the tick.
    pub fn at(&self, dof: usize, t_s: f64) -> Motion {
        let nowhere = Motion {
            position: f64::NAN,
            velocity: f64::NAN,
            acceleration: f64::NAN,
        };
        self.axes.get(dof).map_or(nowhere, |axis| match &axis.way {
            Way::None => nowhere,
            Way::Smooth(quintic) => quintic.at(t_s),
            Way::Fastest => sample(&axis.trajectory, t_s),
        })
    }
}

impl Axis {
    /// The motion to pass a target with: central differences, as far as the limits leave room.
    fn passing(&self, (before, target, next): (f64, f64, Option<f64>), tick_s: f64) -> Motion {
        let Some(next) = next else {
            return Motion::at_rest(target);
        };
        let speed_max = self.limits.speed_max * PASSING_SHARE;
        let velocity = ((next - before) / (2.0 * tick_s)).clamp(-speed_max, speed_max);
        // While the acceleration is taken back, the speed grows by a²/2j: it must stay inside.
        let headroom = self.limits.speed_max - velocity.abs();
        let room = (2.0 * self.limits.jerk_max * headroom).sqrt();
        let acceleration_max = self.limits.acceleration_max.min(room) * PASSING_SHARE;
        let bend = (next - 2.0 * target + before) / (tick_s * tick_s);
        Motion {
            position: target,
            velocity,
            acceleration: bend.clamp(-acceleration_max, acceleration_max),
        }
    }

    fn plan(&mut self, now: &Motion, end: &Motion, tick_s: f64) -> Way {
        let numbers = [now.position, now.velocity, now.acceleration, end.position];
        if !(numbers.iter().all(|x| x.is_finite()) && 0.0 < tick_s && tick_s.is_finite()) {
            return Way::None;
        }
        if self.snaps {
            let way = self.fastest(now, &Motion::at_rest(end.position), (0.0, 1.0));
            return way.map_or(Way::None, |_| Way::Fastest);
        }
        let smooth = Quintic::new(now, end, tick_s);
        if smooth.fits(&self.limits) {
            return Way::Smooth(smooth);
        }
        match self.fastest(now, end, (tick_s, 1.0)) {
            Some(duration_s) if duration_s <= tick_s * (1.0 + 1e-6) => Way::Fastest,
            _ => match self.fastest(now, &Motion::at_rest(end.position), (tick_s, 1.0)) {
                Some(_) => Way::Fastest,
                None => Way::None,
            },
        }
    }

    /// Computes the fastest way of at least `least_s` seconds with a `share` of the limits; gives its
    /// duration, seconds.
    fn fastest(&mut self, now: &Motion, end: &Motion, (least_s, share): (f64, f64)) -> Option<f64> {
        let input = &mut self.input;
        for (list, value) in [
            (&mut input.current_position, now.position),
            (&mut input.current_velocity, now.velocity),
            (&mut input.current_acceleration, now.acceleration),
            (&mut input.target_position, end.position),
            (&mut input.target_velocity, end.velocity),
            (&mut input.target_acceleration, end.acceleration),
            (&mut input.max_velocity, self.limits.speed_max * share),
            (
                &mut input.max_acceleration,
                self.limits.acceleration_max * share,
            ),
            (&mut input.max_jerk, self.limits.jerk_max * share),
        ] {
            *list.get_mut(0)? = value;
        }
        input.minimum_duration = Some(least_s);
        self.generator
            .calculate(&self.input, &mut self.trajectory)
            .ok()?;
        Some(self.trajectory.get_duration())
    }
}

fn sample(trajectory: &Trajectory<1>, t_s: f64) -> Motion {
    let number = || DataArrayOrVec::<f64, 1>::new(None, f64::NAN);
    let (mut position, mut velocity, mut acceleration) = (number(), number(), number());
    trajectory.at_time(
        t_s,
        &mut Some(&mut position),
        &mut Some(&mut velocity),
        &mut Some(&mut acceleration),
        &mut None,
        &mut None,
    );
    let only = |list: &DataArrayOrVec<f64, 1>| list.get(0).copied().unwrap_or(f64::NAN);
    Motion {
        position: only(&position),
        velocity: only(&velocity),
        acceleration: only(&acceleration),
    }
}

/// A polynomial of fifth degree over `[0, duration_s]`, by its Bernstein coefficients and those of
/// its derivatives. A polynomial lies within the hull of its Bernstein coefficients.
#[derive(Debug, Clone, Copy)]
struct Quintic {
    duration_s: f64,
    position: [f64; 6],
    velocity: [f64; 5],
    acceleration: [f64; 4],
    jerk: [f64; 3],
}

impl Quintic {
    fn new(from: &Motion, to: &Motion, duration_s: f64) -> Self {
        let (fifth, twentieth) = (duration_s / 5.0, duration_s * duration_s / 20.0);
        let second = from.position + from.velocity * fifth;
        let third = from.acceleration * twentieth + 2.0 * second - from.position;
        let fifth_one = to.position - to.velocity * fifth;
        let fourth = to.acceleration * twentieth + 2.0 * fifth_one - to.position;
        let position = [from.position, second, third, fourth, fifth_one, to.position];
        let velocity = derive(&position, 5.0 / duration_s);
        let acceleration = derive(&velocity, 4.0 / duration_s);
        Self {
            duration_s,
            position,
            velocity,
            acceleration,
            jerk: derive(&acceleration, 3.0 / duration_s),
        }
    }

    fn fits(&self, limits: &Limits) -> bool {
        let within = |list: &[f64], max: f64| list.iter().all(|x| x.abs() <= max);
        within(&self.velocity, limits.speed_max)
            && within(&self.acceleration, limits.acceleration_max)
            && within(&self.jerk, limits.jerk_max)
    }

    /// Behind its end it goes on with constant acceleration, as the generator's way does: at a speed
    /// that is no whole number of servo ticks a policy tick, a tick ends within a servo period, and
    /// standing still for the rest of that would be a jerk.
    fn at(&self, t_s: f64) -> Motion {
        let part = (t_s / self.duration_s).clamp(0.0, 1.0);
        let beyond_s = (t_s - self.duration_s).max(0.0);
        let velocity = evaluate(self.velocity, part);
        let acceleration = evaluate(self.acceleration, part);
        let position = evaluate(self.position, part);
        Motion {
            position: position + (velocity + acceleration * beyond_s / 2.0) * beyond_s,
            velocity: velocity + acceleration * beyond_s,
            acceleration,
        }
    }
}

/// Bernstein coefficients of a derivative: differences, times degree over duration.
fn derive<const N: usize, const M: usize>(of: &[f64; N], factor: f64) -> [f64; M] {
    let mut out = [0.0; M];
    for (slope, pair) in out.iter_mut().zip(of.windows(2)) {
        if let [left, right] = pair {
            *slope = (right - left) * factor;
        }
    }
    out
}

/// De Casteljau's evaluation.
fn evaluate<const N: usize>(mut points: [f64; N], part: f64) -> f64 {
    let cells = Cell::from_mut(points.as_mut_slice()).as_slice_of_cells();
    for count in (1..N).rev() {
        for pair in cells.windows(2).take(count) {
            if let [left, right] = pair {
                left.set(left.get() + (right.get() - left.get()) * part);
            }
        }
    }
    points.first().copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests;
