//! How a message lies on the socket: two lengths of four bytes, little-endian, then the message,
//! then its raw bytes.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::Serialize;
use vlad_wire::codec::{Body, CodecError, Packet, encode_into, unpack};

/// Bytes of the two lengths.
pub const PREFIX: usize = 8;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// The socket ended, or gave nothing in time.
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
    /// What came is no such message.
    #[error("malformed: {0}")]
    Malformed(#[from] CodecError),
}

/// Reads one message.
///
/// # Errors
/// [`ParcelError::Malformed`] before anything is allocated for a length above the message's bound.
pub fn read<B: Body>(from: &mut impl Read) -> Result<B, ParcelError> {
    let (mut head, mut raw) = ([0; PREFIX / 2], [0; PREFIX / 2]);
    from.read_exact(&mut head)?;
    from.read_exact(&mut raw)?;
    let head = bounded(u32::from_le_bytes(head), B::HEAD_MAX)?;
    let raw = bounded(u32::from_le_bytes(raw), B::RAW_MAX)?;
    let mut bytes = vec![0; head + raw];
    from.read_exact(&mut bytes)?;
    let mut head_bytes = Bytes::from(bytes);
    let raw = head_bytes.split_off(head);
    Ok(unpack(Packet {
        head: head_bytes,
        raw,
    })?)
}

/// Writes one message.
///
/// # Errors
/// What the socket says, or a message that cannot be written.
pub fn write<B: Body>(to: &mut impl Write, body: &B) -> Result<(), ParcelError> {
    let packet = body.pack()?;
    let length = |bytes: &Bytes| u32::try_from(bytes.len()).map_err(io::Error::other);
    let mut bytes = Vec::with_capacity(PREFIX + packet.head.len() + packet.raw.len());
    bytes.extend_from_slice(&length(&packet.head)?.to_le_bytes());
    bytes.extend_from_slice(&length(&packet.raw)?.to_le_bytes());
    bytes.extend_from_slice(&packet.head);
    bytes.extend_from_slice(&packet.raw);
    Ok(to.write_all(&bytes)?)
}

/// Puts one small message, as [`read`] wants it, in place of what `buffer` holds: allocates nothing
/// once the buffer is large enough.
///
/// # Errors
/// [`CodecError::Unwritable`] if it cannot be written.
pub(crate) fn fill<T: Serialize>(buffer: &mut Vec<u8>, message: &T) -> Result<(), CodecError> {
    buffer.clear();
    buffer.extend_from_slice(&[0; PREFIX]);
    encode_into(message, buffer)?;
    let n_bytes = u32::try_from(buffer.len() - PREFIX).unwrap_or(u32::MAX);
    buffer[..PREFIX / 2].copy_from_slice(&n_bytes.to_le_bytes());
    Ok(())
}

fn bounded(got: u32, max: usize) -> Result<usize, CodecError> {
    let got = usize::try_from(got).unwrap_or(usize::MAX);
    if got <= max {
        Ok(got)
    } else {
        Err(CodecError::TooLong { got, max })
    }
}
