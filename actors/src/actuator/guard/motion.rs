//! From the buffer to the command of a servo tick.

use vlad_motion::interpolate::Targets;
use vlad_safety::envelope::flag;
use vlad_safety::gripper::squeeze;
use vlad_safety::mode::{Event, Mode};
use vlad_safety::reason::Reason;
use vlad_wire::msg::think::Strategy;

use super::{Guard, MISSING_MAX, seconds};

/// How far a policy tick is, and how fast it goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    servo_per_tick: f64,
    servo_s: f64,
    /// Share of the policy tick that is over.
    phase: f64,
    /// Servo ticks since the policy tick began.
    step: u32,
    /// Speed fraction of this policy tick.
    pub(super) rate: f64,
    /// The operator's.
    pub(super) limit: f64,
    /// The guard's own: less than one while chunks disagree.
    pub(super) caution: f64,
}

/// Share of a gripper's range that its target keeps from the ends, so that rounding on the way there
/// does not lead out of the range.
const GRIP_SKIN: f64 = 1e-6;
/// Rounding of a sum of shares of a tick.
const PHASE_ROUNDING: f64 = 1e-9;

impl Pace {
    pub(super) fn new(servo_per_tick: u32, servo_ns: u64) -> Self {
        Self {
            servo_per_tick: f64::from(servo_per_tick),
            servo_s: seconds(servo_ns),
            phase: 0.0,
            step: 0,
            rate: 1.0,
            limit: 1.0,
            caution: 1.0,
        }
    }

    /// Goes on by a servo tick; says whether a policy tick begins with it.
    pub(super) fn advance(&mut self) -> bool {
        let begins = 1.0 - PHASE_ROUNDING <= self.phase;
        if begins {
            self.phase = (self.phase - 1.0).max(0.0);
            self.step = 0;
        }
        self.step += 1;
        self.phase += self.rate / self.servo_per_tick;
        begins
    }

    /// Takes the speed fraction of the tick that has just begun.
    fn set_rate(&mut self, wanted: f64) {
        let rate = wanted.min(self.limit).min(self.caution);
        // The share of this first servo tick was counted at the last tick's rate.
        self.phase += (rate - self.rate) / self.servo_per_tick;
        self.rate = rate;
    }

    /// Whether this is the policy tick's first servo tick.
    pub(super) fn begins(&self) -> bool {
        self.step == 1
    }

    /// Seconds that the policy tick still takes, this servo tick included.
    fn left_s(&self) -> f64 {
        let share = self.rate / self.servo_per_tick;
        (1.0 - self.phase + share) / share * self.servo_s
    }

    /// Seconds from the policy tick's begin to the end of this servo tick.
    fn passed_s(&self) -> f64 {
        f64::from(self.step) * self.servo_s
    }

    /// Length of a policy tick at this speed, seconds.
    pub(super) fn tick_s(&self, rate: f64) -> f64 {
        self.servo_per_tick * self.servo_s / rate.min(self.limit).min(self.caution)
    }
}

impl Guard {
    pub(super) fn begin_tick(&mut self, now_ns: u64) {
        if self.state.mode != Mode::Running || self.state.reason == Reason::Parking {
            self.pace.set_rate(1.0);
            return;
        }
        if self.begin_action(now_ns) {
            return;
        }
        if self.state.mode != Mode::Running {
            return;
        }
        if self.in_planned_gap(now_ns) {
            self.apply(Event::PlannedGap, now_ns);
            return;
        }
        self.playing = None;
        self.missing += 1;
        self.counters.stalled += 1;
        if MISSING_MAX <= self.missing {
            self.apply(Event::BufferEmpty, now_ns);
        }
    }

    /// Whether the strategy ends its chunks in a gap, and the decision that ends it is under way.
    fn in_planned_gap(&self, now_ns: u64) -> bool {
        self.buffer.plans_gap() && self.watch.thinks(now_ns, self.config.silence_ns())
    }

    /// Begins the action of this tick, if there is one that may be played.
    fn begin_action(&mut self, now_ns: u64) -> bool {
        let from_standstill = self.playing.is_none();
        if from_standstill {
            self.before.copy_from_slice(&self.command);
        } else {
            self.before.copy_from_slice(&self.target);
        }
        let Some(action) = self.buffer.take(self.tick, &mut self.target) else {
            return false;
        };
        if self.config.action_age_ns() < now_ns.saturating_sub(action.captured_at_ns) {
            self.end_for_age(now_ns);
            return false;
        }
        self.pace.set_rate(action.rate);
        self.grip();
        let tick_s = self.pace.tick_s(self.pace.rate);
        if !self.judge_target(tick_s) {
            return false;
        }
        let next = self.buffer.peek(self.tick.saturating_add(1));
        let targets = Targets {
            before: &self.before,
            target: &self.target,
            next: next.as_ref().map(|row| row.target),
        };
        let left_s = self.pace.left_s();
        self.interpolator
            .begin(self.envelope.motion(), &targets, left_s);
        self.missing = 0;
        self.played += 1;
        self.playing = Some((action.chunk, action.index));
        self.captured_at_ns = action.captured_at_ns;
        true
    }

