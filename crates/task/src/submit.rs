//! What a client asks for, its bounds, and when two requests are one.
//!
//! A client may send an `Idempotency-Key`. The same key with the same body is the same task; with
//! another body it is a conflict. Bodies are compared by the SHA-256 of a canonical form, so that
//! white space, field order and a default that is written out make no difference.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use vlad_wire::id::CellId;
use vlad_wire::text::{Instruction, Name, Note};

/// Most labels of one task: a person reads them in one line.
pub const LABELS_MAX: usize = 16;
/// Longest run of a task: one day, so that no forgotten task holds a cell for ever.
pub const DURATION_MAX_S: u32 = 86_400;
/// Run time of a task that asks for none: several times what a pick and place takes.
pub const DURATION_DEFAULT_S: u32 = 120;
/// How long a key is remembered: longer than any client retries.
pub const KEY_LIFE_MS: u64 = 7 * 86_400_000;

/// A task as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The cell that shall do it.
    pub cell: CellId,
    /// What to do, in plain language.
    pub instruction: Instruction,
    /// Longest run, seconds, 1 to [`DURATION_MAX_S`].
    #[serde(default = "default_duration_s", deserialize_with = "duration_s")]
    pub max_duration_s: u32,
    /// The client's own notes on it, at most [`LABELS_MAX`].
    #[serde(default, deserialize_with = "labels")]
    pub labels: BTreeMap<Name, Note>,
}

/// A submission out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// The run time is out of bounds.
    #[error("max_duration_s is {got}, it must lie between 1 and {DURATION_MAX_S}")]
    Duration {
        /// What was asked, seconds.
        got: u32,
    },
    /// Too many labels.
    #[error("has more than {LABELS_MAX} labels")]
    Labels,
}

impl Submission {
    /// Checks the bounds that the fields' types do not.
    ///
    /// # Errors
    /// [`SubmissionError`] with the first field out of bounds.
    pub fn check(&self) -> Result<(), SubmissionError> {
        check_duration(self.max_duration_s)?;
        if self.labels.len() <= LABELS_MAX {
            Ok(())
        } else {
            Err(SubmissionError::Labels)
        }
    }

    /// Gives the SHA-256 of the canonical form.
    pub fn digest(&self) -> BodyDigest {
        let mut sha = Sha256::new();
        // Each part with its length before it: no two submissions have the same bytes.
        let mut part = |bytes: &[u8]| {
            sha.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            sha.update(bytes);
        };
        part(b"vlad submission 1");
        part(self.cell.as_str().as_bytes());
        part(self.instruction.as_str().as_bytes());
        part(&self.max_duration_s.to_be_bytes());
        for (name, value) in &self.labels {
            part(name.as_str().as_bytes());
            part(value.as_str().as_bytes());
        }
        BodyDigest(sha.finalize().into())
    }
}

fn check_duration(got: u32) -> Result<u32, SubmissionError> {
    if (1..=DURATION_MAX_S).contains(&got) {
        Ok(got)
    } else {
        Err(SubmissionError::Duration { got })
    }
}

fn default_duration_s() -> u32 {
    DURATION_DEFAULT_S
}

fn duration_s<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    check_duration(u32::deserialize(from)?).map_err(D::Error::custom)
}

fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Name, Note>, D::Error> {
    from.deserialize_map(LabelsVisitor)
}

/// Stops at the first label too many, and takes no name twice.
struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = BTreeMap<Name, Note>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map of at most {LABELS_MAX} labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<Name, Note>()? {
            if labels.len() == LABELS_MAX {
                return Err(A::Error::custom(SubmissionError::Labels));
            }
            if labels.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "label {name} is given twice"
                )));
            }
            labels.insert(name, value);
        }
        Ok(labels)
    }
}

/// SHA-256 of a submission's canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest(pub [u8; 32]);

/// What a key that was seen before means for a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameKey {
    /// The same request again: answer with the same task.
    Repeat,
    /// Another request under the same key: refuse.
    Conflict,
}

/// Judges a request whose key is known.
pub fn same_key(stored: &BodyDigest, new: &BodyDigest) -> SameKey {
    if stored == new {
        SameKey::Repeat
    } else {
        SameKey::Conflict
    }
}

/// A client's key for one request: 1 to 64 printable ASCII characters without space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 printable ASCII characters and no space")]
pub struct KeyError;

impl IdempotencyKey {
    /// Longest key in bytes; a UUID has 36.
    pub const MAX: usize = 64;

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fits = (1..=Self::MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyError)
        }
    }
}

#[cfg(test)]
mod tests;
