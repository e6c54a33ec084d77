//! The only path from a target to a motor.
//!
//! An [`Envelope`] owns the commanded motion of every degree of freedom and, beside it, a stop that
//! was verified before that motion was taken. A wanted motion is taken only if it is inside every
//! limit **and** the stop that begins there is too; otherwise all degrees of freedom take the next
//! step of the stored stop. So, by induction, there is always a verified way to standstill.
//!
//! | what is verified | where |
//! |---|---|
//! | velocity, acceleration and jerk of the commands, from tick to tick | `reach.rs` |
//! | the stop's whole span inside the position limits | [`Stop::span`] |
//! | box, keep-out boxes, distance between arms, now and on the way to standstill | [`Workspace`] |
//! | a chunk's rows before they are accepted | [`Envelope::judge`] |
//!
//! Nothing allocates after construction. All functions are total.

use crate::breach::Breach;
use crate::reach::within;
use crate::stop::{Stop, worst_case};
use crate::workspace::{Clearance, Workspace};

/// Limits of one degree of freedom; radians for joints, metres for grippers and axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Smallest position.
    pub min: f64,
    /// Largest position.
    pub max: f64,
    /// Largest speed, per second.
    pub speed_max: f64,
    /// Largest acceleration, and deceleration of a stop, per second squared.
    pub acceleration_max: f64,
    /// Largest jerk, per second cubed.
    pub jerk_max: f64,
}

/// Where one degree of freedom is and how it moves; radians or metres, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Motion {
    /// Position.
    pub position: f64,
    /// Velocity, per second.
    pub velocity: f64,
    /// Acceleration, per second squared.
    pub acceleration: f64,
}

impl Motion {
    /// Gives standstill at `position`.
    pub fn at_rest(position: f64) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }

    fn is_finite(&self) -> bool {
        self.position.is_finite() && self.velocity.is_finite() && self.acceleration.is_finite()
    }

    fn rests(&self) -> bool {
        self.velocity == 0.0 && self.acceleration == 0.0
    }
}

/// What was changed on the way to a motor; bits of `executed.flags`.
pub mod flag {
    /// A position lay outside its limits.
    pub const POSITION_CLAMPED: u32 = 1;
    /// A target was too fast.
    pub const SPEED_CLAMPED: u32 = 1 << 1;
    /// A target was not finite.
    pub const NOT_FINITE: u32 = 1 << 2;
    /// The command came from the stop, not from a chunk.
    pub const STOP: u32 = 1 << 3;
    /// The servo tick began late by more than a period.
    pub const LATE: u32 = 1 << 4;
    /// A wanted motion was outside velocity, acceleration or jerk, or had no stop inside the
    /// position limits: the stored stop was taken.
    pub const OUTSIDE: u32 = 1 << 5;
    /// A wanted motion was outside the box, in a keep-out box or too near another arm, at once or
    /// on its way to standstill: the stored stop was taken.
    pub const WORKSPACE: u32 = 1 << 6;
}

/// Share of a range by which a target of a chunk may lie outside and is clamped; reference E5.
const CLAMPED_SHARE: f64 = 0.01;

/// Share of a range that clamped targets keep from the limit, so that the rounding of whoever
/// interpolates towards them cannot end in a refusal. Of 2π these are 6 µrad.
const SKIN_SHARE: f64 = 1e-6;

/// Relative tolerance of speeds which are differences of rounded positions.
const ROUNDING: f64 = 1e-9;

/// Poses that are looked at along a stop, besides its start.
///
/// A pose is skipped where the arms cannot have come closer than the room that was measured last.
/// Between two poses that must be looked at, each point is nearer to one of them than half of what
/// the arms travel there: with a stop of 0.3 s from 1 rad/s of an arm of 0.6 m, whose travel is
/// 90 mm, the error is below 15 mm of the 40 mm of E9, and only in the middle of a passage.
const POSES: u8 = 6;

/// What an envelope is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Limits by degree of freedom.
    pub limits: Vec<Limits>,
    /// Arms, boxes, clearance.
    pub workspace: Workspace,
    /// Servo period, seconds.
    pub dt_s: f64,
}

/// The commanded motion of a robot, with its stored stop.
#[derive(Debug, Clone)]
pub struct Envelope {
    shape: Shape,
    /// Metres that a checked point moves at most per radian, by degree of freedom.
    reach_m: Vec<f64>,
    /// Whether the workspace can be checked at all.
    fits: bool,
    motion: Vec<Motion>,
    /// Positions of `motion`.
    here: Vec<f64>,
    stops: Vec<Stop>,
    /// Servo periods of `stops` that are over.
    stopped_ticks: u32,
    /// The stops of a wanted motion, while it is looked at.
    candidates: Vec<Stop>,
    /// A pose on the way of `candidates`.
    pose: Vec<f64>,
}

