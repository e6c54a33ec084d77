//! Text to token ids by a checkpoint's `tokenizer.json` (reference §3.3).
//!
//! Byte-level BPE behind NFC. No token is added at the ends; `<cot>` and `/no_cot` are plain text.
//! Added tokens such as `<|im_end|>` are recognised wherever they stand in the text: whoever puts
//! foreign text into a prompt asks [`Tokenizer::special_in`] first.

use tokenizers::AddedToken;

use crate::error::{self, Error};

/// A checkpoint's tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// Truncation and padding that the file asks for are switched off: the released processor
    /// passes its own.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn from_bytes(json: &[u8]) -> Result<Self, String> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        inner
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        inner.with_padding(None);
        Ok(Self { inner })
    }

    /// Gives the ids of a text; the empty text has none.
    ///
    /// # Errors
    /// A text that the tokenizer's pattern gives up on.
    pub fn encode(&self, text: &str) -> error::Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|error| {
            Error::input(format!("the text cannot be turned into tokens: {error}"))
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Gives the id of a token, if there is one.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Gives the token with the largest id; none if there are no tokens.
    pub fn last(&self) -> Option<(String, u32)> {
        let all = self.inner.get_vocab(true).into_iter();
        all.max_by_key(|(_, id)| *id)
    }

    /// Says whether a token is a special one: [`Tokenizer::special_in`] finds only those.
    pub fn is_special(&self, token: &str) -> bool {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let id = self.id(token);
        id.and_then(|id| added.get(&id))
            .is_some_and(|token| token.special)
    }

    /// Gives the first special token that a text holds, such as `<|im_end|>`.
    ///
    /// # Errors
    /// A text that the tokenizer's pattern gives up on.
    pub fn special_in(&self, text: &str) -> error::Result<Option<String>> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let special = |id: u32| added.get(&id).filter(|token: &&AddedToken| token.special);
        let mut ids = self.encode(text)?.into_iter();
        Ok(ids.find_map(special).map(|token| token.content.clone()))
    }
}

#[cfg(test)]
mod tests;
