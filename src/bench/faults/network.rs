//! F13 to F17: links that are cut, restarted, rough, slow, or open in one direction only.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::latency::{Injector, LatencyConfig};
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Role;
use vlad_wire::msg::think::Context;
use vlad_wire::stream::{Contexts, Frames, Heartbeats, Joints, Requests, Stream};

use super::finding::Finding;
use super::stage::{Manner, PACING, Stage};
use crate::rehearsal::Options;
use crate::rehearsal::holder::LEASE_MS;
use crate::rehearsal::weather::{Cut, Weather};

/// What goes between a cell's machine and a remote machine with brain and action expert. Heartbeats
/// stay: a link that loses everything but them is the more treacherous one.
const REMOTE: &[&str] = &["obs", "chunk", "accepted"];
/// What a link keeps that delivers late what it could not deliver in time: chunks go on being decided on
/// what is seen, and come when nobody may play them any more.
const REPLIES: &[&str] = &["chunk"];
/// A router that dies is back after so long.
const ROUTER_DOWN_NS: u64 = 3 * SECOND;
/// Five heartbeats of 20 ms that do not come, and the one after that (reference B.5).
pub(super) const MISSED_MS: f64 = 120.0;
/// A lease's last renewal may be so old when a cut begins.
const RENEWALS_NS: u64 = 500 * MS;
/// Reasons for which motion may end when nothing new comes.
const NOTHING_COMES: [Reason; 3] = [
    Reason::BufferEmpty,
    Reason::ActionTooOld,
    Reason::ThinkTimeout,
];

fn stage_under(seed: u64, weather: &Weather, manner: Manner) -> anyhow::Result<Stage> {
    let options = Options {
        conditions: weather.conditions(),
        ..manner.options()
    };
    Stage::with(seed, options, &[])
}

/// F13: brain and action expert are cut off for 1, 5 and 60 seconds, on a link that loses what is
/// sent meanwhile and, for 1 and 5, on one that delivers it so much later; then the gateway is.
pub(super) fn partitioned(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for seconds in [1, 5, 60] {
        for manner in Manner::BOTH {
            let lost = Cut::Keys(REMOTE);
            finding.add(model_cut_off(seed, manner, (lost, seconds))?);
            if seconds < 60 {
                let kept = Cut::Late(REPLIES, seconds * SECOND);
                finding.add(model_cut_off(seed, manner, (kept, seconds))?);
            }
        }
        finding.add(gateway_cut_off(seed, seconds)?);
    }
    Ok(finding)
}

fn model_cut_off(seed: u64, manner: Manner, (cut, seconds): (Cut, u64)) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, manner)?;
    stage.move_arms()?;
    weather.cut(cut);
    let began_ns = stage.now_ns();
    let before = refused(&stage)?;
    stage.pass(seconds * SECOND)?;
    weather.cut(Cut::Nothing);
    let healed_ns = stage.now_ns();
    // What waits in a planned gap may be left by a decision of after the cut; a stop by a person alone.
    let thinks = stage.dispatcher.mode() == Some((Mode::Hold, Reason::Thinking));
    stage.demand(!thinks || seconds < 5, || {
        "it still waits for the model, beyond its time to think".to_owned()
    });
    let kept = matches!(cut, Cut::Late(_, _));
    if thinks {
        stage.wait_mode(Mode::Running, 2 * SECOND)?;
    } else {
        stage.stops_since(began_ns, &NOTHING_COMES, 0)?;
        if !kept {
            stage.stays(Mode::Stopped)?;
        }
        stage.recovers()?;
    }
    if kept {
        // Whatever was under way is here by then: it finds a guard that has another lease or buffer.
        stage.pass((healed_ns + seconds * SECOND).saturating_sub(stage.now_ns()))?;
    }
    let stale = stale_since(&stage, healed_ns)?;
    stage.figure("stale chunks that were accepted", stale, 0.0);
    let late = refused(&stage)? - before;
    stage.demand(!kept || 0 < late, || {
        "no chunk came late: nothing was tried".to_owned()
    });
    stage.conclude()
}

