//! From records to figures, on the short episode of [`super::testing`].

use proptest::prelude::*;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_store::episode::{EpisodeMeta, Stamp};
use vlad_wire::codec::Packet;
use vlad_wire::msg::health::Severity;

use super::curves::{LATE_US, POINTS_MAX};
use super::testing::{BEGIN, END, GAP, PLAYED, SERVO_NS, at, chunk, executed, recorded, shape};
use super::*;

fn fates(track: &Track) -> Vec<(u64, Tick, Fate)> {
    let of = |chunk: &ChunkRecord| (chunk.head.id.request, chunk.first, chunk.fate);
    track.chunks.iter().map(of).collect()
}

#[test]
fn chunks_come_with_their_ticks_and_what_became_of_them() {
    let track = Track::new(recorded());
    let wanted = [
        (1, 100, Fate::Accepted),
        (2, 104, Fate::Accepted),
        (4, 106, Fate::Discarded),
        (3, 117, Fate::Accepted),
    ];
    assert_eq!(fates(&track), wanted);
    assert_eq!((track.refused, track.unanswered), (1, 1));
    assert_eq!(track.ticks_played, PLAYED);
    // The guard spoke of the third one after its first command had been sent.
    let received: Vec<_> = track
        .chunks
        .iter()
        .map(|chunk| chunk.received_at_ns)
        .collect();
    assert_eq!(received[1], at(105, 5) + 1);
    assert_eq!(received[3], at(117, 0) - 1);
}

#[test]
fn a_chunk_overran_when_its_first_played_row_lies_behind_its_prefix() {
    // The second chunk's first played row is row 2.
    for (prefix, fate) in [
        (0, Fate::Accepted),
        (1, Fate::Overrun),
        (2, Fate::Accepted),
        (3, Fate::Accepted),
    ] {
        let mut all = recorded();
        all.chunks[1] = chunk(2, (Start::At(104), 104), prefix);
        assert_eq!(
            fates(&Track::new(all))[1],
            (2, 104, fate),
            "prefix {prefix}"
        );
    }
}

#[test]
fn a_chunk_that_comes_twice_is_one() {
    let mut all = recorded();
    all.chunks.push(all.chunks[0].clone());
    all.events
        .push(testing::event("chunk_refused", 1, at(103, 0)));
    assert_eq!(Track::new(all), Track::new(recorded()));
}

#[test]
fn the_figures_are_those_of_the_story() {
    let motion = EpisodeMotion::of(recorded(), &shape().log, 0);
    let stalls = motion.report.stalls;
    let gap = GAP.count();
    assert_eq!((stalls.ticks, stalls.stalled), (PLAYED + gap, gap));
    assert_eq!((stalls.events, stalls.longest), (1, gap));
    assert_eq!(motion.ticks_counted, u64::try_from(PLAYED).ok());
    // Chunk 2 was seen at tick 102, and is played up to tick 113.
    let age = motion.report.age.unwrap().age_ms;
    assert_eq!((age.n, age.max), (PLAYED, 11.0 * 32.0));
    let seams = &motion.report.seams.seams;
    assert_eq!(seams.len(), 1, "a gap is no seam");
    assert_eq!((seams[0].tick, seams[0].index), (106, 2));
    assert_eq!((seams[0].prefix_conditioned, seams[0].prefix_used), (2, 2));
    assert_eq!(motion.report.economy.discarded, 1);
    assert_eq!(motion.report.tracking.len(), 1);
    assert!(motion.curves.is_none());
}

#[test]
fn an_episode_without_records_has_a_report_too() {
    let motion = EpisodeMotion::of(Recorded::default(), &shape().log, 10);
    assert_eq!((motion.ticks_played, motion.ticks_counted), (0, None));
    assert!(motion.report.age.is_none());
    let curves = motion.curves.unwrap();
    assert!(curves.points.is_empty() && curves.late.iter().all(|n| *n == 0));
}

/// A log in a folder of its own, removed with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let unique = format!("vlad-motion-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn begin(store: &EpisodeStore) -> EpisodeId {
    let id: EpisodeId = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1".parse().unwrap();
    let meta = EpisodeMeta {
        id,
        cell: "demo".parse().unwrap(),
        instruction: "put the red block in the left tray".parse().unwrap(),
        epoch: 1,
        seed: 7,
        began_at_ns: 0,
        began_at_ms: 0,
        policy: None,
        model_hash: None,
        normaliser_hash: None,
        config_hash: None,
        n_threads: None,
        package: "0".parse().unwrap(),
    };
    store.begin(&meta).unwrap();
    id
}

#[test]
fn what_was_written_is_read_and_what_is_no_message_is_counted() {
    let folder = Folder::new("read");
    let store = EpisodeStore::open(&folder.0).unwrap();
    let id = begin(&store);
    testing::write(&store, &id);
    assert_eq!(read(&store, &id).unwrap(), recorded());
    let garbage = Packet {
        head: vec![1, 2, 3].into(),
        raw: bytes::Bytes::new(),
    };
    let stamp = Stamp {
        at_ns: 0,
        tick: None,
    };
    for kind in [RecordKind::Executed, RecordKind::Chunk, RecordKind::Event] {
        store.append(&id, kind, stamp, &garbage).unwrap();
    }
    let wanted = Recorded {
        damaged: 3,
        ..recorded()
    };
    assert_eq!(read(&store, &id).unwrap(), wanted);
    let absent: EpisodeId = "01JD3V7Q4Y8B3T0V5Z6W9X2C1B-1".parse().unwrap();
    assert!(matches!(
        read(&store, &absent),
        Err(EpisodeError::NotFound(_))
    ));
}

