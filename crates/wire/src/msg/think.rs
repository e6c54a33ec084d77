//! From observation to chunk: requests, contexts, chunks.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::VIEWS_MAX;
use crate::codec::{Body, CodecError, Packet, Small, decode, encode};
use crate::id::{CellId, ChunkId, Epoch, TaskId, Tick, View};
use crate::robot_type::{HORIZON_MAX, WIDTH_MAX};
use crate::text::Name;

/// Most sizes of a part's shape.
const SIZES_MAX: usize = 8;

/// SHA-256 of a checkpoint, of its normaliser or of a configuration.
pub type Digest = ByteBuf;

/// Think now: one decision, from the expert to the brain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThinkRequest {
    /// Id of the request; grows.
    pub id: u64,
    /// Epoch of the lease that it is made under.
    pub epoch: Epoch,
    /// The task.
    pub task: TaskId,
    /// The try.
    pub attempt: u32,
    /// When it was made.
    pub requested_at_ns: u64,
    /// Earliest tick that the observation may have.
    pub earliest_tick: Tick,
    /// Earliest capture that the observation may have (sync: standstill).
    pub earliest_captured_ns: u64,
}

impl Small for ThinkRequest {
    const MAX: usize = 256;
}

/// What a context is: everything but its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextHead {
    /// The request that it answers.
    pub request: ThinkRequest,
    /// Number of the observation that it was computed from.
    pub obs_seq: u64,
    /// That observation's tick.
    pub obs_tick: Tick,
    /// Earliest capture of its images.
    pub captured_at_ns: u64,
    /// Capture of each view.
    pub view_captured_ns: Vec<(View, u64)>,
    /// The observation's state, in slots.
    pub state: Vec<f32>,
    /// Largest position id of the prompt (reference §3.4); 0 where there is none.
    pub p_end: u32,
    /// Which tokens are real, one bit each, lowest bit first.
    #[serde(with = "serde_bytes")]
    pub mask: Vec<u8>,
    /// Number of tokens.
    pub n_tokens: u32,
    /// Number of parts that follow.
    pub n_parts: u16,
    /// Checkpoint that computed it.
    pub model_hash: Digest,
    /// Which thinking it came out of, the same number in each part: so that parts of two brains
    /// that answer one request are never mixed.
    pub thinking: u64,
    /// When the brain began.
    pub thought_from_ns: u64,
    /// When the head was published: the prompt is known, the parts are still to be computed.
    pub prepared_at_ns: u64,
}

/// Number types of a context part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// Signed bytes of a shape `[a, b, s, d]`, then one 32-bit float for each of the `a·b·d`
    /// channels: a number is its byte times its channel's float.
    Int8,
    /// Bytes without a number type, such as the plan of `scripted`.
    Bytes,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 | Self::Bytes => 1,
        }
    }
}

/// What a context part is, without its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHead {
    /// The request that the context answers.
    pub request_id: u64,
    /// Position among the context's parts, from 0.
    pub index: u16,
    /// What it is: a KV layer, or `plan`.
    pub name: Name,
    /// Number type.
    pub dtype: DType,
    /// Shape, outermost first.
    pub shape: Vec<u32>,
    /// Which thinking it came out of: see [`ContextHead::thinking`].
    pub thinking: u64,
    /// When it was ready.
    pub ready_at_ns: u64,
}

impl PartHead {
    /// Bytes that number type and shape ask for; `None` if that overflows, or for 8-bit numbers of
    /// a shape without channels.
    pub fn n_bytes(&self) -> Option<usize> {
        let sizes = self.shape.iter().map(|size| usize::try_from(*size).ok());
        let sizes = sizes.collect::<Option<Vec<_>>>()?;
        let product = |first: usize, sizes: &[usize]| {
            let mut sizes = sizes.iter();
            sizes.try_fold(first, |bytes, size| bytes.checked_mul(*size))
        };
        let numbers = product(self.dtype.size(), &sizes)?;
        if self.dtype != DType::Int8 {
            return Some(numbers);
        }
        let [a, b, _, d] = sizes.as_slice() else {
            return None;
        };
        numbers.checked_add(product(DType::F32.size(), &[*a, *b, *d])?)
    }
}

/// Where a part's numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartData {
    /// Here: row-major elements, little endian.
    Bytes(Bytes),
    /// In the memory of the process that computed them: no other can use it.
    Handle(Handle),
}

/// A place on the shelf of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handle {
    /// The shelf: differs from process to process and from start to start.
    pub shelf: u64,
    /// The place.
    pub key: u64,
}

/// A named tensor of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextPart {
    /// What it is.
    pub head: PartHead,
    /// Its numbers.
    pub data: PartData,
}

impl ContextPart {
    /// Bytes of the checksum that follows a message's raw bytes.
    pub const SEAL: usize = 4;

