//! Epochs, pause, e-stop, reset and rearm.

use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::MS;
use vlad_wire::msg::command::{Estop, Lease, Park, Rearm, Reset, Resume, Speed};
use vlad_wire::msg::execute::Source;
use vlad_wire::msg::think::Strategy;

use super::super::commands::UNFIT;
use super::{Bench, SERVO_NS, TTL_MS, Voice, by, task};

const PAUSED: (Mode, Reason) = (Mode::Hold, Reason::Paused);

fn estop(bench: &mut Bench) {
    assert!(bench.guard.estop(&Estop { by: by() }, bench.now_ns).done);
}

#[test]
fn every_command_of_an_old_epoch_is_refused_and_counted() {
    let mut bench = Bench::leased();
    for epoch in [0, bench.epoch - 1, bench.epoch] {
        let before = (bench.guard.counters.old_epochs, bench.state());
        let pose = vec![];
        let now_ns = bench.now_ns;
        let guard = &mut bench.guard;
        let grant = Lease::Grant {
            epoch,
            task: task(),
            attempt: 1,
            ttl_ms: TTL_MS,
        };
        assert!(!guard.lease(&grant, now_ns).done);
        assert!(
            !guard
                .rearm(
                    &Rearm {
                        epoch,
                        by: by(),
                        expected_pose: pose.clone()
                    },
                    now_ns
                )
                .done
        );
        assert!(
            !guard
                .resume(
                    &Resume {
                        epoch,
                        by: by(),
                        expected_pose: pose
                    },
                    now_ns
                )
                .done
        );
        assert!(!guard.reset(&Reset { epoch, by: by() }, now_ns).done);
        assert_eq!(
            (bench.guard.counters.old_epochs, bench.state()),
            (before.0 + 4, before.1)
        );
    }
    let before = bench.guard.counters.old_epochs;
    for epoch in [0, bench.epoch - 1, bench.epoch + 1] {
        assert!(
            !bench
                .guard
                .lease(&Lease::Renew { epoch }, bench.now_ns)
                .done
        );
        assert!(
            !bench
                .guard
                .lease(&Lease::Release { epoch }, bench.now_ns)
                .done
        );
    }
    assert_eq!(bench.guard.counters.old_epochs, before + 6);
    assert_eq!(bench.guard.guard_state(0).epoch, bench.epoch);
    assert!(bench.send(Strategy::Naive).is_some());
}

#[test]
fn one_task_at_a_time_has_the_cell() {
    let mut bench = Bench::leased();
    assert!(!bench.grant().done);
    bench.epoch -= 1;
    assert!(bench.release().done);
    bench.epoch += 1;
    assert!(bench.grant().done);
    let too_long = Lease::Grant {
        epoch: 99,
        task: task(),
        attempt: 1,
        ttl_ms: 10_001,
    };
    let mut bench = Bench::new();
    assert!(bench.rearm().done);
    assert!(!bench.guard.lease(&too_long, bench.now_ns).done);
}

#[test]
fn a_disarmed_guard_grants_no_lease() {
    let mut bench = Bench::new();
    assert!(!bench.grant().done);
    assert!(bench.rearm().done && bench.grant().done);
}

#[test]
fn a_pause_holds_until_a_resume_with_a_new_epoch_at_the_same_pose() {
    let mut bench = Bench::running(Strategy::Naive);
    assert!(bench.pause().done && bench.pause().done);
    assert_eq!(bench.state(), PAUSED);
    // Neither time nor a chunk nor blindness ends it.
    bench.perception = super::Voice::Silent;
    bench.millis(5000);
    bench.perception = super::Voice::Fit;
    bench.millis(50);
    assert_eq!(bench.state(), PAUSED);
    assert!(bench.send(Strategy::Naive).is_none());
    let pose = bench.measured.position.clone();
    let off_by = |deg: f64| vec![pose[0] + deg.to_radians(), pose[1], pose[2]];
    let epoch = bench.epoch;
    let old = Resume {
        epoch,
        by: by(),
        expected_pose: pose.clone(),
    };
    assert!(!bench.guard.resume(&old, bench.now_ns).done);
    assert!(!bench.resume_at(&off_by(2.01)).done && !bench.resume_at(&[]).done);
    assert!(!bench.resume_at(&pose[..2]).done && !bench.resume_at(&[f64::NAN; 3]).done);
    assert_eq!(bench.state(), PAUSED);
    assert!(bench.resume_at(&off_by(1.99)).done);
    assert_eq!(bench.state(), (Mode::Hold, Reason::Thinking));
    // The lease goes on under the new epoch, and only under it.
    let mut old = bench.next_chunk(Strategy::Naive);
    old.head.epoch = epoch;
    assert!(bench.guard.chunk(&old, bench.now_ns).is_none());
    bench.seq = 0;
    assert!(bench.send(Strategy::Naive).is_some());
    bench.millis(500);
    assert_eq!(bench.state(), (Mode::Running, Reason::Playing));
}

