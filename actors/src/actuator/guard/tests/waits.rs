//! When the guard waits, and when it goes on: each row of the table.

use vlad_safety::envelope::flag;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::MS;
use vlad_wire::msg::execute::Source;
use vlad_wire::msg::think::Strategy;

use super::{Bench, HORIZON, Voice};

const THINKING: (Mode, Reason) = (Mode::Hold, Reason::Thinking);
const PLAYING: (Mode, Reason) = (Mode::Running, Reason::Playing);
const BLIND: (Mode, Reason) = (Mode::Hold, Reason::PerceptionUnfit);

/// A sync chunk played to its end while the expert says that it thinks.
fn thinking() -> Bench {
    let mut bench = Bench::running(Strategy::Sync);
    bench.in_flight = true;
    bench.ticks(u64::from(HORIZON));
    assert_eq!(bench.state(), THINKING);
    bench
}

#[test]
fn a_planned_gap_holds_and_the_next_chunk_goes_on() {
    let mut bench = thinking();
    bench.ticks(10);
    assert_eq!(bench.state(), THINKING);
    assert!(bench.guard.still_since_ns().is_some());
    assert!(bench.send(Strategy::Sync).is_some());
    assert_eq!(bench.state(), PLAYING);
    let executed = bench.ticks(2);
    assert_eq!(executed.last().map(|e| e.source), Some(Source::Policy));
}

#[test]
fn every_action_of_a_chunk_is_played_before_the_gap() {
    let mut bench = Bench::leased();
    bench.in_flight = true;
    let first = bench.send(Strategy::Sync).unwrap();
    let executed = bench.ticks(u64::from(HORIZON) + 2);
    let mut played: Vec<_> = executed
        .iter()
        .filter_map(|e| Some((e.tick, e.index?)))
        .collect();
    played.dedup();
    let want: Vec<_> = (0..HORIZON)
        .map(|index| (first + i64::from(index), index))
        .collect();
    assert_eq!(played, want);
    assert_eq!(bench.state(), THINKING);
    assert_eq!(bench.guard.counters.stalled, 0);
}

#[test]
fn a_planned_gap_stops_at_its_time_out_and_not_before() {
    let mut bench = thinking();
    let since_ns = bench.guard.since_ns;
    while bench.now_ns + super::SERVO_NS < since_ns + 2000 * MS {
        bench.step();
    }
    assert_eq!(bench.state(), THINKING);
    bench.step();
    // The robot stands already, so that the stop ends in the very same servo tick.
    assert_eq!(bench.state(), (Mode::Stopped, Reason::ThinkTimeout));
    assert!(bench.send(Strategy::Sync).is_none());
}

#[test]
fn a_gap_that_nobody_planned_brakes_for_a_tick_and_stops_in_the_second() {
    // Sync without a decision under way, naive with one: neither planned the gap.
    for (strategy, in_flight) in [(Strategy::Sync, false), (Strategy::Naive, true)] {
        let mut bench = Bench::leased();
        bench.in_flight = in_flight;
        assert!(bench.send(strategy).is_some());
        bench.ticks(u64::from(HORIZON));
        assert_eq!(bench.state(), PLAYING);
        let executed = bench.ticks(1);
        assert_eq!(bench.state(), PLAYING);
        assert!(
            executed
                .iter()
                .all(|e| e.flags & flag::STOP != 0 && e.source == Source::Hold)
        );
        assert_eq!(bench.guard.counters.stalled, 1);
        bench.ticks(1);
        assert_eq!(bench.guard.counters.stalled, 2);
        assert_eq!(bench.state(), (Mode::Stopped, Reason::BufferEmpty));
    }
}

#[test]
fn a_heartbeat_that_is_over_plans_no_gap() {
    let mut bench = Bench::running(Strategy::Sync);
    bench.in_flight = true;
    bench.ticks(20);
    bench.expert = Voice::Silent;
    bench.ticks(20);
    assert_eq!(bench.state(), (Mode::Stopped, Reason::BufferEmpty));
}

#[test]
fn a_chunk_in_time_ends_a_single_missing_tick() {
    let mut bench = Bench::running(Strategy::Naive);
    while bench.guard.counters.stalled == 0 {
        bench.step();
    }
    assert!(bench.send(Strategy::Naive).is_some());
    bench.ticks(5);
    assert_eq!(bench.state(), PLAYING);
    assert_eq!(bench.guard.counters.stalled, 1);
}

#[test]
fn unfit_perception_holds_and_the_next_chunk_after_it_goes_on() {
    for voice in [Voice::Unfit, Voice::Silent] {
        let mut bench = Bench::running(Strategy::Naive);
        // Longer than every time-out: none of them may count from before the hold.
        bench.keep_running(90);
        bench.perception = voice;
        // Five missed heartbeats are 100 ms.
        bench.millis(130);
        assert_eq!(bench.state(), BLIND);
        assert!(bench.send(Strategy::Naive).is_none());
        assert_eq!(bench.guard.counters.not_now, 1);
        bench.millis(700);
        assert_eq!(bench.state(), BLIND);
        bench.perception = Voice::Fit;
        bench.millis(30);
        assert!(bench.send(Strategy::Naive).is_some());
        assert_eq!(bench.state(), PLAYING);
    }
}

