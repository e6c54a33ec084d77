//! Requests, contexts, chunks, and what the guard made of them.

use proptest::strategy::ValueTree;

use super::*;
use crate::msg::execute::{Accepted, Executed, ExecutedTicks, GuardCounters, GuardState, Source};
use crate::msg::think::{
    Chunk, ChunkHead, Context, ContextHead, ContextPart, DType, Handle, PartData, PartHead, Start,
    Strategy as Meets, ThinkRequest,
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
        any::<(u64, i64, u64, u32, u32, u64, u64, u64)>(),
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
                    thinking: plain.7,
                    thought_from_ns: plain.5,
                    prepared_at_ns: plain.6,
                }))
            },
        )
}

/// By bytes and by handle; 8-bit numbers have channels.
fn context_part() -> impl Strategy<Value = Context> {
    let dtypes = vec![DType::F32, DType::Bf16, DType::Int8, DType::Bytes];
    let dtype = prop::sample::select(dtypes);
    let shape = prop::collection::vec(0_u32..4, 4);
    let handle = prop::option::of(any::<(u64, u64)>());
    let plain = any::<(u64, u8, u64, u64)>();
    (plain, 0..Context::PARTS_MAX, name(), dtype, shape, handle).prop_map(
        |((request_id, fill, thinking, ready_at_ns), index, name, dtype, shape, handle)| {
            let head = PartHead {
                request_id,
                index,
                name,
                dtype,
                shape,
                thinking,
                ready_at_ns,
            };
            let data = match handle {
                Some((shelf, key)) => PartData::Handle(Handle { shelf, key }),
                None => PartData::Bytes(vec![fill; head.n_bytes().unwrap()].into()),
            };
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
    let counters = prop::array::uniform17(any::<u64>());
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
                outside: n[11],
                refused: n[12],
                prefix_overruns: n[13],
                prefix_dropped: n[14],
                implausible: n[15],
                dropped: n[16],
            },
            speed_limit: ticks_per_s,
            stop_ms: ticks_per_s,
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
}

fn part_head(dtype: DType, shape: &[u32]) -> PartHead {
    PartHead {
        request_id: 1,
        index: 0,
        name: Name::new("plan").unwrap(),
        dtype,
        shape: shape.to_vec(),
        thinking: 1,
        ready_at_ns: 1,
    }
}

fn bytes_of(head: PartHead, n_bytes: usize) -> Context {
    let data = PartData::Bytes(vec![0; n_bytes].into());
    Context::Part(ContextPart { head, data })
}

#[test]
fn a_part_has_the_bytes_of_its_type_and_shape() {
    let table: [(DType, &[u32], Option<usize>); 9] = [
        (DType::F32, &[2, 3], Some(24)),
        (DType::Bf16, &[2, 3], Some(12)),
        (DType::Bytes, &[], Some(1)),
        (
            DType::Int8,
            &[2, 3, 5, 7],
            Some(2 * 3 * 5 * 7 + 2 * 3 * 7 * 4),
        ),
        (DType::Int8, &[2, 3, 0, 7], Some(2 * 3 * 7 * 4)),
        // Without channels there are no scales.
        (DType::Int8, &[2, 3], None),
        (DType::Int8, &[2, 3, 5, 7, 1], None),
        (DType::F32, &[u32::MAX; 4], None),
        (DType::Int8, &[u32::MAX; 4], None),
    ];
    for (dtype, shape, n_bytes) in table {
        assert_eq!(
            part_head(dtype, shape).n_bytes(),
            n_bytes,
            "{dtype:?} {shape:?}"
        );
    }
}

#[test]
fn a_part_of_another_length_than_its_shape_is_refused() {
    for (dtype, shape, n_bytes) in [
        (DType::Bytes, vec![u32::MAX; 4], 0),
        (DType::F32, vec![2, 3], 23),
        (DType::F32, vec![2, 3], 25),
        // The numbers without their scales.
        (DType::Int8, vec![2, 3, 5, 7], 2 * 3 * 5 * 7),
        (DType::Bytes, vec![1; 9], 1),
    ] {
        let bad = bytes_of(part_head(dtype, &shape), n_bytes);
        let error = unpack::<Context>(bad.pack().unwrap()).unwrap_err();
        assert!(matches!(error, CodecError::Inconsistent(_)), "{error}");
    }
    let mut far = part_head(DType::Bytes, &[1]);
    far.index = Context::PARTS_MAX;
    assert!(unpack::<Context>(bytes_of(far, 1).pack().unwrap()).is_err());
}

#[test]
fn bytes_that_are_written_in_place_are_the_packed_message() {
    let head = part_head(DType::Bytes, &[3]);
    let small = ContextPart::small(&head).unwrap();
    let mut raw = [b"abc".as_slice(), &[0; ContextPart::SEAL]].concat();
    ContextPart::seal(&small, &mut raw).unwrap();
    let data = PartData::Bytes(Bytes::from_static(b"abc"));
    let packed = Context::Part(ContextPart { head, data }).pack().unwrap();
    assert_eq!((&packed.head, &packed.raw[..]), (&small, raw.as_slice()));
    assert!(ContextPart::seal(&small, &mut [0; 3]).is_err());
}

proptest! {
    /// Whatever a bit meant: a number, a size, the index, the request, the checksum itself.
    #[test]
    fn a_context_with_a_flipped_bit_is_refused(
        context in prop_oneof![context_head(), context_part()],
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let packet = context.pack().unwrap();
        let mut bytes = [&packet.head[..], &packet.raw[..]].concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut head = Bytes::from(bytes);
        let raw = head.split_off(packet.head.len());
        let flipped = Packet { head, raw };
        prop_assert!(unpack::<Context>(flipped).is_err());
    }

    /// The bytes of one part behind the head of another, as a mixed-up buffer would have them.
    #[test]
    fn bytes_behind_the_head_of_another_part_are_refused(one in context_part(), index in 0..8_u16) {
        let Context::Part(mut other) = one.clone() else { unreachable!() };
        prop_assume!(other.head.index != index);
        other.head.index = index;
        let (one, other) = (one.pack().unwrap(), Context::Part(other).pack().unwrap());
        let mixed = Packet { head: other.head, raw: one.raw };
        prop_assert!(unpack::<Context>(mixed).is_err());
    }
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
