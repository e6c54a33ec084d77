//! Cameras that lie in mid-motion: the guard holds, and goes on once they can be believed again.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use vlad_bus::subscriber::Subscriber;
use vlad_cell::camera::{Camera, CameraError, CameraInfo};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::Role;
use vlad_wire::msg::health::Fitness;
use vlad_wire::msg::sense::{Frame, Observation};
use vlad_wire::stream::{Heartbeats, Observations};
use vlad_wire::text::Name;

use crate::cell::{Dispatcher, Options, Run};

/// How a camera lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// The same picture under new stamps.
    Frozen,
    /// The same frame again and again.
    FrozenOld,
    Black,
    White,
    Noise,
    /// Stamps of a tenth of a second ago.
    Skewed,
    /// Half the width.
    Format,
    /// Another device behind the port.
    Swapped,
    /// Of ten frames one is left out, one comes twice, and two change places.
    Reordered,
}

const LIES: [Lie; 10] = [
    Lie::None,
    Lie::Frozen,
    Lie::FrozenOld,
    Lie::Black,
    Lie::White,
    Lie::Noise,
    Lie::Skewed,
    Lie::Format,
    Lie::Swapped,
    Lie::Reordered,
];

/// What all stories' first camera does now; stories run one at a time.
static NOW: AtomicU8 = AtomicU8::new(0);
static ONE_STORY: Mutex<()> = Mutex::new(());

fn tell(lie: Lie) {
    let number = LIES.iter().position(|other| *other == lie).unwrap();
    NOW.store(u8::try_from(number).unwrap(), Ordering::Release);
}

fn told() -> Lie {
    LIES[usize::from(NOW.load(Ordering::Acquire))]
}

/// A camera that does as told.
struct Liar {
    inner: Box<dyn Camera>,
    honest: CameraInfo,
    info: CameraInfo,
    last: Option<Frame>,
    held: Option<Frame>,
    n_frames: u64,
    random: u64,
}

impl Liar {
    fn boxed(inner: Box<dyn Camera>) -> Box<dyn Camera> {
        let honest = inner.info().clone();
        Box::new(Self {
            inner,
            info: honest.clone(),
            honest,
            last: None,
            held: None,
            n_frames: 0,
            random: 1,
        })
    }

    fn noise(&mut self) -> u8 {
        self.random = self.random * 48_271 % 0x7fff_ffff;
        u8::try_from(self.random >> 8 & 0xff).unwrap()
    }

    fn paint(&mut self, frame: &Frame, mut colour: impl FnMut(&mut Self) -> u8) -> Frame {
        let bytes = (0..frame.pixels.len()).map(|_| colour(self)).collect();
        Frame {
            pixels: bytes,
            head: frame.head.clone(),
        }
    }

    fn reordered(&mut self, frame: Frame) -> Option<Frame> {
        self.n_frames += 1;
        match self.n_frames % 10 {
            2 => None,
            5 => self.last.clone(),
            7 => {
                self.held = Some(frame);
                None
            }
            9 => self.held.take(),
            _ => Some(frame),
        }
    }
}

impl Camera for Liar {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn newest(&mut self) -> Result<Option<Frame>, CameraError> {
        let lie = told();
        self.info.clone_from(&self.honest);
        if lie == Lie::Swapped {
            self.info.serial = Some(Name::new("left_wrist").unwrap());
        }
        let Some(frame) = self.inner.newest()? else {
            return Ok(None);
        };
        let last = self.last.clone().unwrap_or_else(|| frame.clone());
        let told = match lie {
            Lie::None | Lie::Swapped => Some(frame),
            Lie::Frozen => Some(Frame {
                pixels: last.pixels,
                ..frame
            }),
            Lie::FrozenOld => Some(last),
            Lie::Black => Some(self.paint(&frame, |_| 0)),
            Lie::White => Some(self.paint(&frame, |_| 255)),
            Lie::Noise => Some(self.paint(&frame, Self::noise)),
            Lie::Skewed => {
                let mut frame = frame;
                frame.head.captured_at_ns -= 100 * MS;
                Some(frame)
            }
            Lie::Format => {
                let mut frame = frame;
                frame.head.width /= 2;
                frame.pixels = frame.pixels.slice(..frame.head.n_bytes());
                Some(frame)
            }
            Lie::Reordered => self.reordered(frame),
        };
        if matches!(lie, Lie::None | Lie::Reordered) && told.is_some() {
            self.last.clone_from(&told);
        }
        Ok(told)
    }
}

