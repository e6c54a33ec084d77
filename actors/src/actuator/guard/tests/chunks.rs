//! Which chunks are refused, and what is counted.

use ulid::Ulid;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::MS;
use vlad_wire::id::TaskId;
use vlad_wire::msg::execute::GuardCounters;
use vlad_wire::msg::think::{Chunk, Digest, Start, Strategy};
use vlad_wire::text::Name;

use super::super::CHUNKS_DISAGREE;
use super::{Bench, HORIZON, WIDTH, shape, task};

/// A way to spoil a chunk, and the counter that shall say so.
type Row = (
    &'static str,
    fn(&mut Chunk, &Bench),
    fn(&GuardCounters) -> u64,
);

const IDENTITY: fn(&GuardCounters) -> u64 = |c| c.wrong_identity;
const ORDER: fn(&GuardCounters) -> u64 = |c| c.superseded;
const SOUND: fn(&GuardCounters) -> u64 = |c| c.not_finite;
const STALE: fn(&GuardCounters) -> u64 = |c| c.stale;

const SPOILT: [Row; 29] = [
    (
        "another cell",
        |c, _| c.head.cell = Name::new("other").unwrap(),
        IDENTITY,
    ),
    ("an old epoch", |c, _| c.head.epoch -= 1, IDENTITY),
    ("a future epoch", |c, _| c.head.epoch += 1, IDENTITY),
    (
        "another task",
        |c, _| c.head.task = TaskId(Ulid::from_parts(1, 2)),
        IDENTITY,
    ),
    ("another attempt", |c, _| c.head.attempt = 2, IDENTITY),
    (
        "another model",
        |c, _| c.head.model_hash = Digest::from(vec![9; 32]),
        IDENTITY,
    ),
    (
        "no model",
        |c, _| c.head.model_hash = Digest::new(),
        IDENTITY,
    ),
    (
        "another normaliser",
        |c, _| c.head.normaliser_hash = Digest::from(vec![9; 32]),
        IDENTITY,
    ),
    (
        "a hash longer than any",
        |c, _| c.head.model_hash = Digest::from(vec![1; 65]),
        IDENTITY,
    ),
    ("slower than allowed", |c, _| c.head.rate = 0.049, IDENTITY),
    (
        "another convention",
        |c, _| c.head.frame_convention = Name::new("eef_delta").unwrap(),
        IDENTITY,
    ),
    (
        "a shorter horizon",
        |c, _| c.head.horizon = HORIZON - 1,
        IDENTITY,
    ),
    (
        "a longer horizon",
        |c, _| c.head.horizon = HORIZON + 1,
        IDENTITY,
    ),
    ("another width", |c, _| c.head.width = WIDTH + 1, IDENTITY),
    (
        "nothing but prefix",
        |c, _| c.head.prefix_len = HORIZON,
        IDENTITY,
    ),
    ("a count of before", |c, _| c.head.seq -= 1, ORDER),
    ("count zero", |c, _| c.head.seq = 0, ORDER),
    (
        "an observation of before",
        |c, _| c.head.obs_seq -= 1,
        ORDER,
    ),
    (
        "ticks that are over",
        |c, b| c.head.start = Start::At(b.guard.tick - i64::from(HORIZON)),
        ORDER,
    ),
    (
        "ticks behind a hole",
        |c, b| c.head.start = Start::At(b.guard.tick + 1000),
        ORDER,
    ),
    (
        "the first tick of all",
        |c, _| c.head.start = Start::At(i64::MIN),
        ORDER,
    ),
    (
        "the last tick of all",
        |c, _| c.head.start = Start::At(i64::MAX),
        ORDER,
    ),
    ("a NaN", |c, _| c.rows[9] = f32::NAN, SOUND),
    ("an infinity", |c, _| c.rows[9] = f32::INFINITY, SOUND),
    (
        "minus infinity in a slot without a joint",
        |c, _| c.rows[3] = f32::NEG_INFINITY,
        SOUND,
    ),
    ("a thousand million", |c, _| c.rows[0] = 1e9, SOUND),
    ("just above a thousand", |c, _| c.rows[0] = 1000.1, SOUND),
    (
        "an old capture",
        |c, b| c.head.captured_at_ns = b.now_ns - 1500 * MS - 1,
        STALE,
    ),
    (
        "a capture in the future",
        |c, b| c.head.captured_at_ns = b.now_ns + 1,
        STALE,
    ),
];

/// A guard that plays its second chunk.
fn playing() -> Bench {
    let mut bench = Bench::running(Strategy::Naive);
    bench.millis(600);
    assert!(bench.send(Strategy::Naive).is_some());
    bench.ticks(3);
    bench
}