#[test]
fn an_unfit_heartbeat_holds_on_the_very_next_servo_tick() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.guard.challenged(bench.servo_tick);
    bench.say(
        vlad_wire::id::Role::Perception,
        super::SESSION,
        Voice::Unfit,
        None,
    );
    assert_eq!(bench.state(), PLAYING);
    bench.step();
    assert_eq!(bench.state(), BLIND);
}

#[test]
fn perception_that_stays_unfit_for_a_second_stops() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.keep_running(60);
    bench.perception = Voice::Unfit;
    while bench.state() == PLAYING {
        bench.step();
    }
    let since_ns = bench.guard.since_ns;
    while bench.now_ns + super::SERVO_NS < since_ns + 1000 * MS {
        bench.step();
        assert_eq!(bench.state(), BLIND);
    }
    bench.step();
    assert_eq!(bench.state().1, Reason::PerceptionLost);
    bench.until_stopped();
    bench.perception = Voice::Fit;
    bench.millis(100);
    assert!(bench.send(Strategy::Naive).is_none());
    assert!(bench.rearm().done && bench.grant().done);
    assert!(bench.send(Strategy::Naive).is_some());
}

#[test]
fn two_short_blinks_are_no_long_one() {
    let mut bench = Bench::running(Strategy::Naive);
    for _ in 0..2 {
        bench.perception = Voice::Unfit;
        bench.millis(600);
        bench.perception = Voice::Fit;
        bench.millis(100);
        assert_eq!(bench.state(), BLIND);
    }
    assert!(bench.send(Strategy::Naive).is_some());
}

#[test]
fn a_gap_may_turn_blind_and_still_has_its_second() {
    let mut bench = thinking();
    bench.millis(1500);
    bench.perception = Voice::Unfit;
    bench.millis(900);
    assert_eq!(bench.state(), BLIND);
    bench.millis(200);
    assert_eq!(bench.state(), (Mode::Stopped, Reason::PerceptionLost));
}

#[test]
fn a_lost_lease_holds_without_time_out_and_a_new_epoch_goes_on() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.renews = false;
    bench.keep_running(40);
    for _ in 0..10 {
        bench.send(Strategy::Naive);
        bench.ticks(5);
    }
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseLost));
    bench.millis(5000);
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseLost));
    assert!(bench.send(Strategy::Naive).is_none());
    assert!(bench.grant().done);
    assert!(bench.send(Strategy::Naive).is_some());
    assert_eq!(bench.state(), PLAYING);
}

#[test]
fn a_lease_ends_with_its_time_and_not_before() {
    let mut bench = Bench::leased();
    bench.renews = false;
    bench.millis(1900);
    assert!(bench.guard.lease.is_some());
    assert!(
        bench
            .guard
            .lease(
                &vlad_wire::msg::command::Lease::Renew { epoch: bench.epoch },
                bench.now_ns
            )
            .done
    );
    bench.millis(1990);
    assert!(bench.guard.lease.is_some());
    bench.millis(20);
    assert!(bench.guard.lease.is_none());
    assert_eq!(bench.state().0, Mode::Armed);
}

#[test]
fn a_released_lease_holds_for_as_long_as_it_likes_and_the_next_one_goes_on() {
    let mut bench = Bench::running(Strategy::Naive);
    assert!(bench.release().done);
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseReleased));
    // An idle cell needs neither policy nor cameras.
    bench.perception = Voice::Silent;
    bench.brain = Voice::Silent;
    bench.expert = Voice::Silent;
    bench.millis(8000);
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseReleased));
    assert!(bench.send(Strategy::Naive).is_none());
    bench.perception = Voice::Fit;
    bench.millis(100);
    assert!(bench.grant().done);
    assert_eq!(bench.state(), THINKING);
    assert!(bench.send(Strategy::Naive).is_some());
    assert_eq!(bench.state(), PLAYING);
}

#[test]
fn a_lease_for_a_blind_cell_has_its_second_too() {
    let mut bench = Bench::running(Strategy::Naive);
    assert!(bench.release().done);
    bench.perception = Voice::Silent;
    bench.millis(3000);
    assert!(bench.grant().done);
    bench.millis(900);
    assert_eq!(bench.state(), BLIND);
    bench.millis(200);
    assert_eq!(bench.state(), (Mode::Stopped, Reason::PerceptionLost));
}

#[test]
fn a_hold_is_a_controlled_stop_from_full_speed() {
    let mut bench = Bench::leased();
    let chunk = bench.chunk_along(Strategy::Naive, &[0.0, 0.5, 0.04], -0.045);
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
    bench.ticks(10);
    let speed = bench.speed(0);
    assert!(1.0 < speed);
    assert!(bench.release().done);
    let mut last = speed;
    while bench.speed(0) != 0.0 {
        bench.step();
        let now = bench.speed(0);
        assert!(now < last && last - now < 15.0 / 239.0);
        last = now;
    }
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseReleased));
}
