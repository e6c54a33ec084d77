//! F25 and F31 to F34: policies that fail, slow down, loop, change their mind, or cannot do what is
//! asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Role;
use vlad_wire::msg::think::Strategy;
use vlad_wire::stream::Heartbeats;

use super::finding::{Finding, Worst};
use super::stage::{Manner, PACING, Stage};
use super::standard::millis;
use crate::config::{Config, Sources};
use crate::daemon;
use crate::rehearsal::Options;
use crate::rehearsal::puppet::{Hands, Puppet};

/// F33's own age limit: under 700 ms a robot at half speed now and then takes a chunk that agrees with the
/// one before, which ends the caution, and is not held within ten seconds.
const PATIENT: &str = "guard.action_age_limit_ms=1500";
/// Restarts for want of memory that are allowed in ten minutes (F25).
const RESTARTS_MAX: f64 = 2.0;
/// Travel of a context at the ramp's ends and at its top, milliseconds (F31).
const FAST_MS: f64 = 80.0;
const SLOW_MS: f64 = 500.0;
/// From the one to the other.
const RAMP_NS: u64 = 20 * SECOND;
/// After the ramp: the gate forgets its longest delays with the last 200 decisions, then waits.
const FLAT_NS: u64 = 200 * SECOND;
/// `expert.quiet_ms`, and a decision's time less: it is the delay before the change that counts.
const QUIET_MS: f64 = 10_000.0;
/// Reasons for which motion may end when no chunk comes.
const NOTHING_COMES: [Reason; 3] = [
    Reason::BufferEmpty,
    Reason::ThinkTimeout,
    Reason::ActionTooOld,
];

/// A stage whose policy hangs on strings.
fn stage(seed: u64, manner: Manner, sets: &[&str]) -> anyhow::Result<(Stage, Puppet)> {
    Stage::on_strings(seed, manner.options(), sets)
}

/// F25: a context fails for want of memory, once, then always. The role that failed goes on: no restart,
/// of which two in ten minutes were allowed.
pub(super) fn out_of_memory(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        let (stage, puppet) = stage(seed, manner, &[])?;
        finding.add(fails(stage, &puppet, 1)?);
        let (stage, puppet) = self::stage(seed, manner, &[])?;
        finding.add(fails(stage, &puppet, u32::MAX)?);
    }
    Ok(finding)
}

