//! What must hold after every servo tick, judged from the commands alone.
//!
//! Nothing of the envelope is used: speed, acceleration and jerk are the first three differences of
//! the positions that the robot is told, against the limits of its description. The tolerance is
//! that of rounding: a billionth of a limit, and some units in the last place of a position.

use std::collections::HashMap;

use vlad_actors::actuator::settings::Shape;
use vlad_safety::mode::Mode;
use vlad_wire::id::{ChunkId, Epoch, Tick};
use vlad_wire::msg::execute::{Executed, Source};

/// Relative tolerance of each bound.
const TOLERANCE: f64 = 1e-9;
/// Units in the last place by which positions may be rounded, where they are planned and checked.
const ROUNDED_ULPS: f64 = 64.0;
/// B.4's prediction may be exceeded by a tenth.
const STOP_MARGIN: f64 = 1.1;

/// A chunk that was accepted.
#[derive(Debug, Clone, Copy)]
struct Taken {
    first: Tick,
    captured_ns: u64,
}

/// Judges one story.
pub(crate) struct Judge {
    shape: Shape,
    age_limit_ns: u64,
    /// A policy tick at full speed: what an action may grow older by while it is played.
    tick_ns: u64,
    taken: HashMap<ChunkId, Taken>,
    /// Epoch of the lease, as far as answers tell.
    pub(crate) lease: Option<Epoch>,
    latched: bool,
    last: Option<Executed>,
    /// The last four commands, newest last; the same pose after a restart.
    commands: [Vec<f64>; 4],
    /// Where each degree of freedom may be: its limits, or as far outside as it was found, until it is
    /// back inside.
    room: Vec<(f64, f64)>,
    /// The servo tick after which the commands rest. Counted: a stop is followed by ticks.
    rest_by: Option<u64>,
    /// What was seen.
    pub(crate) seen: Seen,
}

/// What a story has shown: that the limits were met, and how nearly.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Servo ticks.
    pub(crate) servo_ticks: u64,
    /// Policy ticks that a chunk's row began in.
    pub(crate) played: u64,
    /// Servo ticks on the way home.
    pub(crate) parking: u64,
    /// Servo ticks in each mode, in the order of [`Mode::ALL`].
    pub(crate) modes: [u64; 8],
    /// Largest speed, acceleration and jerk, as shares of their limits.
    pub(crate) shares: [f64; 3],
    /// Oldest action that began, as a share of the limit.
    pub(crate) age_share: f64,
    /// Largest excess over a limit that rounding explains, radians or metres.
    pub(crate) rounding: f64,
}

impl Seen {
    /// Adds another story's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.servo_ticks += other.servo_ticks;
        self.played += other.played;
        self.parking += other.parking;
        for (mine, other) in self.modes.iter_mut().zip(other.modes) {
            *mine += other;
        }
        for (mine, other) in self.shares.iter_mut().zip(other.shares) {
            *mine = mine.max(other);
        }
        self.age_share = self.age_share.max(other.age_share);
        self.rounding = self.rounding.max(other.rounding);
    }
}

/// What is wrong, in words.
pub(crate) type Found = Result<(), String>;

fn demand(holds: bool, what: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(what()) }
}

/// The limits, or as far outside as `pose` lies.
fn room(shape: &Shape, pose: &[f64]) -> Vec<(f64, f64)> {
    let dofs = shape.limits.iter().zip(pose);
    dofs.map(|(limits, at)| (limits.min.min(*at), limits.max.max(*at)))
        .collect()
}

impl Judge {
    pub(crate) fn new(shape: &Shape, age_limit_ns: u64, pose: &[f64]) -> Self {
        Self {
            shape: shape.clone(),
            age_limit_ns,
            tick_ns: u64::from(shape.servo_per_tick) * shape.servo_ns,
            taken: HashMap::new(),
            lease: None,
            latched: false,
            last: None,
            commands: [0; 4].map(|_| pose.to_vec()),
            room: room(shape, pose),
            rest_by: None,
            seen: Seen::default(),
        }
    }

    /// A chunk was accepted, for `first` on.
    pub(crate) fn accepted(&mut self, id: ChunkId, first: Tick, captured_ns: u64) -> Found {
        let before = self.taken.insert(id, Taken { first, captured_ns });
        demand(before.is_none(), || format!("chunk {id} was taken twice"))
    }

    /// The guard was rearmed: where it commands is where the arm was found, at rest.
    pub(crate) fn rearmed(&mut self, measured: &[f64], command: &[f64]) -> Found {
        self.lease = None;
        for (dof, (measured, command)) in measured.iter().zip(command).enumerate() {
            let is = |place: &f64| command.total_cmp(place).is_eq();
            let known = is(measured) || is(&self.commands[3][dof]);
            demand(known, || {
                format!("a rearm moved degree of freedom {dof} to {command}")
            })?;
        }
        for place in &mut self.commands {
            place.copy_from_slice(command);
        }
        self.room = room(&self.shape, command);
        Ok(())
    }

    /// A latched mode was reset.
    pub(crate) fn reset(&mut self) {
        self.latched = false;
        self.lease = None;
    }

    /// Something was done; the mode is this now.
    pub(crate) fn mode(&mut self, mode: Mode) -> Found {
        demand(mode.latched() || !self.latched, || {
            format!("left a latched mode for {mode}")
        })?;
        self.latched = mode.latched();
        Ok(())
    }

