use proptest::prelude::*;

use super::*;

use vlad_wire::msg::think::Strategy;

use crate::testing::chunk;

fn slots() -> SlotMap {
    SlotMap::new(2, vec![0, 1]).unwrap()
}

#[test]
fn rows_come_at_their_ticks() {
    let mut buffer = ChunkBuffer::new(2, true);
    assert_eq!(
        buffer.insert(&chunk(1, 3, 0), 10, 9, &slots()),
        Inserted::Accepted(3)
    );
    let mut target = [0.0; 2];
    assert!(buffer.take(9, &mut target).is_none());
    for (tick, index) in (10..13).zip(0_u16..) {
        assert_eq!(buffer.peek(tick).unwrap().target, [1.0, f64::from(index)]);
        let action = buffer.take(tick, &mut target).unwrap();
        assert_eq!((action.tick, action.index), (tick, index));
        assert_eq!(target.to_vec(), [1.0, f64::from(index)]);
        assert!(buffer.peek(tick).is_none(), "never twice");
    }
    assert!(buffer.take(13, &mut target).is_none() && buffer.is_empty());
}

#[test]
fn a_later_chunk_replaces_only_what_lies_ahead() {
    let mut buffer = ChunkBuffer::new(2, true);
    buffer.insert(&chunk(1, 10, 0), 0, -1, &slots());
    buffer.take(3, &mut [0.0; 2]);
    buffer.insert(&chunk(2, 10, 0), 2, 3, &slots());
    let ahead: Vec<_> = buffer
        .ahead()
        .map(|row| (row.action.tick, row.action.chunk.request, row.action.index))
        .collect();
    assert_eq!(ahead.first(), Some(&(4, 2, 2)));
    assert_eq!(ahead.last(), Some(&(11, 2, 9)));
}

