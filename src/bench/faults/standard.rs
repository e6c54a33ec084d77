//! What every run of every fault must fulfil (the reference's "Std pass"), looked at from outside:
//! the commands as the robot got them, and what was said on the bus.
//!
//! | must hold | looked at |
//! |---|---|
//! | no command outside the envelope | differences of the commands against position, speed, acceleration, jerk |
//! | no tick that goes back, one command a servo period | `executed` |
//! | no action older than its limit | `executed` with the chunks' captures |
//! | every change of mode is in the audit | `guard` against events `mode_changed` |
//! | out of stopped and latched modes only by a person | `guard` against the times of rearm and reset |

use std::collections::BTreeMap;

use anyhow::Context as _;
use vlad_cell::description::RobotDescription;
use vlad_safety::envelope::{Limits, Motion};
use vlad_safety::mode::{Mode, State};
use vlad_safety::stop::Stop;
use vlad_wire::clock::MS;
use vlad_wire::id::ChunkId;
use vlad_wire::msg::execute::{Executed, Source};

use super::stage::Stage;

/// Relative tolerance of a difference against its limit: rounding of positions of about one.
const TOLERANCE: f64 = 1e-6;
/// Rounding of a position, absolute.
const ROUNDING: f64 = 1e-12;
/// A joint that is slower counts as standing, units a second.
const STILL: f64 = 1e-6;
/// Share of the largest deceleration that counts as all of it.
const DEEP: f64 = 0.999;
/// How long a person's word may be under way.
const UNDER_WAY_NS: u64 = 50 * MS;
/// How far a stop may take longer than its prediction.
const STOP_SHARE: f64 = 1.1;
const STANDSTILL: &str = "standstill, share of B.4's prediction";

/// A servo period, nanoseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "servo rates lie in 10 to 1000 Hz"
)]
pub fn period_ns(robot: &RobotDescription) -> u64 {
    (1e9 / robot.toml().servo_hz).round() as u64
}

/// Nanoseconds as milliseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "spans of a run have fewer than 2^53 nanoseconds"
)]
pub fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Judges a run as a whole.
pub fn judge(stage: &mut Stage) {
    let beyond = beyond_envelope(stage);
    stage.standard("commands outside the envelope", beyond, 0.0);
    judge_ticks(stage);
    judge_ages(stage);
    judge_audit(stage);
    judge_ways_out(stage);
}

/// Commands whose position or differences are beyond a limit. A rearm puts the command where the robot is
/// measured, which is no motion: differences across that are none either.
fn beyond_envelope(stage: &Stage) -> f64 {
    let limits = stage.run.config.robot.limits();
    let dt_s = 1.0 / stage.run.config.robot.toml().servo_hz;
    let mut count = 0.0;
    for (guard, placed) in stage.witness.placed() {
        for (idx, four) in guard.windows(4).enumerate() {
            let [a, b, c, d] = four else { continue };
            if placed.range(idx + 1..idx + 4).next().is_some() {
                continue;
            }
            let bad = limits.iter().enumerate().any(|(dof, limits)| {
                let at = |row: &[f64]| row.get(dof).copied().unwrap_or(f64::NAN);
                !inside(limits, [at(a), at(b), at(c), at(d)], dt_s)
            });
            count += f64::from(u8::from(bad));
        }
    }
    count
}

fn inside(limits: &Limits, [a, b, c, d]: [f64; 4], dt_s: f64) -> bool {
    let least = |limit: f64, order: i32| limit * dt_s.powi(order) * (1.0 + TOLERANCE) + ROUNDING;
    limits.min - ROUNDING <= d
        && d <= limits.max + ROUNDING
        && (d - c).abs() <= least(limits.speed_max, 1)
        && (d - 2.0 * c + b).abs() <= least(limits.acceleration_max, 2)
        && (d - 3.0 * c + 3.0 * b - a).abs() <= least(limits.jerk_max, 3)
}