    /// Gives the small part of a message whose raw bytes are written in place: as many as
    /// [`PartHead::n_bytes`] says, then [`ContextPart::SEAL`] that [`ContextPart::seal`] fills.
    ///
    /// # Errors
    /// [`CodecError::Unwritable`] if the head cannot be written.
    pub fn small(head: &PartHead) -> Result<Bytes, CodecError> {
        encode(&ContextWire::Part(head.clone(), None))
    }

    /// Writes the CRC32C of `small` and of all bytes before it into the last bytes of `raw`.
    ///
    /// # Errors
    /// [`CodecError::Inconsistent`] for less bytes than the checksum has.
    pub fn seal(small: &[u8], raw: &mut [u8]) -> Result<(), CodecError> {
        let (data, seal) = raw.split_last_chunk_mut().ok_or(UNSEALED)?;
        *seal = checksum(small, data);
        Ok(())
    }
}

/// CRC32C of a message's small part and its raw bytes, little endian.
fn checksum(small: &[u8], raw: &[u8]) -> [u8; ContextPart::SEAL] {
    crc32c::crc32c_append(crc32c::crc32c(small), raw).to_le_bytes()
}

const UNSEALED: CodecError = CodecError::Inconsistent("the context has no checksum");

/// Takes the checksum off a packet's raw bytes.
fn unsealed(packet: &Packet) -> Result<Bytes, CodecError> {
    let (data, seal) = packet.raw.split_last_chunk().ok_or(UNSEALED)?;
    if *seal != checksum(&packet.head, data) {
        return Err(CodecError::Inconsistent("the context's checksum is wrong"));
    }
    Ok(packet.raw.slice(..data.len()))
}

/// One message of a context: its head, then its parts in any order.
#[derive(Debug, Clone, PartialEq)]
pub enum Context {
    /// What follows.
    Head(Box<ContextHead>),
    /// One part.
    Part(ContextPart),
}

impl Context {
    /// Most parts of one context: KV layers of the largest model, twice.
    pub const PARTS_MAX: u16 = 128;
}

#[derive(Serialize, Deserialize)]
enum ContextWire {
    Head(Box<ContextHead>),
    /// With a handle where no bytes follow.
    Part(PartHead, Option<Handle>),
}

impl Body for Context {
    const HEAD_MAX: usize = 32 * 1024;
    /// Keys and values of one layer for the longest prompt that is served, 4096 tokens, in f32 with
    /// eight heads of 128; and the seal.
    const RAW_MAX: usize = 4096 * 2 * 8 * 128 * 4 + 4096;

    /// The raw part is a part's bytes, if they are not in this process, then the CRC32C of head and
    /// bytes.
    fn pack(&self) -> Result<Packet, CodecError> {
        let (small, data): (Bytes, &[u8]) = match self {
            Self::Head(head) => (encode(&ContextWire::Head(head.clone()))?, &[]),
            Self::Part(ContextPart { head, data }) => match data {
                PartData::Bytes(bytes) => (ContextPart::small(head)?, bytes),
                PartData::Handle(handle) => {
                    let part = ContextWire::Part(head.clone(), Some(*handle));
                    (encode(&part)?, &[])
                }
            },
        };
        let mut raw = BytesMut::with_capacity(data.len() + ContextPart::SEAL);
        raw.extend_from_slice(data);
        raw.extend_from_slice(&checksum(&small, data));
        Ok(Packet {
            head: small,
            raw: raw.freeze(),
        })
    }

    fn unpack_parts(packet: Packet) -> Result<Self, CodecError> {
        let data = unsealed(&packet)?;
        match decode(&packet.head, Self::HEAD_MAX)? {
            ContextWire::Head(head) => {
                if Self::PARTS_MAX < head.n_parts
                    || WIDTH_MAX < head.state.len()
                    || VIEWS_MAX < head.view_captured_ns.len()
                {
                    return Err(CodecError::Inconsistent("too many parts, slots or views"));
                }
                if !data.is_empty() {
                    return Err(CodecError::Inconsistent("a context head has no raw bytes"));
                }
                Ok(Self::Head(head))
            }
            ContextWire::Part(head, handle) => {
                if Self::PARTS_MAX <= head.index || SIZES_MAX < head.shape.len() {
                    return Err(CodecError::Inconsistent("too many parts or sizes"));
                }
                let n_bytes = head.n_bytes();
                let expected = handle.map_or(n_bytes, |_| n_bytes.and(Some(0)));
                if expected != Some(data.len()) {
                    return Err(CodecError::Inconsistent(
                        "the part's bytes do not fit its shape",
                    ));
                }
                let data = handle.map_or(PartData::Bytes(data), PartData::Handle);
                Ok(Self::Part(ContextPart { head, data }))
            }
        }
    }
}

/// Where a chunk begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Row 0 is for this tick.
    At(Tick),
    /// The guard assigns the tick when it arrives; accepted only in armed or hold.
    OnArrival,
}

