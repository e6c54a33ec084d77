//! Cameras that lie in mid-motion: the guard holds, and goes on once they can be believed again.

use vlad::rehearsal::dispatcher::Dispatcher;
use vlad::rehearsal::liar::{Lie, Orders};
use vlad::rehearsal::{Options, Run};
use vlad_actors::perception::SCENE_CHANGED;
use vlad_bus::subscriber::Subscriber;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Role;
use vlad_wire::msg::health::Fitness;
use vlad_wire::msg::sense::Observation;
use vlad_wire::stream::{Heartbeats, Observations};

/// Longest wait, in virtual time.
const PATIENCE_NS: u64 = 5 * SECOND;

/// A camera lies from the middle of a motion on, for 600 ms.
struct Story {
    /// From the first lie to hold, milliseconds of virtual time.
    hold_after_ms: u64,
    /// What perception said.
    words: String,
}

/// A cell whose first camera does as it is told.
fn liars(orders: &Orders) -> Options {
    let orders = orders.clone();
    Options {
        sets: vec!["perception.stale_ms=200".to_owned()],
        camera_edge: 64,
        camera: Box::new(move |idx, camera| match idx {
            0 => orders.around(camera),
            _ => camera,
        }),
        ..Options::default()
    }
}

/// Tells the first camera's lie in mid-motion; the guard must hold, and run again once it is over.
fn tell_in_motion(lie: Lie) -> Story {
    let orders = Orders::default();
    let mut run = Run::new(liars(&orders)).unwrap();
    let mut dispatcher = Dispatcher::new(&run, "put the red block in the left tray", 1).unwrap();
    let (bus, cell) = (run.stepped.bus(), run.config.cell.name.clone());
    let role = Role::Perception.name();
    let mut alive: Subscriber<Heartbeats> = bus.subscriber(&cell, role, None).unwrap();
    let clock = run.stepped.clock();
    dispatcher.begin(&mut run).unwrap();
    let moves = |dispatcher: &Dispatcher| {
        let mode = dispatcher.mode();
        mode.is_some_and(|(mode, _)| mode == Mode::Running) && dispatcher.moving()
    };
    dispatcher
        .until(&mut run, ("the arm moves", PATIENCE_NS), moves)
        .unwrap();
    orders.tell(lie);
    let told_ns = clock.now_ns();
    while alive.try_next().is_some() {}
    let holds =
        |dispatcher: &Dispatcher| dispatcher.mode() == Some((Mode::Hold, Reason::PerceptionUnfit));
    dispatcher
        .until(&mut run, ("the guard holds", PATIENCE_NS), holds)
        .unwrap();
    let hold_after_ms = (clock.now_ns() - told_ns) / MS;
    let mut words = String::new();
    while let Some(alive) = alive.try_next() {
        if let Fitness::Unfit(why) = alive.fitness {
            words = why.to_string();
        }
    }
    while clock.now_ns() < told_ns + 600 * MS {
        dispatcher.step(&mut run).unwrap();
        assert_eq!(dispatcher.mode().unwrap().0, Mode::Hold, "it stays in hold");
    }
    orders.tell(Lie::None);
    let runs = |dispatcher: &Dispatcher| dispatcher.mode().unwrap().0 == Mode::Running;
    dispatcher
        .until(&mut run, ("it goes on", PATIENCE_NS), runs)
        .unwrap();
    let report = dispatcher.follow(&mut run, 40).unwrap();
    assert!(report.done(), "{:?}", report.verdict);
    Story {
        hold_after_ms,
        words,
    }
}

#[track_caller]
fn holds(lie: Lie, within_ms: u64, words: &str) {
    let story = tell_in_motion(lie);
    println!(
        "{lie:?}: hold after {} ms: {}",
        story.hold_after_ms, story.words
    );
    assert!(story.words.starts_with("camera ego "), "{}", story.words);
    assert!(story.words.contains(words), "{}", story.words);
    assert!(story.hold_after_ms <= within_ms, "{}", story.hold_after_ms);
}

/// F35: the picture stands still while the arm moves.
#[test]
fn a_camera_that_is_frozen_under_new_stamps_means_hold() {
    holds(Lie::Frozen, 200, "is frozen");
}