fn judge_ticks(stage: &mut Stage) {
    let guards = stage.witness.commands().len();
    let ticks: Vec<&Executed> = stage.dispatcher.report().ticks().collect();
    let pairs = || ticks.windows(2);
    let back = pairs()
        .filter(|pair| matches!(pair, [a, b] if b.tick < a.tick))
        .count();
    let twice = pairs()
        .filter(|pair| matches!(pair, [a, b] if b.servo_tick <= a.servo_tick))
        .count();
    let crowded = pairs()
        .filter(|pair| matches!(pair, [a, b] if b.sent_at_ns <= a.sent_at_ns))
        .count();
    // A guard that starts anew counts anew.
    let begun = guards.saturating_sub(1);
    stage.demand(back <= begun && twice <= begun, || {
        format!("ticks go back: {back}, servo ticks: {twice}, guards begun: {begun}")
    });
    stage.demand(crowded == 0, || format!("{crowded} commands at one time"));
}

fn judge_ages(stage: &mut Stage) {
    let limit_ms = f64::from(stage.run.config.guard.action_age_limit_ms);
    let report = stage.dispatcher.report();
    let captured: BTreeMap<ChunkId, u64> = report
        .chunks
        .iter()
        .map(|head| (head.id, head.captured_at_ns))
        .collect();
    let mut begun = None;
    let (mut oldest_ms, mut unknown) = (0.0_f64, 0_u32);
    for tick in report.ticks() {
        // An action is as old as it is when its tick begins.
        if begun == Some(tick.tick) || tick.source != Source::Policy {
            continue;
        }
        begun = Some(tick.tick);
        match tick.chunk.and_then(|chunk| captured.get(&chunk)) {
            Some(captured_ns) => {
                oldest_ms = oldest_ms.max(millis(tick.sent_at_ns.saturating_sub(*captured_ns)));
            }
            None => unknown += 1,
        }
    }
    stage.standard("oldest action, ms", oldest_ms, limit_ms);
    stage.standard("ticks of chunks that nobody sent", f64::from(unknown), 0.0);
}

/// Every change of mode that the guard showed must have been said, in that order, with its reason.
fn judge_audit(stage: &mut Stage) {
    let report = stage.dispatcher.report();
    let events = report.events.iter();
    let mut told = events.filter(|event| event.kind.as_str() == "mode_changed");
    let mut missing = Vec::new();
    for pair in report.guards.windows(2) {
        let [a, b] = pair else { continue };
        // A guard that starts anew is disarmed without a change.
        let starts = (b.mode, b.reason) == (State::START.mode, State::START.reason);
        if (a.mode, a.reason) == (b.mode, b.reason) || starts {
            continue;
        }
        let words = format!("{}: {}", b.mode, b.reason.meaning());
        if !told.any(|event| event.text.as_str().starts_with(&words)) {
            missing.push(format!("the audit lacks, or has elsewhere: {words}"));
            break;
        }
    }
    stage.faults.extend(missing);
}

fn judge_ways_out(stage: &mut Stage) {
    let waits = |mode: Mode| matches!(mode, Mode::Stopped | Mode::Estopped | Mode::Fault);
    let mut alone = Vec::new();
    for pair in stage.dispatcher.report().guards.windows(2) {
        let [a, b] = pair else { continue };
        // The guard may say its old mode while the word is under way.
        let between = |at_ns: &u64| a.sent_at_ns <= at_ns + UNDER_WAY_NS && *at_ns <= b.sent_at_ns;
        let by_a_person = stage.persons_ns.iter().any(between);
        // A guard that starts anew is disarmed, which is no way out.
        let anew = b.mode == Mode::Disarmed && stage.begun_ns.iter().any(between);
        if waits(a.mode) && !waits(b.mode) && !by_a_person && !anew {
            alone.push(format!("{} became {} by itself", a.mode, b.mode));
        }
    }
    stage.faults.extend(alone);
}