fn fails(mut stage: Stage, puppet: &Puppet, thinks: u32) -> anyhow::Result<Finding> {
    let (bus, cell) = (
        stage.run.stepped.bus().clone(),
        stage.run.config.cell.name.clone(),
    );
    let mut alive: Subscriber<Heartbeats> = bus.subscriber(&cell, Role::Brain.name(), None)?;
    stage.move_arms()?;
    puppet.fail(thinks);
    let began_ns = stage.now_ns();
    if 1 < thinks {
        stage.stops(&NOTHING_COMES, 5 * SECOND)?;
        let accepted = stage.dispatcher.guard()?.counters.accepted;
        stage.pass(2 * SECOND)?;
        let later = stage.dispatcher.guard()?.counters.accepted - accepted;
        let later = f64::from(u32::try_from(later)?);
        stage.figure("chunks of failed decisions", later, 0.0);
        puppet.fail(0);
        stage.recovers()?;
    } else {
        stage.pass(4 * SECOND)?;
        let mode = stage.dispatcher.mode().map(|now| now.0);
        // What halts waits for the next decision; what flows may have played all that it had by then.
        let goes = matches!(mode, Some(Mode::Running | Mode::Hold));
        let waits = stage.flows() && mode == Some(Mode::Stopped);
        stage.demand(goes || waits, || format!("one failure ends in {mode:?}"));
    }
    let said = stage.dispatcher.report().events.iter();
    let said = said
        .filter(|event| began_ns <= event.at_ns && event.text.as_str().contains("out of memory"));
    let said = said.count();
    stage.demand(0 < said, || "no event names the failure".to_owned());
    let mut sessions = BTreeSet::new();
    while let Some(alive) = alive.try_next() {
        sessions.insert(alive.session);
    }
    let restarts = u32::try_from(sessions.len().saturating_sub(1))?;
    stage.figure("restarts in ten minutes", f64::from(restarts), RESTARTS_MAX);
    stage.demand(!sessions.is_empty(), || "the brain is not heard".to_owned());
    stage.conclude()
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
        let (mut stage, puppet) = stage(seed, Manner::Halting, &[])?;
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

/// F33: each chunk wants the other way, by less than the envelope lets a tick go and by more.
pub(super) fn undecided(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for (manner, by) in [
        (Manner::Halting, 0.02),
        (Manner::Halting, 0.3),
        (Manner::Flowing, 0.02),
        (Manner::Flowing, 0.3),
    ] {
        finding.add(wavers(seed, manner, by)?);
    }
    Ok(finding)
}

fn wavers(seed: u64, manner: Manner, by: f64) -> anyhow::Result<Finding> {
    // The demo cell's own way would wait out each chunk.
    let overlaps: &[&str] = match manner {
        Manner::Halting => &["expert.strategy=naive", PATIENT],
        Manner::Flowing => &[PATIENT],
    };
    let (mut stage, puppet) = stage(seed, manner, overlaps)?;
    stage.move_arms()?;
    puppet.hands(Hands::Undecided { by });
    let began_ns = stage.now_ns();
    stage.wait(
        "the guard holds for disagreement",
        10 * SECOND,
        |dispatcher| dispatcher.mode() == Some((Mode::Hold, Reason::Disagreement)),
    )?;
    let held_ns = stage.dispatcher.guard()?.since_ns;
    let judged = ["chunk_accepted", "chunk_refused", "chunk_late"];
    let events = stage.dispatcher.report().events.iter();
    let later = events.filter(|event| began_ns <= event.at_ns);
    let chunks = later
        .clone()
        .filter(|event| judged.contains(&event.kind.as_str()));
    // The one under way when the policy went mad, its neighbour, and the five that disagree.
    let chunks = f64::from(u32::try_from(chunks.count())?);
    stage.figure("chunks until it holds", chunks, 7.0);
    let alarm = stage.dispatcher.report().events.iter();
    let alarm = alarm.filter(|event| event.kind.as_str() == "chunks_disagree");
    let alarm_ns = alarm.map(|event| event.at_ns).next();
    stage.demand(alarm_ns.is_some_and(|at_ns| at_ns < held_ns), || {
        "no alarm before the hold".to_owned()
    });
    // A jump beyond the envelope ends motion at once where no prefix lies before it: then there is no
    // speed to halve.
    if by < 0.1 || manner == Manner::Flowing {
        let from_ns = alarm_ns.unwrap_or(held_ns);
        let full = f64::from(stage.run.config.robot.servo_per_tick());
        let slowest = servo_ticks_of_slowest(&stage, (from_ns, held_ns)) / full;
        stage.figure("speed before the hold, share", 1.0 / slowest.max(1.0), 0.5);
    }
    stage.pass(SECOND)?;
    super::standard::judge_stop(&mut stage, Mode::Hold, began_ns)?;
    stage.stays(Mode::Hold)?;
    stage.conclude()
}

/// Servo ticks of the policy tick that took the most of them in motion, between two times.
fn servo_ticks_of_slowest(stage: &Stage, (from_ns, until_ns): (u64, u64)) -> f64 {
    let ticks = stage.dispatcher.report().ticks();
    let ticks = ticks.filter(|tick| (from_ns..until_ns).contains(&tick.sent_at_ns));
    let mut counts = BTreeMap::new();
    for tick in ticks.filter(|tick| tick.mode == Mode::Running) {
        *counts.entry(tick.tick).or_insert(0_u32) += 1;
    }
    f64::from(counts.values().copied().max().unwrap_or(0))
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
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        finding.add(ramp(seed, manner)?);
    }
    Ok(finding)
}