impl Envelope {
    /// Makes an envelope at rest where the robot was `found`, by degree of freedom.
    ///
    /// Where `found` and the limits differ in length, the shorter counts. A position that is not
    /// finite never moves until [`place`](Self::place) says where the joint is. A workspace that
    /// does not [fit](Workspace::fits) never moves either.
    pub fn new(shape: Shape, found: &[f64]) -> Self {
        let (motion, stops): (Vec<_>, Vec<_>) = shape
            .limits
            .iter()
            .zip(found)
            .map(|(limits, position)| {
                let motion = Motion::at_rest(*position);
                (motion, Stop::new(limits, &motion))
            })
            .unzip();
        let here: Vec<_> = motion.iter().map(|motion| motion.position).collect();
        Self {
            reach_m: shape.workspace.reaches_m(here.len()),
            fits: shape.workspace.fits(here.len()).is_ok(),
            pose: here.clone(),
            candidates: stops.clone(),
            stopped_ticks: 0,
            shape,
            motion,
            here,
            stops,
        }
    }

    /// The commanded motion, by degree of freedom.
    pub fn motion(&self) -> &[Motion] {
        &self.motion
    }

    /// The limits, by degree of freedom.
    pub fn limits(&self) -> &[Limits] {
        &self.shape.limits
    }

    /// Takes the `wanted` motion one servo period later, or the next step of the stored stop; for
    /// all degrees of freedom alike. Gives the [`flag`]s: zero is "as wanted".
    ///
    /// A degree of freedom that stands outside its range, and arms that stand in a forbidden place,
    /// may move as long as they get no farther out: so they can be led back. "Farther" is counted by
    /// kind (box, keep-out boxes, arms), each by its worst point.
    pub fn step(&mut self, wanted: &[Motion]) -> u32 {
        let objection = self.objection(wanted);
        if objection != 0 {
            return objection | self.brake();
        }
        self.motion.copy_from_slice(wanted);
        std::mem::swap(&mut self.stops, &mut self.candidates);
        self.stopped_ticks = 0;
        self.follow_motion();
        0
    }

    /// Takes the next step of the stored stop; gives [`flag::STOP`].
    ///
    /// The stop is followed by time and never computed anew. What rests stays exactly where it is.
    pub fn brake(&mut self) -> u32 {
        self.stopped_ticks = self.stopped_ticks.saturating_add(1);
        let t_s = self.stopped_s();
        for (motion, stop) in self.motion.iter_mut().zip(&self.stops) {
            *motion = stop.at(t_s);
        }
        self.follow_motion();
        flag::STOP
    }

    /// Whether everything is commanded to stand still.
    pub fn still(&self) -> bool {
        self.motion.iter().all(Motion::rests)
    }

    /// Tells where a joint is that was moved by hand; only while all stands still.
    ///
    /// Gives whether that was noted: not while something moves, not for a position that is not
    /// finite, not for a degree of freedom that there is not.
    pub fn place(&mut self, dof: usize, position: f64) -> bool {
        if !(self.still() && position.is_finite()) {
            return false;
        }
        let parts = (
            self.motion.get_mut(dof),
            self.stops.get_mut(dof),
            self.shape.limits.get(dof),
        );
        let (Some(motion), Some(stop), Some(limits)) = parts else {
            return false;
        };
        *motion = Motion::at_rest(position);
        *stop = Stop::new(limits, motion);
        self.follow_motion();
        true
    }

    /// Seconds that the stored stop still takes.
    pub fn stop_time_s(&self) -> f64 {
        let longest_s = longest_s(&self.stops);
        (longest_s - self.stopped_s()).max(0.0)
    }

    /// Where the stored stop ends; not a number for a degree of freedom that there is not.
    pub fn stop_end(&self, dof: usize) -> f64 {
        self.stops.get(dof).map_or(f64::NAN, Stop::end)
    }

    /// Judges one row of a chunk: the targets one policy tick (`tick_s` seconds) after `before`.
    ///
    /// Targets up to 1 % of a range outside are moved inside, which gives
    /// [`flag::POSITION_CLAMPED`]. "Inside" leaves room for the stop from the row's own speed.
    ///
    /// # Errors
    /// The first [`Breach`] in the order of reference B.3: E5 position, E7 speed by tick, E8
    /// workspace and tool speed, E9 distance between arms.
    pub fn judge(&self, before: &[f64], row: &mut [f64], tick_s: f64) -> Result<u32, Breach> {
        if before.len() != self.here.len() || row.len() != self.here.len() {
            return Err(Breach::Width {
                expected: self.here.len(),
            });
        }
        let mut flags = 0;
        let dofs = self.shape.limits.iter().zip(before).zip(row.iter_mut());
        for (dof, ((limits, before), target)) in dofs.enumerate() {
            flags |= judge_target(dof, limits, (*before, target), tick_s)?;
        }
        self.shape.workspace.judge(before, row, tick_s)?;
        Ok(flags)
    }

