//! The network with a clean prefix (profile B, random weights) under injected latency: a context
//! takes so much longer to the action expert.

use std::sync::{Arc, Mutex};

use vlad::rehearsal::dispatcher::Dispatcher;
use vlad::rehearsal::{Options, Run};
use vlad_actors::policy::cell_shape;
use vlad_actors::policy::xr0::setup::Setup;
use vlad_actors::policy::xr0::{Xr0Policy, preset};
use vlad_actors::stepped::Conditions;
use vlad_bus::travel::Travel;
use vlad_cell::description::RobotDescription;
use vlad_motion::policy::Policy;
use vlad_motion::prefix::history::History;
use vlad_safety::mode::Mode;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::manifest::Profile;
use vlad_wire::msg::execute::GuardState;
use vlad_wire::msg::health::Event;
use vlad_wire::msg::think::{Chunk, Start, Strategy};
use vlad_wire::stream::{AcceptedTargets, Chunks, Contexts, Events, Stream};
use vlad_xr0::synth::Preset;

/// Untrained weights contradict themselves with every chunk, which is not what these stories are about.
const SETS: [&str; 2] = ["expert.strategy=clean-prefix", "guard.disagreement_max=0"];
/// Virtual seconds: a dozen decisions and more.
const SECONDS: u64 = 6;
/// Farthest that a row of the prefix may be from what was accepted, rad: rounding to f32 there and
/// back through the statistics.
const KEPT: f32 = 1e-5;
/// Longest prefix that the checkpoint was trained with.
const TRAINED: u16 = 6;

