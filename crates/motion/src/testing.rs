//! Chunks for tests.

use vlad_wire::id::{ChunkId, TaskId, Tick};
use vlad_wire::msg::think::{Chunk, ChunkHead, Digest, Start, Strategy};
use vlad_wire::text::Name;

/// A naive chunk of two slots, whose rows hold request and index.
pub(crate) fn chunk(request: u64, horizon: u16, prefix_len: u16) -> Chunk {
    let head = ChunkHead {
        cell: Name::new("demo").unwrap(),
        epoch: 1,
        seq: request,
        id: ChunkId { epoch: 1, request },
        task: TaskId(ulid::Ulid::from_parts(1, 1)),
        attempt: 1,
        obs_seq: request,
        obs_tick: Tick::MIN,
        view_captured_ns: vec![],
        captured_at_ns: 0,
        requested_at_ns: 0,
        acted_from_ns: 0,
        acted_until_ns: 0,
        start: Start::OnArrival,
        horizon,
        width: 2,
        prefix_len,
        frozen_len: 0,
        request_id: request,
        strategy: Strategy::Naive,
        rate: 1.0,
        dt_ns: 33_333_333,
        noise_seed: 0,
        model_hash: Digest::default(),
        normaliser_hash: Digest::default(),
        frame_convention: Name::new("joint_absolute").unwrap(),
        mac: None,
    };
    let owner = u16::try_from(request).map_or(f32::MAX, f32::from);
    let rows = (0..horizon).flat_map(|i| [owner, f32::from(i)]).collect();
    Chunk { head, rows }
}
