//! Requests, contexts, chunks, and what the guard made of them.

use proptest::strategy::ValueTree;

use super::*;
use crate::msg::execute::{Accepted, Executed, ExecutedTicks, GuardCounters, GuardState, Source};
use crate::msg::think::{
    Chunk, ChunkHead, Context, ContextHead, ContextPart, DType, PartHead, Start, Strategy as Meets,
    ThinkRequest,
};

fn request() -> impl Strategy<Value = ThinkRequest> {
    (task_id(), any::<(u64, u64, u32, u64, i64, u64)>()).prop_map(|(task, plain)| ThinkRequest {
        id: plain.0,
        epoch: plain.1,
        task,
        attempt: plain.2,
        requested_at_ns: plain.3,
        earliest_tick: plain.4,
        earliest_captured_ns: plain.5,
    })
}

fn context_head() -> impl Strategy<Value = Context> {
    (
        request(),
        any::<(u64, i64, u64, u32, u32, u64, u64)>(),
        captures(),
        prop::collection::vec(single(), 0..=64),
        prop::collection::vec(any::<u8>(), 0..200),
        (digest(), 0..=Context::PARTS_MAX),
    )
        .prop_map(
            |(request, plain, view_captured_ns, state, mask, (model_hash, n_parts))| {
                Context::Head(Box::new(ContextHead {
                    request,
                    obs_seq: plain.0,
                    obs_tick: plain.1,
                    captured_at_ns: plain.2,
                    view_captured_ns,
                    state,
                    p_end: plain.3,
                    mask,
                    n_tokens: plain.4,
                    n_parts,
                    model_hash,
                    thought_from_ns: plain.5,
                    thought_until_ns: plain.6,
                }))
            },
        )
}

fn context_part() -> impl Strategy<Value = Context> {
    let dtype = prop::sample::select(vec![DType::F32, DType::Bf16, DType::Bytes]);
    let shape = prop::collection::vec(0_u32..6, 0..4);
    (any::<(u64, u16, u8)>(), name(), dtype, shape).prop_map(
        |((request_id, index, fill), name, dtype, shape)| {
            let head = PartHead {
                request_id,
                index,
                name,
                dtype,
                shape,
            };
            let data = vec![fill; head.n_bytes().unwrap()].into();
            Context::Part(ContextPart { head, data })
        },
    )
}

fn meets() -> impl Strategy<Value = Meets> {
    prop::sample::select(vec![
        Meets::Sync,
        Meets::Naive,
        Meets::Ensemble,
        Meets::Blend,
        Meets::Guided,
        Meets::CleanPrefix,
    ])
}

fn chunk_head() -> impl Strategy<Value = ChunkHead> {
    let start = prop_oneof![Just(Start::OnArrival), any::<i64>().prop_map(Start::At)];
    (
        (name(), chunk_id(), task_id(), captures(), start, meets()),
        (
            digest(),
            digest(),
            name(),
            prop::option::of(digest()),
            number(),
        ),
        any::<(u64, u64, u32, u64, i64, u64, u64, u64, u64)>(),
        any::<(u16, u16, u64, u64, u64)>(),
        (1_u16..20, 1_u16..20),
    )
        .prop_map(|(ids, hashes, plain, more, (horizon, width))| ChunkHead {
            cell: ids.0,
            epoch: plain.0,
            seq: plain.1,
            id: ids.1,
            task: ids.2,
            attempt: plain.2,
            obs_seq: plain.3,
            obs_tick: plain.4,
            view_captured_ns: ids.3,
            captured_at_ns: plain.5,
            requested_at_ns: plain.6,
            acted_from_ns: plain.7,
            acted_until_ns: plain.8,
            start: ids.4,
            horizon,
            width,
            prefix_len: more.0,
            frozen_len: more.1,
            request_id: more.2,
            strategy: ids.5,
            rate: hashes.4,
            dt_ns: more.3,
            noise_seed: more.4,
            model_hash: hashes.0,
            normaliser_hash: hashes.1,
            frame_convention: hashes.2,
            mac: hashes.3,
        })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    chunk_head().prop_flat_map(|head| {
        let count = usize::from(head.horizon) * usize::from(head.width);
        (Just(head), prop::collection::vec(single(), count))
            .prop_map(|(head, rows)| Chunk { head, rows })
    })
}