/// Judges the newest stop: that it begins with the servo tick in which the mode changed, and is over
/// when B.4 says. Detection is the first servo tick in that mode. What stands by then was stopped before,
/// because no action came: then the way from the last action is judged.
///
/// # Errors
/// Nothing was executed in that mode.
pub fn judge_stop(stage: &mut Stage, mode: Mode, injected_ns: u64) -> anyhow::Result<()> {
    // What was executed is told once a policy tick.
    stage.pass(100 * MS)?;
    let robot = &stage.run.config.robot;
    let (limits, dt_s) = (robot.limits().to_vec(), 1.0 / robot.toml().servo_hz);
    let ticks: Vec<Executed> = stage.dispatcher.report().ticks().cloned().collect();
    // A guard that stands has stopped in the servo tick in which it learns of it.
    let meant = |now: Mode| now == mode || (mode == Mode::Stopping && now == Mode::Stopped);
    let newest = |pair: &[Executed]| matches!(pair, [a, b] if !meant(a.mode) && meant(b.mode) && injected_ns <= b.sent_at_ns);
    let before = ticks.windows(2).rposition(newest);
    let mut before = before.with_context(|| format!("no servo tick came to {mode}"))?;
    let detected_ns = ticks.get(before + 1).map_or(0, |tick| tick.sent_at_ns);
    stage.detected_after_ms = millis(detected_ns.saturating_sub(injected_ns));
    let rows: Vec<Vec<f64>> = ticks.iter().map(|tick| tick.command.clone()).collect();
    let mut begin = Begin::of(&rows, before, (&limits, dt_s));
    stage.stopped_in_motion = STILL < begin.speed;
    if !stage.stopped_in_motion {
        let acts = |tick: &Executed| tick.source == Source::Policy;
        let acted = ticks
            .get(..=before)
            .and_then(|ticks| ticks.iter().rposition(acts));
        before = acted.context("nothing ever moved that could stop")?;
        begin = Begin::of(&rows, before, (&limits, dt_s));
    }
    let (first, stood) = (before + 1, stands_from(&rows, before + 1, dt_s)?);
    // Positions are seen once a period: the last movement is seen in the period after its begin.
    let took_s = f64::from(u32::try_from(stood - first)?) * dt_s;
    let deepest = limits
        .get(begin.fastest)
        .map_or(0.0, |limits| limits.acceleration_max);
    // What stands has nothing to brake.
    let braked = if STILL < begin.speed {
        begins_to_brake(&ticks, first, (begin.fastest, deepest * dt_s * dt_s))
    } else {
        0.0
    };
    stage.standard(
        "servo ticks from detection to the first deceleration",
        braked,
        1.0,
    );
    stage.standard(STANDSTILL, took_s / (begin.predicted_s + dt_s), STOP_SHARE);
    Ok(())
}

/// Judges a stop that nobody told of, by the commands alone: the one that began with the command of this
/// number.
///
/// # Errors
/// It does not stand still.
pub fn judge_commands(stage: &mut Stage, from: usize) -> anyhow::Result<()> {
    let robot = &stage.run.config.robot;
    let (limits, dt_s) = (robot.limits().to_vec(), 1.0 / robot.toml().servo_hz);
    let rows = stage.witness.commands().concat();
    let begin = Begin::of(&rows, from.saturating_sub(1), (&limits, dt_s));
    let stood = stands_from(&rows, from, dt_s)?;
    let took_s = f64::from(u32::try_from(stood - from)?) * dt_s;
    stage.demand(STILL < begin.speed, || "it stood already".to_owned());
    stage.standard(STANDSTILL, took_s / (begin.predicted_s + dt_s), STOP_SHARE);
    Ok(())
}

/// Where a stop begins.
struct Begin {
    /// How long it takes by B.4, seconds.
    predicted_s: f64,
    /// The fastest degree of freedom, and its speed, units a second.
    fastest: usize,
    speed: f64,
}

