//! What the brain's half of these policies hands to the action expert's: a context of one part, `plan`.

use bytes::Bytes;
use vlad_motion::policy::ThinkJob;
use vlad_wire::msg::think::{ContextHead, ContextPart, DType, Digest, PartData, PartHead};
use vlad_wire::text::{Name, TextError};

/// Name of the part.
const PART: &str = "plan";

/// The head of a context that rests on the job's observation alone.
pub(super) fn head(job: &ThinkJob, model_hash: Digest) -> ContextHead {
    let head = &job.observation.head;
    let views = head.views.iter();
    let views = views.map(|view| (view.view.clone(), view.captured_at_ns));
    ContextHead {
        request: job.request,
        obs_seq: head.seq,
        obs_tick: head.tick,
        captured_at_ns: head.captured_at_ns,
        view_captured_ns: views.collect(),
        state: head.state.clone(),
        p_end: 0,
        mask: Vec::new(),
        n_tokens: 0,
        n_parts: 1,
        model_hash,
        thinking: 0,
        thought_from_ns: 0,
        prepared_at_ns: 0,
    }
}

/// The part, of little-endian `f32`.
///
/// # Errors
/// None in fact: the part's name is a name.
pub(super) fn part(
    request_id: u64,
    shape: Vec<u32>,
    data: Bytes,
) -> Result<ContextPart, TextError> {
    Ok(ContextPart {
        head: PartHead {
            request_id,
            index: 0,
            name: Name::new(PART)?,
            dtype: DType::F32,
            shape,
            thinking: 0,
            ready_at_ns: 0,
        },
        data: PartData::Bytes(data),
    })
}

/// The part's bytes, or `None` of a part that is none or of another shape.
pub(super) fn data(part: &ContextPart, fits: impl Fn(&[u32]) -> bool) -> Option<&Bytes> {
    let head = &part.head;
    let PartData::Bytes(data) = &part.data else {
        return None;
    };
    let ours = head.name.as_str() == PART
        && head.dtype == DType::F32
        && head.n_bytes() == Some(data.len())
        && fits(&head.shape);
    ours.then_some(data)
}