fn accepted() -> impl Strategy<Value = Accepted> {
    (
        any::<(u64, u64, i64, u64)>(),
        (
            mode(),
            reason(),
            prop::option::of(chunk_id()),
            prop::option::of(meets()),
        ),
        (0_u16..=64, 0_usize..8),
        single(),
    )
        .prop_map(
            |(plain, (mode, reason, chunk, strategy), (width, count), x)| Accepted {
                epoch: plain.0,
                sampled_at_ns: plain.1,
                tick: plain.2,
                mode,
                reason,
                chunk,
                strategy,
                played: plain.3,
                width,
                rows: vec![x; usize::from(width) * count],
            },
        )
}

fn executed() -> impl Strategy<Value = Executed> {
    let sources = vec![Source::Policy, Source::Human, Source::Hold, Source::Park];
    (
        any::<(i64, u64, u64, u64, u64, u64, u32)>(),
        (
            prop::sample::select(sources),
            prop::option::of(chunk_id()),
            mode(),
        ),
        prop::option::of(any::<u16>()),
        prop::collection::vec(number(), 0..=32),
        prop::collection::vec(number(), 0..=32),
    )
        .prop_map(
            |(plain, (source, chunk, mode), index, command, measured)| Executed {
                tick: plain.0,
                servo_tick: plain.1,
                epoch: plain.2,
                scheduled_at_ns: plain.3,
                woke_at_ns: plain.4,
                sent_at_ns: plain.5,
                source,
                chunk,
                index,
                command,
                measured,
                flags: plain.6,
                mode,
            },
        )
}

fn guard_state() -> impl Strategy<Value = GuardState> {
    let counters = prop::array::uniform11(any::<u64>());
    (
        any::<(u64, u64, u64, i64)>(),
        mode(),
        reason(),
        prop::option::of(task_id()),
        number(),
        counters,
    )
        .prop_map(|(plain, mode, reason, lease, ticks_per_s, n)| GuardState {
            mode,
            reason,
            since_ns: plain.0,
            sent_at_ns: plain.1,
            epoch: plain.2,
            lease,
            tick: plain.3,
            ticks_per_s,
            counters: GuardCounters {
                accepted: n[0],
                not_finite: n[1],
                wrong_identity: n[2],
                stale: n[3],
                jumps: n[4],
                superseded: n[5],
                not_now: n[6],
                old_epochs: n[7],
                clamped: n[8],
                late: n[9],
                stalled: n[10],
            },
        })
}

/// One value of a strategy, the same in every run.
fn one<S: Strategy>(strategy: &S) -> S::Value {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    strategy.new_tree(&mut runner).unwrap().current()
}

