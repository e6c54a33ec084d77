//! F13 to F17: links that are cut, restarted, rough, slow, or open in one direction only.

use std::collections::BTreeSet;

use anyhow::Context as _;
use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::latency::{Injector, LatencyConfig};
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::msg::think::Context;
use vlad_wire::stream::{Contexts, Frames, Requests, Stream};

use super::finding::Finding;
use super::stage::Stage;
use crate::rehearsal::Options;
use crate::rehearsal::weather::{Cut, Weather};

/// What goes between a cell's machine and a remote machine with brain and action expert. Heartbeats
/// stay: a link that loses everything but them is the more treacherous one.
const REMOTE: Cut = Cut::Keys(&["obs", "chunk", "accepted"]);
/// What a router carries that dies.
const ROUTER_DOWN_NS: u64 = 3 * SECOND;
/// Reasons for which motion may end when nothing new comes.
const NOTHING_COMES: [Reason; 3] = [
    Reason::BufferEmpty,
    Reason::ActionTooOld,
    Reason::ThinkTimeout,
];

fn stage_under(seed: u64, weather: &Weather, sets: &[&str]) -> anyhow::Result<Stage> {
    let options = Options {
        conditions: weather.conditions(),
        ..Options::default()
    };
    Stage::with(seed, options, sets)
}

/// F13: brain and action expert are cut off for 1, 5 and 60 seconds; then the gateway is for 5.
pub(super) fn partitioned(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for seconds in [1, 5, 60] {
        let weather = Weather::default();
        let mut stage = stage_under(seed, &weather, &[])?;
        stage.move_arms()?;
        weather.cut(REMOTE);
        let began_ns = stage.now_ns();
        stage.stops(&NOTHING_COMES, 4 * SECOND)?;
        stage.pass((began_ns + seconds * SECOND).saturating_sub(stage.now_ns()))?;
        let accepted = stage.dispatcher.guard()?.counters.accepted;
        weather.cut(Cut::Nothing);
        stage.stays(Mode::Stopped)?;
        let replayed = stage.dispatcher.guard()?.counters.accepted - accepted;
        let replayed = f64::from(u32::try_from(replayed)?);
        stage.figure("chunks of before that were accepted", replayed, 0.0);
        stage.recovers()?;
        finding.add(stage.conclude()?);
    }
    finding.add(gateway_cut_off(seed)?);
    Ok(finding)
}

fn gateway_cut_off(seed: u64) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, &[])?;
    stage.move_arms()?;
    weather.cut(Cut::Keys(&["cmd/lease", "task"]));
    stage.holds(Reason::LeaseLost, 4 * SECOND)?;
    stage.pass(2 * SECOND)?;
    weather.cut(Cut::Nothing);
    // Renewals of a lease that has run out bring nothing back.
    stage.stays(Mode::Hold)?;
    stage.leases()?;
    stage.wait_mode(Mode::Running, 5 * SECOND)?;
    stage.conclude()
}

/// F14: everything is lost while a router restarts.
pub(super) fn router_restarts(seed: u64) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, &[])?;
    stage.move_arms()?;
    weather.cut(Cut::All);
    let before = stage.witness.n_commands();
    stage.pass(ROUTER_DOWN_NS)?;
    weather.cut(Cut::Nothing);
    let healed_ns = stage.now_ns();
    stage.wait_mode(Mode::Stopped, 5 * SECOND)?;
    let heard_ms = super::standard::millis(stage.now_ns() - healed_ns);
    stage.figure("the guard is heard again after, ms", heard_ms, 5000.0);
    let given = stage.witness.n_commands() - before;
    let periods = (stage.now_ns() - healed_ns + ROUTER_DOWN_NS) / stage.period_ns();
    let extra = u64::try_from(given)?.saturating_sub(periods + 1);
    let extra = f64::from(u32::try_from(extra)?);
    stage.figure("commands beyond one a servo period", extra, 0.0);
    stage.recovers()?;
    stage.conclude()
}

/// F15: 5 % loss, 20 % reordering, 5 % doubling, spikes of 300 ms on every message.
pub(super) fn rough_link(seed: u64) -> anyhow::Result<Finding> {
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, &[])?;
    stage.move_arms()?;
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
            for _ in 0..10 {
                if stage.recovers().is_ok() {
                    break;
                }
            }
        }
    }
    let explained = stage.dispatcher.report().events.iter();
    let explained = explained
        .filter(|event| event.kind.as_str() == "mode_changed" && event.advice.is_some())
        .count();
    stage.demand(u32::try_from(explained).unwrap_or(0) >= stops, || {
        format!("{stops} stops, {explained} explained")
    });
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
    let weather = Weather::default();
    let mut stage = stage_under(seed, &weather, &[])?;
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