/// F36: it falls behind the others, which half of `perception.stale_ms` later is said; a cell with
/// one camera waits for the whole of it.
#[test]
fn a_camera_that_is_frozen_with_old_stamps_means_hold() {
    holds(
        Lie::FrozenOld,
        200,
        "is more than 50 ms behind another view",
    );
}

/// F37: black, white, noise; within five frames.
#[test]
fn a_camera_that_sees_nothing_means_hold() {
    holds(Lie::Black, 166, "sees black");
    holds(Lie::White, 166, "sees white");
    holds(Lie::Noise, 166, "sees noise");
}

/// F38: the device behind a port is another one in mid-run.
#[test]
fn a_camera_that_is_another_device_means_hold() {
    holds(Lie::Swapped, 66, "is another device");
}

/// F40: stamps that are 100 ms behind the other cameras'. The first three of them are older than
/// what came before, and are dropped; half of `perception.stale_ms` later it is said.
#[test]
fn a_camera_whose_stamps_are_skewed_means_hold() {
    holds(Lie::Skewed, 200, "is more than 50 ms behind another view");
}

/// F42: no frame of another size is ever observed.
#[test]
fn a_camera_whose_format_changes_means_hold() {
    holds(Lie::Format, 66, "instead of 64×64 ego");
}

/// F39: observations never go back, in number or in time, and the task is done all the same.
#[test]
fn frames_that_are_lost_doubled_and_reordered_change_nothing() {
    let orders = Orders::default();
    let mut run = Run::new(liars(&orders)).unwrap();
    let mut dispatcher = Dispatcher::new(&run, "put the red block in the left tray", 1).unwrap();
    let (bus, cell) = (run.stepped.bus(), run.config.cell.name.clone());
    let mut seen: Subscriber<Observations> = bus.subscriber(&cell, "", None).unwrap();
    orders.tell(Lie::Reordered);
    dispatcher.begin(&mut run).unwrap();
    let (mut last, mut n_seen) = ((0, vec![0; 3]), 0_u32);
    let mut done = false;
    let clock = run.stepped.clock();
    while !done && clock.now_ns() < 60 * SECOND {
        dispatcher.step(&mut run).unwrap();
        while let Some(Observation { head, .. }) = seen.try_next() {
            let seqs: Vec<u64> = head.views.iter().map(|view| view.seq).collect();
            assert!(last.0 < head.captured_at_ns, "{head:?}");
            assert!(last.1.iter().zip(&seqs).all(|(a, b)| a < b), "{head:?}");
            last = (head.captured_at_ns, seqs);
            n_seen += 1;
        }
        done = dispatcher.report().done();
    }
    assert!(done && 60 < n_seen, "{n_seen} observations");
}

/// What is told to the action expert as a reason to decide anew: not the arms' own work, before the
/// cameras or under those on the hands, but what nobody's motion explains. Of ten seconds' frames, one
/// may show a finger that comes from behind a block.
#[test]
fn arms_at_work_are_hardly_ever_a_sudden_change_and_a_light_that_goes_out_is() {
    let orders = Orders::default();
    let mut run = Run::new(liars(&orders)).unwrap();
    let mut dispatcher = Dispatcher::new(&run, "put the red block in the left tray", 1).unwrap();
    dispatcher.begin(&mut run).unwrap();
    dispatcher.pass(&mut run, 10 * SECOND).unwrap();
    let out_at_ns = run.stepped.clock().now_ns();
    orders.tell(Lie::Black);
    dispatcher.pass(&mut run, SECOND).unwrap();
    let events = dispatcher.report().events.iter();
    let changes: Vec<_> = events
        .filter(|event| event.kind.as_str() == SCENE_CHANGED)
        .map(|event| (event.at_ns, event.text.as_str()))
        .collect();
    println!("the light goes out at {out_at_ns}: {changes:?}");
    let (at_work, out): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|(at, _)| *at <= out_at_ns);
    assert!(at_work.len() <= 1);
    assert_eq!(out.len(), 1);
    assert!(out[0].1.ends_with("camera ego"));
}
