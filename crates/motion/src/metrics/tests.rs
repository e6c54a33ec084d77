use vlad_wire::msg::execute::Source;
use vlad_wire::msg::think::Strategy;

use super::spread::Spread;
use super::*;
use crate::testing::chunk;

const DT_NS: u64 = 32_000_000;
const SERVO_NS: u64 = 4_000_000;
/// Servo ticks of a policy tick.
const STEPS: u64 = 8;

fn shape() -> LogShape {
    LogShape {
        slots: SlotMap::new(2, vec![1]).unwrap(),
        dt_ns: DT_NS,
        servo_dt_ns: SERVO_NS,
        ticks_per_decision: 10,
        intervention_bits: 0b11,
        stop_limits: vec![],
    }
}

fn at_ns(tick: Tick, step: u64) -> u64 {
    1_000_000_000 + u64::try_from(tick).unwrap() * DT_NS + step * SERVO_NS
}

fn servo(tick: Tick, step: u64, owner: Option<(u64, u16)>) -> Executed {
    Executed {
        tick,
        servo_tick: u64::try_from(tick).unwrap() * STEPS + step,
        epoch: 1,
        scheduled_at_ns: at_ns(tick, step),
        woke_at_ns: at_ns(tick, step),
        sent_at_ns: at_ns(tick, step),
        source: if owner.is_some() {
            Source::Policy
        } else {
            Source::Hold
        },
        chunk: owner.map(|(request, _)| ChunkId { epoch: 1, request }),
        index: owner.map(|(_, index)| index),
        command: vec![0.0],
        measured: vec![0.0],
        flags: 0,
        mode: Mode::Running,
    }
}

/// All servo ticks of ticks `from..to`, played from a chunk that begins at `first`.
fn play(request: u64, first: Tick, (from, to): (Tick, Tick)) -> Vec<Executed> {
    let ticks = (from..to).flat_map(|tick| (0..STEPS).map(move |step| (tick, step)));
    ticks
        .map(|(tick, step)| {
            let index = u16::try_from(tick - first).unwrap();
            servo(tick, step, Some((request, index)))
        })
        .collect()
}

/// A chunk of 30 rows from tick `first` on, which was asked for and seen two ticks earlier and came
/// in the middle of tick `arrival`; its rows are `of(tick)`.
fn record(
    request: u64,
    (first, arrival): (Tick, Tick),
    prefix: u16,
    of: impl Fn(f64) -> f64,
) -> ChunkRecord {
    let mut made = chunk(request, 30, prefix);
    made.head.strategy = Strategy::CleanPrefix;
    made.head.captured_at_ns = at_ns(first, 0) - 2 * DT_NS;
    made.head.requested_at_ns = at_ns(first, 0);
    let value = |tick: Tick| of(f64::from(i32::try_from(tick).unwrap()) * seconds(DT_NS));
    let rows = (first..first + 30).flat_map(|tick| [0.0, narrow(value(tick))]);
    ChunkRecord {
        rows: rows.collect(),
        head: made.head,
        first,
        received_at_ns: at_ns(arrival, 4),
        fate: Fate::Accepted,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "rows are f32"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn near(a: f64, b: f64, by: f64) -> bool {
    (a - b).abs() <= by
}

const START: [ModeChange; 1] = [ModeChange {
    at_ns: 0,
    mode: Mode::Running,
    reason: Reason::Playing,
}];

fn log<'a>(executed: &'a [Executed], chunks: &'a [ChunkRecord], shape: &'a LogShape) -> Log<'a> {
    Log {
        executed,
        chunks,
        modes: &START,
        shape,
    }
}

#[test]
fn percentiles_are_nearest_ranks() {
    let values = (1..=1000_u16).rev().map(f64::from).collect();
    let spread = Spread::of(values).unwrap();
    let got = [spread.p50, spread.p95, spread.p99, spread.p999, spread.max];
    assert_eq!(got.to_vec(), [500.0, 950.0, 990.0, 999.0, 1000.0]);
    assert_eq!(Spread::of(vec![]), None);
    let one = Spread::of(vec![7.0]).unwrap();
    assert_eq!(vec![one.p50, one.p999], [7.0, 7.0]);
}

