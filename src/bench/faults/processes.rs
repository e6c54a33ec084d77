//! F01 to F06 and F09: processes that die, hang or are starved.

use anyhow::ensure;
use vlad_actors::recorder::{Recorder, RecorderParts};
use vlad_actors::role::Core;
use vlad_cell::robot::Measured;
use vlad_safety::envelope::flag;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_store::episodes::{EpisodeStore, PAGE_MAX};
use vlad_store::record::RecordKind;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::{EpisodeId, Role};
use vlad_wire::msg::command::Lease;
use vlad_wire::msg::think::Digest;
use vlad_wire::stream::LeaseCommand;

use super::finding::Finding;
use super::folder::Folder;
use super::stage::{Manner, Stage};
use super::standard::{millis, period_ns};
use crate::rehearsal::holder::LEASE_MS;

/// Moments of a decision at which a process is killed: the reference's fail points (load, capture,
/// prefill, denoise step, send) lie between two messages, and so does each of these.
const MOMENTS: u64 = 12;
/// They are spread over this long: a decision with the chunk before it.
const DECISION_NS: u64 = 400 * MS;
/// A vendor's watchdog must have stopped the arm after so long (F03).
pub(super) const VENDOR_STOP_MS: f64 = 200.0;
/// Longest end of the log that a kill may cost (F04; reference P9).
const LOG_LOST_MS: f64 = 1000.0;
/// Slowest joint that still moves, rad/s.
pub(super) const STILL_RAD_S: f64 = 0.02;

/// F01: brain or action expert is killed, at each of twelve moments.
pub(super) fn model_killed(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        for role in [Role::Brain, Role::ActionExpert] {
            for moment in 0..MOMENTS {
                let mut stage = Stage::meeting(seed, manner)?;
                stage.move_arms()?;
                stage.pass(DECISION_NS / MOMENTS * moment)?;
                finding.add(is_killed(stage, role)?);
            }
        }
    }
    Ok(finding)
}

fn is_killed(mut stage: Stage, role: Role) -> anyhow::Result<Finding> {
    let reason = match role {
        Role::Brain => Reason::BrainLost,
        _ => Reason::ExpertLost,
    };
    stage.run.stepped.kill(role);
    stage.stops(&[reason], SECOND)?;
    if stage.flows() {
        stage.demand_motion();
    }
    let after_ms = stage.detected_after_ms;
    // The token's end travels to the guard's bus side, which hands it to the next servo tick.
    stage.figure(
        "from the kill to the stop's first servo tick, ms",
        after_ms,
        20.0,
    );
    stage.run.stepped.revive(role)?;
    stage.stays(Mode::Stopped)?;
    stage.recovers()?;
    stage.conclude()
}

/// F02: the gateway is killed in motion.
pub(super) fn gateway_killed(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    stage.pass(300 * MS)?;
    let renewed_ns = stage.dispatcher.renewed_at_ns();
    let held = held_without_a_word(&mut stage, 2 * u64::from(LEASE_MS) * MS)?;
    let late_ms = millis(held.saturating_sub(renewed_ns)) - f64::from(LEASE_MS);
    // One servo tick after expiry, and the renewal's own travel.
    let limit_ms = 2.0 * millis(stage.period_ns()) + 10.0;
    stage.figure("hold after the lease's expiry, ms", late_ms, limit_ms);
    stage.pass(SECOND)?;
    // The next gateway begins with an epoch of its own.
    stage.leases()?;
    let epoch = stage.dispatcher.guard()?.epoch;
    stage.wait_mode(Mode::Running, 5 * SECOND)?;
    stage.pass(SECOND)?;
    let newest = stage.dispatcher.report().ticks().rev().take(100);
    let of_old = newest.filter(|tick| tick.epoch < epoch).count();
    stage.demand(of_old == 0, || {
        format!("{of_old} servo ticks of the old lease")
    });
    stage.conclude()
}

/// Goes on without a dispatcher until the guard holds; gives when.
fn held_without_a_word(stage: &mut Stage, for_ns: u64) -> anyhow::Result<u64> {
    let give_up_ns = stage.now_ns() + for_ns;
    loop {
        stage.dispatcher.step_silently(&mut stage.run)?;
        let guard = stage.dispatcher.guard()?;
        if guard.mode == Mode::Hold && guard.reason == Reason::LeaseLost {
            return Ok(guard.since_ns);
        }
        ensure!(
            stage.now_ns() < give_up_ns,
            "no hold without a lease: {guard:?}"
        );
    }
}

