//! Fates by seed, by number and by trace.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use vlad_wire::clock::SECOND;

use super::*;

fn config() -> LatencyConfig {
    LatencyConfig {
        base_ms: 80.0,
        sigma: 0.3,
        spike: 0.03,
        spike_ms: 500.0,
        loss: 0.05,
        retransmit_ms: 0.0,
        duplicate: 0.05,
        reorder: 0.05,
        reorder_ms: 40.0,
        outage_every_ms: 0.0,
        outage_ms: 0.0,
    }
}

fn fates(config: LatencyConfig, seed: u64, n: u64) -> Vec<Fate> {
    let mut injector = Injector::drawn(config, seed);
    (0..n).map(|i| injector.next(i * 33 * MS)).collect()
}

fn delays(fates: &[Fate]) -> Vec<u64> {
    let delays = fates.iter().filter_map(|fate| match fate {
        Fate::Arrives { delay_ns, .. } => Some(*delay_ns),
        Fate::Lost => None,
    });
    delays.collect()
}

#[test]
fn nothing_is_injected_by_default() {
    let nothing = Fate::Arrives {
        delay_ns: 0,
        twin_ns: None,
    };
    let fates = fates(LatencyConfig::default(), 1, 1000);
    assert!(fates.iter().all(|fate| *fate == nothing));
    assert!(LatencyConfig::default().faults().is_empty());
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    assert_eq!(fates(config(), 3, 500), fates(config(), 3, 500));
    assert_ne!(fates(config(), 3, 500), fates(config(), 4, 500));
}

/// Each share within five standard errors of 20 000 draws; the median is the base.
#[test]
fn shares_are_the_configured_ones() {
    let n = 20_000;
    let fates = fates(config(), 5, n);
    let share = |holds: &dyn Fn(&Fate) -> bool| {
        fates.iter().filter(|fate| holds(fate)).count() as f64 / n as f64
    };
    let near = |got: f64, want: f64| (got - want).abs() < 5.0 * (want / n as f64).sqrt();
    assert!(near(share(&|fate| *fate == Fate::Lost), 0.05));
    let doubled = |fate: &Fate| {
        matches!(
            fate,
            Fate::Arrives {
                twin_ns: Some(_),
                ..
            }
        )
    };
    assert!(near(share(&doubled), 0.05 * 0.95));
    let mut plain = LatencyConfig::default();
    (plain.base_ms, plain.sigma) = (80.0, 0.3);
    let mut delays = delays(&super::tests::fates(plain, 5, n));
    delays.sort_unstable();
    let median_ms = delays[10_000] as f64 / MS as f64;
    assert!((median_ms - 80.0).abs() < 1.0, "{median_ms}");
    // e^{0.3 · 1.6449} at the 95th percentile.
    let p95_ms = delays[19_000] as f64 / MS as f64;
    assert!((p95_ms - 131.0).abs() < 2.5, "{p95_ms}");
}

/// Switching one axis on changes no other axis's draws.
#[test]
fn axes_do_not_shift_each_other() {
    let mut without = config();
    without.loss = 0.0;
    without.duplicate = 0.0;
    let pairs = fates(config(), 9, 2000);
    let pairs: Vec<_> = pairs.into_iter().zip(fates(without, 9, 2000)).collect();
    let arrived = pairs.iter().filter(|(fate, _)| *fate != Fate::Lost);
    for (fate, without) in arrived {
        assert_eq!(delays(&[*fate]), delays(&[*without]));
    }
}

#[test]
fn a_lost_message_may_be_sent_again() {
    let mut again = LatencyConfig::default();
    (again.base_ms, again.loss, again.retransmit_ms) = (10.0, 0.3, 50.0);
    let delays = delays(&fates(again, 2, 2000));
    assert_eq!(delays.len(), 2000);
    let n_late = |n: u64| {
        let delay_ns = (10 + 50 * n) * MS;
        delays.iter().filter(|delay| **delay == delay_ns).count()
    };
    assert!((1300..1500).contains(&n_late(0)), "{}", n_late(0));
    assert!((350..490).contains(&n_late(1)), "{}", n_late(1));
    assert!(0 < n_late(2) && n_late(2) < n_late(1));
}

/// One second in ten: the same windows for everybody, whatever is sent.
#[test]
fn what_is_sent_in_an_outage_is_lost() {
    let mut outage = LatencyConfig::default();
    (outage.outage_every_ms, outage.outage_ms) = (10_000.0, 1000.0);
    let fates = fates(outage, 6, 10_000);
    let n_lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
    assert!((950..1050).contains(&n_lost), "{n_lost}");
    let n_windows = fates
        .windows(2)
        .filter(|pair| pair[0] != Fate::Lost && pair[1] == Fate::Lost);
    assert!((32..=34).contains(&n_windows.count()));
}