#[test]
fn a_paused_task_can_be_cancelled() {
    let mut bench = Bench::running(Strategy::Naive);
    assert!(bench.pause().done && bench.release().done);
    assert_eq!(bench.state(), (Mode::Hold, Reason::LeaseReleased));
    assert!(bench.grant().done && bench.send(Strategy::Naive).is_some());
}

#[test]
fn nothing_to_pause_is_said_so() {
    for mut bench in [Bench::new(), Bench::leased()] {
        let before = bench.state();
        assert!(!bench.pause().done);
        assert_eq!(bench.state(), before);
    }
}

#[test]
fn stopped_needs_a_rearm_at_the_expected_pose() {
    let mut bench = Bench::running(Strategy::Naive);
    bench
        .guard
        .died(vlad_wire::id::Role::Brain, super::SESSION, bench.now_ns);
    bench.until_stopped();
    let stopped = bench.state();
    assert!(bench.send(Strategy::Naive).is_none());
    assert!(!bench.grant().done && !bench.resume_at(&bench.measured.position.clone()).done);
    assert!(!bench.reset().done && !bench.pause().done);
    let mut pose = bench.measured.position.clone();
    pose[1] += 3_f64.to_radians();
    bench.epoch += 1;
    let elsewhere = Rearm {
        epoch: bench.epoch,
        by: by(),
        expected_pose: pose,
    };
    assert!(!bench.guard.rearm(&elsewhere, bench.now_ns).done);
    bench.millis(5000);
    assert_eq!(bench.state(), stopped);
    bench.epoch += 1;
    let expected_pose = bench.measured.position.clone();
    let here = Rearm {
        epoch: bench.epoch,
        by: by(),
        expected_pose,
    };
    assert!(bench.guard.rearm(&here, bench.now_ns).done);
    assert_eq!(bench.state(), (Mode::Armed, Reason::Rearmed));
    // The old lease died with the stop.
    assert!(bench.send(Strategy::Naive).is_none());
    assert!(bench.grant().done && bench.send(Strategy::Naive).is_some());
}

/// F38: a cell whose camera is another device is not armed.
#[test]
fn a_rearm_is_refused_while_perception_says_that_it_is_unfit() {
    let mut bench = Bench::new();
    bench.perception = Voice::Unfit;
    bench.millis(50);
    let refused = bench.rearm();
    assert!(!refused.done, "{refused:?}");
    assert_eq!(refused.text, UNFIT);
    assert_eq!(bench.state(), (Mode::Disarmed, Reason::Started));
    bench.perception = Voice::Fit;
    bench.millis(50);
    assert!(bench.rearm().done);
}

#[test]
fn a_stopping_guard_cannot_be_rearmed() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.keep_running(10);
    bench
        .guard
        .died(vlad_wire::id::Role::Brain, super::SESSION, bench.now_ns);
    assert_eq!(bench.state().0, Mode::Stopping);
    assert!(!bench.rearm().done);
}

#[test]
fn an_estop_in_motion_stops_latches_and_survives_everything_but_a_reset() {
    let mut bench = Bench::running(Strategy::Naive);
    bench.keep_running(10);
    estop(&mut bench);
    let latched = (Mode::Estopped, Reason::EmergencyStop);
    assert_eq!(bench.step().mode, Mode::Estopped);
    assert!(bench.send(Strategy::Naive).is_none());
    assert!(!bench.rearm().done && !bench.grant().done && !bench.pause().done);
    assert!(!bench.resume_at(&bench.measured.position.clone()).done);
    bench.perception = super::Voice::Silent;
    bench.millis(10_000);
    assert_eq!(bench.state(), latched);
    assert!(bench.guard.still_since_ns().is_some());
    assert!(bench.reset().done);
    assert_eq!(bench.state(), (Mode::Disarmed, Reason::Reset));
    assert!(bench.send(Strategy::Naive).is_none());
}