#[test]
fn events_of_others_do_not_judge_chunks() {
    let folder = Folder::new("events");
    let store = EpisodeStore::open(&folder.0).unwrap();
    let id = begin(&store);
    let stamp = Stamp {
        at_ns: 0,
        tick: None,
    };
    let mut event = testing::event("chunk_accepted", 9, 5);
    (event.role, event.severity) = (Role::ActionExpert, Severity::Warn);
    let packet = event.pack().unwrap();
    store
        .append(&id, RecordKind::Event, stamp, &packet)
        .unwrap();
    assert_eq!(read(&store, &id).unwrap(), Recorded::default());
}

#[test]
fn a_digest_tells_whose_settings_an_episode_was_made_under() {
    let (ours, others) = (Digest::from(vec![1]), Digest::from(vec![2]));
    assert_eq!(Settings::of(Some(&ours), &ours), Settings::Same);
    assert_eq!(Settings::of(Some(&others), &ours), Settings::Other);
    assert_eq!(Settings::of(None, &ours), Settings::Unknown);
}

#[test]
fn a_column_of_lateness_begins_where_the_one_before_it_ends() {
    let mut all = executed();
    all.truncate(5);
    for (one, late_ns) in all
        .iter_mut()
        .zip([0, 9_999, 10_000, 49_999_000, 50_000_000])
    {
        one.woke_at_ns += late_ns;
    }
    let track = Track::new(Recorded {
        executed: all,
        ..Recorded::default()
    });
    let late = Curves::of(&track.log(&shape().log), 10).late;
    assert_eq!(late.len(), LATE_US.len() + 1);
    assert_eq!((late[0], late[1]), (2, 1));
    assert_eq!((late[LATE_US.len() - 1], late[LATE_US.len()]), (1, 1));
}

#[test]
fn a_curve_loses_no_peak_and_no_gap() {
    let mut all = recorded();
    // A step of 0.5 rad in one servo tick.
    for one in all.executed.iter_mut().skip(50) {
        one.command[0] += 0.5;
    }
    let track = Track::new(all);
    let shape = shape();
    let log = track.log(&shape.log);
    let fine = Curves::of(&log, POINTS_MAX);
    assert_eq!(fine.points.len(), track.executed.len());
    let coarse = Curves::of(&log, 22);
    let largest = |curves: &Curves| {
        curves
            .points
            .iter()
            .filter_map(|p| p.speed)
            .reduce(f64::max)
    };
    assert_eq!(largest(&coarse), largest(&fine));
    let step = 0.501 / std::time::Duration::from_nanos(SERVO_NS).as_secs_f64();
    assert!((largest(&fine).unwrap() - step).abs() < 1e-6);
    let gap: Vec<_> = coarse
        .points
        .iter()
        .filter(|point| GAP.contains(&point.tick))
        .collect();
    assert_eq!(gap.len(), GAP.count());
    assert!(gap.iter().all(|point| point.age_ms.is_none()));
}

#[test]
fn no_speed_is_told_across_a_hole() {
    let mut all = executed();
    all.drain(10..20);
    let track = Track::new(Recorded {
        executed: all,
        ..Recorded::default()
    });
    let points = Curves::of(&track.log(&shape().log), POINTS_MAX).points;
    assert!(points[9].speed.is_some() && points[10].speed.is_none());
    assert!(points[12].jerk.is_none() && points[13].jerk.is_some());
}

proptest! {
    /// The order in which records were written does not matter, nor that some were written twice.
    #[test]
    fn a_track_does_not_depend_on_the_order_of_records(
        order in Just((0..executed().len()).collect::<Vec<_>>()).prop_shuffle(),
        twice in 0..20_usize,
    ) {
        let mut all = recorded();
        let ticks = all.executed.clone();
        let again = order.iter().take(twice);
        all.executed = order.iter().chain(again).map(|i| ticks[*i].clone()).collect();
        all.guards.reverse();
        prop_assert_eq!(Track::new(all), Track::new(recorded()));
    }

    /// However few points there are, they reach from the first tick to the last command.
    #[test]
    fn curves_have_at_most_as_many_points_as_were_asked_for(points in 1..400_usize) {
        let track = Track::new(recorded());
        let curves = Curves::of(&track.log(&shape().log), points);
        prop_assert!((1..=points).contains(&curves.points.len()));
        let last = curves.points.last().unwrap();
        prop_assert_eq!(last.tick, END - 1);
        prop_assert_eq!(&last.position, &track.executed.last().unwrap().command);
        prop_assert!(curves.points.iter().all(|point| BEGIN <= point.tick));
        let modes = [Mode::Running, Mode::Hold, Mode::Running];
        prop_assert!(track.modes.iter().map(|change| change.mode).eq(modes));
        prop_assert_eq!(track.modes[1].reason, Reason::Thinking);
    }
}