proptest! {
    #[test]
    fn a_request_survives(body in request()) {
        survives(&body)?;
    }

    #[test]
    fn a_context_survives(head in context_head(), part in context_part()) {
        survives(&head)?;
        survives(&part)?;
    }

    #[test]
    fn a_chunk_survives(body in chunk()) {
        survives(&body)?;
    }

    #[test]
    fn accepted_targets_survive(body in accepted()) {
        survives(&body)?;
    }

    #[test]
    fn executed_ticks_survive(ticks in prop::collection::vec(executed(), 0..=16)) {
        survives(&ExecutedTicks { ticks })?;
    }

    #[test]
    fn the_guards_state_survives(body in guard_state()) {
        survives(&body)?;
    }

    /// A chunk whose bytes were disturbed anywhere is none: head, rows or checksum.
    #[test]
    fn a_disturbed_chunk_is_refused(
        body in chunk(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let packet = body.pack().unwrap();
        let at = at.index(packet.head.len() + packet.raw.len());
        prop_assert!(unpack::<Chunk>(disturbed(&packet, at, flip)).is_err());
    }
}

fn disturbed(packet: &Packet, at: usize, flip: u8) -> Packet {
    let (mut head, mut raw) = (
        BytesMut::from(&packet.head[..]),
        BytesMut::from(&packet.raw[..]),
    );
    match at.checked_sub(head.len()) {
        None => head[at] ^= flip,
        Some(at) => raw[at] ^= flip,
    }
    Packet {
        head: head.freeze(),
        raw: raw.freeze(),
    }
}

#[test]
fn each_single_flipped_byte_of_a_chunk_is_found() {
    let packet = one(&chunk()).pack().unwrap();
    for at in 0..packet.head.len() + packet.raw.len() {
        for flip in [0x01, 0x80, 0xff] {
            assert!(
                unpack::<Chunk>(disturbed(&packet, at, flip)).is_err(),
                "byte {at}"
            );
        }
    }
}

#[test]
fn what_is_nearly_a_chunk_or_a_context_is_refused() {
    nearly_is_refused(&one(&chunk()));
    nearly_is_refused(&one(&request()));
    nearly_is_refused(&one(&context_head()));
    nearly_is_refused(&one(&context_part()));
}

#[test]
fn what_is_nearly_a_word_of_the_guard_is_refused() {
    nearly_is_refused(&one(&accepted()));
    nearly_is_refused(&one(&guard_state()));
    nearly_is_refused(&ExecutedTicks {
        ticks: vec![one(&executed()); 3],
    });
}

/// The guard, not the codec, judges numbers: it counts them.
#[test]
fn numbers_that_are_none_pass_the_codec_unchanged() {
    let mut body = one(&chunk());
    for (row, bits) in body
        .rows
        .iter_mut()
        .zip([0x7fc0_0001, 0xff80_0000, 0x8000_0000, 1_u32])
    {
        *row = f32::from_bits(bits);
    }
    let read: Chunk = unpack(body.pack().unwrap()).unwrap();
    let bits = |chunk: &Chunk| chunk.rows.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read), bits(&body));
}

#[test]
fn a_chunk_of_another_shape_than_its_bytes_is_refused() {
    let good = one(&chunk());
    let shapes = [
        (0, good.head.width),
        (good.head.horizon, 0),
        (good.head.horizon + 1, good.head.width),
        (257, 1),
        (1, 65),
        (u16::MAX, u16::MAX),
    ];
    for (horizon, width) in shapes {
        let mut bad = good.clone();
        (bad.head.horizon, bad.head.width) = (horizon, width);
        let error = unpack::<Chunk>(bad.pack().unwrap()).unwrap_err();
        assert!(
            matches!(error, CodecError::Inconsistent(_)),
            "{horizon}×{width}: {error}"
        );
    }
}

#[test]
fn a_context_beyond_its_bounds_is_refused() {
    let spoil: [fn(&mut ContextHead); 3] = [
        |head| head.n_parts = Context::PARTS_MAX + 1,
        |head| head.state = vec![0.0; 65],
        |head| head.view_captured_ns = vec![(Name::new("ego").unwrap(), 1); 9],
    ];
    for spoil in spoil {
        let Context::Head(mut head) = one(&context_head()) else {
            unreachable!()
        };
        spoil(&mut head);
        assert!(unpack::<Context>(Context::Head(head).pack().unwrap()).is_err());
    }
    let shape = vec![u32::MAX; 4];
    let head = PartHead {
        request_id: 1,
        index: 0,
        name: Name::new("plan").unwrap(),
        dtype: DType::F32,
        shape,
    };
    assert_eq!(head.n_bytes(), None);
    let overflowing = Context::Part(ContextPart {
        head,
        data: Bytes::new(),
    });
    assert!(unpack::<Context>(overflowing.pack().unwrap()).is_err());
}

#[test]
fn accepted_rows_that_do_not_fit_their_width_are_refused() {
    let mut body = one(&accepted());
    for (width, count) in [(4, 7), (0, 1), (65, 65)] {
        body.width = width;
        body.rows = vec![0.0; count];
        assert!(unpack::<Accepted>(body.pack().unwrap()).is_err(), "{width}");
    }
    let mut long = one(&executed());
    long.command = vec![0.0; 33];
    assert!(unpack::<ExecutedTicks>(ExecutedTicks { ticks: vec![long] }.pack().unwrap()).is_err());
    let many = ExecutedTicks {
        ticks: vec![one(&executed()); 65],
    };
    assert!(unpack::<ExecutedTicks>(many.pack().unwrap()).is_err());
}
