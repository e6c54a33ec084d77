//! No servo tick allocates or frees, whatever happens in it: counted, call by call.
//!
//! The real servo loop on TwoGate's world and on the dual arm, fed between its ticks as the bus side
//! feeds it. What counts is what the loop's own thread does inside [`ServoLoop::beat`]: reading the
//! robot, taking chunks, commands and heartbeats, the guard, the command, the samples.
#![cfg(test)]

#[path = "servo_path/cell.rs"]
mod cell;

use cell::{Cell, dual_arm, two_gate};
use vlad_actors::actuator::servo::{Ask, Inbound};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::id::Role;
use vlad_wire::msg::command::{Estop, Lease, Park, Pause, Reset, Resume, Speed};
use vlad_wire::msg::think::{Chunk, Digest, Start};

/// The tests of this file, for both cells.
fn both(story: impl Fn(&mut Cell)) {
    for mut cell in [two_gate(), dual_arm()] {
        story(&mut cell);
        // The loop did something, and the counter counts.
        assert!(50 < cell.beats);
        let boxed = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1_u8))));
        assert_eq!(boxed.count_total, 1);
    }
}

#[test]
fn playing_chunks_allocates_nothing() {
    both(|cell| {
        cell.arm();
        cell.play(60);
        assert_eq!(cell.state(), (Mode::Running, Reason::Playing));
    });
}

/// Every kind of refusal, in motion; three unsound ones latch.
#[test]
fn refusing_chunks_allocates_nothing() {
    let spoilt: [fn(&mut Chunk); 9] = [
        |chunk| chunk.head.width += 1,
        |chunk| chunk.head.attempt += 1,
        |chunk| chunk.head.seq = 0,
        |chunk| chunk.head.captured_at_ns = 0,
        |chunk| chunk.head.start = Start::OnArrival,
        |chunk| chunk.head.start = Start::At(-100),
        |chunk| chunk.head.rate = 0.0,
        |chunk| chunk.head.model_hash = Digest::from(vec![9; 200]),
        |chunk| chunk.rows[0] = f32::NAN,
    ];
    both(|cell| {
        cell.arm();
        for spoil in spoilt {
            cell.play(10);
            cell.offer(spoil);
            cell.beats(4);
            assert_eq!(cell.state(), (Mode::Running, Reason::Playing));
        }
        for _ in 0..3 {
            cell.offer(|chunk| chunk.rows.fill(f32::INFINITY));
            cell.beats(2);
        }
        assert_eq!(cell.state(), (Mode::Fault, Reason::BadChunks));
        cell.recover();
        // A seam too fast: hold, and on.
        cell.play(10);
        let slot = cell.slot(1);
        cell.offer(|chunk| {
            let width = usize::from(chunk.head.width);
            let rows = chunk.rows.chunks_mut(width);
            rows.for_each(|row| row[slot] += 0.4);
        });
        cell.beats(2);
        assert_eq!(cell.state(), (Mode::Hold, Reason::FirstCommandJump));
        cell.settle();
        cell.play(10);
        assert_eq!(cell.state(), (Mode::Running, Reason::Playing));
    });
}

/// A hash of any length is compared, and none is kept that is longer than the guard's memory.
#[test]
fn a_first_chunk_with_a_long_hash_allocates_nothing() {
    both(|cell| {
        cell.arm();
        cell.offer(|chunk| chunk.head.model_hash = Digest::from(vec![9; 200]));
        cell.beats(2);
        assert_eq!(cell.state().0, Mode::Armed);
        cell.play(10);
        assert_eq!(cell.state(), (Mode::Running, Reason::Playing));
    });
}

#[test]
fn holds_stops_and_latches_allocate_nothing() {
    both(|cell| {
        cell.arm();
        cell.play(10);
        // Out of chunks: a stop.
        cell.beats(600);
        assert_eq!(cell.state(), (Mode::Stopped, Reason::BufferEmpty));
        cell.arm();
        cell.play(10);
        cell.send(Inbound::Died(Role::Brain, 1));
        cell.beats(200);
        assert_eq!(cell.state(), (Mode::Stopped, Reason::BrainLost));
        cell.arm();
        cell.play(10);
        // Nobody is heard: hold, then a stop.
        cell.silent = true;
        cell.beats(600);
        assert_eq!(cell.state(), (Mode::Stopped, Reason::PerceptionLost));
        cell.silent = false;
        cell.beats(10);
        cell.arm();
        cell.play(10);
        cell.fails.set(true);
        cell.beats(3);
        cell.fails.set(false);
        cell.beats(200);
        assert_eq!(cell.state(), (Mode::Stopped, Reason::RobotError));
        cell.arm();
        cell.play(10);
        cell.ask(Ask::Estop(Estop { by: cell::by() }));
        cell.beats(200);
        assert_eq!(cell.state(), (Mode::Estopped, Reason::EmergencyStop));
        cell.recover();
        cell.play(10);
        assert_eq!(cell.state(), (Mode::Running, Reason::Playing));
    });
}

#[test]
fn commands_allocate_nothing() {
    both(|cell| {
        cell.arm();
        cell.play(10);
        for rate in [0.5, f64::NAN, 1.0] {
            let by = cell::by();
            cell.ask(Ask::Speed(Speed { rate, by }));
            cell.play(10);
        }
        cell.ask(Ask::Pause(Pause { by: cell::by() }));
        cell.beats(200);
        assert_eq!(cell.state(), (Mode::Hold, Reason::Paused));
        let resume = Resume {
            epoch: cell.new_epoch(),
            by: cell::by(),
            expected_pose: cell.pose(),
        };
        cell.lease = resume.epoch;
        cell.ask(Ask::Resume(resume));
        cell.play(10);
        assert_eq!(cell.state(), (Mode::Running, Reason::Playing));
        // Refused: old epochs, and what the mode does not allow.
        let by = cell::by();
        cell.ask(Ask::Park(Park { epoch: 0, by }));
        let by = cell::by();
        cell.ask(Ask::Reset(Reset { epoch: 0, by }));
        cell.ask(Ask::Lease(Lease::Renew { epoch: 0 }));
        cell.beats(2);
        cell.ask(Ask::Lease(Lease::Release { epoch: cell.lease }));
        cell.beats(200);
        assert_eq!(cell.state(), (Mode::Hold, Reason::LeaseReleased));
        let park = Park {
            epoch: cell.new_epoch(),
            by: cell::by(),
        };
        cell.ask(Ask::Park(park));
        cell.beats(2);
        assert_eq!(cell.state(), (Mode::Running, Reason::Parking));
        cell.beats(2000);
        assert_eq!(cell.state(), (Mode::Hold, Reason::Parked));
    });
}

/// The bus side takes nothing for two seconds: what does not fit is dropped and counted.
#[test]
fn a_bus_side_that_stalls_costs_nothing() {
    both(|cell| {
        cell.arm();
        cell.play(10);
        cell.stalls = true;
        cell.beats(600);
        cell.stalls = false;
        cell.beats(10);
        assert!(0 < cell.dropped());
    });
}
