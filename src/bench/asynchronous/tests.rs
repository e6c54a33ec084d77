use super::figures::millis;
use super::travel::{PERIOD_NS, ahead};
use super::*;

fn options(contenders: &[Contender], delays: &[u32], episodes: u32) -> AsyncOptions {
    AsyncOptions {
        contenders: contenders.to_vec(),
        delays: delays.to_vec(),
        episodes,
        seed: 1,
        jitters: vec![0.0],
        losses: vec![0.0],
        retransmit_ms: 200.0,
        trace: None,
        oracle: Vec::new(),
        limits: Limits::Open,
        threads: 2,
    }
}

fn rows(options: &AsyncOptions) -> Vec<Row> {
    run(options, &|_| {}).unwrap().rows
}

fn trial(contender: Contender, delay_ticks: u32) -> Trial {
    let options = options(&[contender], &[delay_ticks], 1);
    Trial {
        contender,
        replanning: Replanning::Cadence,
        delay_ticks,
        cause: Cause::Drawn(latency(&options, &cells(&options)[0]), 1),
        seed: 1,
        jumps: true,
    }
}

/// The first row that is played of any chunk is row d: it is d ticks and one servo period old
/// (four without a delay), and
/// the last one before the next chunk is max(10, d) − 1 ticks older. Only the first chunk, which waits
/// for nobody, is played longer.
#[test]
fn a_delay_of_d_ticks_plays_each_chunk_from_row_d_on() {
    let ground = Ground::new(Limits::Open).unwrap();
    for d in [0, 1, 2, 3, 8, 12, 15] {
        let ran = episode::run(&ground, trial(Contender::Naive, d)).unwrap();
        let age_ms = |rows: u32| millis((u64::from(10 * rows + 1) + ahead(d)) * PERIOD_NS);
        let (youngest, period) = (age_ms(d), d.max(10));
        let found = ran.ages_ms.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((found - youngest).abs() < 1e-6, "d = {d}: {found} ms");
        // The newest chunk of a run in steady state: its first row comes once in a period.
        let firsts = ran.ages_ms.iter().enumerate();
        let firsts = firsts.filter(|(_, age)| (**age - youngest).abs() < 1e-6);
        let firsts: Vec<usize> = firsts.map(|(tick, _)| tick).collect();
        // The first chunk began at row 0 when it came: its row 0 is as old as row d of the others.
        let later = firsts.windows(2).skip(1).map(|pair| pair[1] - pair[0]);
        let later: Vec<usize> = later.collect();
        assert!(!later.is_empty(), "d = {d}: {firsts:?}");
        let period = usize::try_from(period).unwrap();
        assert!(
            later.iter().all(|ticks| *ticks == period),
            "d = {d}: {firsts:?}"
        );
        assert_eq!(ran.stalls, 0, "d = {d}");
        assert_eq!(ran.stopped, None, "d = {d}");
    }
}

/// One inference in flight: 2 d ≤ H.
#[test]
fn no_asynchronous_strategy_stalls_up_to_half_a_chunk() {
    let contenders: Vec<_> = Contender::ALL
        .into_iter()
        .filter(|contender| *contender != Contender::Sync)
        .collect();
    let ground = Ground::new(Limits::Open).unwrap();
    for contender in contenders {
        for d in [5, 15] {
            let ran = episode::run(&ground, trial(contender, d)).unwrap();
            assert_eq!((ran.stalls, ran.stopped), (0, None), "{contender:?} at {d}");
        }
    }
}

#[test]
fn sync_stands_still_while_it_thinks() {
    let found = rows(&options(&[Contender::Sync], &[3, 8], 4));
    assert!(found.iter().all(|row| row.stopped == 0.0), "{found:?}");
    assert!(0.0 < found[0].stalls, "{found:?}");
    assert!(found[0].stalls < found[1].stalls, "{found:?}");
}

/// The gates of the benchmark, with few episodes. The oracle's figures at the first row that is free,
/// the fourth, are 0.99, 6.1 mm and 60 m/s³ for the prefix, and 0.24 for naive.
#[test]
fn the_gates_of_the_benchmark_hold_in_the_pipeline() {
    let prefix = rows(&options(&[Contender::CleanPrefix], &[3], 24));
    let prefix = &prefix[0];
    assert!(0.95 <= prefix.success, "{prefix:?}");
    assert!(prefix.boundary_p95_mm.unwrap() <= 8.0, "{prefix:?}");
    assert!(prefix.rms_jerk <= 100.0, "{prefix:?}");
    assert!(prefix.stalls <= 0.0, "{prefix:?}");
    let naive = rows(&options(&[Contender::Naive], &[12], 24));
    assert!(naive[0].success <= 0.5, "{naive:?}");
    assert!(naive[0].stalls <= 0.0, "{naive:?}");
}

/// Same trace, same commands, bit by bit; another trace, others.
#[test]
fn a_recorded_trace_gives_the_same_commands() {
    let drawn = AsyncOptions {
        jitters: vec![0.3],
        losses: vec![0.1],
        ..options(&[Contender::CleanPrefix], &[3], 1)
    };
    let first = run(&drawn, &|_| {}).unwrap();
    assert!(3 < first.trace.fates().len());
    let read = Trace::parse(&first.trace.text()).unwrap();
    let replayed = AsyncOptions {
        trace: Some(read),
        jitters: vec![0.0],
        losses: vec![0.0],
        ..drawn.clone()
    };
    let second = run(&replayed, &|_| {}).unwrap();
    assert_eq!(
        first.rows[0].commands_sha256,
        second.rows[0].commands_sha256
    );
    assert_eq!(first.trace, second.trace);
    let other = AsyncOptions {
        trace: Some(Trace::parse("{\"seq\":0,\"delay_ns\":80000000}\n").unwrap()),
        ..replayed
    };
    let third = run(&other, &|_| {}).unwrap();
    assert_ne!(first.rows[0].commands_sha256, third.rows[0].commands_sha256);
}

#[test]
fn figures_do_not_depend_on_the_number_of_threads() {
    let many = AsyncOptions {
        jitters: vec![0.2],
        threads: 3,
        ..options(&[Contender::Naive, Contender::Guided], &[2], 2)
    };
    let one = AsyncOptions {
        threads: 1,
        ..many.clone()
    };
    assert_eq!(rows(&many), rows(&one));
    assert_eq!(n_runs(&many), 4);
}

#[test]
fn the_median_of_a_trace_is_its_delay() {
    for d in [0_u32, 1, 3, 15] {
        let ns = u64::from((10 * d).saturating_sub(9)) * PERIOD_NS;
        let line = format!("{{\"seq\":0,\"delay_ns\":{ns}}}\n{{\"seq\":1,\"lost\":true}}\n");
        assert_eq!(ticks_of(&Trace::parse(&line).unwrap()), d);
    }
    assert_eq!(ticks_of(&Trace::default()), 0);
}

#[test]
fn options_out_of_range_are_refused() {
    let good = options(&[Contender::Naive], &[3], 1);
    let wrong: [fn(&mut AsyncOptions); 6] = [
        |o| o.episodes = 0,
        |o| o.delays = vec![31],
        |o| o.delays.clear(),
        |o| o.contenders.clear(),
        |o| o.losses = vec![1.5],
        |o| o.jitters = vec![f64::NAN],
    ];
    for (row, spoil) in wrong.iter().enumerate() {
        let mut options = good.clone();
        spoil(&mut options);
        assert!(run(&options, &|_| {}).is_err(), "row {row}");
    }
}