impl Begin {
    /// From the motion at the end of a servo tick.
    fn of(rows: &[Vec<f64>], idx: usize, (limits, dt_s): (&[Limits], f64)) -> Self {
        let row = |back: usize| rows.get(idx.saturating_sub(back));
        let rows = [row(2), row(1), row(0)];
        let mut begin = Self {
            predicted_s: 0.0,
            fastest: 0,
            speed: 0.0,
        };
        for (dof, limits) in limits.iter().enumerate() {
            let place = |row: Option<&Vec<f64>>| row.and_then(|row| row.get(dof).copied());
            let places = rows.map(|row| place(row).unwrap_or(f64::NAN));
            let motion = motion_at_end(places, dt_s, limits);
            let open = limits.jerk_max * dt_s;
            for aside in [-open, 0.0, open] {
                let motion = bent(&motion, aside, (limits, dt_s));
                begin.predicted_s = begin
                    .predicted_s
                    .max(Stop::new(limits, &motion).duration_s());
            }
            if begin.speed < motion.velocity.abs() {
                (begin.speed, begin.fastest) = (motion.velocity.abs(), dof);
            }
        }
        begin
    }
}

/// The first servo tick from `first` on whose command is that of the one before it.
fn stands_from(rows: &[Vec<f64>], first: usize, dt_s: f64) -> anyhow::Result<usize> {
    let still = |idx: &usize| {
        let (Some(now), Some(before)) = (rows.get(*idx), rows.get(idx.wrapping_sub(1))) else {
            return false;
        };
        let mut dofs = now.iter().zip(before);
        dofs.all(|(now, before)| (now - before).abs() <= STILL * dt_s)
    };
    (first..rows.len())
        .find(still)
        .context("it does not stand still")
}

/// The motion at the last of three places, one a period, as if its acceleration had not changed since the
/// period before.
fn motion_at_end([b, c, d]: [f64; 3], dt_s: f64, limits: &Limits) -> Motion {
    let (first, second) = (d - c, d - 2.0 * c + b);
    let acceleration = second / (dt_s * dt_s);
    Motion {
        position: d,
        velocity: (first + second / 2.0) / dt_s,
        acceleration: acceleration.clamp(-limits.acceleration_max, limits.acceleration_max),
    }
}

/// A motion whose acceleration was so much larger at last. What three places leave open is what the largest
/// jerk makes in a period: a stop is known to be too long only where it is for all of that.
fn bent(motion: &Motion, by: f64, (limits, dt_s): (&Limits, f64)) -> Motion {
    let most = limits.acceleration_max;
    let acceleration = (motion.acceleration + by).clamp(-most, most);
    Motion {
        velocity: motion.velocity + (acceleration - motion.acceleration) * dt_s / 2.0,
        acceleration,
        ..*motion
    }
}

/// Servo ticks from the first one of a stop until its fastest joint's acceleration goes against its
/// motion; 0 where the first one's does. `deepest` is the largest second difference.
fn begins_to_brake(ticks: &[Executed], first: usize, (dof, deepest): (usize, f64)) -> f64 {
    let position = |idx: usize| {
        ticks
            .get(idx)
            .and_then(|tick| tick.command.get(dof).copied())
    };
    let bend = |idx: usize| {
        let [a, b, c] = [
            position(idx.wrapping_sub(2))?,
            position(idx.wrapping_sub(1))?,
            position(idx)?,
        ];
        Some((c - b, c - 2.0 * b + a))
    };
    let mut ticks_passed = 0.0;
    for idx in first..ticks.len() {
        let (Some((speed, now)), Some((_, before))) = (bend(idx), bend(idx.wrapping_sub(1))) else {
            break;
        };
        let along = 1.0_f64.copysign(speed);
        // Falling, or as deep as it may be, or nothing left to brake.
        if along * (now - before) < 0.0 || now * along <= -DEEP * deepest || speed.abs() < ROUNDING
        {
            return ticks_passed;
        }
        ticks_passed += 1.0;
    }
    ticks_passed
}
