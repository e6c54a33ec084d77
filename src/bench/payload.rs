//! Bytes whose every change is noticed, as parts of contexts.
//!
//! The content of a part follows from its number, so whoever reads it needs nothing else to say
//! whether it is that part's: a checksum alone would also be right for the bytes of another part.

use vlad_wire::codec::{CodecError, Packet};
use vlad_wire::msg::think::{Context, ContextPart, DType, PartData, PartHead};
use vlad_wire::text::Name;

/// Parts of one context: layers of the network that the action expert looks at.
pub const N_PARTS: u16 = 16;

/// Odd, so that each step changes every bit sooner or later: 2⁶⁴ over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Fills a part with the content of its number.
pub fn fill(number: u64, bytes: &mut [u8]) {
    let mut word = number.wrapping_mul(STEP);
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_add(STEP);
        for (byte, filled) in chunk.iter_mut().zip(word.to_le_bytes()) {
            *byte = filled;
        }
    }
}

/// Tells whether bytes are the content of a number, to the last one.
pub fn is_intact(number: u64, bytes: &[u8]) -> bool {
    let mut word = number.wrapping_mul(STEP);
    bytes.chunks(8).all(|chunk| {
        word = word.wrapping_add(STEP);
        word.to_le_bytes().starts_with(chunk)
    })
}

/// What a part is: `number` counts the parts of one source, `source` tells sources apart.
///
/// # Errors
/// [`CodecError::Inconsistent`] for more bytes than a part can have.
pub fn head(source: u64, number: u64, n_bytes: usize) -> Result<PartHead, CodecError> {
    let too_long = CodecError::Inconsistent("a part has less than 4 GiB");
    let index = u16::try_from(number % u64::from(N_PARTS));
    Ok(PartHead {
        request_id: number,
        index: index.unwrap_or_default(),
        name: Name::new("layer").map_err(|_| CodecError::Inconsistent("no name"))?,
        dtype: DType::Bytes,
        shape: vec![u32::try_from(n_bytes).map_err(|_| too_long)?],
        thinking: source,
        ready_at_ns: 0,
    })
}

/// Packs a part around bytes that lie in a buffer already, with room for the checksum behind them.
///
/// # Errors
/// [`CodecError`] for a buffer without that room.
pub fn pack(head: &PartHead, mut buffer: vlad_bus::buffer::Buffer) -> Result<Packet, CodecError> {
    let small = ContextPart::small(head)?;
    ContextPart::seal(&small, &mut buffer)?;
    Ok(Packet {
        head: small,
        raw: buffer.freeze(),
    })
}

/// Gives a part's head and bytes; `None` of anything else.
pub fn part(context: Context) -> Option<(PartHead, bytes::Bytes)> {
    match context {
        Context::Part(ContextPart {
            head,
            data: PartData::Bytes(bytes),
        }) => Some((head, bytes)),
        Context::Part(_) | Context::Head(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        for n_bytes in [1, 7, 8, 9, 64, 67] {
            let mut bytes = vec![0; n_bytes];
            fill(3, &mut bytes);
            assert!(is_intact(3, &bytes));
            assert!(!is_intact(4, &bytes), "{n_bytes}");
            for at in 0..n_bytes {
                bytes[at] ^= 1;
                assert!(!is_intact(3, &bytes), "{n_bytes} {at}");
                bytes[at] ^= 1;
            }
        }
    }
}
