use proptest::prelude::*;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use vlad_wire::msg::think::Strategy;

use super::*;

const MS: u64 = 1_000_000;
const DT_NS: u64 = 33_333_333;
const SECOND: u64 = 1000 * MS;

fn config(wanted: Wanted) -> GateConfig {
    GateConfig {
        wanted,
        slow_allowed: false,
        ticks_per_decision: 10,
        dt_ns: DT_NS,
        camera_ns: 40 * MS,
        age_limit_ns: 1100 * MS,
        quiet_ns: 10 * SECOND,
    }
}

fn slow(wanted: Wanted) -> GateConfig {
    GateConfig {
        slow_allowed: true,
        ..config(wanted)
    }
}

fn ability(prefix_trained_max: u16, guidance: bool) -> Ability {
    Ability {
        prefix_trained_max,
        guidance,
        horizon: 30,
    }
}

fn steady(delay_ms: u64) -> DelayMeter {
    std::iter::repeat_n(delay_ms * MS, 5).collect()
}

fn at(config: &GateConfig, ability: Ability, delay_ms: u64) -> Choice {
    check_at_load(config, ability, &steady(delay_ms)).unwrap()
}

fn refused(config: &GateConfig, ability: Ability, delay_ms: u64) -> Impossible {
    check_at_load(config, ability, &steady(delay_ms)).unwrap_err()
}

#[test]
fn the_rule_goes_down_the_list() {
    let auto = config(Wanted::Auto);
    let chosen = |ability, delay_ms| {
        let choice = at(&auto, ability, delay_ms);
        (choice.strategy, choice.prefix_len)
    };
    let trained = ability(6, true);
    assert_eq!(chosen(trained, 80), (Strategy::CleanPrefix, 4));
    assert_eq!(chosen(trained, 200), (Strategy::CleanPrefix, 6));
    assert_eq!(chosen(trained, 210), (Strategy::Sync, 0));
    assert_eq!(chosen(ability(0, true), 66), (Strategy::Naive, 0));
    assert_eq!(chosen(ability(0, true), 80), (Strategy::Guided, 0));
    assert_eq!(chosen(ability(0, true), 133), (Strategy::Guided, 0));
    assert_eq!(chosen(ability(0, true), 140), (Strategy::Sync, 0));
    assert_eq!(chosen(ability(0, false), 80), (Strategy::Sync, 0));
    assert_eq!(chosen(ability(1, false), 60), (Strategy::Naive, 0));
}

#[test]
fn a_slow_robot_lets_the_prefix_cover_the_delay() {
    let choice = at(&slow(Wanted::Auto), ability(6, false), 400);
    assert_eq!(
        (choice.strategy, choice.prefix_len, choice.delay_ticks),
        (Strategy::CleanPrefix, 6, 6)
    );
    assert!((choice.rate - 0.5).abs() < 1e-12);
    let faster = at(&slow(Wanted::Auto), ability(6, false), 300);
    assert!((faster.rate - 6.0 / 9.0).abs() < 1e-12 && faster.delay_ticks == 6);
    let late = at(&slow(Wanted::Auto), ability(6, false), 460);
    assert!((late.rate - 0.5).abs() < 1e-12, "a slow tick is let pass");
    let sync = at(&slow(Wanted::Auto), ability(6, false), 470);
    assert_eq!(sync.strategy, Strategy::Sync);
    assert!((sync.rate - 1.0).abs() < 1e-12);
}

#[test]
fn decisions_come_as_often_as_delay_and_age_ask_for() {
    let fixed = |delay_ms| {
        at(
            &config(Wanted::Fixed(Strategy::Naive)),
            ability(0, false),
            delay_ms,
        )
        .ticks_per_decision
    };
    assert_eq!(fixed(80), 10);
    assert_eq!(
        fixed(400),
        12,
        "one inference in flight: never below the delay"
    );
    assert_eq!(fixed(500), 13, "H - d - 2");
    let tight = GateConfig {
        age_limit_ns: 500 * MS,
        ..config(Wanted::Fixed(Strategy::Naive))
    };
    // (3 + 10) ticks and the camera are 473 ms; (5 + 10) ticks would be 540 ms.
    assert_eq!(at(&tight, ability(0, false), 80).ticks_per_decision, 10);
    assert_eq!(at(&tight, ability(0, false), 160).ticks_per_decision, 8);
}