#[test]
fn each_spoilt_chunk_is_refused_counted_and_changes_nothing() {
    for (what, spoil, counter) in SPOILT {
        let mut bench = playing();
        bench.millis(600);
        let before = (bench.guard.counters, bench.accepted());
        let mut chunk = bench.next_chunk(Strategy::Naive);
        spoil(&mut chunk, &bench);
        assert_eq!(bench.guard.chunk(&chunk, bench.now_ns), None, "{what}");
        assert_eq!(
            counter(&bench.guard.counters),
            counter(&before.0) + 1,
            "{what}"
        );
        assert_eq!(bench.guard.counters.accepted, before.0.accepted, "{what}");
        assert_eq!(bench.accepted(), before.1, "{what}");
        // The next good chunk is taken all the same.
        assert!(bench.send(Strategy::Naive).is_some(), "{what}");
    }
}

#[test]
fn the_same_spoilt_chunk_starts_no_motion_either() {
    for (what, spoil, _) in SPOILT {
        let mut bench = Bench::leased();
        bench.millis(1000);
        let good = bench.next_chunk(Strategy::Naive);
        let mut chunk = good.clone();
        spoil(&mut chunk, &bench);
        let first_of_its_lease = ["another model", "no model", "another normaliser"];
        let of_before = ["a count of before", "an observation of before"];
        if first_of_its_lease.contains(&what) || of_before.contains(&what) && chunk.head.seq != 0 {
            continue;
        }
        assert_eq!(bench.guard.chunk(&chunk, bench.now_ns), None, "{what}");
        bench.ticks(2);
        assert_eq!(bench.state(), (Mode::Armed, Reason::Rearmed), "{what}");
        assert!(bench.guard.chunk(&good, bench.now_ns).is_some(), "{what}");
    }
}

#[test]
fn numbers_and_ages_on_the_edge_pass() {
    let mut bench = playing();
    bench.millis(600);
    let mut chunk = bench.next_chunk(Strategy::Naive);
    // Half a range beyond each end is not implausible yet, and slot 3 belongs to no joint.
    chunk.rows[0] = 2.08;
    chunk.rows[3] = -1000.0;
    chunk.head.captured_at_ns = bench.now_ns - 1500 * MS;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
    let mut newest = bench.next_chunk(Strategy::Naive);
    newest.head.captured_at_ns = bench.now_ns;
    assert!(bench.guard.chunk(&newest, bench.now_ns).is_some());
}

#[test]
fn a_duplicated_or_reordered_chunk_is_taken_once_and_never_late() {
    let mut bench = playing();
    let first = bench.next_chunk(Strategy::Naive);
    let second = bench.next_chunk(Strategy::Naive);
    assert!(bench.guard.chunk(&second, bench.now_ns).is_some());
    assert!(bench.guard.chunk(&first, bench.now_ns).is_none());
    assert!(bench.guard.chunk(&second, bench.now_ns).is_none());
    assert_eq!(bench.guard.counters.superseded, 2);
    assert_eq!(bench.accepted().chunk, Some(second.head.id));
}

#[test]
fn three_unsound_chunks_in_a_row_latch_a_fault() {
    let mut bench = playing();
    let mut unsound = bench.next_chunk(Strategy::Naive);
    unsound.rows[5] = f32::NAN;
    for _ in 0..2 {
        assert!(bench.guard.chunk(&unsound, bench.now_ns).is_none());
    }
    // A sound one between them begins the count anew.
    assert!(bench.send(Strategy::Naive).is_some());
    for _ in 0..2 {
        assert!(bench.guard.chunk(&unsound, bench.now_ns).is_none());
        assert_eq!(bench.state().0, Mode::Running);
    }
    assert!(bench.guard.chunk(&unsound, bench.now_ns).is_none());
    assert_eq!(bench.state(), (Mode::Fault, Reason::BadChunks));
    bench.millis(600);
    assert_eq!(bench.state(), (Mode::Fault, Reason::BadChunks));
    assert!(bench.guard.still_since_ns().is_some());
    assert!(!bench.rearm().done && !bench.grant().done);
    assert!(bench.reset().done);
    assert_eq!(bench.state(), (Mode::Disarmed, Reason::Reset));
}

#[test]
fn only_armed_running_and_an_open_hold_take_chunks() {
    let mut bench = Bench::new();
    assert!(bench.send(Strategy::Naive).is_none());
    assert_eq!(bench.guard.counters.not_now, 1);
    // Armed, but nobody has the cell.
    assert!(bench.rearm().done);
    assert!(bench.send(Strategy::Naive).is_none());
    assert_eq!(bench.guard.counters.wrong_identity, 1);
    assert!(bench.grant().done);
    assert!(bench.send(Strategy::Naive).is_some());
}