    /// One servo tick, begun `now_ns`, whose stored stop takes `stop_ms` if it takes over.
    pub(crate) fn tick(&mut self, executed: &Executed, now_ns: u64, stop_ms: f64) -> Found {
        self.seen.servo_ticks += 1;
        let place = Mode::ALL.iter().position(|mode| *mode == executed.mode);
        self.seen.modes[place.unwrap()] += 1;
        self.mode(executed.mode)?;
        let begins = self.numbers(executed)?;
        if executed.source == Source::Policy {
            self.action(executed, now_ns, begins)?;
        }
        self.seen.parking += u64::from(executed.source == Source::Park);
        self.commands.rotate_left(1);
        self.commands[3].copy_from_slice(&executed.command);
        self.envelope()?;
        self.rest(executed.mode, executed.servo_tick, stop_ms)?;
        self.last = Some(executed.clone());
        Ok(())
    }

    /// Ticks and epochs never go back; gives whether a policy tick begins.
    fn numbers(&self, executed: &Executed) -> Result<bool, String> {
        let Some(last) = &self.last else {
            return Ok(true);
        };
        let steps = executed.tick - last.tick;
        demand((0..=1).contains(&steps), || {
            format!("tick {} after tick {}", executed.tick, last.tick)
        })?;
        demand(executed.servo_tick == last.servo_tick + 1, || {
            format!("servo tick {} comes out of order", executed.servo_tick)
        })?;
        demand(last.epoch <= executed.epoch, || {
            format!("epoch {} after epoch {}", executed.epoch, last.epoch)
        })?;
        Ok(steps == 1)
    }

    /// What is played was accepted, for this very tick, under this lease, and is not too old.
    fn action(&mut self, executed: &Executed, now_ns: u64, begins: bool) -> Found {
        let (Some(chunk), Some(index)) = (executed.chunk, executed.index) else {
            return Err("an action of no chunk is played".to_owned());
        };
        let Some(taken) = self.taken.get(&chunk).copied() else {
            return Err(format!("chunk {chunk} is played and was never accepted"));
        };
        demand(executed.mode == Mode::Running, || {
            format!("an action is played in {}", executed.mode)
        })?;
        let for_tick = taken.first.saturating_add(Tick::from(index));
        demand(for_tick == executed.tick, || {
            format!("a row for tick {for_tick} in tick {}", executed.tick)
        })?;
        demand(self.lease == Some(chunk.epoch), || {
            format!("an action of epoch {}, held {:?}", chunk.epoch, self.lease)
        })?;
        let age_ns = now_ns - taken.captured_ns;
        let slack_ns = if begins { 0 } else { self.tick_ns };
        demand(age_ns <= self.age_limit_ns + slack_ns, || {
            format!("an action of {} ms", age_ns / 1_000_000)
        })?;
        if begins {
            self.seen.played += 1;
            let share = age_ns as f64 / self.age_limit_ns as f64;
            self.seen.age_share = self.seen.age_share.max(share);
        }
        Ok(())
    }

    /// Positions, and their first three differences.
    fn envelope(&mut self) -> Found {
        let dt_s = self.shape.servo_ns as f64 / 1e9;
        let [a, b, c, d] = &self.commands;
        demand(d.len() == self.shape.limits.len(), || {
            format!("{} positions", d.len())
        })?;
        for (dof, limits) in self.shape.limits.iter().enumerate() {
            let (a, b, c, d) = (a[dof], b[dof], c[dof], d[dof]);
            demand(d.is_finite(), || {
                format!("degree of freedom {dof} is told {d}")
            })?;
            let scale = a.abs().max(d.abs()) + dt_s * limits.speed_max;
            let ulps = ROUNDED_ULPS * f64::EPSILON * scale;
            let (low, high) = self.room[dof];
            demand(low - ulps <= d && d <= high + ulps, || {
                format!("degree of freedom {dof} is told {d}, beyond {low} to {high}")
            })?;
            if limits.min <= d && d <= limits.max {
                self.room[dof] = (limits.min, limits.max);
            }
            let differences = [
                ("speed", d - c, limits.speed_max * dt_s),
                (
                    "acceleration",
                    d - 2.0 * c + b,
                    limits.acceleration_max * dt_s.powi(2),
                ),
                (
                    "jerk",
                    d - 3.0 * c + 3.0 * b - a,
                    limits.jerk_max * dt_s.powi(3),
                ),
            ];
            for (order, (name, difference, limit)) in differences.into_iter().enumerate() {
                let excess = difference.abs() - limit * (1.0 + TOLERANCE);
                demand(excess <= 8.0 * ulps, || {
                    let share = difference.abs() / limit;
                    format!("degree of freedom {dof} has {share} of its {name} limit")
                })?;
                self.seen.rounding = self.seen.rounding.max(excess);
                let share = &mut self.seen.shares[order];
                *share = share.max(difference.abs() / limit);
            }
        }
        Ok(())
    }

    /// What may not move stands; what stops comes to rest as predicted.
    fn rest(&mut self, mode: Mode, servo_tick: u64, stop_ms: f64) -> Found {
        let moves = self.commands[2] != self.commands[3];
        let before = self.last.as_ref().map(|last| last.mode);
        let rests = |mode| matches!(mode, Mode::Disarmed | Mode::Armed | Mode::Stopped);
        let must_rest = rests(mode) && before.is_none_or(rests);
        demand(!(moves && must_rest), || format!("it moves in {mode}"))?;
        if mode == Mode::Running {
            self.rest_by = None;
            return Ok(());
        }
        if before == Some(Mode::Running) {
            let ticks = stop_ms * STOP_MARGIN * 1e6 / self.shape.servo_ns as f64;
            self.rest_by = Some(servo_tick + ticks.ceil() as u64 + 1);
        }
        let late = moves && self.rest_by.is_some_and(|by| by < servo_tick);
        demand(!late, || {
            format!("it still moves in {mode}, after its stop should have ended")
        })
    }
}