/// Chunks that were accepted since a time although what they rest on was too old by then.
fn stale_since(stage: &Stage, from_ns: u64) -> anyhow::Result<f64> {
    let limit_ns = u64::from(stage.run.config.guard.action_age_limit_ms) * MS;
    let report = stage.dispatcher.report();
    let heads = report.chunks.iter();
    let captured: BTreeMap<_, _> = heads.map(|head| (head.id, head.captured_at_ns)).collect();
    let taken = report
        .events
        .iter()
        .filter(|event| from_ns <= event.at_ns && event.kind.as_str() == "chunk_accepted");
    let stale = taken.filter(|event| {
        let captured_ns = event.chunk.and_then(|id| captured.get(&id).copied());
        limit_ns < event.at_ns.saturating_sub(captured_ns.unwrap_or(0))
    });
    Ok(f64::from(u32::try_from(stale.count())?))
}

/// Chunks that the guard refused so far, for whatever reason.
fn refused(stage: &Stage) -> anyhow::Result<u64> {
    let counters = &stage.dispatcher.guard()?.counters;
    Ok(counters.stale + counters.not_now + counters.superseded + counters.wrong_identity)
}

fn gateway_cut_off(seed: u64, seconds: u64) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, Manner::Halting)?;
    stage.move_arms()?;
    weather.cut(Cut::Keys(&["cmd/lease", "task"]));
    let began_ns = stage.now_ns();
    if seconds * SECOND < u64::from(LEASE_MS) * MS - RENEWALS_NS {
        stage.pass(seconds * SECOND)?;
        weather.cut(Cut::Nothing);
        stage.pass(3 * SECOND)?;
        let guards = stage.dispatcher.report().guards.iter();
        let lost = guards.filter(|guard| guard.reason == Reason::LeaseLost);
        let lost = lost.count();
        stage.demand(lost == 0, || "a lease was lost before its end".to_owned());
        return stage.conclude();
    }
    stage.holds(Reason::LeaseLost, 4 * SECOND)?;
    let held_ms = super::standard::millis(stage.dispatcher.guard()?.since_ns - began_ns);
    let limit_ms = f64::from(LEASE_MS) + 2.0 * super::standard::millis(stage.period_ns());
    stage.figure("from the gateway's cut to hold, ms", held_ms, limit_ms);
    stage.pass((began_ns + seconds * SECOND).saturating_sub(stage.now_ns()))?;
    weather.cut(Cut::Nothing);
    // Renewals of a lease that has run out bring nothing back.
    stage.stays(Mode::Hold)?;
    stage.leases()?;
    stage.wait_mode(Mode::Running, 5 * SECOND)?;
    stage.conclude()
}

