//! F21 to F24: wall clocks that jump, hosts whose clocks differ, machines that slept or stood still.

use vlad_actors::stepped::Skew;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};

use super::finding::Finding;
use super::stage::{Manner, Stage};
use super::standard::millis;

/// How far the wall clock jumps.
const HOUR_NS: i64 = 3_600 * 1_000_000_000;
/// How far two hosts' clocks are apart (F22), and how much one of them is too fast.
const SKEW_NS: i64 = 20 * 1_000_000;
const DRIFT_PPM: i64 = 50;
/// Largest error of a capture's time.
const AGE_ERROR_MS: f64 = 10.0;
/// How long the machine slept; more than the guard lets pass.
const SLEPT_NS: u64 = 150 * MS;
/// How long the guard's thread got no processor.
const STALLED_NS: u64 = 50 * MS;

/// F21: the wall clock goes an hour forward, then two back. The same run without gives the same
/// commands, and the log shows both clocks.
pub(super) fn wall_clock_jumps(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let mut commands = Vec::new();
    for jumps in [false, true] {
        let mut stage = Stage::new(seed)?;
        stage.move_arms()?;
        for by_ns in [HOUR_NS, -2 * HOUR_NS] {
            if jumps {
                stage.run.stepped.jump_wall(by_ns);
            }
            stage.pass(SECOND)?;
        }
        if jumps {
            let events = &stage.dispatcher.report().events;
            let back = events
                .windows(2)
                .any(|pair| matches!(pair, [a, b] if b.wall_ns < a.wall_ns && a.at_ns <= b.at_ns));
            stage.demand(back, || {
                "no event shows the wall clock going back".to_owned()
            });
        }
        commands.push(stage.witness.commands());
        finding.add(stage.conclude()?);
    }
    finding.add(Finding::of_same(&commands));
    Ok(finding)
}

/// F22: perception runs on a host whose clock is 20 ms ahead or behind, drifts, or began at another
/// time altogether.
pub(super) fn hosts_differ(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for (offset_ns, drift_ppm) in [
        (SKEW_NS, 0),
        (-SKEW_NS, 0),
        (SKEW_NS, DRIFT_PPM),
        (HOUR_NS, -DRIFT_PPM),
    ] {
        let skew = Skew {
            offset_ns,
            drift_ppm,
        };
        let mut stage = Stage::new(seed)?;
        stage.run.stepped.skew_perception(skew);
        stage.camera.skew(skew);
        stage.move_arms()?;
        stage.pass(10 * SECOND)?;
        let error_ms = capture_error_ms(&stage);
        stage.figure("error of a capture's time, ms", error_ms, AGE_ERROR_MS);
        finding.add(stage.conclude()?);
    }
    Ok(finding)
}

/// How far the captures behind chunks are from when a frame was really captured, milliseconds.
fn capture_error_ms(stage: &Stage) -> f64 {
    let captures_ns = stage.camera.captures_ns();
    let error_ns = |at_ns: u64| {
        let apart = captures_ns
            .iter()
            .map(|captured_ns| captured_ns.abs_diff(at_ns));
        apart.min().unwrap_or(u64::MAX)
    };
    let heads = stage.dispatcher.report().chunks.iter();
    let worst_ns = heads.map(|head| error_ns(head.captured_at_ns)).max();
    millis(worst_ns.unwrap_or(u64::MAX))
}

/// F23: the machine was asleep.
pub(super) fn machine_slept(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    stage.run.stepped.suspend(SLEPT_NS);
    let reason = stage.wait_mode(Mode::Fault, SECOND)?;
    stage.demand(reason == Reason::ClockGap, || format!("fault for {reason}"));
    stage.pass(SECOND)?;
    let moved = stage.moved_since(SECOND / 2);
    stage.figure("motion half a second later, rad", moved, 1e-9);
    stage.stays(Mode::Fault)?;
    stage.resets()?;
    stage.recovers()?;
    stage.conclude()
}

/// F24: the guard's thread gets no processor for 50 ms, with limits under which one late tick stops.
pub(super) fn guard_stalls(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        let stage = Stage::with(seed, manner.options(), &["guard.overrun_max=1"])?;
        finding.add(stalls(stage)?);
    }
    Ok(finding)
}

fn stalls(mut stage: Stage) -> anyhow::Result<Finding> {
    stage.move_arms()?;
    let (before, before_ns) = (stage.witness.n_commands(), stage.now_ns());
    stage.run.stepped.stall(STALLED_NS);
    stage.stops(&[Reason::ServoOverrun], SECOND)?;
    stage.demand_motion();
    let given = u64::try_from(stage.witness.n_commands() - before)?;
    let left = (stage.now_ns() - before_ns).saturating_sub(STALLED_NS) / stage.period_ns();
    let burst = given.saturating_sub(left + 1);
    stage.figure(
        "commands beyond one a period",
        f64::from(u32::try_from(burst)?),
        0.0,
    );
    stage.recovers()?;
    stage.conclude()
}
