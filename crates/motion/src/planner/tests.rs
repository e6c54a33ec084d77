use proptest::prelude::{prop_assert_eq, proptest};
use vlad_safety::reason::Reason;
use vlad_wire::robot_type::SlotMap;

use super::*;
use crate::buffer::{ChunkBuffer, Inserted};
use crate::gate::{Ability, GateConfig, Wanted, check_at_load};
use crate::noise::{decision_seed, standard_normal};
use crate::testing::chunk;

fn accepted(mode: Mode, reason: Reason, remaining: usize, played: u64) -> Accepted {
    Accepted {
        epoch: 1,
        sampled_at_ns: 0,
        tick: 40,
        mode,
        reason,
        chunk: None,
        strategy: None,
        played,
        width: 2,
        rows: vec![0.0; remaining * 2],
    }
}

fn joints(standstill: bool) -> JointState {
    JointState {
        tick: 41,
        servo_tick: 0,
        sampled_at_ns: 0,
        position: vec![],
        velocity: vec![],
        commanded: vec![],
        eef: vec![],
        standstill,
        still_since_ns: 77,
        rate: 1.0,
        echo: vlad_wire::msg::sense::Echo::default(),
    }
}

fn config(strategy: Strategy, replanning: Replanning) -> PlannerConfig {
    PlannerConfig {
        strategy,
        replanning,
        ticks_per_decision: 10,
        delay_ticks: 3,
    }
}

fn plan(strategy: Strategy, accepted: &Accepted, standstill: bool, last: Option<u64>) -> Plan {
    let config = config(strategy, Replanning::Cadence);
    let joints = joints(standstill);
    decide(
        &config,
        &GuardView {
            accepted,
            joints: &joints,
            played_at_last: last,
            changed: false,
            young_ticks: u64::MAX,
        },
    )
}

#[test]
fn sync_looks_after_standstill_and_announces_before() {
    let ask = Plan::Ask {
        earliest_tick: 41,
        earliest_captured_ns: 77,
    };
    let armed = accepted(Mode::Armed, Reason::Rearmed, 0, 0);
    assert_eq!(plan(Strategy::Sync, &armed, true, None), ask);
    assert_eq!(plan(Strategy::Sync, &armed, false, None), Plan::Anticipate);
    let playing = |left| accepted(Mode::Running, Reason::Playing, left, 5);
    assert_eq!(
        plan(Strategy::Sync, &playing(20), false, Some(0)),
        Plan::Wait
    );
    assert_eq!(
        plan(Strategy::Sync, &playing(3), false, Some(0)),
        Plan::Anticipate
    );
    let thinking = accepted(Mode::Hold, Reason::Thinking, 0, 30);
    assert_eq!(plan(Strategy::Sync, &thinking, true, Some(0)), ask);
}

#[test]
fn naive_asks_after_so_many_played_ticks() {
    let playing = |played| accepted(Mode::Running, Reason::Playing, 20, played);
    let ask = Plan::Ask {
        earliest_tick: 41,
        earliest_captured_ns: 0,
    };
    assert_eq!(
        plan(Strategy::Naive, &playing(9), false, Some(0)),
        Plan::Wait
    );
    assert_eq!(plan(Strategy::Naive, &playing(10), false, Some(0)), ask);
    assert_eq!(plan(Strategy::Naive, &playing(10), false, None), ask);
}

#[test]
fn nothing_is_asked_where_no_chunk_would_be_taken() {
    for (mode, reason) in [
        (Mode::Disarmed, Reason::Started),
        (Mode::Stopping, Reason::BrainLost),
        (Mode::Stopped, Reason::BrainLost),
        (Mode::Estopped, Reason::EmergencyStop),
        (Mode::Fault, Reason::BadChunks),
        (Mode::Hold, Reason::Paused),
        (Mode::Hold, Reason::LeaseReleased),
    ] {
        for strategy in [Strategy::Sync, Strategy::Naive] {
            assert_eq!(
                plan(strategy, &accepted(mode, reason, 0, 0), true, None),
                Plan::Wait
            );
        }
    }
}

#[test]
fn a_chunk_begins_after_its_observation_while_playing() {
    let (naive, sync) = (Strategy::Naive, Strategy::Sync);
    assert_eq!(start(naive, Mode::Running, Some(naive), 7), Start::At(8));
    assert_eq!(start(naive, Mode::Hold, None, 7), Start::OnArrival);
    assert_eq!(start(sync, Mode::Hold, Some(sync), 7), Start::OnArrival);
    assert_eq!(start(sync, Mode::Running, Some(sync), 7), Start::OnArrival);
}

const ASK: Plan = Plan::Ask {
    earliest_tick: 41,
    earliest_captured_ns: 0,
};