/// F03: the guard's process is killed in motion.
pub(super) fn guard_killed(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    let mut eye = stage.run.world.robot();
    let mut measured = Measured::default();
    let mut speed = |stage: &Stage| -> anyhow::Result<f64> {
        let n_dofs = stage.run.config.robot.n_dofs();
        measured.position.resize(n_dofs, 0.0);
        measured.velocity.resize(n_dofs, 0.0);
        eye.read(&mut measured)?;
        Ok(measured
            .velocity
            .iter()
            .fold(0.0, |most, speed| speed.abs().max(most)))
    };
    ensure!(STILL_RAD_S < speed(&stage)?, "the arm does not move");
    let killed_ns = stage.now_ns();
    stage.run.stepped.kill(Role::Actuator);
    let mut last_ns = killed_ns;
    while stage.now_ns() < killed_ns + SECOND {
        stage.dispatcher.step_silently(&mut stage.run)?;
        if STILL_RAD_S < speed(&stage)? {
            last_ns = stage.now_ns();
        }
    }
    let stood_ms = millis(last_ns - killed_ns);
    stage.figure("the vendor's stop, ms", stood_ms, VENDOR_STOP_MS);
    stage.restart_guard()?;
    stage.stays(Mode::Disarmed)?;
    // A lease moves nothing without a person.
    let epoch = stage.next_epoch();
    let leased = stage.dispatcher.take(&mut stage.run, epoch)?;
    stage.demand(!leased.done, || "a disarmed guard gave a lease".to_owned());
    stage.stays(Mode::Disarmed)?;
    stage.recovers()?;
    stage.conclude()
}

/// F04: the recorder is killed in motion. The same run without the death gives the same commands, and what
/// is on the disk then lacks a second at most.
pub(super) fn recorder_killed(seed: u64) -> anyhow::Result<Finding> {
    let folder = Folder::new("f04")?;
    let mut finding = Finding::default();
    let mut commands = Vec::new();
    for dies in [false, true] {
        let mut stage = Stage::new(seed)?;
        let path = folder.sub(if dies { "dies" } else { "lives" })?;
        let store = EpisodeStore::open(&path)?;
        stage
            .run
            .stepped
            .add(Role::Recorder, recorder(&stage, &store, 100)?);
        stage.move_arms()?;
        stage.pass(3 * SECOND / 2)?;
        if dies {
            let left = folder.copy(&path, "left")?;
            stage.run.stepped.kill(Role::Recorder);
            goes_on(&mut stage, &EpisodeStore::open(&left)?, &store)?;
        } else {
            stage.pass(SECOND)?;
        }
        let late = u32::try_from(stage.dispatcher.guard()?.counters.late)?;
        stage.figure("late servo ticks", f64::from(late), 0.0);
        commands.push(stage.witness.commands());
        finding.add(stage.conclude()?);
    }
    finding.add(Finding::of_same(&commands));
    Ok(finding)
}

/// What a `kill -9` leaves is what was written to files by then: judges that. The next recorder of the same
/// process writes on in the store that it has.
fn goes_on(stage: &mut Stage, left: &EpisodeStore, store: &EpisodeStore) -> anyhow::Result<()> {
    let killed_ns = stage.now_ns();
    let (task, attempt) = stage.dispatcher.task();
    let id = EpisodeId { task, attempt };
    let newest_ns = records(left, id)?.into_iter().max().unwrap_or(0);
    let lost_ms = millis(killed_ns.saturating_sub(newest_ns));
    stage.figure("of the log lost by the kill, ms", lost_ms, LOG_LOST_MS);
    let kept = records(store, id)?.len();
    let next = recorder(stage, store, 101)?;
    stage.run.stepped.add(Role::Recorder, next);
    stage.pass(SECOND)?;
    let after = records(store, id)?.len();
    stage.demand(kept < after, || {
        "the next recorder writes nothing".to_owned()
    });
    Ok(())
}

fn recorder(stage: &Stage, store: &EpisodeStore, session: u64) -> anyhow::Result<Box<dyn Core>> {
    let parts = RecorderParts {
        cell: stage.run.config.cell.name.clone(),
        store: store.clone(),
        config_hash: Digest::default(),
        session,
    };
    let clock = stage.run.stepped.clock();
    Ok(Box::new(Recorder::new(
        stage.run.stepped.bus(),
        &clock,
        parts,
    )?))
}

