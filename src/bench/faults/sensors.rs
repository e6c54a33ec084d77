//! F35 to F40 and F42: cameras that lie.

use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Role;
use vlad_wire::msg::health::Fitness;
use vlad_wire::stream::{Heartbeats, Observations};

use super::finding::Finding;
use super::stage::Stage;
use super::standard::millis;
use crate::rehearsal::Options;
use crate::rehearsal::liar::Lie;

/// Edge of the pictures: in fewer pixels an arm moves unseen.
const EDGE: u16 = 64;
/// How long a camera lies: shorter than what ends in a stop.
const LIE_NS: u64 = 600 * MS;
/// Five frames at 30 Hz.
const FIVE_FRAMES_MS: f64 = 167.0;

fn stage(seed: u64, sets: &[&str]) -> anyhow::Result<Stage> {
    let options = Options {
        camera_edge: EDGE,
        ..Options::default()
    };
    Stage::with(seed, options, sets)
}

/// F35.
pub(super) fn frozen(seed: u64) -> anyhow::Result<Finding> {
    holds(stage(seed, &[])?, Lie::Frozen, ("is frozen", 200.0))
}

/// F36.
pub(super) fn frozen_with_old_stamps(seed: u64) -> anyhow::Result<Finding> {
    // Without the skew between views, which would know it too: the camera's own age must tell.
    let stage = stage(seed, &["perception.skew_ms=1000"])?;
    holds(stage, Lie::FrozenOld, ("is stale", 200.0))
}

/// F37.
pub(super) fn blind(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = holds(
        stage(seed, &[])?,
        Lie::Black,
        ("sees black", FIVE_FRAMES_MS),
    )?;
    finding.add(holds(
        stage(seed, &[])?,
        Lie::White,
        ("sees white", FIVE_FRAMES_MS),
    )?);
    finding.add(holds(
        stage(seed, &[])?,
        Lie::Noise,
        ("sees noise", FIVE_FRAMES_MS),
    )?);
    Ok(finding)
}

/// F38: another device in mid-run, and before the guard is asked for motion: then it is not armed.
pub(super) fn swapped(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = holds(stage(seed, &[])?, Lie::Swapped, ("is another device", 67.0))?;
    let mut stage = stage(seed, &[])?;
    stage.pass(SECOND)?;
    stage.camera.tell(Lie::Swapped);
    stage.pass(SECOND)?;
    let epoch = stage.next_epoch();
    let armed = stage.dispatcher.rearm(&mut stage.run, epoch)?;
    stage.demand(!armed.done, || "armed on a swapped camera".to_owned());
    let text = armed.text.as_str();
    stage.demand(text.contains("is another device"), || {
        format!("the refusal says: {text}")
    });
    stage.stays(Mode::Disarmed)?;
    let moved = stage.moved_since(2 * SECOND);
    stage.figure("motion on a swapped camera, rad", moved, 1e-9);
    stage.camera.tell(Lie::None);
    stage.pass(SECOND)?;
    stage.recovers()?;
    finding.add(stage.conclude()?);
    Ok(finding)
}

/// F39: of ten frames one is lost, one comes twice, two change places.
pub(super) fn reordered(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = stage(seed, &[])?;
    let (bus, cell) = (
        stage.run.stepped.bus().clone(),
        stage.run.config.cell.name.clone(),
    );
    let mut seen: Subscriber<Observations> = bus.subscriber(&cell, "", None)?;
    stage.camera.tell(Lie::Reordered);
    stage.move_arms()?;
    let (mut last, mut back, mut count) = ((0, 0), 0_u32, 0_u32);
    let until_ns = stage.now_ns() + 5 * SECOND;
    while stage.now_ns() < until_ns {
        stage.pass(stage.period_ns())?;
        while let Some(observation) = seen.try_next() {
            let head = observation.head;
            back += u32::from(head.captured_at_ns <= last.0 || head.seq <= last.1);
            last = (head.captured_at_ns, head.seq);
            count += 1;
        }
    }
    stage.figure("observations that go back", f64::from(back), 0.0);
    stage.demand(60 < count, || {
        format!("{count} observations in five seconds")
    });
    stage.conclude()
}

/// F40.
pub(super) fn skewed(seed: u64) -> anyhow::Result<Finding> {
    holds(
        stage(seed, &[])?,
        Lie::Skewed,
        ("behind another view", 200.0),
    )
}

/// F42: no frame of another size is ever observed, nor decided on.
pub(super) fn format_changes(seed: u64) -> anyhow::Result<Finding> {
    holds(stage(seed, &[])?, Lie::Format, ("instead of 64×64", 67.0))
}

/// Tells the lie in mid-motion: the guard must hold, stay there, and go on once it is over.
fn holds(mut stage: Stage, lie: Lie, (words, within_ms): (&str, f64)) -> anyhow::Result<Finding> {
    let (bus, cell) = (
        stage.run.stepped.bus().clone(),
        stage.run.config.cell.name.clone(),
    );
    let role = Role::Perception.name();
    let mut alive: Subscriber<Heartbeats> = bus.subscriber(&cell, role, None)?;
    let mut seen: Subscriber<Observations> = bus.subscriber(&cell, "", None)?;
    stage.move_arms()?;
    stage.camera.tell(lie);
    let told_ns = stage.now_ns();
    stage.wait_mode(Mode::Hold, SECOND)?;
    let reason = stage.dispatcher.mode().map(|now| now.1);
    stage.demand(reason == Some(Reason::PerceptionUnfit), || {
        format!("holds for {reason:?}")
    });
    let after_ms = millis(stage.now_ns() - told_ns);
    stage.figure("from the lie to hold, ms", after_ms, within_ms);
    let mut said = String::new();
    while let Some(alive) = alive.try_next() {
        if let Fitness::Unfit(why) = alive.fitness {
            said = why.to_string();
        }
    }
    stage.demand(said.contains(words), || format!("perception says: {said}"));
    while stage.now_ns() < told_ns + LIE_NS {
        stage.pass(stage.period_ns())?;
        let mode = stage.dispatcher.mode().map(|now| now.0);
        if mode != Some(Mode::Hold) {
            stage.demand(false, || format!("{mode:?} while the camera lies"));
            break;
        }
    }
    super::standard::judge_stop(&mut stage, Mode::Hold, told_ns)?;
    let mut others = 0_u32;
    while let Some(observation) = seen.try_next() {
        let views = &observation.head.views;
        others += u32::from(views.iter().any(|view| view.width != EDGE));
    }
    stage.figure("observations with another size", f64::from(others), 0.0);
    stage.camera.tell(Lie::None);
    stage.wait_mode(Mode::Running, 5 * SECOND)?;
    stage.conclude()
}