#[test]
fn a_reset_comes_half_a_second_after_the_estop_and_not_before() {
    let mut bench = Bench::leased();
    estop(&mut bench);
    let since_ns = bench.now_ns;
    while bench.now_ns + SERVO_NS < since_ns + 500 * MS {
        bench.step();
    }
    assert!(!bench.reset().done);
    assert_eq!(bench.state().0, Mode::Estopped);
    bench.step();
    assert!(bench.reset().done);
}

#[test]
fn a_robot_that_moves_is_not_reset() {
    let mut bench = Bench::leased();
    estop(&mut bench);
    bench.millis(600);
    // Somebody pushes the arm.
    bench.measured.velocity[1] = 0.3;
    let moving = bench.measured.clone();
    let beat = super::Beat {
        scheduled_ns: bench.now_ns,
        now_ns: bench.now_ns,
        suspended_ns: 0,
    };
    bench.servo(beat, Ok(&moving));
    assert!(!bench.reset().done);
    bench.step();
    bench.step();
    assert!(bench.reset().done);
}

#[test]
fn an_estop_latches_from_every_mode_and_a_fault_stays_a_fault() {
    let mut disarmed = Bench::new();
    let mut held = Bench::running(Strategy::Naive);
    assert!(held.release().done);
    let mut stopped = Bench::running(Strategy::Naive);
    stopped.guard.died(
        vlad_wire::id::Role::ActionExpert,
        super::SESSION,
        stopped.now_ns,
    );
    for bench in [&mut disarmed, &mut held, &mut stopped] {
        estop(bench);
        assert_eq!(bench.state(), (Mode::Estopped, Reason::EmergencyStop));
        assert!(bench.guard.lease.is_none());
    }
}

#[test]
fn notices_are_bounded_and_say_what_happened() {
    let mut bench = Bench::leased();
    bench.step();
    while bench.guard.next_notice().is_some() {}
    for _ in 0..100 {
        let mut chunk = bench.next_chunk(Strategy::Naive);
        chunk.head.attempt = 9;
        bench.guard.chunk(&chunk, bench.now_ns);
    }
    let notices: Vec<_> = std::iter::from_fn(|| bench.guard.next_notice()).collect();
    assert_eq!(notices.len(), 32);
    assert!(
        notices
            .iter()
            .all(|notice| notice.kind == "chunk_refused" && notice.chunk.is_some())
    );
    assert_eq!(bench.guard.counters.wrong_identity, 100);
    bench.step();
    assert!(!bench.sample.changed);
    bench.send(Strategy::Naive);
    bench.step();
    assert!(bench.sample.changed);
}

fn park(bench: &mut Bench) -> super::Reply {
    bench.epoch += 1;
    let ask = Park {
        epoch: bench.epoch,
        by: by(),
    };
    bench.guard.park(&ask, bench.now_ns)
}

#[test]
fn a_free_robot_parks_slowly_and_takes_a_task_again() {
    let mut bench = Bench::new();
    assert!(!park(&mut bench).done, "a disarmed cell");
    assert!(bench.rearm().done);
    bench.ticks(2);
    assert!(park(&mut bench).done);
    assert_eq!(bench.state(), (Mode::Running, Reason::Parking));
    let fastest = super::shape().limits[1].speed_max;
    let mut executed = Vec::new();
    for _ in 0..30 {
        executed.extend(bench.ticks(10));
        assert!(bench.speed(1) <= fastest / 4.0 + 1e-9);
    }
    assert_eq!(bench.state(), (Mode::Hold, Reason::Parked));
    assert!(executed.iter().any(|tick| tick.source == Source::Park));
    let at = bench.guard.command_now().to_vec();
    assert!(at[0].abs() < 1e-6 && at[1].abs() < 1e-6, "{at:?}");
    // A gripper keeps what it holds.
    assert!((at[2] - 0.04).abs() < 1e-6, "{at:?}");
    assert!(bench.grant().done);
    assert!(bench.send(Strategy::Naive).is_some());
    assert!(!park(&mut bench).done, "a task holds the cell");
}

#[test]
fn half_the_speed_makes_ticks_twice_as_long() {
    let mut bench = Bench::running(Strategy::Naive);
    let ask = Speed {
        rate: 0.5,
        by: by(),
    };
    assert!(bench.guard.speed(&ask).done);
    bench.ticks(1);
    let from = bench.guard.tick;
    bench.ticks(8);
    assert_eq!(bench.guard.tick - from, 4);
    assert!((bench.sample.rate - 0.5).abs() < 1e-9);
    for rate in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(!bench.guard.speed(&Speed { rate, by: by() }).done);
    }
}
