//! F07 and F08: threads that panic, and threads that hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use vlad_actors::role::{Core, CoreError, Factory, RoleSpec};
use vlad_actors::supervisor::{Arguments, Supervision, SupervisorEvent};
use vlad_bus::waker::Waker;
use vlad_safety::envelope::Motion;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_safety::stop::Stop;
use vlad_wire::clock::{MS, SECOND, SystemClock};
use vlad_wire::id::Role;

use super::finding::{Finding, Worst};
use super::network::MISSED_MS;
use super::stage::{Manner, Stage};
use super::standard::{self, millis};

/// A hung thread's process is killed for want of health after so long (F08).
const HANG_MS: u64 = 2500;

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

/// F07: each role's thread panics in motion: the guard stops or holds, its supervisor's restart moves
/// nothing, a person lets it go on. The supervisor gives a role up in the end. The servo thread's panic
/// leaves the robot to its own watchdog.
pub(super) fn threads_panic(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for role in Role::ALL {
        finding.add(thread_panics(role)?);
    }
    for manner in Manner::BOTH {
        for role in [Role::Brain, Role::ActionExpert] {
            finding.add(model_panics(Stage::meeting(seed, manner)?, role)?);
        }
        finding.add(perception_panics(Stage::meeting(seed, manner)?)?);
        finding.add(bus_side_panics(Stage::meeting(seed, manner)?)?);
    }
    finding.add(super::servo_thread::panics(seed)?);
    Ok(finding)
}

fn model_panics(mut stage: Stage, role: Role) -> anyhow::Result<Finding> {
    let reason = match role {
        Role::Brain => Reason::BrainLost,
        _ => Reason::ExpertLost,
    };
    stage.move_arms()?;
    stage.run.stepped.panic_next(role);
    stage.stops(&[reason], SECOND)?;
    stage.demand_motion();
    stage.run.stepped.revive(role)?;
    stage.stays(Mode::Stopped)?;
    stage.recovers()?;
    stage.conclude()
}

fn perception_panics(mut stage: Stage) -> anyhow::Result<Finding> {
    stage.move_arms()?;
    let panicked_ns = stage.now_ns();
    stage.run.stepped.panic_next(Role::Perception);
    stage.holds(Reason::PerceptionUnfit, SECOND)?;
    let held_ms = stage.detected_after_ms;
    stage.figure("from perception's panic to hold, ms", held_ms, MISSED_MS);
    stage.stops_since(panicked_ns, &[Reason::PerceptionLost], 2 * SECOND)?;
    stage.restart_perception()?;
    stage.stays(Mode::Stopped)?;
    stage.recovers()?;
    stage.conclude()
}

/// The servo thread learns that its bus side is gone, brings the robot to standstill, and ends.
fn bus_side_panics(mut stage: Stage) -> anyhow::Result<Finding> {
    stage.move_arms()?;
    stage.run.stepped.panic_next(Role::Actuator);
    // The core ends behind this servo tick; the next one still plays, and learns of it.
    stage.pass(2 * stage.period_ns())?;
    let before = stage.witness.n_commands();
    stage.pass(SECOND)?;
    let given = stage.witness.n_commands();
    standard::judge_commands(&mut stage, before)?;
    stage.pass(SECOND)?;
    let later = u32::try_from(stage.witness.n_commands() - given)?;
    stage.figure("commands after the guard's end", f64::from(later), 0.0);
    stage.restart_guard()?;
    stage.stays(Mode::Disarmed)?;
    stage.recovers()?;
    stage.conclude()
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

/// F08: one thread after the other makes no step any more. The robot stands before anybody restarts it:
/// after five missed heartbeats, or, where what is accepted may still be played, at the age limit.
pub(super) fn threads_hang(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        for role in [
            Role::Actuator,
            Role::Perception,
            Role::Brain,
            Role::ActionExpert,
        ] {
            finding.add(hangs(Stage::meeting(seed, manner)?, role)?);
        }
    }
    Ok(finding)
}

fn hangs(mut stage: Stage, role: Role) -> anyhow::Result<Finding> {
    stage.move_arms()?;
    stage.run.stepped.freeze(role, true);
    let before = stage.witness.n_commands();
    // Of the guard's bus side nothing is heard: the commands themselves tell.
    stage.pass(HANG_MS * MS)?;
    let commands = stage.witness.commands();
    let all = commands.last().context("no commands")?;
    let moves = all
        .windows(2)
        .rposition(|pair| matches!(pair, [a, b] if a != b));
    let moved = moves.map_or(0, |idx| (idx + 1).saturating_sub(before));
    let stood_ms = millis(u64::try_from(moved)? * stage.period_ns());
    let known_ms = match role {
        Role::Actuator | Role::Perception => MISSED_MS,
        _ => f64::from(stage.run.config.guard.action_age_limit_ms),
    };
    let limit_ms = known_ms + longest_stop_ms(&stage);
    stage.figure("standing after a hang, ms", stood_ms, limit_ms);
    // The supervisor's process is killed and started again, or the thread goes on at last.
    match role {
        Role::Brain | Role::ActionExpert => {
            stage.run.stepped.kill(role);
            stage.run.stepped.revive(role)?;
            stage.stays(Mode::Stopped)?;
            stage.recovers()?;
        }
        _ => {
            stage.run.stepped.freeze(role, false);
            stage.stays(Mode::Stopped)?;
        }
    }
    stage.conclude()
}

/// The longest stop that the robot can need (reference B.4), milliseconds.
fn longest_stop_ms(stage: &Stage) -> f64 {
    let limits = stage.run.config.robot.limits().iter();
    let stops = limits.map(|limits| {
        let start = Motion {
            position: 0.0,
            velocity: limits.speed_max,
            acceleration: limits.acceleration_max,
        };
        Stop::new(limits, &start).duration_s() * 1e3
    });
    stops.fold(0.0, f64::max)
}
