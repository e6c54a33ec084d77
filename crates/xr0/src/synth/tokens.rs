//! A tokenizer in the released format (reference §3.3) that has learnt nothing: every byte is a
//! token. The special tokens have the ids that `config.json` names.

use serde_json::{Map, Value, json};

use crate::config::Config;

/// Tokens of text: one for each byte.
pub const LETTERS: u32 = 256;
/// Special tokens in the order of their ids, which follow each other.
const SPECIAL: [&str; 14] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];
/// Place of `<|im_end|>` among them.
pub(super) const IM_END: u32 = 2;
/// Place of `<|vision_start|>`.
pub(super) const VISION_START: u32 = 9;
/// Place of `<|vision_end|>`.
pub(super) const VISION_END: u32 = 10;
/// Place of `<|image_pad|>`.
pub(super) const IMAGE: u32 = 12;
/// Place of `<|video_pad|>`.
pub(super) const VIDEO: u32 = 13;
/// How text is cut before it becomes bytes: contractions, words with the sign before them, single
/// digits, signs, line ends, spaces. A property of the format, since trained vocabularies rely on it.
const WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Gives the id of the first special token of a network, `<|endoftext|>`.
pub fn first_special(config: &Config) -> u32 {
    config.image_token().saturating_sub(IMAGE)
}

/// Gives a `tokenizer.json` whose special tokens start at the id `special`.
pub fn tokenizer(special: u32) -> Value {
    let bytes = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    });
    let words = json!({
        "type": "Split",
        "pattern": { "Regex": WORDS },
        "behavior": "Isolated",
        "invert": false,
    });
    let specials = || SPECIAL.iter().zip(special..);
    let mut vocabulary: Map<String, Value> = letters()
        .into_iter()
        .zip(0..)
        .map(|(letter, id)| (letter.into(), Value::from(id)))
        .collect();
    // In the vocabulary too: a token that only stands among the added ones would get the next free
    // id, whatever the file says.
    vocabulary.extend(specials().map(|(token, id)| ((*token).to_owned(), Value::from(id))));
    let added = specials().map(|(token, id)| {
        json!({
            "id": id,
            "content": token,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [words, bytes] },
        "post_processor": bytes,
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": [],
        },
    })
}

/// The letter that stands for each byte, in the order of the ids: first the bytes that print,
/// each as the character of its own number; then the others, as the characters from 256 on.
fn letters() -> Vec<char> {
    let prints = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let printing = (0..=u8::MAX).filter(prints).map(char::from);
    let others = (0..=u8::MAX).filter(|byte| !prints(byte));
    let others = others.zip('\u{100}'..).map(|(_, letter)| letter);
    printing.chain(others).collect()
}
