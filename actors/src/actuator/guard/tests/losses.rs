//! Deaths, silence, age, lateness and the stop itself.

use vlad_safety::envelope::flag;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_safety::stop::worst_case;
use vlad_wire::clock::MS;
use vlad_wire::id::Role;
use vlad_wire::msg::execute::Source;
use vlad_wire::msg::think::Strategy;

use super::{Beat, Bench, Failure, HORIZON, SERVO_NS, SERVO_PER_TICK, SESSION, Voice, shape};

#[test]
fn the_death_of_brain_or_expert_stops_on_the_very_next_servo_tick() {
    for (role, reason) in [
        (Role::Brain, Reason::BrainLost),
        (Role::ActionExpert, Reason::ExpertLost),
    ] {
        let mut bench = Bench::running(Strategy::Naive);
        // Until it travels evenly: who still speeds up must first take that back.
        bench.ticks(6);
        let before = bench.speed(0);
        bench.guard.died(role, SESSION, bench.now_ns);
        let executed = bench.step();
        assert_eq!((executed.mode, bench.state().1), (Mode::Stopping, reason));
        assert_eq!(
            (executed.source, executed.flags & flag::STOP),
            (Source::Hold, flag::STOP)
        );
        assert!(bench.speed(0) < before);
        assert!(bench.guard.buffer.is_empty());
        bench.until_stopped();
        assert_eq!(bench.state(), (Mode::Stopped, reason));
    }
}

#[test]
fn the_end_of_an_older_session_changes_nothing() {
    for role in [Role::Brain, Role::ActionExpert] {
        let mut bench = Bench::running(Strategy::Naive);
        bench.guard.died(role, SESSION - 1, bench.now_ns);
        bench.ticks(3);
        assert_eq!(bench.state(), (Mode::Running, Reason::Playing));
    }
}

#[test]
fn a_policy_that_hangs_plays_its_buffer_to_the_end_and_stops() {
    let mut bench = Bench::leased();
    bench.in_flight = true;
    assert!(bench.send(Strategy::Sync).is_some());
    bench.brain = Voice::Silent;
    bench.expert = Voice::Silent;
    bench.ticks(u64::from(HORIZON));
    assert_eq!(bench.state(), (Mode::Running, Reason::Playing));
    bench.ticks(2);
    assert_eq!(bench.state(), (Mode::Stopped, Reason::BufferEmpty));
    assert_eq!(bench.guard.played, u64::from(HORIZON));
}

#[test]
fn an_action_older_than_the_limit_is_never_sent() {
    let mut bench = Bench::leased();
    bench.millis(1000);
    let mut chunk = bench.next_chunk(Strategy::Naive);
    chunk.head.captured_at_ns = bench.now_ns - 1000 * MS;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
    let mut sent = 0;
    for _ in 0..240 {
        let executed = bench.step();
        if executed.source == Source::Policy && bench.guard.pace.begins() {
            assert!(bench.now_ns - chunk.head.captured_at_ns <= 1500 * MS);
            sent += 1;
        }
    }
    // 500 ms are 15 ticks, of which the first began before the chunk.
    assert!((14..=15).contains(&sent), "{sent}");
    assert_eq!(bench.state(), (Mode::Stopped, Reason::ActionTooOld));
    assert_eq!(bench.guard.counters.stale, 1);
}

/// A slow decision's sync chunk is too old before its end: while the next decision is under way that is the
/// planned gap, which holds; without one it stops, as ever.
#[test]
fn a_sync_chunk_that_grows_too_old_ends_in_its_planned_gap() {
    for (in_flight, expected) in [
        (true, (Mode::Hold, Reason::Thinking)),
        (false, (Mode::Stopped, Reason::ActionTooOld)),
    ] {
        let mut bench = Bench::leased();
        bench.millis(1000);
        let mut chunk = bench.next_chunk(Strategy::Sync);
        chunk.head.captured_at_ns = bench.now_ns - 1000 * MS;
        assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
        bench.in_flight = in_flight;
        for _ in 0..240 {
            let executed = bench.step();
            if executed.source == Source::Policy && bench.guard.pace.begins() {
                assert!(bench.now_ns - chunk.head.captured_at_ns <= 1500 * MS);
            }
        }
        assert_eq!(bench.state(), expected);
        assert!(bench.guard.still_since_ns().is_some());
    }
}