/// F14: everything is lost while a router restarts. What is said of the guard reaches the one who
/// judges all the same; how long nothing is heard is measured on a link that is cut as well.
pub(super) fn router_restarts(seed: u64) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, Manner::Halting)?;
    let (bus, cell) = (
        stage.run.stepped.bus().clone(),
        stage.run.config.cell.name.clone(),
    );
    let mut joints: Subscriber<Joints> = bus.subscriber(&cell, "", None)?;
    let mut alive: Subscriber<Heartbeats> = bus.subscriber(&cell, Role::Perception.name(), None)?;
    stage.move_arms()?;
    weather.cut(Cut::All);
    let before = stage.witness.n_commands();
    let cut_ns = stage.now_ns();
    stage.wait_mode(Mode::Hold, SECOND)?;
    let guard = stage.dispatcher.guard()?;
    let held_ms = super::standard::millis(guard.since_ns.saturating_sub(cut_ns));
    let reason = guard.reason;
    stage.figure("from the cut to hold, ms", held_ms, MISSED_MS);
    stage.demand(reason == Reason::PerceptionUnfit, || {
        format!("holds for {reason}")
    });
    stage.stops_since(cut_ns, &[Reason::PerceptionLost], 2 * SECOND)?;
    stage.pass((cut_ns + ROUTER_DOWN_NS).saturating_sub(stage.now_ns()))?;
    while joints.try_next().is_some() {}
    while alive.try_next().is_some() {}
    weather.cut(Cut::Nothing);
    let healed_ns = stage.now_ns();
    let (mut guards, mut eyes) = (false, false);
    while !(guards && eyes) {
        stage.pass(stage.period_ns())?;
        let fresh = |at_ns: u64| healed_ns <= at_ns;
        guards |= joints
            .try_next()
            .is_some_and(|joints| fresh(joints.sampled_at_ns));
        eyes |= alive
            .try_next()
            .is_some_and(|alive| fresh(alive.sent_at_ns));
        anyhow::ensure!(
            stage.now_ns() < healed_ns + 6 * SECOND,
            "nothing is heard after the cut"
        );
    }
    let heard_ms = super::standard::millis(stage.now_ns() - healed_ns);
    stage.figure("resubscribed after, ms", heard_ms, 5000.0);
    stage.stays(Mode::Stopped)?;
    let given = stage.witness.n_commands() - before;
    let periods = (stage.now_ns() - cut_ns) / stage.period_ns();
    let extra = u64::try_from(given)?.saturating_sub(periods + 1);
    let extra = f64::from(u32::try_from(extra)?);
    stage.figure("commands beyond one a servo period", extra, 0.0);
    stage.recovers()?;
    stage.conclude()
}

/// F15: 5 % loss, 20 % reordering, 5 % doubling, spikes of 300 ms on every message. What is played
/// stays in the order of its ticks, and stalls are those that the losses explain (M1 as model).
pub(super) fn rough_link(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        finding.add(rough(seed, manner)?);
    }
    Ok(finding)
}

fn rough(seed: u64, manner: Manner) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let options = Options {
        conditions: weather.conditions(),
        ..manner.options()
    };
    let (mut stage, puppet) = Stage::on_strings(seed, options, &[])?;
    stage.move_arms()?;
    if stage.flows() {
        puppet.hands(PACING);
    }
    weather.rough(Injector::drawn(
        LatencyConfig {
            loss: 0.05,
            reorder: 0.2,
            reorder_ms: 30.0,
            duplicate: 0.05,
            spike: 0.01,
            spike_ms: 300.0,
            ..LatencyConfig::default()
        },
        seed,
    ));
    // Where the weather stops it, a person lets it go on.
    let until_ns = stage.now_ns() + 20 * SECOND;
    let mut stops = 0_u32;
    while stage.now_ns() < until_ns {
        stage.pass(100 * MS)?;
        if stage
            .dispatcher
            .mode()
            .is_some_and(|now| now.0 == Mode::Stopped)
        {
            stops += 1;
            // Commands are lost too: a person asks again.
            let again = (0..10).any(|_| stage.recovers().is_ok());
            stage.demand(again, || "nothing lets it go on".to_owned());
        }
    }
    let explained = stage.dispatcher.report().events.iter();
    let explained = explained
        .filter(|event| event.kind.as_str() == "mode_changed" && event.advice.is_some())
        .count();
    stage.demand(u32::try_from(explained).unwrap_or(0) >= stops, || {
        format!("{stops} stops, {explained} explained")
    });
    let harm = weather.harm();
    let met = 0 < harm.lost && 0 < harm.late && 0 < harm.doubled;
    stage.demand(met, || format!("the weather was mild: {harm:?}"));
    let spoiled = f64::from(harm.lost + harm.late);
    stage.figure(
        "stops, of decisions that lost a message",
        f64::from(stops),
        spoiled,
    );
    // The second tick without an action stops.
    let stalled = f64::from(u32::try_from(stage.dispatcher.guard()?.counters.stalled)?);
    stage.figure("policy ticks without an action", stalled, 2.0 * spoiled);
    stage.conclude()
}

