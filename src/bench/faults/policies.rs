//! F25 and F31 to F34: policies that fail, slow down, loop, change their mind, or cannot do what is
//! asked of them.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::policy::scripted::ScriptedPolicy;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Role;

use super::finding::{Finding, Worst};
use super::stage::Stage;
use crate::config::{Config, Sources};
use crate::daemon;
use crate::rehearsal::Options;
use crate::rehearsal::puppet::{Hands, Puppet};

/// Reasons for which motion may end when no chunk comes.
const NOTHING_COMES: [Reason; 3] = [
    Reason::BufferEmpty,
    Reason::ThinkTimeout,
    Reason::ActionTooOld,
];

/// A stage whose policy hangs on strings.
fn stage(seed: u64, sets: &[&str]) -> anyhow::Result<(Stage, Puppet)> {
    let tied: Arc<Mutex<Option<Puppet>>> = Arc::default();
    let ties = tied.clone();
    let options = Options {
        policy: Box::new(move |robot| {
            let scripted = ScriptedPolicy::new(Arc::new(robot.clone()))?;
            let puppet = Puppet::new(Arc::new(scripted), robot.clone());
            *ties.lock().unwrap_or_else(PoisonError::into_inner) = Some(puppet.clone());
            Ok(Arc::new(puppet))
        }),
        ..Options::default()
    };
    let stage = Stage::with(seed, options, sets)?;
    let puppet = tied.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((stage, puppet.context("no policy was made")?))
}

/// F25: a context fails for want of memory, once, then always.
pub(super) fn out_of_memory(seed: u64) -> anyhow::Result<Finding> {
    let (mut once, puppet) = stage(seed, &[])?;
    once.move_arms()?;
    puppet.fail(1);
    once.pass(4 * SECOND)?;
    let said = once.dispatcher.report().events.iter();
    let said = said
        .filter(|event| event.text.as_str().contains("out of memory"))
        .count();
    once.demand(0 < said, || "no event names the failure".to_owned());
    let mode = once.dispatcher.mode().map(|now| now.0);
    once.demand(matches!(mode, Some(Mode::Running | Mode::Hold)), || {
        format!("one failure ends in {mode:?}")
    });
    let mut finding = once.conclude()?;
    let (mut always, puppet) = stage(seed, &[])?;
    always.move_arms()?;
    puppet.fail(u32::MAX);
    always.stops(&NOTHING_COMES, 5 * SECOND)?;
    puppet.fail(0);
    always.recovers()?;
    finding.add(always.conclude()?);
    Ok(finding)
}

/// F32: chunks that stand still, swing forever, or go as fast as they may to and fro.
pub(super) fn adversarial(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for hands in [
        Hands::Still,
        Hands::Swing { by: 0.2, rows: 30 },
        Hands::Fastest,
        Hands::NotFinite,
    ] {
        let (mut stage, puppet) = stage(seed, &[])?;
        stage.move_arms()?;
        puppet.hands(hands);
        stage.pass(6 * SECOND)?;
        if hands == Hands::NotFinite {
            let mode = stage.dispatcher.mode();
            let stopped = mode
                .is_some_and(|(mode, reason)| mode == Mode::Fault && reason == Reason::BadChunks);
            stage.demand(stopped, || format!("numbers that are none end in {mode:?}"));
        }
        finding.add(stage.conclude()?);
    }
    finding.add(super::progress::loops_are_found(seed)?);
    Ok(finding)
}

/// F33: each chunk wants the other way.
pub(super) fn undecided(seed: u64) -> anyhow::Result<Finding> {
    let (mut stage, puppet) = stage(seed, &["expert.strategy=naive"])?;
    stage.move_arms()?;
    puppet.hands(Hands::Undecided { by: 0.02 });
    let began_ns = stage.now_ns();
    stage.wait(
        "the guard holds for disagreement",
        10 * SECOND,
        |dispatcher| dispatcher.mode() == Some((Mode::Hold, Reason::Disagreement)),
    )?;
    let accepted = stage.dispatcher.report().events.iter();
    let accepted = accepted
        .filter(|event| event.kind.as_str() == "chunk_accepted" && began_ns <= event.at_ns)
        .count();
    // The one under way when the policy went mad, and the five that disagree.
    let accepted = f64::from(u32::try_from(accepted)?);
    stage.figure("chunks until it holds", accepted, 7.0);
    let alarm = stage.dispatcher.report().events.iter();
    let alarm = alarm
        .filter(|event| event.kind.as_str() == "chunks_disagree")
        .count();
    stage.demand(0 < alarm, || "no alarm before the hold".to_owned());
    stage.stays(Mode::Hold)?;
    stage.conclude()
}