    fn stopped_s(&self) -> f64 {
        f64::from(self.stopped_ticks) * self.shape.dt_s
    }

    fn follow_motion(&mut self) {
        for (here, motion) in self.here.iter_mut().zip(&self.motion) {
            *here = motion.position;
        }
    }

    /// Gives why the wanted motion must not be taken, as [`flag`]s; fills `candidates`.
    fn objection(&mut self, wanted: &[Motion]) -> u32 {
        if wanted.len() != self.motion.len() {
            return flag::OUTSIDE;
        }
        if !wanted.iter().all(Motion::is_finite) {
            return flag::NOT_FINITE;
        }
        let dofs = self.shape.limits.iter().zip(&self.motion).zip(wanted);
        for (((limits, now), wanted), candidate) in dofs.zip(&mut self.candidates) {
            *candidate = Stop::new(limits, wanted);
            let (low, high) = candidate.span();
            let inside =
                limits.min.min(now.position) <= low && high <= limits.max.max(now.position);
            if !(inside && within(limits, now, wanted, self.shape.dt_s)) {
                return flag::OUTSIDE;
            }
        }
        if self.clear_on_the_way() {
            0
        } else {
            flag::WORKSPACE
        }
    }

    /// Whether the start of `candidates` and the poses along them are clear.
    fn clear_on_the_way(&mut self) -> bool {
        if self.shape.workspace.arms.is_empty() {
            return true;
        }
        if !self.fits {
            return false;
        }
        let (part_s, mut floor) = (longest_s(&self.candidates) / f64::from(POSES), None);
        // What the arms may travel before they can have come into a forbidden place.
        let mut room_m = f64::NEG_INFINITY;
        for part in 0..=POSES {
            let t_s = f64::from(part) * part_s;
            let dofs = self.candidates.iter().zip(&mut self.pose);
            for ((stop, position), reach_m) in dofs.zip(&self.reach_m) {
                let next = stop.at(t_s).position;
                room_m -= reach_m * (next - *position).abs();
                *position = next;
            }
            if 0.0 <= room_m {
                continue;
            }
            let clearance = self.shape.workspace.clearance(&self.pose);
            room_m = clearance.room_m();
            if room_m < 0.0 && !self.no_worse(&clearance, &mut floor) {
                return false;
            }
        }
        true
    }

    fn no_worse(&self, clearance: &Clearance, floor: &mut Option<Clearance>) -> bool {
        let floor = floor.get_or_insert_with(|| self.shape.workspace.clearance(&self.here));
        clearance.breach(floor).is_none()
    }
}

fn longest_s(stops: &[Stop]) -> f64 {
    stops.iter().map(Stop::duration_s).fold(0.0, f64::max)
}

/// E5 and E7 of one target, which is moved inside where that is allowed.
fn judge_target(
    dof: usize,
    limits: &Limits,
    (before, target): (f64, &mut f64),
    tick_s: f64,
) -> Result<u32, Breach> {
    if !(before.is_finite() && target.is_finite()) {
        return Err(Breach::NotFinite { dof });
    }
    let velocity = (*target - before) / tick_s;
    let slow_enough = velocity.abs() <= limits.speed_max * (1.0 + ROUNDING);
    if !slow_enough {
        return Err(Breach::Speed {
            dof,
            ratio: velocity.abs() / limits.speed_max,
        });
    }
    let margin = worst_case(velocity.abs(), 0.0, limits).distance;
    let (below, above) = if velocity < 0.0 {
        (margin, 0.0)
    } else {
        (0.0, margin)
    };
    let range = limits.max - limits.min;
    let skin = range * SKIN_SHARE;
    let (mut low, mut high) = (limits.min + below + skin, limits.max - above - skin);
    // What was found outside may stay there, and get no farther.
    if before < limits.min {
        low = before;
    }
    if limits.max < before {
        high = before;
    }
    let excess = (low - *target).max(*target - high);
    if excess <= 0.0 {
        return Ok(0);
    }
    if high < low || range * CLAMPED_SHARE < excess {
        return Err(Breach::Position {
            dof,
            ratio: excess / range,
        });
    }
    *target = if *target < low { low } else { high };
    Ok(flag::POSITION_CLAMPED)
}

#[cfg(test)]
mod tests;