/// When what was commanded of an episode was kept.
fn records(store: &EpisodeStore, id: EpisodeId) -> anyhow::Result<Vec<u64>> {
    let (kind, mut stamps) = (RecordKind::Executed, Vec::new());
    loop {
        let page = store.records(&id, kind, u64::try_from(stamps.len())?, PAGE_MAX)?;
        if page.is_empty() {
            return Ok(stamps);
        }
        for record in page {
            stamps.push(record?.stamp.at_ns);
        }
    }
}

/// F05: the expert, then the brain, is stopped for five seconds and goes on.
pub(super) fn model_stopped(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        for role in [Role::ActionExpert, Role::Brain] {
            finding.add(is_stopped(Stage::meeting(seed, manner)?, role)?);
        }
    }
    Ok(finding)
}

fn is_stopped(mut stage: Stage, role: Role) -> anyhow::Result<Finding> {
    stage.move_arms()?;
    stage.run.stepped.freeze(role, true);
    let began_ns = stage.now_ns();
    stage.stops(
        &[
            Reason::BufferEmpty,
            Reason::ActionTooOld,
            Reason::ThinkTimeout,
        ],
        4 * SECOND,
    )?;
    stage.pass((began_ns + 5 * SECOND).saturating_sub(stage.now_ns()))?;
    let accepted = stage.dispatcher.guard()?.counters.accepted;
    stage.run.stepped.freeze(role, false);
    stage.stays(Mode::Stopped)?;
    let later = stage.dispatcher.guard()?.counters.accepted;
    stage.demand(accepted == later, || {
        "a chunk of before was accepted".to_owned()
    });
    stage.recovers()?;
    stage.conclude()
}

/// F06: a gateway is stopped, a second one takes the cell, the first one goes on.
pub(super) fn gateway_stopped(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    let old = stage.dispatcher.guard()?.epoch;
    held_without_a_word(&mut stage, 2 * u64::from(LEASE_MS) * MS)?;
    stage.leases()?;
    stage.wait_mode(Mode::Running, 5 * SECOND)?;
    let before = stage.dispatcher.guard()?.counters.old_epochs;
    let (task, attempt) = stage.dispatcher.task();
    let words = [
        Lease::Renew { epoch: old },
        Lease::Grant {
            epoch: old,
            task,
            attempt,
            ttl_ms: LEASE_MS,
        },
        Lease::Release { epoch: old },
    ];
    let mut taken = 0_u32;
    for word in &words {
        taken += u32::from(stage.ask::<LeaseCommand>(word)?.done);
    }
    stage.figure("stale commands that were taken", f64::from(taken), 0.0);
    stage.pass(200 * MS)?;
    let refused = stage.dispatcher.guard()?.counters.old_epochs - before;
    stage.demand(refused == 3, || {
        format!("{refused} of 3 stale commands were counted")
    });
    let mode = stage.dispatcher.mode().map(|now| now.0);
    stage.demand(matches!(mode, Some(Mode::Running | Mode::Hold)), || {
        format!("the second gateway's task is {mode:?}")
    });
    stage.conclude()
}

/// F09: the processor is taken away: one late servo tick, then three in a row, then ten in a second.
pub(super) fn processor_taken(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for (late, every, stops) in [(1_u32, 1_u32, false), (3, 1, true), (10, 20, true)] {
        let mut stage = Stage::new(seed)?;
        stage.move_arms()?;
        let period_ns = period_ns(&stage.run.config.robot);
        let began_ns = stage.now_ns();
        for _ in 0..late {
            stage.run.stepped.stall(2 * period_ns + period_ns / 2);
            stage.pass(u64::from(every) * period_ns)?;
        }
        if stops {
            stage.stops_since(began_ns, &[Reason::ServoOverrun], SECOND)?;
        } else {
            stage.pass(SECOND / 2)?;
            let mode = stage.dispatcher.mode().map(|now| now.0);
            stage.demand(matches!(mode, Some(Mode::Running | Mode::Hold)), || {
                format!("one late servo tick ends in {mode:?}")
            });
        }
        let counted = stage.dispatcher.guard()?.counters.late;
        let flagged = stage.dispatcher.report().ticks();
        let flagged = flagged.filter(|tick| tick.flags & flag::LATE != 0).count();
        let silent = u64::from(late).saturating_sub(counted.min(u64::try_from(flagged)?));
        let silent = f64::from(u32::try_from(silent)?);
        stage.figure("late servo ticks that nobody counted", silent, 0.0);
        if stops {
            stage.recovers()?;
        }
        finding.add(stage.conclude()?);
    }
    Ok(finding)
}
