//! The codec: a version byte, MessagePack, and nothing after it.
//!
//! Small messages travel whole. Images and tensors travel as raw bytes, with a small message as
//! attachment. Sizes are checked before anything is decoded.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The layout of all messages; a change of any shape is a new number, with a line of doc.
///
/// 1: the first layout.
/// 2: contexts have checksums, and their heads come before their parts are computed.
/// 3: joints echo perception's challenge; the guard's state has speed, stop and more counters.
pub const VERSION: u8 = 3;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// There is not even a version byte.
    #[error("the message is empty")]
    Empty,
    /// Another version of the layout.
    #[error("the message has layout {got}, this build speaks {VERSION}")]
    Version {
        /// The message's version byte.
        got: u8,
    },
    /// More bytes than the stream allows.
    #[error("the message has {got} bytes, its stream allows {max}")]
    TooLong {
        /// Length in bytes.
        got: usize,
        /// The stream's bound.
        max: usize,
    },
    /// Bytes after the end of the message.
    #[error("{count} bytes follow the message")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The bytes are no such message.
    #[error("the message cannot be read")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// The message cannot be written: a bug, such as a map with a key that is no text.
    #[error("the message cannot be written")]
    Unwritable(#[from] rmp_serde::encode::Error),
    /// The fields contradict each other.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// A message as it travels: a small part, and raw bytes beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Version byte and MessagePack.
    pub head: Bytes,
    /// Pixels, tensors or rows; empty for small messages.
    pub raw: Bytes,
}

/// A body that can travel.
pub trait Body: Sized + Clone + Send + Sync + 'static {
    /// Longest small part in bytes.
    const HEAD_MAX: usize;
    /// Longest raw part in bytes; 0 for small messages.
    const RAW_MAX: usize;

    /// Packs the body.
    ///
    /// # Errors
    /// [`CodecError::Unwritable`] if the body cannot be written.
    fn pack(&self) -> Result<Packet, CodecError>;

    /// Unpacks a body whose sizes [`unpack`] has checked.
    ///
    /// # Errors
    /// [`CodecError`] if the packet is no such body.
    fn unpack_parts(packet: Packet) -> Result<Self, CodecError>;
}

/// Unpacks a body, sizes first.
///
/// # Errors
/// [`CodecError`] if the packet is no such body.
pub fn unpack<B: Body>(packet: Packet) -> Result<B, CodecError> {
    check_length(packet.head.len(), B::HEAD_MAX)?;
    check_length(packet.raw.len(), B::RAW_MAX)?;
    B::unpack_parts(packet)
}

/// Writes a small message.
///
/// # Errors
/// [`CodecError::Unwritable`] if it cannot be written.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, CodecError> {
    encode_as(VERSION, message)
}

/// Writes a small message of a layout of its own: what is kept must not change with the bus.
///
/// # Errors
/// [`CodecError::Unwritable`] if it cannot be written.
pub fn encode_as<T: Serialize>(layout: u8, message: &T) -> Result<Bytes, CodecError> {
    let mut bytes = Vec::new();
    write_as(layout, message, &mut bytes)?;
    Ok(bytes.into())
}

/// Writes a small message behind what `bytes` already holds: for those who must not allocate.
///
/// # Errors
/// [`CodecError::Unwritable`] if it cannot be written.
pub fn encode_into<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    write_as(VERSION, message, bytes)
}

fn write_as<T: Serialize>(layout: u8, message: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    bytes.push(layout);
    rmp_serde::encode::write(bytes, message)?;
    Ok(())
}

/// Reads a small message of at most `max` bytes.
///
/// # Errors
/// [`CodecError`] if the bytes are not exactly one such message of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    decode_as(&[VERSION], bytes, max)
}

/// Reads a small message of at most `max` bytes that has one of these layouts.
///
/// # Errors
/// [`CodecError`] if the bytes are not exactly one such message of one of these layouts.
pub fn decode_as<T: DeserializeOwned>(
    layouts: &[u8],
    bytes: &[u8],
    max: usize,
) -> Result<T, CodecError> {
    check_length(bytes.len(), max)?;
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if !layouts.contains(version) {
        return Err(CodecError::Version { got: *version });
    }
    let mut rest = body;
    let message = rmp_serde::decode::from_read(&mut rest)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(CodecError::Trailing { count: rest.len() })
    }
}

fn check_length(got: usize, max: usize) -> Result<(), CodecError> {
    if got <= max {
        Ok(())
    } else {
        Err(CodecError::TooLong { got, max })
    }
}

/// Makes a small message a [`Body`] without raw bytes.
pub trait Small: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Longest message in bytes.
    const MAX: usize;

    /// Checks what the type system cannot: lengths of lists, ranges.
    ///
    /// # Errors
    /// [`CodecError::Inconsistent`] with what is wrong.
    fn check(&self) -> Result<(), CodecError> {
        Ok(())
    }
}

impl<T: Small> Body for T {
    const HEAD_MAX: usize = T::MAX;
    const RAW_MAX: usize = 0;

    fn pack(&self) -> Result<Packet, CodecError> {
        Ok(Packet {
            head: encode(self)?,
            raw: Bytes::new(),
        })
    }

    fn unpack_parts(packet: Packet) -> Result<Self, CodecError> {
        let message: T = decode(&packet.head, T::MAX)?;
        message.check()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