fn running(replanning: Replanning, (left, played): (usize, u64), changed: bool) -> Plan {
    let (accepted, joints) = (
        accepted(Mode::Running, Reason::Playing, left, played),
        joints(false),
    );
    let view = GuardView {
        accepted: &accepted,
        joints: &joints,
        played_at_last: Some(100),
        changed,
        young_ticks: u64::MAX,
    };
    decide(&config(Strategy::CleanPrefix, replanning), &view)
}

/// Rows that will be too old when the chunk is there are as good as none.
#[test]
fn old_rows_are_asked_for_again_before_they_are_too_old() {
    let (accepted, joints) = (
        accepted(Mode::Running, Reason::Playing, 25, 101),
        joints(false),
    );
    let plan = |young_ticks, played_at_last| {
        let view = GuardView {
            accepted: &accepted,
            joints: &joints,
            played_at_last: Some(played_at_last),
            changed: false,
            young_ticks,
        };
        decide(&config(Strategy::Naive, Replanning::Cadence), &view)
    };
    assert_eq!(plan(5, 100), Plan::Wait);
    assert_eq!(plan(4, 100), ASK);
    assert_eq!(plan(4, 101), Plan::Wait);
}

/// A sync chunk of a slow decision ends where its rows are too old: that gap is announced too.
#[test]
fn sync_announces_the_end_of_what_is_young_enough() {
    let mut accepted = accepted(Mode::Running, Reason::Playing, 25, 101);
    accepted.strategy = Some(Strategy::Sync);
    let joints = joints(false);
    let plan = |young_ticks| {
        let view = GuardView {
            accepted: &accepted,
            joints: &joints,
            played_at_last: Some(80),
            changed: false,
            young_ticks,
        };
        decide(&config(Strategy::Sync, Replanning::Cadence), &view)
    };
    assert_eq!(plan(4), Plan::Wait);
    assert_eq!(plan(3), Plan::Anticipate);
}

#[test]
fn continuous_asks_in_the_next_tick() {
    assert_eq!(
        running(Replanning::Continuous, (20, 100), false),
        Plan::Wait
    );
    assert_eq!(running(Replanning::Continuous, (20, 101), false), ASK);
}

#[test]
fn a_change_is_looked_at_at_once() {
    assert_eq!(running(Replanning::OnChange, (20, 101), false), Plan::Wait);
    assert_eq!(running(Replanning::OnChange, (20, 101), true), ASK);
    assert_eq!(running(Replanning::OnChange, (20, 110), false), ASK);
    assert_eq!(running(Replanning::Cadence, (20, 101), true), Plan::Wait);
}

#[test]
fn a_decision_is_asked_for_while_the_prefix_still_covers_the_delay() {
    for replanning in [Replanning::Cadence, Replanning::OnChange] {
        assert_eq!(running(replanning, (5, 101), false), Plan::Wait);
        assert_eq!(running(replanning, (4, 101), false), ASK);
        assert_eq!(running(replanning, (4, 100), false), Plan::Wait);
    }
}

#[test]
fn a_change_to_sync_takes_one_more_overlapping_chunk() {
    let mut playing = accepted(Mode::Running, Reason::Playing, 20, 10);
    playing.strategy = Some(Strategy::CleanPrefix);
    assert_eq!(plan(Strategy::Sync, &playing, false, Some(0)), ASK);
    let begins = start(Strategy::Sync, Mode::Running, playing.strategy, 41);
    assert_eq!(begins, Start::At(42));
    playing.strategy = Some(Strategy::Sync);
    assert_eq!(plan(Strategy::Sync, &playing, false, Some(0)), Plan::Wait);
}

#[test]
fn chunks_disagree_in_steps_of_the_newer_one() {
    let new: Vec<f32> = (0..10_u16).map(|i| 0.01 * f32::from(i)).collect();
    let same: Vec<_> = new.iter().map(|x| vec![*x]).collect();
    assert!(disagreement(&same, &new) < 1e-6);
    let off: Vec<_> = new[..4].iter().map(|x| vec![*x + 0.03]).collect();
    assert!((disagreement(&off, &new) - 3.0).abs() < 1e-3);
    assert!(disagreement(&[], &new) < 1e-9);
}