#[test]
fn on_arrival_is_for_standstill_and_a_tick_is_for_motion() {
    let mut bench = Bench::leased();
    let mut chunk = bench.next_chunk(Strategy::Naive);
    chunk.head.start = Start::At(bench.guard.tick + 1);
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_none());
    chunk.head.start = Start::OnArrival;
    assert_eq!(
        bench.guard.chunk(&chunk, bench.now_ns),
        Some(bench.guard.tick + 1)
    );
    bench.ticks(2);
    let mut chunk = bench.next_chunk(Strategy::Naive);
    chunk.head.start = Start::OnArrival;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_none());
    assert_eq!(bench.guard.counters.not_now, 2);
}

#[test]
fn a_first_action_passes_up_to_the_jump_limit_and_not_beyond() {
    // Position, joint 0 of row 0, whether E7 holds; the limit is 0.05 rad.
    for (joint, passes) in [
        (0.0499, true),
        (0.0501, false),
        (-0.0499, true),
        (-0.0501, false),
    ] {
        let mut bench = Bench::leased();
        let mut chunk = bench.next_chunk(Strategy::Naive);
        chunk.rows[1] = joint;
        assert_eq!(
            bench.guard.chunk(&chunk, bench.now_ns).is_some(),
            passes,
            "{joint}"
        );
        assert_eq!(bench.guard.counters.jumps, u64::from(!passes));
        assert_eq!(
            bench.state().0,
            if passes { Mode::Running } else { Mode::Armed }
        );
    }
}

#[test]
fn a_jump_out_of_a_hold_is_refused_and_the_next_good_chunk_goes_on() {
    let mut bench = Bench::running(Strategy::Sync);
    bench.in_flight = true;
    bench.ticks(u64::from(HORIZON));
    let mut chunk = bench.next_chunk(Strategy::Sync);
    chunk.rows[2] += 0.06;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_none());
    assert_eq!(bench.state(), (Mode::Hold, Reason::FirstCommandJump));
    bench.ticks(5);
    assert!(bench.send(Strategy::Sync).is_some());
    assert_eq!(bench.state(), (Mode::Running, Reason::Playing));
}

#[test]
fn a_gripper_that_holds_something_may_stay_closed() {
    // Between the fingers is a block of 4 cm; the command is to close.
    let mut bench = Bench::found_at(&[0.0, 0.5, 0.04]);
    bench.stuck = vec![(2, 0.04)];
    assert!(bench.rearm().done && bench.grant().done);
    let mut chunk = bench.next_chunk(Strategy::Sync);
    for (index, opening) in chunk
        .rows
        .chunks_exact_mut(4)
        .map(|row| &mut row[0])
        .enumerate()
    {
        *opening = if index < 2 { 0.03 } else { 0.0 };
    }
    bench.in_flight = true;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
    bench.ticks(u64::from(HORIZON) + 3);
    assert_eq!(bench.state(), (Mode::Hold, Reason::Thinking));
    // It squeezes as far as it may, and no farther.
    let squeezed = 0.04 - shape().squeeze_max[2];
    let holds = |bench: &Bench| (bench.guard.command_now()[2] - squeezed).abs() < 1e-6;
    assert!(holds(&bench), "{}", bench.guard.command_now()[2]);
    let next = bench.next_chunk(Strategy::Sync);
    assert!(bench.guard.chunk(&next, bench.now_ns).is_some());
    // A rearm keeps the grip too.
    bench
        .guard
        .died(vlad_wire::id::Role::Brain, super::SESSION, bench.now_ns);
    bench.until_stopped();
    assert!(bench.rearm().done);
    assert!(holds(&bench));
}

#[test]
fn a_gripper_may_not_jump_away_from_both_command_and_measurement() {
    let mut bench = Bench::leased();
    let mut chunk = bench.next_chunk(Strategy::Sync);
    chunk.rows[0] = 0.065;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_none());
    assert_eq!(bench.guard.counters.jumps, 1);
}

#[test]
fn accepted_tells_the_rows_from_the_next_tick_on() {
    let mut bench = Bench::leased();
    let chunk = bench.next_chunk(Strategy::Naive);
    let first = bench.guard.chunk(&chunk, bench.now_ns).unwrap();
    bench.ticks(3);
    let accepted = bench.accepted();
    let played = usize::try_from(accepted.tick + 1 - first).unwrap();
    assert_eq!(accepted.remaining(), usize::from(HORIZON) - played);
    let mut want = chunk.row(played).unwrap().to_vec();
    want[3] = 0.0;
    assert_eq!(accepted.rows[..4], want);
    assert_eq!(
        (accepted.chunk, accepted.epoch),
        (Some(chunk.head.id), bench.epoch)
    );
    assert_eq!(bench.guard.guard_state(0).lease, Some(task()));
}