#[test]
fn impossible_pairs_are_refused_with_their_field() {
    let prefix = config(Wanted::Fixed(Strategy::CleanPrefix));
    let none = refused(&prefix, ability(0, true), 80);
    assert_eq!(
        (none.field(), &none),
        ("prefix_trained_max", &Impossible::NoPrefix)
    );
    assert!(none.to_string().contains("prefix_trained_max"));
    assert!(check_at_load(&prefix, ability(1, false), &steady(80)).is_ok());
    let guided = config(Wanted::Fixed(Strategy::Guided));
    assert_eq!(refused(&guided, ability(6, false), 80).field(), "vjp");
    assert!(check_at_load(&guided, ability(0, true), &steady(80)).is_ok());
    let naive = config(Wanted::Fixed(Strategy::Naive));
    assert!(check_at_load(&naive, ability(0, false), &steady(500)).is_ok());
    let too_slow = refused(&naive, ability(0, false), 520);
    assert_eq!(
        too_slow,
        Impossible::TooSlow {
            delay: 16,
            horizon: 30
        }
    );
    let tight = GateConfig {
        age_limit_ns: 700 * MS,
        ..naive
    };
    let too_old = refused(&tight, ability(0, false), 400);
    assert_eq!(too_old.field(), "guard.action_age_limit_ms");
    assert!(matches!(
        too_old,
        Impossible::TooOld {
            delay: 12,
            oldest: 24,
            ..
        }
    ));
    for wanted in [Wanted::Auto, Wanted::Fixed(Strategy::Sync)] {
        let never = refused(&config(wanted), ability(6, true), 2000);
        assert!(matches!(never, Impossible::NeverYoung { .. }));
        let empty = Ability {
            horizon: 0,
            ..ability(6, true)
        };
        assert_eq!(refused(&config(wanted), empty, 80), Impossible::Empty);
    }
}

#[test]
fn delays_are_the_worst_of_the_newest_and_the_percentile() {
    let mut meter = DelayMeter::default();
    assert_eq!((meter.expected_ns(), meter.count()), (0, 0));
    for _ in 0..198 {
        meter.push(80);
    }
    meter.push(500);
    assert_eq!(meter.expected_ns(), 500, "among the newest ten");
    for _ in 0..10 {
        meter.push(80);
    }
    assert_eq!((meter.expected_ns(), meter.rare_ns()), (80, 500));
    for _ in 0..200 {
        meter.push(80);
    }
    assert_eq!((meter.rare_ns(), meter.count()), (80, 200));
}

/// F31: a ramp from 80 to 500 ms and back, a decision every 333 ms.
#[test]
fn a_latency_ramp_does_not_oscillate() {
    for (config, ability) in [
        (config(Wanted::Auto), ability(6, true)),
        (slow(Wanted::Auto), ability(6, true)),
        (slow(Wanted::Auto), ability(0, true)),
    ] {
        let mut gate = Gate::new(config, ability, steady(80)).unwrap();
        let (mut now_ns, mut changes) = (0, Vec::new());
        let mut before = gate.choice().strategy;
        // Ten seconds up with a wobble of a tick, a minute there, ten seconds down, a minute there.
        let up = (0..30).map(|i| 80 + i * 14 + (i % 2) * 33);
        let down = (0..30).map(|i| 500 - i * 14 + (i % 2) * 33);
        let all = up.chain([500; 180]).chain(down).chain([80; 400]);
        for delay_ms in all {
            now_ns += 333 * MS;
            gate.note(delay_ms * MS, Fate::Accepted, now_ns);
            let strategy = gate.choice().strategy;
            if strategy != before {
                changes.push((now_ns, before, strategy));
                before = strategy;
            }
        }
        assert_eq!(
            changes.last().map(|change| change.2),
            Some(
                Gate::new(config, ability, steady(80))
                    .unwrap()
                    .choice()
                    .strategy
            )
        );
        // Going down and coming back within ten seconds would be an oscillation.
        for pair in changes.windows(2) {
            let back = pair[0].1 == pair[1].2;
            assert!(!back || 10 * SECOND <= pair[1].0 - pair[0].0, "{changes:?}");
        }
    }
}

