//! Names and texts that are bounded and checked where they enter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than its bound.
    #[error("has {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Length in bytes.
        got: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// A control character, which could forge a line of a log.
    #[error("holds a control character at byte {at}")]
    Control {
        /// Offset in bytes.
        at: usize,
    },
    /// A name with a character outside `a-z 0-9 _ -`, or one that does not begin with a letter.
    #[error("must begin with a letter and hold only a-z, 0-9, _ and -")]
    NotAName,
}

/// A name: 1–32 characters of `a-z 0-9 _ -`, the first one a letter. Safe in keys and paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Longest name in bytes: a column of a log, a segment of a key.
    pub const MAX: usize = 32;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`TextError`] if the text is no name.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = bounded(text.into(), Self::MAX)?;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(legal) {
            Ok(Self(text))
        } else {
            Err(TextError::NotAName)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text for people: 1 to `MAX` bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<const MAX: usize>(String);

/// What a task asks for, in plain language.
pub type Instruction = Text<2048>;
/// Who did something, and why.
pub type Note = Text<256>;

impl<const MAX: usize> Text<MAX> {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`TextError`] if it is empty, too long or holds a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = bounded(text.into(), MAX)?;
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(TextError::Control { at }),
            None => Ok(Self(text)),
        }
    }

    /// Takes any text: control characters become spaces, what is too long is cut.
    ///
    /// For texts of our own making (errors of peers, names of devices), never for a client's.
    pub fn cleaned(text: &str) -> Self {
        let mut clean: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        while MAX < clean.len() {
            clean.pop();
        }
        if clean.is_empty() {
            clean.push('-');
        }
        Self(clean)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn bounded(text: String, max: usize) -> Result<String, TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if max < text.len() {
        return Err(TextError::TooLong {
            got: text.len(),
            max,
        });
    }
    Ok(text)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        via_text::deserialize(deserializer)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        via_text::deserialize(deserializer)
    }
}

/// `#[serde(with = "…")]` for types whose only form is their text, such as the guard's modes.
pub mod via_text {
    use super::{Deserialize, Deserializer, FromStr, Serializer, fmt};

    /// Writes the type's `Display`.
    ///
    /// # Errors
    /// What the serializer returns.
    pub fn serialize<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    /// Reads by the type's `FromStr`.
    ///
    /// # Errors
    /// What the deserializer returns, or the text's own error.
    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        for good in ["demo", "left_wrist", "cell-7", "a"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(Name::MAX + 1);
        for bad in [
            "",
            "7up",
            "Demo",
            "a/b",
            "..",
            "a b",
            "a\0",
            "-a",
            "é",
            long.as_str(),
        ] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(Name::new("a".repeat(Name::MAX)).is_ok());
    }

    #[test]
    fn texts_refuse_what_could_forge_a_line() {
        assert_eq!(Note::new("a\nb"), Err(TextError::Control { at: 1 }));
        assert_eq!(Note::new("\u{1b}[2J"), Err(TextError::Control { at: 0 }));
        assert_eq!(Note::new(""), Err(TextError::Empty));
        assert!(Note::new("a".repeat(256)).is_ok());
        assert_eq!(
            Note::new("a".repeat(257)),
            Err(TextError::TooLong { got: 257, max: 256 })
        );
    }

    proptest! {
        #[test]
        fn cleaning_always_gives_a_legal_text(text in ".*") {
            let clean = Note::cleaned(&text);
            prop_assert!(Note::new(clean.as_str()).is_ok());
        }
    }
}