#[test]
fn the_prefix_keeps_what_was_accepted() {
    let mut buffer = ChunkBuffer::new(2, true);
    buffer.insert(&chunk(1, 10, 0), 0, -1, &slots());
    buffer.insert(&chunk(2, 10, 4), 0, -1, &slots());
    let owners: Vec<_> = buffer.ahead().map(|row| row.action.chunk.request).collect();
    assert_eq!(owners, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn a_chunk_of_the_past_or_beyond_a_hole_is_superseded() {
    let mut buffer = ChunkBuffer::new(2, true);
    assert_eq!(
        buffer.insert(&chunk(1, 5, 0), 0, 10, &slots()),
        Inserted::Superseded
    );
    assert_eq!(
        buffer.insert(&chunk(1, 5, 0), 20, 10, &slots()),
        Inserted::Superseded
    );
    assert!(buffer.is_empty());
}

#[test]
fn the_last_chunk_says_whether_a_gap_was_planned() {
    let mut buffer = ChunkBuffer::new(2, true);
    assert!(!buffer.plans_gap());
    buffer.insert(&chunk(1, 5, 0), 0, -1, &slots());
    assert!(!buffer.plans_gap());
    let mut sync = chunk(2, 5, 0);
    sync.head.strategy = Strategy::Sync;
    buffer.insert(&sync, 0, -1, &slots());
    assert!(buffer.plans_gap());
    buffer.clear();
    assert!(buffer.newest().is_none() && !buffer.plans_gap());
}

/// A chunk of one moving slot: `offset + step · index`.
fn ramp(request: u64, prefix_len: u16, offset: f32, step: f32) -> Chunk {
    let mut chunk = chunk(request, 10, prefix_len);
    let rows = (0..10_u16).flat_map(|i| [0.0, offset + step * f32::from(i)]);
    chunk.rows = rows.collect();
    chunk
}

/// A buffer that plays `ramp` from tick 0 and is in tick 4, and a chunk for ticks 0 to 9 that comes
/// now.
fn late(rule: bool, prefix_len: u16, offset: f32) -> (ChunkBuffer, Inserted) {
    let mut buffer = ChunkBuffer::new(2, rule);
    buffer.insert(&ramp(1, 0, 0.0, 0.01), 0, -1, &slots());
    for tick in 0..=4 {
        buffer.take(tick, &mut [0.0; 2]);
    }
    let inserted = buffer.insert(&ramp(2, prefix_len, offset, 0.01), 0, 4, &slots());
    (buffer, inserted)
}

fn owner(buffer: &ChunkBuffer) -> u64 {
    buffer.peek(5).unwrap().action.chunk.request
}

#[test]
fn a_chunk_within_its_prefix_is_not_late() {
    let (buffer, inserted) = late(true, 5, 9.0);
    assert_eq!((inserted, owner(&buffer)), (Inserted::Accepted(5), 2));
}

#[test]
fn a_late_chunk_that_meets_what_is_played_is_an_overrun() {
    let (buffer, inserted) = late(true, 4, 0.0195);
    assert!(
        matches!(inserted, Inserted::Overrun { rows: 5, ratio } if (ratio - 1.95).abs() < 1e-3),
        "{inserted:?}"
    );
    assert_eq!(owner(&buffer), 2);
}

#[test]
fn a_late_chunk_that_jumps_is_dropped_and_changes_nothing() {
    let (buffer, inserted) = late(true, 4, 0.0205);
    assert!(
        matches!(inserted, Inserted::Dropped(ratio) if (ratio - 2.05).abs() < 1e-3),
        "{inserted:?}"
    );
    assert_eq!((owner(&buffer), buffer.len()), (1, 5));
    assert_eq!(buffer.newest().unwrap().0.request, 1);
}

#[test]
fn without_the_rule_and_without_a_prefix_a_jump_is_taken() {
    assert_eq!(late(false, 4, 9.0).1, Inserted::Accepted(5));
    assert_eq!(late(true, 0, 9.0).1, Inserted::Accepted(5));
}

#[test]
fn a_late_chunk_to_an_empty_buffer_is_judged_by_what_was_played_last() {
    for (offset, taken) in [(0.0, true), (0.05, false)] {
        let mut buffer = ChunkBuffer::new(2, true);
        buffer.insert(&ramp(1, 0, 0.0, 0.01), 0, -1, &slots());
        for tick in 0..=9 {
            buffer.take(tick, &mut [0.0; 2]);
        }
        // Row 4 of the new chunk is for tick 10, a step after what was played in tick 9.
        let inserted = buffer.insert(&ramp(2, 3, 0.06 + offset, 0.01), 6, 9, &slots());
        assert_eq!(
            matches!(inserted, Inserted::Overrun { .. }),
            taken,
            "{inserted:?}"
        );
    }
}

#[test]
fn standing_still_a_little_elsewhere_is_no_jump() {
    let mut buffer = ChunkBuffer::new(2, true);
    buffer.insert(&ramp(1, 0, 0.0, 0.0), 0, -1, &slots());
    buffer.take(4, &mut [0.0; 2]);
    let inserted = buffer.insert(&ramp(2, 2, 0.001, 0.0), 0, 4, &slots());
    assert!(matches!(inserted, Inserted::Overrun { .. }), "{inserted:?}");
}

#[test]
fn rows_further_ahead_than_the_longest_chunk_are_left_out() {
    let longest = u16::try_from(HORIZON_MAX).unwrap();
    let mut buffer = ChunkBuffer::new(2, true);
    let first = buffer.insert(&chunk(1, longest, 0), 0, -1, &slots());
    assert_eq!(first, Inserted::Accepted(HORIZON_MAX));
    let next = buffer.insert(&chunk(2, longest, 0), i64::from(longest), 9, &slots());
    assert_eq!(next, Inserted::Accepted(HORIZON_MAX));
    let ticks: Vec<_> = buffer.ahead().map(|row| row.action.tick).collect();
    assert_eq!(
        (ticks[0], ticks[ticks.len() - 1]),
        (10, 9 + i64::from(longest))
    );
}

#[test]
fn memory_is_taken_once() {
    let mut buffer = ChunkBuffer::new(2, true);
    let before = (buffer.actions.as_ptr(), buffer.targets.as_ptr());
    for round in 0..200 {
        buffer.insert(&chunk(1, 200, 3), round * 7, round * 7, &slots());
        buffer.take(round * 7 + 1, &mut [0.0; 2]);
    }
    assert_eq!(before, (buffer.actions.as_ptr(), buffer.targets.as_ptr()));
    assert_eq!(
        (buffer.actions.len(), buffer.targets.len()),
        (ROWS, 2 * ROWS)
    );
}

proptest! {
    /// Reference A.8, property 1: no order, loss or repetition of chunks turns ticks back.
    #[test]
    fn ticks_never_go_back(
        arrivals in prop::collection::vec((-5_i64..60, 1_u16..20, 0_u16..6, 0_usize..4), 1..40),
    ) {
        let mut buffer = ChunkBuffer::new(2, true);
        let (mut now, mut last, mut target) = (0, Tick::MIN, [0.0; 2]);
        for (request, (first, horizon, prefix, idle)) in (0..).zip(arrivals) {
            buffer.insert(&chunk(request, horizon, prefix), first, now, &slots());
            let ticks: Vec<_> = buffer.ahead().map(|row| row.action.tick).collect();
            prop_assert!(ticks.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            prop_assert!(ticks.first().is_none_or(|tick| now < *tick));
            for _ in 0..idle {
                now += 1;
                if let Some(action) = buffer.take(now, &mut target) {
                    prop_assert!(last < action.tick);
                    prop_assert_eq!(action.tick, now);
                    last = action.tick;
                }
            }
        }
    }

    /// Reference A.8, property 1, over any permutation, repetition and loss of chunks that a sender
    /// made in order.
    #[test]
    fn ticks_never_go_back_whatever_the_network_does_to_chunks(
        order in prop::collection::vec((0_usize..12, 0_usize..5), 1..40),
        prefix in 0_u16..8, jumps in prop::collection::vec(-1.0_f32..1.0, 12),
    ) {
        let sent: Vec<_> = (0_u64..).zip(&jumps).map(|(i, jump)| ramp(i, prefix, *jump, 0.01)).collect();
        let mut buffer = ChunkBuffer::new(2, true);
        let (mut now, mut last, mut target) = (0, 0, [0.0; 2]);
        for (which, idle) in order {
            let first = Tick::try_from(which).unwrap() * 4;
            buffer.insert(&sent[which], first, now, &slots());
            for _ in 0..idle {
                now += 1;
                if let Some(action) = buffer.take(now, &mut target) {
                    prop_assert!(last < action.tick && action.tick == now);
                    // The target is the very row that the action says.
                    let row = sent[usize::try_from(action.chunk.request).unwrap()]
                        .row(usize::from(action.index)).unwrap();
                    prop_assert_eq!(target[1].to_bits(), f64::from(row[1]).to_bits());
                    last = action.tick;
                }
            }
        }
    }

    /// Reference A.8, property 4: a policy that gives its prefix back unchanged is seamless.
    #[test]
    fn an_unchanged_prefix_makes_the_step_at_the_switch_one_of_the_chunks_own(
        prefix in 1_u16..9, delay in 0_i64..8, steps in prop::collection::vec(-0.1_f32..0.1, 24),
    ) {
        prop_assume!(delay < i64::from(prefix));
        let line: Vec<f32> = steps.iter().scan(0.0, |at, step| { *at += step; Some(*at) }).collect();
        let mut old = chunk(1, 14, 0);
        old.rows = line[..14].iter().flat_map(|x| [0.0, *x]).collect();
        let mut buffer = ChunkBuffer::new(2, true);
        buffer.insert(&old, 0, -1, &slots());
        for tick in 0..=(4 + delay) {
            buffer.take(tick, &mut [0.0; 2]);
        }
        // The new chunk is for ticks 4 to 13: its prefix is what was accepted, its rest is new.
        let mut new = chunk(2, 10, prefix);
        let free = (0..).zip(&line[10..20]).map(|(i, x)| if i < prefix { old.rows[usize::from(4 + i) * 2 + 1] } else { *x });
        new.rows = free.flat_map(|x| [0.0, x]).collect();
        let inserted = buffer.insert(&new, 4, 4 + delay, &slots());
        prop_assert!(matches!(inserted, Inserted::Accepted(_)), "{:?}", inserted);
        let mut played: Vec<(Tick, f64)> = vec![(4 + delay, buffer.played_target[1])];
        played.extend(buffer.ahead().map(|row| (row.action.tick, row.target[1])));
        for pair in played.windows(2) {
            let index = usize::try_from(pair[1].0 - 4).unwrap();
            let own = f64::from(new.rows[index * 2 + 1]) - f64::from(new.rows[(index - 1) * 2 + 1]);
            prop_assert_eq!((pair[1].1 - pair[0].1).to_bits(), own.to_bits());
        }
    }
}