#[test]
fn a_longer_delay_counts_at_once_and_a_shorter_one_after_the_quiet_time() {
    let mut gate = Gate::new(config(Wanted::Auto), ability(6, false), steady(80)).unwrap();
    assert_eq!(
        gate.note(300 * MS, Fate::Accepted, SECOND),
        Some(Because::Slower)
    );
    assert_eq!(gate.choice().strategy, Strategy::Sync);
    let mut now_ns = SECOND;
    let mut changed = None;
    for _ in 0..400 {
        now_ns += 300 * MS;
        changed = changed.or(gate
            .note(80 * MS, Fate::Accepted, now_ns)
            .map(|b| (b, now_ns)));
    }
    // The spike leaves the window of 200 after a minute, then comes the quiet time.
    let (because, at_ns) = changed.unwrap();
    assert_eq!(because, Because::Faster);
    assert!(11 * SECOND <= at_ns, "{at_ns}");
    assert_eq!(gate.choice().strategy, Strategy::CleanPrefix);
}

#[test]
fn what_a_delay_would_lead_to_is_told_without_taking_it() {
    let gate = Gate::new(config(Wanted::Auto), ability(6, false), steady(80)).unwrap();
    assert_eq!(gate.after(2900 * MS, SECOND).strategy, Strategy::Sync);
    assert_eq!(gate.after(90 * MS, SECOND), gate.choice());
    assert_eq!(gate.choice().strategy, Strategy::CleanPrefix);
    assert_eq!(gate.meter().count(), 5);
}

#[test]
fn half_a_tick_less_is_not_enough_to_go_up() {
    let mut gate = Gate::new(config(Wanted::Auto), ability(6, false), steady(210)).unwrap();
    for i in 0..600 {
        gate.note(190 * MS, Fate::Accepted, i * SECOND);
    }
    assert_eq!(
        gate.choice().strategy,
        Strategy::Sync,
        "190 ms is too near to 200"
    );
    for i in 600..1200 {
        gate.note(180 * MS, Fate::Accepted, i * SECOND);
    }
    assert_eq!(gate.choice().strategy, Strategy::CleanPrefix);
}

#[test]
fn five_discards_in_a_row_degrade_for_a_minute() {
    let mut gate = Gate::new(config(Wanted::Auto), ability(6, false), steady(80)).unwrap();
    for fate in [Fate::Discarded; 4] {
        assert_eq!(gate.note(80 * MS, fate, SECOND), None);
    }
    gate.note(80 * MS, Fate::Overrun, SECOND);
    for fate in [Fate::Discarded; 4] {
        assert_eq!(gate.note(80 * MS, fate, SECOND), None);
    }
    let last = gate.note(80 * MS, Fate::Discarded, SECOND);
    assert_eq!(last, Some(Because::Degraded));
    assert_eq!(
        (gate.choice().strategy, gate.degraded()),
        (Strategy::Sync, true)
    );
    assert_eq!(gate.tick(60 * SECOND), None);
    assert_eq!(gate.tick(61 * SECOND), Some(Because::Recovered));
    assert_eq!(gate.choice().strategy, Strategy::CleanPrefix);
}

#[test]
fn the_choice_is_one_word_in_a_configuration() {
    let read = |text: &str| {
        let text: StrDeserializer<'_, ValueError> = text.into_deserializer();
        Wanted::deserialize(text).ok()
    };
    assert_eq!(read("auto"), Some(Wanted::Auto));
    let prefix = Wanted::Fixed(Strategy::CleanPrefix);
    assert_eq!(read("clean-prefix"), Some(prefix));
    assert_eq!(read("fastest"), None);
}