/// Its first row would be too old when its tick begins, and so would that of the next one: no planned gap.
#[test]
fn a_sync_chunk_too_old_from_its_first_row_on_stops() {
    let mut bench = Bench::leased();
    bench.millis(2000);
    let mut chunk = bench.next_chunk(Strategy::Sync);
    chunk.head.captured_at_ns = bench.now_ns - 1499 * MS;
    assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
    bench.in_flight = true;
    bench.millis(300);
    assert_eq!(bench.state(), (Mode::Stopped, Reason::ActionTooOld));
    assert_eq!(bench.guard.counters.stale, 1);
}

/// A row whose tick is long, because the robot is slow, may end in its middle: planned as well.
#[test]
fn a_slow_sync_chunk_ends_in_its_planned_gap() {
    for strategy in [Strategy::Sync, Strategy::Naive] {
        let mut bench = Bench::leased();
        bench.guard.pace.limit = 0.05;
        bench.millis(2000);
        let mut chunk = bench.next_chunk(strategy);
        chunk.head.captured_at_ns = bench.now_ns - 900 * MS;
        assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
        bench.in_flight = true;
        bench.millis(1200);
        let expected = match strategy {
            Strategy::Sync => (Mode::Hold, Reason::Thinking),
            _ => (Mode::Stopped, Reason::ActionTooOld),
        };
        assert_eq!(bench.state(), expected);
    }
}

/// At the smallest speed fraction a policy tick lasts twenty times as long.
#[test]
fn a_long_tick_does_not_outlive_the_age_limit() {
    for rate in [1.0, 0.5, 0.05] {
        let mut bench = Bench::leased();
        bench.millis(1000);
        let mut chunk = bench.next_chunk(Strategy::Naive);
        chunk.head.rate = rate;
        chunk.head.captured_at_ns = bench.now_ns - 1000 * MS;
        assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
        let mut oldest_ns = 0;
        for _ in 0..600 {
            if bench.step().source == Source::Policy {
                oldest_ns = bench.now_ns - chunk.head.captured_at_ns;
            }
        }
        let tick_ns = u64::from(SERVO_PER_TICK) * SERVO_NS;
        assert!(oldest_ns <= 1500 * MS + tick_ns, "{rate}: {oldest_ns} ns");
        assert_eq!(bench.state(), (Mode::Stopped, Reason::ActionTooOld));
    }
}

/// The thread stands still in the middle of a tick: what it wakes up with is judged again.
#[test]
fn an_action_that_outlived_a_gap_in_time_is_dropped() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.steps(2);
    assert!(!bench.guard.pace.begins());
    bench.now_ns += 1600 * MS;
    bench.beat_hearts();
    bench.measured.sampled_at_ns = bench.now_ns;
    assert_ne!(bench.step().source, Source::Policy);
    assert_eq!(bench.state(), (Mode::Stopping, Reason::ActionTooOld));
}

#[test]
fn a_stop_is_as_short_as_its_closed_form() {
    let limits = shape().limits[0];
    for per_tick in [-0.001, -0.01, -0.03, -0.049] {
        let mut bench = Bench::leased();
        let chunk = bench.chunk_along(Strategy::Naive, &[0.0, 0.5, 0.04], per_tick);
        assert!(bench.guard.chunk(&chunk, bench.now_ns).is_some());
        bench.ticks(10);
        let (speed, from) = (bench.speed(0), bench.guard.command_now()[0]);
        assert!(0.0 < speed && speed <= limits.speed_max);
        let motion = bench.guard.envelope.motion()[0];
        let predicted = worst_case(speed, motion.acceleration.abs(), &limits);
        let (within_s, end) = (
            bench.guard.envelope.stop_time_s(),
            bench.guard.envelope.stop_end(0),
        );
        bench.guard.died(Role::Brain, SESSION, bench.now_ns);
        let mut steps = 0.0;
        while !bench.guard.envelope.still() {
            bench.step();
            steps += 1.0;
        }
        let distance = (bench.guard.command_now()[0] - from).abs();
        assert!(steps * SERVO_NS_S <= within_s + SERVO_NS_S, "{steps} steps");
        assert!((bench.guard.command_now()[0] - end).abs() < 1e-9);
        assert!(
            within_s <= predicted.time_s * 1.1,
            "{within_s} s: {predicted:?}"
        );
        assert!(
            distance <= predicted.distance * 1.1,
            "{distance}: {predicted:?}"
        );
        bench.step();
        assert_eq!(bench.state(), (Mode::Stopped, Reason::BrainLost));
    }
}

const SERVO_NS_S: f64 = 4_166_667.0 / 1e9;