fn ramp(seed: u64, manner: Manner) -> anyhow::Result<Finding> {
    let delay_ms = Arc::new(Mutex::new(FAST_MS));
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
        ..manner.options()
    };
    let (mut stage, puppet) = Stage::on_strings(seed, options, &["expert.strategy=auto"])?;
    stage.move_arms()?;
    if stage.flows() {
        puppet.hands(PACING);
    }
    let began_ns = stage.now_ns();
    let until_ns = 2 * RAMP_NS
        + if manner == Manner::Flowing {
            FLAT_NS
        } else {
            0
        };
    while stage.now_ns() < began_ns + until_ns {
        let ms = ramp_ms(stage.now_ns() - began_ns);
        *delay_ms.lock().unwrap_or_else(PoisonError::into_inner) = ms;
        stage.pass(100 * MS)?;
        let over = began_ns + 2 * RAMP_NS < stage.now_ns();
        let newest = stage.dispatcher.report().chunks.last();
        let back = newest.is_some_and(|head| head.strategy == Strategy::CleanPrefix);
        if over && back {
            break;
        }
    }
    judge_strategies(&mut stage, manner, began_ns);
    // Beyond the age check there is nothing left but to stop, and to say so.
    let mode = stage.dispatcher.mode();
    let goes = mode.is_some_and(|now| matches!(now.0, Mode::Running | Mode::Hold));
    stage.demand(goes, || format!("the ramp ends in {mode:?}"));
    let stalled = stage.dispatcher.guard()?.counters.stalled;
    let stalled = f64::from(u32::try_from(stalled)?);
    stage.figure("policy ticks without an action", stalled, 0.0);
    stage.conclude()
}

/// The travel of a context so long after the ramp's begin, milliseconds.
fn ramp_ms(into_ns: u64) -> f64 {
    let up_ns = into_ns.min((2 * RAMP_NS).saturating_sub(into_ns));
    FAST_MS + (SLOW_MS - FAST_MS) * millis(up_ns) / millis(RAMP_NS)
}

/// No strategy wavers; on a flowing stage it goes from a clean prefix to sync and back, and back only
/// after the gate's quiet time.
fn judge_strategies(stage: &mut Stage, manner: Manner, began_ns: u64) {
    let mut strategies: Vec<(u64, Strategy)> = Vec::new();
    for head in &stage.dispatcher.report().chunks {
        let newest = strategies.last();
        if newest.is_none_or(|(_, newest)| *newest != head.strategy) {
            strategies.push((head.acted_from_ns, head.strategy));
        }
    }
    // The first decision stands still until a delay is known.
    strategies.retain(|(at_ns, strategy)| began_ns < *at_ns || *strategy != Strategy::Sync);
    let soon = strategies
        .windows(3)
        .filter(|three| matches!(three, [_, b, c] if c.0 - b.0 < 10 * SECOND));
    let soon = u32::try_from(soon.count()).map_or(f64::NAN, f64::from);
    stage.figure("changes of strategy within 10 s of another", soon, 0.0);
    if manner == Manner::Halting {
        return;
    }
    let names: Vec<Strategy> = strategies.iter().map(|(_, strategy)| *strategy).collect();
    let expected = [Strategy::CleanPrefix, Strategy::Sync, Strategy::CleanPrefix];
    stage.demand(names == expected, || {
        format!("the strategies are {names:?} instead of {expected:?}")
    });
    if let [_, (down_ns, _), (up_ns, _)] = *strategies {
        // The ramp is symmetric: so long after it the delay is again what it was at the change.
        let back_ns = began_ns + (2 * RAMP_NS).saturating_sub(down_ns - began_ns);
        let quiet_ms = millis(up_ns.saturating_sub(back_ns));
        stage.figure(
            "quiet time before a better strategy, short by, ms",
            QUIET_MS - quiet_ms,
            0.0,
        );
    }
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