proptest! {
    /// F31 over any delays: a better strategy comes a quiet time after the last worse one at the
    /// earliest, and every choice leaves what is held of the delay.
    #[test]
    fn whatever_the_delays_the_gate_does_not_flap(
        delays in prop::collection::vec((20_u64..600, 1_u64..40), 1..30),
        prefix in 0_u16..8, guidance: bool, slow_allowed: bool,
    ) {
        let config = GateConfig { slow_allowed, ..config(Wanted::Auto) };
        let mut gate = Gate::new(config, ability(prefix, guidance), steady(80)).unwrap();
        let (mut now_ns, mut slower_at) = (0, None);
        for (delay_ms, times) in delays {
            for _ in 0..times {
                now_ns += delay_ms.max(100) * MS;
                match gate.note(delay_ms * MS, Fate::Accepted, now_ns) {
                    Some(Because::Slower) => slower_at = Some(now_ns),
                    Some(_) => prop_assert!(slower_at.is_none_or(|at| config.quiet_ns <= now_ns - at)),
                    None => {}
                }
                let measured = Delays::of(gate.meter(), DT_NS, 0);
                prop_assert!(!gate.held.exceeded_by(measured));
            }
        }
    }

    /// Whatever is measured, the choice keeps its promises.
    #[test]
    fn a_choice_is_always_one_that_can_work(
        delay_ms in 0_u64..1200, prefix in 0_u16..12, guidance: bool, slow_allowed: bool,
        horizon in 1_u16..64, age_ms in 100_u64..2000, wanted_ticks in 1_u64..30,
    ) {
        let config = GateConfig {
            slow_allowed,
            ticks_per_decision: wanted_ticks,
            age_limit_ns: age_ms * MS,
            ..config(Wanted::Auto)
        };
        let ability = Ability { prefix_trained_max: prefix, guidance, horizon };
        let delays = Delays::of(&steady(delay_ms), DT_NS, 0);
        let choice = choose(&config, ability, delays);
        prop_assert!(choice.prefix_len <= prefix && choice.prefix_len <= horizon);
        prop_assert!((0.5..=1.0).contains(&choice.rate));
        prop_assert!(1 <= choice.ticks_per_decision);
        prop_assert!(guidance || choice.strategy != Strategy::Guided);
        prop_assert!(slow_allowed || choice.rate >= 1.0);
        prop_assert!(0 < choice.prefix_len || choice.strategy != Strategy::CleanPrefix);
        if choice.strategy != Strategy::Sync {
            // One inference in flight, no gap, no action too old.
            prop_assert!(choice.delay_ticks <= choice.ticks_per_decision.max(1)
                || choice.ticks_per_decision + 2 + choice.delay_ticks >= u64::from(horizon));
            prop_assert!(2 * choice.delay_ticks <= u64::from(horizon));
            let age = choice.delay_ticks + choice.ticks_per_decision;
            let age_ns = f64::from(u32::try_from(age * DT_NS / 1000).unwrap()) * 1000.0 / choice.rate;
            let limit_ns = f64::from(u32::try_from(age_ms).unwrap()) * 1e6 - 40e6;
            prop_assert!(age_ns <= limit_ns + 1e4, "{} {}", age_ns, limit_ns);
        }
    }

    #[test]
    fn a_longer_delay_never_gives_a_longer_way_up_the_list(
        a in 0_u64..800, b in 0_u64..800, prefix in 0_u16..8, guidance: bool, slow_allowed: bool,
    ) {
        let config = GateConfig { slow_allowed, ..config(Wanted::Auto) };
        let level = |delay_ms| {
            let delays = Delays::of(&steady(delay_ms), DT_NS, 0);
            let choice = choose(&config, ability(prefix, guidance), delays);
            match choice.strategy {
                Strategy::CleanPrefix if choice.rate >= 1.0 => 0,
                Strategy::Naive => 1,
                Strategy::Guided => 2,
                Strategy::CleanPrefix => 3,
                _ => 4,
            }
        };
        let (short, long) = (a.min(b), a.max(b));
        prop_assert!(level(short) <= level(long));
    }
}