#[test]
fn a_robot_that_cannot_be_read_stops() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.now_ns += SERVO_NS;
    let beat = Beat {
        scheduled_ns: bench.now_ns,
        now_ns: bench.now_ns,
        suspended_ns: 0,
    };
    let executed = bench.servo(beat, Err(Failure::Robot));
    assert_eq!(executed.mode, Mode::Stopping);
    bench.until_stopped();
    assert_eq!(bench.state(), (Mode::Stopped, Reason::RobotError));
}

#[test]
fn a_robot_that_repeats_an_old_sample_stops_after_three_servo_periods() {
    let mut bench = Bench::running(Strategy::Naive);
    for late in 1..=3 {
        bench.now_ns += SERVO_NS;
        let beat = Beat {
            scheduled_ns: bench.now_ns,
            now_ns: bench.now_ns,
            suspended_ns: 0,
        };
        // The sample is the one of the last step, and never a newer one.
        let sample = bench.measured.clone();
        let mode = bench.servo(beat, Ok(&sample)).mode;
        let expected = if late < 3 {
            Mode::Running
        } else {
            Mode::Stopping
        };
        assert_eq!(mode, expected, "{late} periods old");
    }
    bench.until_stopped();
    assert_eq!(bench.state(), (Mode::Stopped, Reason::RobotError));
}

#[test]
fn winding_down_is_a_controlled_stop_that_no_chunk_leaves() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.guard.wind_down(bench.now_ns);
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseLost));
    bench.millis(500);
    assert!(bench.guard.still_since_ns().is_some());
    assert!(bench.send(Strategy::Naive).is_none());
}

#[test]
fn a_measurement_that_is_no_number_is_a_robot_that_cannot_be_read() {
    for (position, velocity) in [(f64::NAN, 0.0), (f64::INFINITY, 0.0), (0.5, f64::NAN)] {
        let mut bench = Bench::new();
        bench.stuck = vec![(1, position)];
        bench.follow();
        bench.measured.velocity[1] = velocity;
        bench.now_ns += SERVO_NS;
        let beat = Beat {
            scheduled_ns: bench.now_ns,
            now_ns: bench.now_ns,
            suspended_ns: 0,
        };
        let bad = bench.measured.clone();
        bench.servo(beat, Ok(&bad));
        // Arming takes the measured pose as command: it must be one that can be commanded.
        assert!(bench.rearm().done);
        let executed = bench.servo(beat, Ok(&bad));
        assert!(executed.command.iter().all(|x| x.is_finite()));
        assert_eq!(bench.state(), (Mode::Stopped, Reason::RobotError));
    }
}

#[test]
fn a_sample_of_another_length_is_a_robot_that_cannot_be_read() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.measured.position.pop();
    bench.step();
    assert_eq!(bench.state().1, Reason::RobotError);
}

#[test]
fn lateness_stops_only_when_it_repeats() {
    let mut bench = Bench::running(Strategy::Naive);
    let late = |bench: &mut Bench, by_ns: u64| {
        bench.now_ns += SERVO_NS;
        let beat = Beat {
            scheduled_ns: bench.now_ns,
            now_ns: bench.now_ns + by_ns,
            suspended_ns: 0,
        };
        bench.servo(beat, Ok(&bench.measured.clone()));
        bench.follow();
    };
    for by_ns in [
        SERVO_NS + 1,
        SERVO_NS + 1,
        SERVO_NS,
        SERVO_NS + 1,
        SERVO_NS + 1,
    ] {
        late(&mut bench, by_ns);
    }
    assert_eq!(bench.state().0, Mode::Running);
    assert_eq!(bench.guard.counters.late, 4);
    late(&mut bench, SERVO_NS + 1);
    assert_eq!(bench.state(), (Mode::Stopping, Reason::ServoOverrun));
}

#[test]
fn a_guard_that_stands_outside_its_limits_moves_only_when_a_chunk_says_so() {
    let found = [2.02, 0.5, 0.04];
    let mut bench = Bench::found_at(&found);
    bench.ticks(10);
    assert_eq!(bench.guard.command_now(), found);
    assert!(bench.rearm().done && bench.grant().done);
    bench.ticks(10);
    assert_eq!(bench.guard.command_now(), found);
    assert!(bench.send(Strategy::Naive).is_some());
    let executed = bench.ticks(6);
    let reach = shape().limits[0].speed_max * SERVO_NS_S;
    for pair in executed.windows(2) {
        let (last, command) = (pair[0].command[0], pair[1].command[0]);
        assert!(last - reach <= command && command <= last + reach);
    }
    assert!(bench.guard.command_now()[0] <= 2.0);
}