/// The expert conditions on the buffer and asks again once it knows of it.
#[test]
fn an_accepted_chunk_is_told_with_the_next_servo_tick() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.steps(2);
    assert!(!bench.sample.whole);
    let chunk = bench.next_chunk(Strategy::Naive);
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
    bench.step();
    assert!(bench.sample.whole);
    assert_eq!(bench.sample.accepted.chunk, Some(chunk.head.id));
    bench.step();
    assert!(!bench.sample.whole);
}

/// A chunk that begins `aside` of the command and goes slowly: five of its steps away.
fn contradiction(bench: &mut Bench, aside: f64) -> Chunk {
    let mut from = bench.guard.command_now().to_vec();
    from[0] += aside;
    bench.chunk_along(Strategy::Naive, &from, 0.002)
}

/// F33: half of five chunks that change their mind slow the robot down, five hold it for a person.
#[test]
fn chunks_that_contradict_each_other_slow_the_robot_and_then_hold_it() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.ticks(3);
    for nth in 1..=5_u32 {
        let aside = if nth % 2 == 0 { 0.01 } else { -0.01 };
        let chunk = contradiction(&mut bench, aside);
        let now_ns = bench.now_ns;
        assert!(bench.guard.chunk(&chunk, now_ns).is_some(), "{nth}");
        bench.ticks(2);
        let rate = bench.guard.pace.rate;
        let slow = (3..5).contains(&nth);
        assert_eq!(rate < 1.0, slow, "{nth}: {rate}");
    }
    assert_eq!(bench.state(), (Mode::Hold, Reason::Disagreement));
    bench.millis(1500);
    assert_eq!(
        bench.state(),
        (Mode::Hold, Reason::Disagreement),
        "a person must resume"
    );
}

/// F33, where chunks flip by more than a tick's motion: the first is refused and holds (E7), those that
/// follow begin far from where the robot holds; five in a row are a person's matter.
#[test]
fn chunks_that_are_refused_for_contradicting_count_as_well() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.ticks(3);
    let mut kinds = Vec::new();
    for nth in 1..=5_u32 {
        let aside = if nth % 2 == 0 { 0.3 } else { -0.3 };
        let chunk = contradiction(&mut bench, aside);
        let now_ns = bench.now_ns;
        assert!(bench.guard.chunk(&chunk, now_ns).is_none(), "{nth}");
        let held = if nth < 5 {
            Reason::FirstCommandJump
        } else {
            Reason::Disagreement
        };
        assert_eq!(bench.state(), (Mode::Hold, held), "{nth}");
        bench.ticks(2);
        kinds.extend(std::iter::from_fn(|| bench.guard.next_notice()).map(|notice| notice.kind));
    }
    let alarms = kinds.iter().filter(|kind| **kind == CHUNKS_DISAGREE);
    assert_eq!(alarms.count(), 1, "{kinds:?}");
    bench.millis(3000);
    assert_eq!(bench.state(), (Mode::Hold, Reason::Disagreement));
}

/// Two jumps and a chunk that begins where the robot stands: it goes on, and at half speed from the third
/// contradiction on.
#[test]
fn a_hold_for_a_jump_does_not_forget_the_contradictions_before_it() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.ticks(3);
    for aside in [0.3, -0.3, 0.3] {
        let chunk = contradiction(&mut bench, aside);
        let now_ns = bench.now_ns;
        assert!(bench.guard.chunk(&chunk, now_ns).is_none());
        bench.millis(100);
    }
    assert!(bench.send(Strategy::Naive).is_some());
    bench.ticks(3);
    assert_eq!(bench.state(), (Mode::Running, Reason::Playing));
    assert!(bench.guard.pace.rate < 1.0);
    let agreeing = bench.next_chunk(Strategy::Naive);
    let now_ns = bench.now_ns;
    assert!(bench.guard.chunk(&agreeing, now_ns).is_some());
    bench.ticks(3);
    assert!((bench.guard.pace.rate - 1.0).abs() < 1e-12);
}

/// One chunk that agrees takes the caution back.
#[test]
fn a_chunk_that_agrees_ends_the_caution() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.ticks(3);
    for nth in 0..12_u32 {
        let aside = match nth % 4 {
            0 | 2 => -0.01,
            1 => 0.01,
            _ => 0.0,
        };
        let chunk = contradiction(&mut bench, aside);
        let now_ns = bench.now_ns;
        assert!(bench.guard.chunk(&chunk, now_ns).is_some(), "{nth}");
        bench.ticks(2);
    }
    assert_eq!(bench.state().0, Mode::Running);
    assert!((bench.guard.pace.rate - 1.0).abs() < 1e-12);
}