/// A cell without a clock: planner and buffer, and a policy that decides on the tick alone.
fn plays(strategy: Strategy, horizon: u16, ticks: Tick) -> Vec<(Tick, u64)> {
    let slots = SlotMap::new(2, vec![0, 1]).unwrap();
    let mut buffer = ChunkBuffer::new(2, true);
    let config = PlannerConfig {
        strategy,
        replanning: Replanning::Cadence,
        ticks_per_decision: u64::from(horizon),
        delay_ticks: 0,
    };
    let (mut played, mut last, mut out) = (0, None, Vec::new());
    for now in 0..ticks {
        let mode = if buffer.is_empty() && (strategy == Strategy::Sync || played == 0) {
            (Mode::Hold, Reason::Thinking)
        } else {
            (Mode::Running, Reason::Playing)
        };
        let mut accepted = accepted(mode.0, mode.1, buffer.len(), played);
        accepted.strategy = buffer.newest().map(|(_, strategy)| strategy);
        let joints = JointState {
            tick: now,
            ..joints(buffer.is_empty())
        };
        let view = GuardView {
            accepted: &accepted,
            joints: &joints,
            played_at_last: last,
            changed: false,
            young_ticks: u64::MAX,
        };
        if let Plan::Ask { earliest_tick, .. } = decide(&config, &view) {
            let mut new = chunk(u64::try_from(now).unwrap(), horizon, 0);
            new.head.strategy = strategy;
            new.rows = standard_normal(decision_seed(7, new.head.obs_seq), new.rows.len());
            let first = match start(strategy, mode.0, accepted.strategy, earliest_tick) {
                Start::At(first) => first,
                Start::OnArrival => now + 1,
            };
            buffer.insert(&new, first, now, &slots);
            last = Some(played);
        }
        let mut target = [0.0; 2];
        if let Some(action) = buffer.take(now + 1, &mut target) {
            played += 1;
            out.push((action.tick, target[1].to_bits()));
        }
    }
    out
}

/// Gate, planner and buffer where every decision takes `delay` ticks: stalled ticks, and chunks
/// that came after their prefix was over.
fn with_delay(delay: Tick, prefix_trained_max: u16, replanning: Replanning) -> (usize, usize) {
    let gate = GateConfig {
        wanted: Wanted::Fixed(Strategy::CleanPrefix),
        slow_allowed: false,
        ticks_per_decision: 10,
        dt_ns: 1000,
        camera_ns: 0,
        age_limit_ns: 100_000,
        quiet_ns: 0,
    };
    let ability = Ability {
        prefix_trained_max,
        guidance: false,
        horizon: 30,
    };
    let delays = std::iter::repeat_n(u64::try_from(delay).unwrap() * 1000, 5);
    let choice = check_at_load(&gate, ability, &delays.collect()).unwrap();
    let config = PlannerConfig::of(&choice, replanning);
    let slots = SlotMap::new(2, vec![0, 1]).unwrap();
    let mut buffer = ChunkBuffer::new(2, true);
    buffer.insert(&chunk(0, 30, 0), 0, -1, &slots);
    let (mut played, mut last, mut in_flight) = (0, None, None);
    let (mut stalls, mut overruns) = (0, 0);
    for now in 0..400 {
        match buffer.take(now, &mut [0.0; 2]) {
            Some(_) => played += 1,
            None => stalls += 1,
        }
        if in_flight.is_some_and(|asked| asked + delay <= now) {
            let first = in_flight.take().unwrap() + 1;
            let new = chunk(u64::try_from(now).unwrap(), 30, choice.prefix_len);
            match buffer.insert(&new, first, now, &slots) {
                Inserted::Accepted(_) => {}
                _ => overruns += 1,
            }
        }
        let accepted = accepted(Mode::Running, Reason::Playing, buffer.len(), played);
        let joints = JointState {
            tick: now,
            ..joints(false)
        };
        let view = GuardView {
            accepted: &accepted,
            joints: &joints,
            played_at_last: last,
            changed: now % 7 == 0,
            young_ticks: u64::MAX,
        };
        if in_flight.is_none() && matches!(decide(&config, &view), Plan::Ask { .. }) {
            in_flight = Some(now);
            last = Some(played);
        }
    }
    (stalls, overruns)
}

#[test]
fn nothing_stalls_up_to_a_delay_of_half_a_chunk() {
    let modes = [
        Replanning::Cadence,
        Replanning::Continuous,
        Replanning::OnChange,
    ];
    for replanning in modes {
        for delay in 1..=15 {
            let (stalls, overruns) = with_delay(delay, 20, replanning);
            assert_eq!((stalls, overruns), (0, 0), "{replanning:?}, {delay} ticks");
            let (_, overruns) = with_delay(delay, 6, replanning);
            assert_eq!(0 < overruns, 6 < delay, "{replanning:?}, {delay} ticks");
        }
    }
}

proptest! {
    /// Reference A.8, property 3.
    #[test]
    fn without_delay_and_prefix_every_strategy_plays_what_sync_plays(
        horizon in 1_u16..40, ticks in 1_i64..200,
    ) {
        let sync = plays(Strategy::Sync, horizon, ticks);
        prop_assert_eq!(sync.len(), usize::try_from(ticks).unwrap());
        for strategy in [Strategy::Naive, Strategy::Guided, Strategy::CleanPrefix] {
            prop_assert_eq!(&plays(strategy, horizon, ticks), &sync);
        }
    }
}
