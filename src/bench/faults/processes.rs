//! F01 to F09: processes and threads that die, hang or are starved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;
use vlad_actors::recorder::{Recorder, RecorderParts};
use vlad_actors::role::{Core, CoreError, Factory, RoleSpec};
use vlad_actors::supervisor::{Arguments, Supervision, SupervisorEvent};
use vlad_bus::waker::Waker;
use vlad_cell::robot::{Measured, Robot as _};
use vlad_safety::envelope::flag;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_store::episodes::EpisodeStore;
use vlad_wire::clock::{MS, SECOND, SystemClock};
use vlad_wire::id::Role;
use vlad_wire::msg::command::Lease;
use vlad_wire::msg::think::Digest;
use vlad_wire::stream::LeaseCommand;

use super::finding::{Finding, Worst};
use super::folder::Folder;
use super::stage::Stage;
use super::standard::{millis, period_ns};
use crate::rehearsal::dispatcher::LEASE_MS;

/// Moments of a decision at which a process is killed: the reference's fail points (load, capture,
/// prefill, denoise step, send) lie between two messages, and so does each of these.
const MOMENTS: u64 = 12;
/// They are spread over this long: a decision with the chunk before it.
const DECISION_NS: u64 = 400 * MS;
/// A vendor's watchdog must have stopped the arm after so long (F03).
const VENDOR_STOP_MS: f64 = 200.0;
/// Slowest joint that still moves, rad/s.
const STILL_RAD_S: f64 = 0.02;

/// F01: brain or action expert is killed, at each of twelve moments.
pub(super) fn model_killed(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for (role, reason) in [
        (Role::Brain, Reason::BrainLost),
        (Role::ActionExpert, Reason::ExpertLost),
    ] {
        for moment in 0..MOMENTS {
            let mut stage = Stage::new(seed)?;
            stage.move_arms()?;
            stage.pass(DECISION_NS / MOMENTS * moment)?;
            stage.run.stepped.kill(role);
            stage.stops(&[reason], SECOND)?;
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
            finding.add(stage.conclude()?);
        }
    }
    Ok(finding)
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
    let robot = stage.witnessed_robot();
    stage.run.stepped.restart_guard(robot)?;
    stage.stays(Mode::Disarmed)?;
    // A lease moves nothing without a person.
    let epoch = stage.next_epoch();
    let leased = stage.dispatcher.take(&mut stage.run, epoch)?;
    stage.demand(!leased.done, || "a disarmed guard gave a lease".to_owned());
    stage.stays(Mode::Disarmed)?;
    stage.recovers()?;
    stage.conclude()
}

/// F04: the recorder is killed in motion. The same run without the death gives the same commands.
pub(super) fn recorder_killed(seed: u64) -> anyhow::Result<Finding> {
    let folder = Folder::new("f04")?;
    let mut finding = Finding::default();
    let mut commands = Vec::new();
    for dies in [false, true] {
        let mut stage = Stage::new(seed)?;
        let store = EpisodeStore::open(&folder.sub(if dies { "dies" } else { "lives" })?)?;
        stage
            .run
            .stepped
            .add(Role::Recorder, recorder(&stage, &store, 100)?);
        stage.move_arms()?;
        stage.pass(SECOND)?;
        if dies {
            stage.run.stepped.kill(Role::Recorder);
        }
        stage.pass(SECOND)?;
        if dies {
            let kept = n_records(&store)?;
            stage
                .run
                .stepped
                .add(Role::Recorder, recorder(&stage, &store, 101)?);
            stage.pass(SECOND)?;
            let goes_on = kept < n_records(&store)?;
            stage.demand(0 < kept, || {
                "nothing of the first second is kept".to_owned()
            });
            stage.demand(goes_on, || "the next recorder writes nothing".to_owned());
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

fn n_records(store: &EpisodeStore) -> anyhow::Result<u64> {
    let mut total = 0;
    for summary in store.list(None, 10)?.items {
        total += summary.counts.values().sum::<u64>();
    }
    Ok(total)
}

/// F05: the expert, then the brain, is stopped for five seconds and goes on.
pub(super) fn model_stopped(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for role in [Role::ActionExpert, Role::Brain] {
        let mut stage = Stage::new(seed)?;
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
        finding.add(stage.conclude()?);
    }
    Ok(finding)
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

/// A core that panics at its first step, as often as it shall.
struct Mortal {
    panics: bool,
}

impl Core for Mortal {
    fn step(&mut self, _: u64) -> Result<(), CoreError> {
        if self.panics {
            // Not the macro: it would write a backtrace of an intended end.
            std::panic::resume_unwind(Box::new("injected"));
        }
        Ok(())
    }
}

/// F07: each role's thread panics; its supervisor starts it again, and gives it up in the end.
pub(super) fn threads_panic(_: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for role in Role::ALL {
        finding.add(thread_panics(role)?);
    }
    Ok(finding)
}

fn thread_panics(role: Role) -> anyhow::Result<Finding> {
    let starts = Arc::new(AtomicU64::new(0));
    let counted = starts.clone();
    let factory: Factory = Arc::new(move |_: &Waker| {
        counted.fetch_add(1, Ordering::AcqRel);
        Ok(Box::new(Mortal { panics: true }))
    });
    let spec = RoleSpec {
        role,
        factory,
        waker: Waker::new(),
        period: Duration::from_millis(1),
        clock: Arc::new(SystemClock),
    };
    let (events, mut inbox) = mpsc::channel(64);
    let (mut restarts, mut given_up) = (0_u32, false);
    crate::bench::runtime()?.block_on(async {
        let supervision = Supervision::start(Arguments {
            roles: vec![spec],
            clock: Arc::new(SystemClock),
            events,
        })
        .await?;
        while let Some(event) = inbox.recv().await {
            match event {
                SupervisorEvent::Restarting(_, _) => restarts += 1,
                SupervisorEvent::GivenUp(_) | SupervisorEvent::Stopped(_) => {
                    given_up = true;
                    break;
                }
            }
        }
        supervision.end().await.context("the supervisor panicked")
    })?;
    let mut faults = Vec::new();
    if !given_up {
        faults.push(format!("{role} is never given up"));
    }
    let made = starts.load(Ordering::Acquire);
    if made != u64::from(restarts) + 1 {
        faults.push(format!("{role} was made {made} times, told of {restarts}"));
    }
    let figure = Worst::new(
        "restarts before a role is given up",
        f64::from(restarts),
        5.0,
    );
    Ok(Finding::of(vec![figure], faults))
}

/// F08: one thread after the other makes no step any more.
pub(super) fn threads_hang(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for role in [
        Role::Actuator,
        Role::Perception,
        Role::Brain,
        Role::ActionExpert,
    ] {
        let mut stage = Stage::new(seed)?;
        stage.move_arms()?;
        stage.run.stepped.freeze(role, true);
        let before = stage.witness.n_commands();
        // Of the guard's bus side nothing is heard: the commands themselves tell.
        stage.pass(5 * SECOND / 2)?;
        let commands = stage.witness.commands();
        let all = commands.last().context("no commands")?;
        let moves = all
            .windows(2)
            .rposition(|pair| matches!(pair, [a, b] if a != b));
        let moved = moves.map_or(0, |idx| (idx + 1).saturating_sub(before));
        let stood_ms = millis(u64::try_from(moved)? * stage.period_ns());
        stage.figure("standing after a hang, ms", stood_ms, 2500.0);
        stage.run.stepped.freeze(role, false);
        stage.pass(SECOND)?;
        finding.add(stage.conclude()?);
    }
    Ok(finding)
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
