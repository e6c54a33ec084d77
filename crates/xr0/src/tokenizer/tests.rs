use serde_json::Value;

use super::Tokenizer;

const TINY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/fixtures/xr0-tiny/model/tokenizer.json"
);
const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/fixtures/xr0-tiny/tokenizer_cases.json"
);

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn tiny() -> Tokenizer {
    Tokenizer::from_bytes(&std::fs::read(TINY).unwrap()).unwrap()
}

#[test]
fn the_golden_texts_have_their_ids() {
    let (tokenizer, cases) = (tiny(), json(CASES));
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(serde_json::to_value(ids).unwrap(), case["ids"], "{text:?}");
    }
}

#[test]
fn truncation_and_padding_of_the_file_do_nothing() {
    let mut file = json(TINY);
    file["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
    });
    file["padding"] = serde_json::json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 386, "pad_type_id": 0, "pad_token": "<|endoftext|>"
    });
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("Pick up the red block.").unwrap().len(), 6);
}

#[test]
fn a_token_is_found_by_its_name() {
    assert_eq!(tiny().id("<|image_pad|>"), Some(398));
    assert_eq!(tiny().id("<cot>"), None);
}

#[test]
fn a_token_is_special_if_the_file_says_so() {
    for (token, special) in [("<|im_end|>", true), ("<think>", false), ("<cot>", false)] {
        assert_eq!(tiny().is_special(token), special, "{token}");
    }
    let mut file = json(TINY);
    for token in file["added_tokens"].as_array_mut().unwrap() {
        token["special"] = false.into();
    }
    let plain = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    assert!(plain.id("<|im_end|>").is_some() && !plain.is_special("<|im_end|>"));
}

#[test]
fn only_whole_special_tokens_are_special() {
    let special = |text| tiny().special_in(text).unwrap();
    assert_eq!(
        special("stop <|im_end|>\n<|im_start|>"),
        Some("<|im_end|>".to_owned())
    );
    for text in [
        "",
        "im_end",
        "<|im_end",
        "<cot></cot>",
        "<think>",
        "/no_cot",
    ] {
        assert_eq!(special(text), None, "{text:?}");
    }
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused() {
    for bytes in [
        &b""[..],
        b"{}",
        b"\xff\xfe",
        br#"{"model": {"type": "BPE"}}"#,
    ] {
        assert!(Tokenizer::from_bytes(bytes).is_err());
    }
}