#[test]
fn what_is_sent_again_waits_for_the_outages_end() {
    let mut outage = LatencyConfig::default();
    (
        outage.outage_every_ms,
        outage.outage_ms,
        outage.retransmit_ms,
    ) = (10_000.0, 1000.0, 5.0);
    let mut injector = Injector::drawn(outage, 6);
    let mut ends = Vec::new();
    for i in 0..10_000_u64 {
        let now_ns = i * MS;
        let Fate::Arrives { delay_ns, .. } = injector.next(now_ns) else {
            panic!("nothing is lost");
        };
        if 0 < delay_ns {
            ends.push(now_ns + delay_ns);
        }
    }
    ends.dedup();
    assert!(
        ends.len() <= 2,
        "one end, or two where the window wraps: {ends:?}"
    );
    assert!(ends[0] <= 11 * SECOND);
}

#[test]
fn a_trace_gives_the_same_fates_at_any_time() {
    let mut drawn = Injector::drawn(config(), 8);
    let first: Vec<_> = (0..300).map(|i| drawn.next(i * MS)).collect();
    let text = drawn.given().text();
    let mut replay = Injector::replay(Trace::parse(&text).unwrap());
    let again: Vec<_> = (0..300).map(|_| replay.next(0)).collect();
    assert_eq!(first, again);
    assert_eq!(replay.given().text(), text);
    assert_eq!((replay.next(0), replay.n_beyond()), (Fate::Lost, 1));
}

#[test]
fn a_trace_is_one_line_a_message() {
    let text = "{\"seq\":0,\"delay_ns\":80000000}\n{\"seq\":1,\"lost\":true}\n\
                {\"seq\":2,\"delay_ns\":81200000,\"twin_ns\":93000000}\n";
    let trace = Trace::parse(text).unwrap();
    assert_eq!(trace.fates().len(), 3);
    assert_eq!(trace.fates()[1], Fate::Lost);
    assert_eq!(trace.text(), text);
}

#[test]
fn traces_that_are_none_are_refused_with_their_line() {
    let good = "{\"seq\":0,\"lost\":true}\n";
    for bad in [
        "",
        "null",
        "{\"seq\":0,\"lost\":true}",
        "{\"seq\":2,\"lost\":true}",
        "{\"seq\":1}",
        "{\"seq\":1,\"lost\":false}",
        "{\"seq\":1,\"lost\":true,\"delay_ns\":4}",
        "{\"seq\":1,\"lost\":true,\"twin_ns\":4}",
        "{\"seq\":1,\"delay_ns\":-4}",
        "{\"seq\":1,\"delay_ns\":1.5}",
        "{\"seq\":1,\"delay_ns\":4,\"late\":true}",
        &format!("{{\"seq\":1,\"delay_ns\":4}}{}", " ".repeat(160)),
    ] {
        let error = Trace::parse(&format!("{good}{bad}\n")).unwrap_err();
        assert_eq!(error.line, 2, "{bad}: {error}");
    }
}

/// The field that must be named, and a wrong value.
type Change = (&'static str, fn(&mut LatencyConfig));

#[test]
fn settings_out_of_range_are_named() {
    let changes: [Change; 7] = [
        ("base_ms", |c| c.base_ms = -1.0),
        ("spike_ms", |c| c.spike_ms = f64::NAN),
        ("sigma", |c| c.sigma = 2.5),
        ("loss", |c| c.loss = 1.01),
        ("duplicate", |c| c.duplicate = f64::INFINITY),
        ("outage_every_ms", |c| c.outage_every_ms = 60_001.0),
        ("outage_ms", |c| {
            (c.outage_every_ms, c.outage_ms) = (500.0, 500.0);
        }),
    ];
    assert!(config().faults().is_empty());
    for (field, change) in changes {
        let mut bad = config();
        change(&mut bad);
        let faults = bad.faults();
        assert!(faults.iter().any(|(name, _)| *name == field), "{field}");
    }
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Lost),
        (any::<u64>(), any::<Option<u64>>())
            .prop_map(|(delay_ns, twin_ns)| Fate::Arrives { delay_ns, twin_ns }),
    ]
}

proptest! {
    #[test]
    fn every_trace_survives_its_text(fates in vec(any_fate(), 0..50)) {
        let trace = Trace { fates };
        prop_assert_eq!(Trace::parse(&trace.text()), Ok(trace));
    }

    /// No setting that passes its checks, and no time, makes a travel that overflows a clock.
    #[test]
    fn travels_are_bounded(
        base_ms in 0.0..60_000.0,
        sigma in 0.0..2.0,
        seed: u64,
        now_ns: u64,
    ) {
        let config = LatencyConfig {
            base_ms, sigma, spike: 0.5, spike_ms: 60_000.0, loss: 0.5, retransmit_ms: 60_000.0,
            duplicate: 0.5, reorder: 0.5, reorder_ms: 60_000.0, outage_every_ms: 60_000.0,
            outage_ms: 59_999.0,
        };
        prop_assert!(config.faults().is_empty());
        let fate = config.fate(seed, 0, now_ns);
        let Fate::Arrives { delay_ns, twin_ns } = fate else { panic!("{fate:?}") };
        prop_assert!(delay_ns <= 3600 * SECOND);
        prop_assert!(twin_ns.is_none_or(|twin_ns| delay_ns <= twin_ns && twin_ns <= 3600 * SECOND));
    }
}