/// How consecutive chunks meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Play, stand still, look, think.
    Sync,
    /// Switch to the new chunk at the tick's own index.
    Naive,
    /// Temporal ensembling.
    Ensemble,
    /// Weighted overlap.
    Blend,
    /// Real-time chunking by guidance.
    Guided,
    /// Conditioned on a clean action prefix.
    CleanPrefix,
}

impl Strategy {
    /// Whether a gap between two chunks is part of the plan.
    pub fn plans_gaps(self, rate: f64) -> bool {
        self == Self::Sync || rate < 1.0
    }

    /// The name in configuration, logs and REST.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Naive => "naive",
            Self::Ensemble => "ensemble",
            Self::Blend => "blend",
            Self::Guided => "guided",
            Self::CleanPrefix => "clean-prefix",
        }
    }
}

/// Everything about a chunk but its rows (reference B.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkHead {
    /// The cell that it is for.
    pub cell: CellId,
    /// Epoch of the lease that it was made under.
    pub epoch: Epoch,
    /// The expert's count within the epoch, from 1.
    pub seq: u64,
    /// Id of the chunk.
    pub id: ChunkId,
    /// The task.
    pub task: TaskId,
    /// The try.
    pub attempt: u32,
    /// Observation that it was decided on.
    pub obs_seq: u64,
    /// That observation's tick.
    pub obs_tick: Tick,
    /// Capture of each view.
    pub view_captured_ns: Vec<(View, u64)>,
    /// Earliest of them: the age of the chunk's actions counts from here.
    pub captured_at_ns: u64,
    /// When the decision was asked for.
    pub requested_at_ns: u64,
    /// When the action expert began and ended.
    pub acted_from_ns: u64,
    /// See `acted_from_ns`.
    pub acted_until_ns: u64,
    /// Where it begins.
    pub start: Start,
    /// Rows (H).
    pub horizon: u16,
    /// Slots of a row (D).
    pub width: u16,
    /// Rows that were given to the policy as prefix.
    pub prefix_len: u16,
    /// Rows that the strategy holds frozen.
    pub frozen_len: u16,
    /// Request that it answers.
    pub request_id: u64,
    /// Strategy that made it.
    pub strategy: Strategy,
    /// Speed fraction that it was made for.
    pub rate: f64,
    /// Length of a tick at rate 1.
    pub dt_ns: u64,
    /// Seed of its noise.
    pub noise_seed: u64,
    /// Checkpoint that made it.
    pub model_hash: Digest,
    /// Normaliser that made it.
    pub normaliser_hash: Digest,
    /// What the rows mean; `joint_absolute` on this stream.
    pub frame_convention: Name,
    /// HMAC-SHA-256 over head and rows, where the link asks for one.
    pub mac: Option<ByteBuf>,
}

/// H future actions as absolute targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Everything but the rows.
    pub head: ChunkHead,
    /// `(horizon, width)` absolute targets in slots, row-major.
    pub rows: Vec<f32>,
}

impl Chunk {
    /// Row `index`, if the chunk has it.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        let width = usize::from(self.head.width);
        self.rows.get(index.checked_mul(width)?..)?.get(..width)
    }
}

impl Body for Chunk {
    const HEAD_MAX: usize = 4 * 1024;
    const RAW_MAX: usize = HORIZON_MAX * WIDTH_MAX * 4 + 4;

    /// The raw part is the rows, then the CRC32C of head and rows, all little endian.
    fn pack(&self) -> Result<Packet, CodecError> {
        let head = encode(&self.head)?;
        let mut raw = BytesMut::with_capacity(self.rows.len() * 4 + 4);
        for value in &self.rows {
            raw.extend_from_slice(&value.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &raw);
        raw.extend_from_slice(&crc.to_le_bytes());
        Ok(Packet {
            head,
            raw: raw.freeze(),
        })
    }

    fn unpack_parts(packet: Packet) -> Result<Self, CodecError> {
        let n_bytes = packet.raw.len().checked_sub(4);
        let n_bytes = n_bytes.ok_or(CodecError::Inconsistent("the chunk has no checksum"))?;
        let mut rest = packet.raw.clone();
        let rows = rest.split_to(n_bytes);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&packet.head), &rows);
        if rest.get_u32_le() != crc {
            return Err(CodecError::Inconsistent("the chunk's checksum is wrong"));
        }
        let head: ChunkHead = decode(&packet.head, Self::HEAD_MAX)?;
        let (horizon, width) = (usize::from(head.horizon), usize::from(head.width));
        if horizon == 0 || width == 0 || HORIZON_MAX < horizon || WIDTH_MAX < width {
            return Err(CodecError::Inconsistent(
                "the chunk's shape is out of bounds",
            ));
        }
        if horizon * width * 4 != rows.len() || VIEWS_MAX < head.view_captured_ns.len() {
            return Err(CodecError::Inconsistent(
                "the chunk's bytes do not fit its shape",
            ));
        }
        let rows = rows
            .chunks_exact(4)
            .map(|mut bytes| bytes.get_f32_le())
            .collect();
        Ok(Self { head, rows })
    }
}
