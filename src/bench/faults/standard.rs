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
use vlad_safety::mode::Mode;
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
    stage.figure("commands outside the envelope", beyond, 0.0);
    judge_ticks(stage);
    judge_ages(stage);
    judge_audit(stage);
    judge_ways_out(stage);
}

/// Commands whose position or differences are beyond a limit.
fn beyond_envelope(stage: &Stage) -> f64 {
    let limits = stage.run.config.robot.limits();
    let dt_s = 1.0 / stage.run.config.robot.toml().servo_hz;
    let mut count = 0.0;
    for guard in stage.witness.commands() {
        for four in guard.windows(4) {
            let [a, b, c, d] = four else { continue };
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
    let mut oldest_ms = 0.0_f64;
    for tick in report.ticks() {
        // An action is as old as it is when its tick begins.
        if begun == Some(tick.tick) || tick.source != Source::Policy {
            continue;
        }
        begun = Some(tick.tick);
        let captured_ns = tick.chunk.and_then(|chunk| captured.get(&chunk));
        if let Some(captured_ns) = captured_ns {
            oldest_ms = oldest_ms.max(millis(tick.sent_at_ns.saturating_sub(*captured_ns)));
        }
    }
    stage.figure("oldest action, ms", oldest_ms, limit_ms);
}

fn judge_audit(stage: &mut Stage) {
    let report = stage.dispatcher.report();
    let changes = report
        .guards
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if (a.mode, a.reason) != (b.mode, b.reason)));
    let (changes, told) = (
        changes.count(),
        report
            .events
            .iter()
            .filter(|event| event.kind.as_str() == "mode_changed")
            .count(),
    );
    let begun = stage.witness.commands().len().saturating_sub(1);
    // A guard that starts anew is disarmed without a change.
    stage.demand(changes <= told + begun, || {
        format!("{changes} changes of mode, {told} in the audit")
    });
}

fn judge_ways_out(stage: &mut Stage) {
    let waits = |mode: Mode| matches!(mode, Mode::Stopped | Mode::Estopped | Mode::Fault);
    let mut alone = Vec::new();
    for pair in stage.dispatcher.report().guards.windows(2) {
        let [a, b] = pair else { continue };
        let by_a_person = || {
            let mut persons = stage.persons_ns.iter();
            // The guard may say its old mode while the word is under way.
            persons.any(|at_ns| a.sent_at_ns <= at_ns + UNDER_WAY_NS && *at_ns <= b.sent_at_ns)
        };
        // A guard that starts anew is disarmed, which is no way out.
        let moves_on = waits(a.mode) && !waits(b.mode) && b.mode != Mode::Disarmed;
        if moves_on && !by_a_person() {
            alone.push(format!("{} became {} by itself", a.mode, b.mode));
        }
    }
    stage.faults.extend(alone);
}

/// Judges the newest stop: that it begins with the servo tick in which the mode changed, and is over
/// when B.4 says. Detection is the first servo tick in that mode.
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
    let before = before.with_context(|| format!("no servo tick came to {mode}"))?;
    let at = |idx: usize| -> anyhow::Result<&Executed> {
        ticks
            .get(idx)
            .context("too few servo ticks around the stop")
    };
    let first = before + 1;
    let (x0, x1, x2) = (
        at(before.saturating_sub(2))?,
        at(before.saturating_sub(1))?,
        at(before)?,
    );
    let (mut predicted_s, mut fastest) = (0.0_f64, (0.0_f64, 0_usize));
    let columns = x0.command.iter().zip(&x1.command).zip(&x2.command);
    for (dof, (((a, b), c), limits)) in columns.zip(&limits).enumerate() {
        let start = Motion {
            position: *c,
            velocity: (c - b) / dt_s,
            acceleration: (c - 2.0 * b + a) / (dt_s * dt_s),
        };
        predicted_s = predicted_s.max(Stop::new(limits, &start).duration_s());
        if fastest.0 < start.velocity.abs() {
            fastest = (start.velocity.abs(), dof);
        }
    }
    let still = |idx: usize| {
        let (Some(now), Some(before)) = (ticks.get(idx), ticks.get(idx.wrapping_sub(1))) else {
            return false;
        };
        let mut dofs = now.command.iter().zip(&before.command);
        dofs.all(|(now, before)| (now - before).abs() <= STILL * dt_s)
    };
    let stood = (first..ticks.len())
        .find(|idx| still(*idx))
        .context("it does not stand still")?;
    // Positions are seen once a period: the last movement is seen in the period after its begin.
    let took_s = f64::from(u32::try_from(stood - first)?) * dt_s;
    let detected_ns = at(first)?.sent_at_ns;
    stage.detected_after_ms = millis(detected_ns.saturating_sub(injected_ns));
    if fastest.0 <= STILL {
        return Ok(());
    }
    let deepest = limits
        .get(fastest.1)
        .map_or(0.0, |limits| limits.acceleration_max);
    let begun = begins_to_brake(&ticks, first, (fastest.1, deepest * dt_s * dt_s));
    stage.figure(
        "servo ticks from detection to the first deceleration",
        begun,
        1.0,
    );
    stage.figure(
        "standstill, share of B.4's prediction",
        took_s / (predicted_s + dt_s),
        STOP_SHARE,
    );
    Ok(())
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