    /// An action is begun within the age limit, and lasts for a policy tick. One whose tick is long,
    /// because its speed fraction is small or because this thread stood still, ends where a tick at
    /// full speed would have ended at the latest.
    pub(super) fn note_age(&mut self, now_ns: u64) {
        let tick_ns = u64::from(self.shape.servo_per_tick).saturating_mul(self.shape.servo_ns);
        let limit_ns = self.config.action_age_ns().saturating_add(tick_ns);
        if self.playing.is_some() && limit_ns < now_ns.saturating_sub(self.captured_at_ns) {
            self.end_for_age(now_ns);
        }
    }

    /// Behind a slow decision a sync chunk ends where its rows are too old, as planned as at its end. One
    /// that was too old from its first row on is no chunk that ends: it stops, or the next would be alike.
    fn end_for_age(&mut self, now_ns: u64) {
        let newest = self.buffer.newest();
        let sync = newest.is_some_and(|(_, strategy)| strategy == Strategy::Sync);
        let event = if self.playing.is_some() && sync && self.in_planned_gap(now_ns) {
            Event::PlannedGap
        } else {
            self.counters.stale += 1;
            Event::ActionTooOld
        };
        self.apply(event, now_ns);
    }

    /// E5 to E9 of the action that begins, joints alone; what is a little outside is moved inside.
    fn judge_target(&mut self, tick_s: f64) -> bool {
        let dofs = self
            .target
            .iter()
            .zip(&self.before)
            .zip(&self.shape.gripper);
        for (place, ((target, before), gripper)) in self.judged.iter_mut().zip(dofs) {
            *place = if *gripper { *before } else { *target };
        }
        let Ok(flags) = self.envelope.judge(&self.before, &mut self.judged, tick_s) else {
            // It was inside when it was accepted, after another action than this one.
            self.counters.outside += 1;
            return false;
        };
        self.counters.clamped += u64::from(flags != 0);
        let dofs = self.target.iter_mut().zip(&self.judged);
        for ((target, judged), gripper) in dofs.zip(&self.shape.gripper) {
            if !gripper {
                *target = *judged;
            }
        }
        true
    }

    /// E10: no fluttering, no squeezing beyond the limit, no opening beyond the range.
    fn grip(&mut self) {
        let dofs = self.target.iter_mut().zip(&mut self.flips);
        let measured = self.measured.position.iter().zip(&self.shape.squeeze_max);
        let dofs = dofs.zip(measured).zip(&self.shape.limits);
        for (((target, flips), (measured, squeeze_max)), limits) in dofs {
            if let Some(flips) = flips {
                let admitted = flips.admit(self.servo_tick, *target);
                let skin = (limits.max - limits.min) * GRIP_SKIN;
                *target = squeeze(admitted, *measured, *squeeze_max)
                    .clamp(limits.min + skin, limits.max - skin);
            }
        }
    }

    /// Moves the command by one servo period: along the way to the tick's target where the envelope
    /// admits that, else down the stored stop.
    pub(super) fn move_one_step(&mut self, now_ns: u64) -> u32 {
        let parks = self.state.reason == Reason::Parking;
        // At the end of the way home the stored stop takes what rounding has left of the speed.
        let home = parks && self.interpolator.duration_s() <= self.parked_s();
        let follows = self.state.mode == Mode::Running
            && ((parks && !home) || (!parks && self.playing.is_some()));
        let flags = if follows {
            let t_s = if parks {
                self.parked_s()
            } else {
                self.pace.passed_s()
            };
            for (dof, wanted) in self.wanted.iter_mut().enumerate() {
                *wanted = self.interpolator.at(dof, t_s);
            }
            self.envelope.step(&self.wanted)
        } else {
            self.envelope.brake()
        };
        for (command, motion) in self.command.iter_mut().zip(self.envelope.motion()) {
            *command = motion.position;
        }
        if follows {
            self.note_refused(flags, now_ns);
        }
        if home && self.state.reason == Reason::Parking && self.envelope.still() {
            self.apply(Event::ParkDone, now_ns);
        }
        flags
    }

    /// A motion that the envelope refuses for two policy ticks will not become a better one.
    fn note_refused(&mut self, flags: u32, now_ns: u64) {
        if flags & flag::STOP == 0 {
            self.refused_in_row = 0;
            return;
        }
        self.counters.refused += 1;
        self.refused_in_row += 1;
        if 2 * self.shape.servo_per_tick <= self.refused_in_row {
            self.apply(Event::OutsideEnvelope, now_ns);
        }
    }

    /// Seconds since parking began, to the end of this servo tick. Counted: a servo tick that comes
    /// late must not make a longer step.
    fn parked_s(&self) -> f64 {
        let steps = self.servo_tick.saturating_sub(self.parking_since);
        seconds(steps.saturating_mul(self.shape.servo_ns))
    }
}