/// A camera lies from the middle of a motion on, for 600 ms.
struct Story {
    /// From the first lie to hold, milliseconds of virtual time.
    hold_after_ms: u64,
    /// What perception said.
    words: String,
}

const SETS: &[&str] = &["perception.stale_ms=200"];

fn one_story() -> std::sync::MutexGuard<'static, ()> {
    let guard = ONE_STORY.lock().unwrap_or_else(PoisonError::into_inner);
    tell(Lie::None);
    guard
}

fn liars() -> Options<'static> {
    Options {
        sets: SETS,
        camera_edge: 64,
        camera: Liar::boxed,
        ..Options::default()
    }
}

/// Runs until `seen` says so; panics after `seconds` of virtual time.
#[track_caller]
fn until(
    (run, dispatcher): (&mut Run, &mut Dispatcher),
    what: &str,
    mut seen: impl FnMut(&mut Dispatcher) -> bool,
) {
    let clock = run.stepped.clock();
    let give_up_ns = clock.now_ns() + 5 * SECOND;
    while !seen(dispatcher) {
        assert!(clock.now_ns() < give_up_ns, "waited in vain: {what}");
        dispatcher.step(run);
    }
}

/// Tells the first camera's lie in mid-motion; the guard must hold, and run again once it is over.
fn tell_in_motion(lie: Lie) -> Story {
    let _one = one_story();
    let mut run = Run::new(&liars());
    let mut dispatcher = Dispatcher::new(&run, "put the red block in the left tray", 1);
    let (bus, cell) = (run.stepped.bus(), run.config.cell.name.clone());
    let role = Role::Perception.name();
    let mut alive: Subscriber<Heartbeats> = bus.subscriber(&cell, role, None).unwrap();
    let clock = run.stepped.clock();
    dispatcher.begin(&mut run);
    until((&mut run, &mut dispatcher), "the arm moves", |dispatcher| {
        let running = dispatcher
            .mode()
            .is_some_and(|(mode, _)| mode == Mode::Running);
        running && dispatcher.moving()
    });
    tell(lie);
    let told_ns = clock.now_ns();
    while alive.try_next().is_some() {}
    until(
        (&mut run, &mut dispatcher),
        "the guard holds",
        |dispatcher| dispatcher.mode() == Some((Mode::Hold, Reason::PerceptionUnfit)),
    );
    let hold_after_ms = (clock.now_ns() - told_ns) / MS;
    let mut words = String::new();
    while let Some(alive) = alive.try_next() {
        if let Fitness::Unfit(why) = alive.fitness {
            words = why.to_string();
        }
    }
    while clock.now_ns() < told_ns + 600 * MS {
        dispatcher.step(&mut run);
        assert_eq!(dispatcher.mode().unwrap().0, Mode::Hold, "it stays in hold");
    }
    tell(Lie::None);
    until((&mut run, &mut dispatcher), "it goes on", |dispatcher| {
        dispatcher.mode().unwrap().0 == Mode::Running
    });
    let report = dispatcher.follow(&mut run, 40);
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
    let _one = one_story();
    let mut run = Run::new(&liars());
    let mut dispatcher = Dispatcher::new(&run, "put the red block in the left tray", 1);
    let (bus, cell) = (run.stepped.bus(), run.config.cell.name.clone());
    let mut seen: Subscriber<Observations> = bus.subscriber(&cell, "", None).unwrap();
    tell(Lie::Reordered);
    dispatcher.begin(&mut run);
    let (mut last, mut n_seen) = ((0, vec![0; 3]), 0_u32);
    let mut done = false;
    let clock = run.stepped.clock();
    while !done && clock.now_ns() < 60 * SECOND {
        dispatcher.step(&mut run);
        while let Some(Observation { head, .. }) = seen.try_next() {
            let seqs: Vec<u64> = head.views.iter().map(|view| view.seq).collect();
            assert!(last.0 < head.captured_at_ns, "{head:?}");
            assert!(last.1.iter().zip(&seqs).all(|(a, b)| a < b), "{head:?}");
            last = (head.captured_at_ns, seqs);
            n_seen += 1;
        }
        done = dispatcher.done();
    }
    assert!(done && 60 < n_seen, "{n_seen} observations");
    tell(Lie::None);
}