#[test]
fn stalls_are_counted_in_running_and_in_planned_gaps_alone() {
    let mut executed = play(1, 0, (0, 4));
    executed.extend((4..6).flat_map(|tick| (0..STEPS).map(move |step| servo(tick, step, None))));
    executed.extend(play(1, 0, (6, 8)));
    for tick in 8..12 {
        let mut held = servo(tick, 0, None);
        held.mode = Mode::Hold;
        executed.push(held);
    }
    let shape = shape();
    let change = |tick, reason| ModeChange {
        at_ns: at_ns(tick, 0),
        mode: Mode::Hold,
        reason,
    };
    // Ticks 8 and 9 are a planned gap, 10 and 11 a pause that a person asked for.
    let modes = [
        START[0],
        change(8, Reason::Thinking),
        change(10, Reason::Paused),
    ];
    let log = Log {
        modes: &modes,
        ..log(&executed, &[], &shape)
    };
    let stalls = timing::stalls(&log);
    assert_eq!((stalls.ticks, stalls.stalled), (10, 4));
    assert_eq!((stalls.events, stalls.longest), (2, 2));
    assert!(near(stalls.ratio, 0.4, 1e-12));
}

#[test]
fn the_age_of_an_action_counts_from_its_capture() {
    let executed = play(1, 0, (0, 10));
    let (chunks, shape) = ([record(1, (0, 0), 0, |_| 0.0)], shape());
    let report = report(&log(&executed, &chunks, &shape));
    let age = report.age.unwrap().age_ms;
    // Two ticks at the first action, eleven at the last.
    assert_eq!((age.n, age.max), (10, 352.0));
    assert!(near(age.p50, 6.0 * 32.0, 1e-9));
}

#[test]
fn seams_show_the_jump_and_its_derivatives() {
    // 0.1 rad/s throughout, and a jump of 0.02 rad from tick 10 on.
    let chunks = [
        record(1, (0, 0), 0, |t| 0.1 * t),
        record(2, (6, 9), 4, |t| 0.1 * t + 0.02),
    ];
    let mut executed = play(1, 0, (0, 10));
    executed.extend(play(2, 6, (10, 20)));
    let shape = shape();
    let found = seams::seams(
        &log(&executed, &chunks, &shape),
        &played(&log(&executed, &chunks, &shape)),
    );
    let [seam] = found.seams.as_slice() else {
        panic!("one seam, not {}", found.seams.len());
    };
    assert_eq!((seam.tick, seam.index, seam.delay_ticks), (10, 4, 4));
    assert_eq!((seam.prefix_conditioned, seam.prefix_used), (4, 4));
    assert!(near(seam.disagreement.unwrap(), 0.02, 1e-6));
    assert!(near(seam.overlap_mean.unwrap(), 0.02, 1e-6));
    let dt = seconds(DT_NS);
    let [position, velocity, acceleration, jerk] = seam.steps.map(Option::unwrap);
    assert!(near(position, 0.1 * dt + 0.02, 1e-6));
    assert!(near(velocity, 0.02 / dt, 1e-4));
    assert!(near(acceleration, 0.02 / dt.powi(2), 1e-2));
    assert!(near(jerk, 0.02 / dt.powi(3), 1.0));
    let step = 0.1 * dt;
    assert!(near(found.within[0].unwrap().p95, step, 1e-6));
    assert!(near(found.disagreement_ratio.unwrap(), 0.02 / step, 1e-2));
    assert!(near(found.rho[0].unwrap(), (step + 0.02) / step, 1e-2));
}

