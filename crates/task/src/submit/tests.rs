//! Bounds of a submission, its digest, and the rule of keys.

use proptest::prelude::*;

use super::*;

fn read(json: &str) -> Result<Submission, serde_json::Error> {
    serde_json::from_str(json)
}

fn labelled(count: usize) -> String {
    let labels: Vec<_> = (0..count).map(|i| format!(r#""l{i}":"x""#)).collect();
    format!(
        r#"{{"cell":"demo","instruction":"go","labels":{{{}}}}}"#,
        labels.join(",")
    )
}

#[test]
fn a_body_without_options_has_the_defaults() {
    let body = read(r#"{"cell":"demo","instruction":"put it away"}"#).unwrap();
    assert_eq!(body.max_duration_s, DURATION_DEFAULT_S);
    assert!(body.labels.is_empty());
    assert_eq!(body.check(), Ok(()));
}

#[test]
fn bounds_hold_on_both_sides() {
    for (good, duration) in [(false, 0), (true, 1), (true, 86_400), (false, 86_401)] {
        let json = format!(r#"{{"cell":"demo","instruction":"go","max_duration_s":{duration}}}"#);
        assert_eq!(read(&json).is_ok(), good, "{duration}");
    }
    assert!(read(&labelled(LABELS_MAX)).is_ok());
    assert!(read(&labelled(LABELS_MAX + 1)).is_err());
}

#[test]
fn what_is_unknown_mistyped_or_double_is_refused() {
    for bad in [
        r#"{"cell":"demo"}"#,
        r#"{"instruction":"go"}"#,
        r#"{"cell":"demo","instruction":"go","epoch":7}"#,
        r#"{"cell":"../demo","instruction":"go"}"#,
        r#"{"cell":"demo","instruction":""}"#,
        r#"{"cell":"demo","instruction":"a\nb"}"#,
        r#"{"cell":"demo","instruction":"go","max_duration_s":"1"}"#,
        r#"{"cell":"demo","instruction":"go","max_duration_s":-1}"#,
        r#"{"cell":"demo","instruction":"go","max_duration_s":4294967296}"#,
        r#"{"cell":"demo","instruction":"go","labels":{"a":"1","a":"2"}}"#,
        r#"{"cell":"demo","instruction":"go","labels":[]}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_default_that_is_written_out_is_the_same_body() {
    let short = read(r#"{"cell":"demo","instruction":"go"}"#).unwrap();
    let long = r#"{ "labels":{}, "max_duration_s":120, "instruction":"go", "cell":"demo" }"#;
    assert_eq!(
        same_key(&short.digest(), &read(long).unwrap().digest()),
        SameKey::Repeat
    );
    let other = read(r#"{"cell":"demo","instruction":"go","max_duration_s":121}"#).unwrap();
    assert_eq!(
        same_key(&short.digest(), &other.digest()),
        SameKey::Conflict
    );
}

#[test]
fn no_two_splits_of_the_same_text_have_one_digest() {
    let body = |cell: &str, instruction: &str| Submission {
        cell: cell.parse().unwrap(),
        instruction: instruction.parse().unwrap(),
        max_duration_s: 1,
        labels: BTreeMap::new(),
    };
    assert_ne!(body("ab", "c").digest(), body("a", "bc").digest());
}

#[test]
fn keys_are_bounded_and_printable() {
    let longest = "k".repeat(64);
    for good in ["a", "6f1e0d3c-1b7e-4a53-9f64-7d7f0a3f0d0e", "~!", &longest] {
        assert!(good.parse::<IdempotencyKey>().is_ok(), "{good}");
    }
    let too_long = "k".repeat(65);
    for bad in ["", " ", "a b", "a\n", "é", "\u{7f}", &too_long] {
        assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn a_submission_reads_back(
        cell in "[a-z][a-z0-9_-]{0,31}",
        instruction in "[^\\p{Cc}]{1,200}",
        max_duration_s in 1..=DURATION_MAX_S,
        labels in prop::collection::btree_map("[a-z][a-z0-9]{0,8}", "[ -~]{1,30}", 0..=LABELS_MAX),
    ) {
        let labels =
            labels.into_iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        let body = Submission {
            cell: cell.parse().unwrap(),
            instruction: instruction.parse().unwrap(),
            max_duration_s,
            labels,
        };
        let back = read(&serde_json::to_string(&body).unwrap()).unwrap();
        prop_assert_eq!(back.digest(), body.digest());
        prop_assert_eq!(back, body);
    }
}
