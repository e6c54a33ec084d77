//! Kinds of records, and the envelope that guards each value of the episode log.
//!
//! An envelope is: schema version (1 byte), kind (1 byte), body, CRC32C (4 bytes, little endian)
//! over the value's key, version, kind and body. The key is part of the checksum, so that a value
//! under another key is as bad as a changed one.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vlad_wire::codec::{CodecError, decode_as, encode_as};

/// The schema of all records; a change of any shape is a new number, with a line of doc.
///
/// 1: the first schema.
pub const SCHEMA: u8 = 1;

/// Kind of the envelope that holds an episode's head.
pub(crate) const HEAD: u8 = 0;
/// Kind of the envelope that holds an image's place.
pub(crate) const IMAGE: u8 = 255;

/// Layout byte that bodies are written with. The log's own, so that a change of the bus's messages
/// makes no old folder unreadable.
const BODY: u8 = 1;
/// Layout bytes of bodies that are read. Where the bus's own was written it may be 2: the bodies are
/// the same.
const BODIES: &[u8] = &[BODY, 2];

const CRC_LEN: usize = 4;

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// Heads of observations; their pixels are images.
    Observation,
    /// Requests to the brain.
    Request,
    /// Heads of contexts.
    Context,
    /// Chunks with their rows.
    Chunk,
    /// The guard's buffer of accepted targets.
    Accepted,
    /// What was commanded and measured.
    Executed,
    /// Measured joints.
    Joints,
    /// The oracle's verdicts.
    Verdict,
    /// The guard's state.
    Guard,
    /// Events.
    Event,
    /// What the cell was told to do.
    Task,
    /// Commands to the guard, and its answers.
    Command,
    /// What a decision used: noise, latencies, hashes.
    Decision,
}

/// A word that names no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no kind of record, such as observation, chunk or executed")]
pub struct UnknownKind;

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Observation,
        Self::Request,
        Self::Context,
        Self::Chunk,
        Self::Accepted,
        Self::Executed,
        Self::Joints,
        Self::Verdict,
        Self::Guard,
        Self::Event,
        Self::Task,
        Self::Command,
        Self::Decision,
    ];

    /// The kind's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observation => "observation",
            Self::Request => "request",
            Self::Context => "context",
            Self::Chunk => "chunk",
            Self::Accepted => "accepted",
            Self::Executed => "executed",
            Self::Joints => "joints",
            Self::Verdict => "verdict",
            Self::Guard => "guard",
            Self::Event => "event",
            Self::Task => "task",
            Self::Command => "command",
            Self::Decision => "decision",
        }
    }

    /// The kind's byte in keys and envelopes; never given to another kind.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Observation => 1,
            Self::Request => 2,
            Self::Context => 3,
            Self::Chunk => 4,
            Self::Accepted => 5,
            Self::Executed => 6,
            Self::Joints => 7,
            Self::Verdict => 8,
            Self::Guard => 9,
            Self::Event => 10,
            Self::Task => 11,
            Self::Command => 12,
            Self::Decision => 13,
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RecordKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or(UnknownKind)
    }
}

/// Why a stored value is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Shorter than an empty envelope.
    #[error("the record has {got} bytes, which is too short")]
    Short {
        /// Length in bytes.
        got: usize,
    },
    /// The checksum does not fit.
    #[error("the record's checksum is wrong")]
    Checksum,
    /// A newer build wrote it.
    #[error("the record has schema {got}, this build knows {SCHEMA}; use the newer build")]
    Schema {
        /// The record's schema.
        got: u8,
    },
    /// It is of another kind than its place says.
    #[error("the record is of kind {got}, its place is for kind {want}")]
    Kind {
        /// The record's kind.
        got: u8,
        /// The place's kind.
        want: u8,
    },
    /// The body is no such message.
    #[error("the record's body cannot be read")]
    Body(#[from] CodecError),
}

/// Writes a body.
///
/// # Errors
/// [`CodecError::Unwritable`] if it cannot be written.
pub(crate) fn encode<T: Serialize>(body: &T) -> Result<Bytes, CodecError> {
    encode_as(BODY, body)
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// [`CodecError`] if the bytes are not exactly one such body.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    decode_as(BODIES, bytes, max)
}

/// Puts a body into an envelope.
pub(crate) fn seal(key: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 2 + CRC_LEN);
    bytes.extend_from_slice(&[SCHEMA, kind]);
    bytes.extend_from_slice(body);
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Takes a body out of its envelope.
///
/// # Errors
/// [`RecordError`] if the bytes are not what was written under this key.
pub(crate) fn unseal<'a>(key: &[u8], kind: u8, bytes: &'a [u8]) -> Result<&'a [u8], RecordError> {
    let short = RecordError::Short { got: bytes.len() };
    let Some((sealed, crc)) = bytes.split_last_chunk::<CRC_LEN>() else {
        return Err(short);
    };
    let Some(([schema, got], body)) = sealed.split_first_chunk::<2>() else {
        return Err(short);
    };
    if crc32c::crc32c_append(crc32c::crc32c(key), sealed) != u32::from_le_bytes(*crc) {
        return Err(RecordError::Checksum);
    }
    if *schema != SCHEMA {
        return Err(RecordError::Schema { got: *schema });
    }
    if *got != kind {
        return Err(RecordError::Kind {
            got: *got,
            want: kind,
        });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn kinds_read_back_and_have_their_own_byte() {
        let codes: HashSet<_> = RecordKind::ALL.into_iter().map(RecordKind::code).collect();
        assert_eq!(codes.len(), RecordKind::ALL.len());
        assert!(!codes.contains(&HEAD) && !codes.contains(&IMAGE));
        for kind in RecordKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let sealed = seal(b"key", 7, b"some body");
        assert_eq!(unseal(b"key", 7, &sealed).unwrap(), b"some body");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"key", 7, &bad).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(
                unseal(b"key", 7, &sealed[..length]).is_err(),
                "length {length}"
            );
        }
    }

    #[test]
    fn a_record_in_another_place_is_refused() {
        let sealed = seal(b"key", 7, b"body");
        assert!(matches!(
            unseal(b"kez", 7, &sealed),
            Err(RecordError::Checksum)
        ));
        let other = unseal(b"key", 8, &sealed);
        assert!(matches!(other, Err(RecordError::Kind { got: 7, want: 8 })));
    }
}