#[test]
fn a_cubic_in_chunks_has_its_own_differences() {
    let chunks = [record(1, (0, 0), 0, |t| t.powi(3))];
    let (executed, shape) = (play(1, 0, (0, 30)), shape());
    let log = log(&executed, &chunks, &shape);
    let found = seams::seams(&log, &played(&log));
    assert!(found.seams.is_empty() && found.rho.iter().all(Option::is_none));
    // The third difference of a cubic is 6 dt³ at every tick, and D² divides by dt².
    let [_, _, acceleration, jerk] = found.within.map(Option::unwrap);
    let dt = seconds(DT_NS);
    assert!(near(acceleration.p50, 6.0 * dt, 2e-3));
    assert_eq!((acceleration.n, jerk.n), (27, 26));
}

#[test]
fn a_gap_is_no_seam() {
    let chunks = [
        record(1, (0, 0), 0, |_| 0.0),
        record(2, (12, 12), 0, |_| 1.0),
    ];
    let mut executed = play(1, 0, (0, 10));
    executed.extend(play(2, 12, (12, 20)));
    let shape = shape();
    let log = log(&executed, &chunks, &shape);
    assert!(seams::seams(&log, &played(&log)).seams.is_empty());
}

#[test]
fn an_overrun_shows_how_much_of_the_prefix_was_needed() {
    let chunks = [record(1, (0, 0), 0, |t| t), record(2, (6, 11), 4, |t| t)];
    let mut executed = play(1, 0, (0, 12));
    executed.extend(play(2, 6, (12, 20)));
    let shape = shape();
    let log = log(&executed, &chunks, &shape);
    let found = seams::seams(&log, &played(&log)).seams;
    assert_eq!((found[0].delay_ticks, found[0].prefix_used), (6, 4));
}

#[test]
fn late_ticks_and_deadlines_are_counted() {
    let mut executed = play(1, 0, (0, 10));
    executed[3].woke_at_ns += 500_000;
    executed[4].woke_at_ns += SERVO_NS + 1;
    let mut chunks = [
        record(1, (0, 0), 0, |_| 0.0),
        record(2, (2, 6), 4, |_| 0.0),
        record(3, (4, 25), 0, |_| 0.0),
    ];
    let shape = shape();
    let found = report(&log(&executed, &chunks, &shape));
    let lateness = found.lateness.unwrap();
    assert_eq!((lateness.slips, lateness.late_us.n), (1, 80));
    assert!(near(lateness.late_us.max, 4000.001, 1e-6));
    let deadlines = found.deadlines;
    // Chunk 2 comes in the middle of the fifth tick after its request, with four rows of prefix.
    assert_eq!(
        (deadlines.chunks, deadlines.hard, deadlines.soft),
        (3, 1, 1)
    );
    assert!(near(deadlines.servo_per_million, 12_500.0, 1e-6));
    chunks[0].fate = Fate::Discarded;
    let economy = report(&log(&executed, &chunks, &shape)).economy;
    assert_eq!(
        (economy.chunks, economy.discarded, economy.overruns),
        (3, 1, 0)
    );
    assert!(near(economy.generated_per_played, 9.0, 1e-12));
    assert!(near(economy.delay_ms.unwrap().max, 21.5 * 32.0, 1e-9));
}

#[test]
fn interventions_are_the_flags_that_change_a_command() {
    let mut executed = play(1, 0, (0, 10));
    executed[3].flags = 0b1;
    executed[4].flags = 0b11;
    executed[5].flags = 0b100;
    let shape = shape();
    let found = timing::interventions(&log(&executed, &[], &shape));
    assert!(near(found.per_thousand, 25.0, 1e-12));
    assert_eq!(found.by_bit, BTreeMap::from([(0, 2), (1, 1)]));
}

#[test]
fn a_report_survives_an_empty_log() {
    let shape = shape();
    let found = report(&log(&[], &[], &shape));
    assert!(found.age.is_none() && found.lateness.is_none() && found.smoothness.is_none());
    assert!(found.tracking.is_empty() && found.stops.is_empty() && found.seams.seams.is_empty());
    assert_eq!((found.stalls.ticks, found.economy.chunks), (0, 0));
}

mod signals;