/// The checkpoint that `vlad model synth --profile B --preset tiny` makes.
fn network(robot: &RobotDescription) -> Arc<dyn Policy> {
    static OPENED: Mutex<Option<Arc<dyn Policy>>> = Mutex::new(None);
    let mut opened = OPENED.lock().unwrap();
    let policy = opened.get_or_insert_with(|| {
        let name = format!("vlad-stepped-b-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let kind = (Preset::Tiny, 1, Profile::B);
        preset::write_as(robot, kind, &folder, &mut |_, _| {}).unwrap();
        let shapes = [cell_shape(robot)];
        let policy = Xr0Policy::open(&folder, &shapes, Setup::default()).unwrap();
        // Its files are mapped: they are read even without a name.
        std::fs::remove_dir_all(&folder).unwrap();
        Arc::new(policy)
    });
    policy.clone()
}

/// Contexts that take so much longer than on one host.
fn late_contexts(more_ms: u64) -> Conditions {
    Conditions {
        travel: Box::new(move |row| {
            let usual_ms = u64::from(row.budget_ms);
            let more_ms = if row.key == Contexts::ROW.key {
                more_ms
            } else {
                0
            };
            Travel::once((usual_ms + more_ms) * MS)
        }),
        ..Conditions::default()
    }
}

/// What was sent, and what became of it.
#[derive(Default)]
struct Story {
    /// Each chunk, with the rows that had been accepted for its first ticks when it was sent.
    sent: Vec<(Chunk, Vec<Vec<f32>>)>,
    events: Vec<Event>,
    guards: Vec<GuardState>,
}

fn story(conditions: fn() -> Conditions) -> Story {
    story_with(&SETS, conditions)
}

fn story_with(sets: &[&str], conditions: fn() -> Conditions) -> Story {
    let mut run = Run::new(Options {
        policy: Box::new(|robot| Ok(network(robot))),
        sets: sets.iter().map(ToString::to_string).collect(),
        conditions: conditions(),
        ..Options::default()
    })
    .unwrap();
    let instruction = "put the red block in the left tray";
    let mut dispatcher = Dispatcher::new(&run, instruction, 5).unwrap();
    let (bus, cell) = (run.stepped.bus(), run.config.cell.name.clone());
    let mut chunks = bus.subscriber::<Chunks>(&cell, "", None).unwrap();
    let mut accepted = bus.subscriber::<AcceptedTargets>(&cell, "", None).unwrap();
    let mut events = bus.subscriber::<Events>(&cell, "", None).unwrap();
    let (mut history, mut story) = (History::default(), Story::default());
    dispatcher.begin(&mut run).unwrap();
    let clock = run.stepped.clock();
    let end_ns = clock.now_ns() + SECONDS * SECOND;
    while clock.now_ns() < end_ns {
        dispatcher.step(&mut run).unwrap();
        // A chunk arrives before the buffer that holds it.
        while let Some(chunk) = chunks.try_next() {
            let known = match chunk.head.start {
                Start::At(first) => history.rows(first, chunk.head.prefix_len.into()),
                Start::OnArrival => Vec::new(),
            };
            story.sent.push((chunk, known));
        }
        while let Some(buffer) = accepted.try_next() {
            history.take(&buffer);
        }
        while let Some(event) = events.try_next() {
            story.events.push(event);
        }
    }
    story.guards = dispatcher.follow(&mut run, 0).unwrap().guards;
    story
}

impl Story {
    /// Chunks that go on from a motion.
    fn going_on(&self) -> impl Iterator<Item = &(Chunk, Vec<Vec<f32>>)> {
        let going_on = |chunk: &Chunk| matches!(chunk.head.start, Start::At(_));
        self.sent.iter().filter(move |(chunk, _)| going_on(chunk))
    }

    /// Every chunk that was sent was accepted, or an event says why not.
    fn is_explained(&self) -> bool {
        let told = |chunk: &Chunk| {
            let about = |event: &Event| event.chunk == Some(chunk.head.id);
            self.events.iter().any(about)
        };
        // The last ones may still be on their way.
        let settled = self.sent.len().saturating_sub(2);
        self.sent.iter().take(settled).all(|(chunk, _)| told(chunk))
    }
}

/// What decisions about nothing took at load tells nothing of a brain that is slow. The first chunk
/// knows how long it took itself: no other can follow it in time, so it ends in a gap that is planned.
#[test]
fn a_first_decision_longer_than_its_chunk_is_followed_by_a_planned_gap() {
    let sets = [
        "expert.strategy=auto",
        "expert.context_timeout_ms=3000",
        "guard.think_timeout_ms=4000",
        "guard.action_age_limit_ms=5000",
        "guard.disagreement_max=0",
    ];
    let story = story_with(&sets, || late_contexts(1500));
    let strategies = story.sent.iter().map(|(chunk, _)| chunk.head.strategy);
    assert!(1 < story.sent.len());
    assert!(
        strategies
            .clone()
            .all(|strategy| strategy == Strategy::Sync)
    );
    let stopped = |guard: &&GuardState| matches!(guard.mode, Mode::Stopping | Mode::Stopped);
    assert!(!story.guards.iter().any(|guard| stopped(&guard)));
    assert!(story.is_explained());
}

/// 80 ms are three ticks, and observation and guard one or two more: every decision in motion is
/// conditioned on the rows that will be played meanwhile, and no seam is too late or too far.
#[test]
fn chunks_go_on_from_what_was_accepted_at_80_ms() {
    let story = story(|| late_contexts(80));
    let (mut n, mut conditioned) = (0, 0);
    for (chunk, known) in story.going_on() {
        let head = &chunk.head;
        n += 1;
        conditioned += usize::from(0 < head.prefix_len);
        assert_eq!(head.strategy, Strategy::CleanPrefix);
        assert!(head.prefix_len <= TRAINED, "{}", head.prefix_len);
        assert_eq!(
            known.len(),
            usize::from(head.prefix_len),
            "all was accepted"
        );
        for (at, row) in known.iter().enumerate() {
            let pairs = chunk.row(at).unwrap().iter().zip(row);
            let miss = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(miss <= KEPT, "row {at} of {}: {miss} rad", head.id);
        }
    }
    // One decision every ten ticks or so.
    assert!(12 <= n, "{n} chunks in motion");
    assert_eq!(conditioned, n, "each is conditioned on a prefix");
    let counters = story.guards.last().unwrap().counters;
    let seams = (
        counters.jumps,
        counters.prefix_dropped,
        counters.prefix_overruns,
        counters.outside,
        counters.superseded,
    );
    assert_eq!(seams, (0, 0, 0, 0, 0), "{counters:?}");
    assert_eq!((counters.stalled, counters.late), (0, 0), "{counters:?}");
    assert!(story.is_explained());
}

/// Beyond the trained prefix the robot is slowed down, so that six ticks cover the delay.
#[test]
fn at_200_ms_the_robot_goes_slower_and_its_prefix_covers_the_delay() {
    let story = story(|| late_contexts(200));
    // The first one in motion was asked for before any delay was known.
    let later: Vec<_> = story.going_on().skip(2).collect();
    assert!(4 <= later.len(), "{}", later.len());
    for (chunk, known) in &later {
        let (rate, prefix) = (chunk.head.rate, chunk.head.prefix_len);
        assert!((0.5..1.0).contains(&rate), "{rate}");
        assert!((4..=TRAINED).contains(&prefix), "{prefix}");
        assert_eq!(known.len(), usize::from(prefix));
    }
    let counters = story.guards.last().unwrap().counters;
    assert_eq!(counters.prefix_dropped, 0, "{counters:?}");
    assert!(story.is_explained());
}
