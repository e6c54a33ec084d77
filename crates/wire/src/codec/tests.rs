use std::fmt::Debug;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use ulid::Ulid;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;

use super::*;
use crate::id::{ChunkId, EpisodeId, Role, TaskId};
use crate::msg::think::Digest;
use crate::text::{Instruction, Name, Note};

mod bounds;
mod motion;
mod sense;
mod small;

/// Packs and unpacks: nothing is lost, nothing is added, the version byte comes first.
fn survives<B: Body + PartialEq + Debug>(body: &B) -> Result<(), TestCaseError> {
    let packet = body.pack().unwrap();
    prop_assert_eq!(packet.head.first(), Some(&VERSION));
    prop_assert!(packet.head.len() <= B::HEAD_MAX && packet.raw.len() <= B::RAW_MAX);
    prop_assert_eq!(&unpack::<B>(packet).unwrap(), body);
    Ok(())
}

/// Everything that is nearly the packet is refused: cut anywhere, longer, of another version.
fn nearly_is_refused<B: Body + Debug>(body: &B) {
    let packet = body.pack().unwrap();
    let (head, raw) = (&packet.head, &packet.raw);
    let refused = |head: Bytes, raw: Bytes| unpack::<B>(Packet { head, raw }).unwrap_err();
    for length in 0..head.len() {
        refused(head.slice(..length), raw.clone());
    }
    for length in 0..raw.len() {
        refused(head.clone(), raw.slice(..length));
    }
    refused(longer(head), raw.clone());
    refused(head.clone(), longer(raw));
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        let mut other = BytesMut::from(&head[..]);
        other[0] = version;
        refused(other.freeze(), raw.clone());
    }
    let too_long = |got: usize, max: usize, error: CodecError| {
        assert!(
            matches!(error, CodecError::TooLong { got: g, max: m } if (g, m) == (got, max)),
            "{error}"
        );
    };
    let oversized = Bytes::from(vec![VERSION; B::HEAD_MAX + 1]);
    too_long(
        B::HEAD_MAX + 1,
        B::HEAD_MAX,
        refused(oversized, raw.clone()),
    );
    let oversized = Bytes::from(vec![0; B::RAW_MAX + 1]);
    too_long(B::RAW_MAX + 1, B::RAW_MAX, refused(head.clone(), oversized));
}

fn longer(bytes: &Bytes) -> Bytes {
    let mut longer = BytesMut::from(&bytes[..]);
    longer.put_u8(0xc0);
    longer.freeze()
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9_-]{0,31}".prop_map(|text| Name::new(text).unwrap())
}

fn note() -> impl Strategy<Value = Note> {
    ".{0,64}".prop_map(|text| Note::cleaned(&text))
}

fn instruction() -> impl Strategy<Value = Instruction> {
    ".{0,200}".prop_map(|text| Instruction::cleaned(&text))
}

fn task_id() -> impl Strategy<Value = TaskId> {
    any::<u128>().prop_map(|id| TaskId(Ulid(id)))
}

fn episode_id() -> impl Strategy<Value = EpisodeId> {
    (task_id(), any::<u32>()).prop_map(|(task, attempt)| EpisodeId { task, attempt })
}

fn chunk_id() -> impl Strategy<Value = ChunkId> {
    any::<(u64, u64)>().prop_map(|(epoch, request)| ChunkId { epoch, request })
}

fn digest() -> impl Strategy<Value = Digest> {
    prop::collection::vec(any::<u8>(), 0..=32).prop_map(Digest::from)
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(Mode::ALL.to_vec())
}

fn reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(Reason::all().collect::<Vec<_>>())
}

/// Finite numbers: those that are none are no larger trouble for a codec, but differ from
/// themselves.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![-1e3..1e3_f64, any::<u64>().prop_map(f64::from_bits)]
        .prop_filter("finite", |x: &f64| x.is_finite())
}

fn single() -> impl Strategy<Value = f32> {
    prop_oneof![-1e3..1e3_f32, any::<u32>().prop_map(f32::from_bits)]
        .prop_filter("finite", |x: &f32| x.is_finite())
}

fn numbers(count: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(number(), count)
}

fn captures() -> impl Strategy<Value = Vec<(Name, u64)>> {
    prop::collection::vec((name(), any::<u64>()), 0..=8)
}