/// F16: a reader of images reads once a second. The same run without it gives the same commands.
pub(super) fn slow_reader(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let mut commands = Vec::new();
    for slow in [false, true] {
        let mut stage = Stage::new(seed)?;
        let (bus, cell) = (
            stage.run.stepped.bus().clone(),
            stage.run.config.cell.name.clone(),
        );
        let view = stage
            .run
            .config
            .robot
            .cameras()
            .first()
            .context("no camera")?
            .view
            .clone();
        let mut reader: Option<Subscriber<Frames>> = None;
        if slow {
            reader = Some(bus.subscriber(&cell, view.as_str(), None)?);
        }
        stage.move_arms()?;
        let mut read = 0_u32;
        for _ in 0..4 {
            stage.pass(SECOND)?;
            read += u32::from(
                reader
                    .as_mut()
                    .is_some_and(|reader| reader.try_next().is_some()),
            );
        }
        if slow {
            let dropped = bus.counters().into_iter();
            let dropped = dropped.filter(|(key, _)| *key == Frames::ROW.key);
            let dropped: u64 = dropped.map(|(_, counters)| counters.overwritten).sum();
            stage.demand(read == 4, || format!("{read} of 4 images were read"));
            stage.demand(60 < dropped, || {
                format!("{dropped} images were dropped for it")
            });
        }
        commands.push(stage.witness.commands());
        finding.add(stage.conclude()?);
    }
    finding.add(Finding::of_same(&commands));
    Ok(finding)
}

/// F17: requests and contexts come through, chunks do not.
pub(super) fn replies_lost(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for manner in Manner::BOTH {
        finding.add(unanswered(seed, manner)?);
    }
    Ok(finding)
}

fn unanswered(seed: u64, manner: Manner) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, manner)?;
    let (bus, cell) = (
        stage.run.stepped.bus().clone(),
        stage.run.config.cell.name.clone(),
    );
    let mut requests: Subscriber<Requests> = bus.subscriber(&cell, "", None)?;
    let mut heads: Subscriber<Contexts> = bus.subscriber(&cell, "head", None)?;
    stage.move_arms()?;
    while requests.try_next().is_some() {}
    while heads.try_next().is_some() {}
    weather.cut(Cut::Keys(&["chunk"]));
    let began_ns = stage.now_ns();
    let (mut open, mut most, mut asked) = (BTreeSet::new(), 0, 0_u32);
    let mut seqs = Vec::new();
    while stage
        .dispatcher
        .mode()
        .is_some_and(|now| !matches!(now.0, Mode::Stopping | Mode::Stopped))
    {
        stage.pass(stage.period_ns())?;
        while let Some(request) = requests.try_next() {
            open.insert(request.id);
            asked += 1;
        }
        most = most.max(open.len());
        while let Some(context) = heads.try_next() {
            if let Context::Head(head) = context {
                open.remove(&head.request.id);
                seqs.push(head.obs_seq);
            }
        }
        anyhow::ensure!(stage.now_ns() < began_ns + 6 * SECOND, "it does not stop");
    }
    stage.wait_mode(Mode::Stopped, SECOND)?;
    super::standard::judge_stop(&mut stage, Mode::Stopping, began_ns)?;
    stage.figure("inferences in flight", f64::from(u32::try_from(most)?), 1.0);
    stage.demand(2 <= asked, || format!("asked {asked} times: no retry"));
    let newer = seqs.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    stage.demand(newer, || format!("retries on observations {seqs:?}"));
    weather.cut(Cut::Nothing);
    stage.stays(Mode::Stopped)?;
    stage.recovers()?;
    stage.conclude()
}