/// F34: a checkpoint without prefix training under a strategy that needs it, and one without guidance.
pub(super) fn impossible_strategy(_: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for strategy in ["clean-prefix", "guided"] {
        let config = Config::load(&Sources {
            sets: vec![format!("expert.strategy={strategy}")],
            ..Sources::default()
        })?;
        let opened = daemon::policy::open(&config, &[Role::Brain, Role::ActionExpert]);
        let text = opened.err().map(|error| format!("{error:#}"));
        let named = text
            .as_ref()
            .is_some_and(|text| text.contains("expert.strategy"));
        let faults = if named {
            Vec::new()
        } else {
            vec![format!("{strategy} is not refused at load: {text:?}")]
        };
        let opened = f64::from(u32::from(text.is_none()));
        let figure = Worst::new("impossible strategies that were opened", opened, 0.0);
        finding.add(Finding::of(vec![figure], faults));
    }
    Ok(finding)
}

/// F31: decisions take longer and longer, from 80 to 500 ms, and shorter again.
pub(super) fn latency_ramp(seed: u64) -> anyhow::Result<Finding> {
    let delay_ms = Arc::new(Mutex::new(80.0_f64));
    let told = delay_ms.clone();
    let options = Options {
        conditions: vlad_actors::stepped::Conditions {
            travel: Box::new(move |row| {
                let budget_ns = u64::from(row.budget_ms) * MS;
                if row.key != "context/{part}" {
                    return vlad_bus::travel::Travel::once(budget_ns);
                }
                let ms = *told.lock().unwrap_or_else(PoisonError::into_inner);
                vlad_bus::travel::Travel::once(nanoseconds(ms))
            }),
            ..vlad_actors::stepped::Conditions::default()
        },
        ..Options::default()
    };
    let mut stage = Stage::with(seed, options, &[])?;
    stage.move_arms()?;
    let mut strategies = Vec::new();
    let (began_ns, half_ns) = (stage.now_ns(), 20 * SECOND);
    while stage.now_ns() < began_ns + 2 * half_ns {
        let into_ns = stage.now_ns() - began_ns;
        let up = super::standard::millis(into_ns.min(2 * half_ns - into_ns));
        let ms = 80.0 + 420.0 * up / super::standard::millis(half_ns);
        *delay_ms.lock().unwrap_or_else(PoisonError::into_inner) = ms;
        stage.pass(100 * MS)?;
        // The task ends; the robot shall go on.
        if stage
            .dispatcher
            .mode()
            .is_some_and(|now| now.0 == Mode::Stopped)
        {
            break;
        }
    }
    for head in &stage.dispatcher.report().chunks {
        if strategies
            .last()
            .is_none_or(|(_, last)| *last != head.strategy)
        {
            strategies.push((head.acted_from_ns, head.strategy));
        }
    }
    let wavers = strategies
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if b.0 - a.0 < 10 * SECOND))
        .count();
    // The first strategy stands still until a delay is known.
    let wavers = f64::from(u32::try_from(wavers.saturating_sub(1))?);
    stage.figure("changes of strategy within 10 s of another", wavers, 0.0);
    // Beyond the age check there is nothing left but to stop, and to say so.
    let mode = stage.dispatcher.mode();
    let aged = mode == Some((Mode::Stopped, Reason::ActionTooOld));
    let goes = mode.is_some_and(|now| matches!(now.0, Mode::Running | Mode::Hold));
    stage.demand(goes || aged, || format!("the ramp ends in {mode:?}"));
    let stalled = stage.dispatcher.guard()?.counters.stalled;
    let stalled = f64::from(u32::try_from(stalled)?);
    stage.figure("policy ticks without an action", stalled, 0.0);
    stage.conclude()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "a delay is a few hundred positive milliseconds"
)]
fn nanoseconds(ms: f64) -> u64 {
    (ms * 1e6) as u64
}
