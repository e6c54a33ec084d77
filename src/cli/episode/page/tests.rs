//! The page is well formed whatever the texts are, and needs nothing else.

use serde_json::json;

use super::*;

const HOSTILE: &str = "\"><script>alert('x')</script>&amp;<!--\u{0}";

/// A document with everything, and texts that want to leave their places.
fn motion() -> Value {
    let spread = json!({ "n": 3, "p50": 1.5, "p95": 2.0, "p99": 3.0, "p999": 3.0, "max": 3.0 });
    let seam = json!({
        "tick": 12, "from": "a", "to": "b", "strategy": HOSTILE, "index": 2,
        "prefix_conditioned": 2, "prefix_used": 2, "delay_ticks": 2, "disagreement": 0.01,
        "overlap_mean": null, "position": 0.02, "velocity": null, "acceleration": 1.0, "jerk": 9e4,
        "age_ms": 120.5
    });
    let point = |tick: i64, age: Value| {
        json!({
            "tick": tick, "at_ms": 1.0, "position": [0.1, null], "speed": 0.5, "jerk": 2e4,
            "age_ms": age
        })
    };
    json!({
        "episode": HOSTILE, "cell": HOSTILE, "instruction": HOSTILE, "outcome": HOSTILE,
        "policy": null, "settings": "other", "duration_s": 4.25, "ticks_played": 100,
        "ticks_counted": null, "action_age_limit_ms": 700.0, "damaged": 2, "cut": true,
        "stalls": { "ticks": 120, "stalled": 3, "events": 1, "longest": 3, "ratio": 0.025 },
        "age_ms": spread,
        "seams": { "items": [seam], "disagreement_ratio": 1.2, "rho": [1.0, null, 2.0, 3.0] },
        "smoothness": null,
        "tracking": [{ "name": HOSTILE, "unit": "rad", "lag_ms": 8.3, "rms": 0.001, "error": null }],
        "lateness": { "late_us": spread, "slips": 1 },
        "deadlines": { "chunks": 9, "hard": 0, "soft": 1, "servo_per_million": 10.5 },
        "interventions": { "per_thousand": 1.0, "by_flag": { "outside": 2, "workspace": 0 } },
        "economy": {
            "delay_ms": spread, "duty": 0.3, "chunks": 9, "discarded": 1, "overruns": 0,
            "refused": 0, "unanswered": 0, "generated_per_played": 2.5
        },
        "stops": [{
            "detected_ms": 900.0, "mode": "hold", "reason": HOSTILE, "decelerates_after": 1,
            "standstill_ms": 200.0, "predicted_ms": 210.0, "distance_ratio": 0.97
        }],
        "curves": {
            "dofs": [HOSTILE, "right_gripper"],
            "points": [point(10, json!(50.0)), point(11, Value::Null), point(12, json!(120.5))],
            "late_us": [10, 20], "late": [100, 3, 1]
        }
    })
}

/// Claims that every element that begins ends, in order, and gives the names of all.
fn elements(page: &str) -> Vec<String> {
    let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "a bare > in {part}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an attribute ends: {tag}");
        let name: String = tag
            .chars()
            .skip_while(|c| *c == '/')
            .take_while(|c| c.is_alphanumeric())
            .collect();
        assert!(!name.is_empty(), "a tag without a name: {tag}");
        if tag.starts_with('/') {
            assert_eq!(
                open.pop().as_ref(),
                Some(&name),
                "{tag} ends what is not open"
            );
            continue;
        }
        if !tag.ends_with('/') {
            open.push(name.clone());
        }
        seen.push(name);
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    seen
}

#[test]
fn a_page_is_well_formed_and_runs_nothing() {
    let page = page(&motion());
    let seen = elements(&page);
    let count = |name: &str| seen.iter().filter(|seen| *seen == name).count();
    assert_eq!(count("svg"), 5);
    assert_eq!((count("script"), count("img"), count("link")), (0, 0, 0));
    for outside in ["http", "url(", "onload", "@import", "\u{0}"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The one seam stands in each of the four curves.
    assert_eq!(page.matches("class=\"mark\"").count(), 4);
    assert_eq!(page.matches("class=\"limit\"").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{page}");
}

#[test]
fn a_page_of_an_episode_without_motion_is_well_formed_too() {
    let seen = elements(&page(&json!({ "episode": "x", "curves": null })));
    assert!(!seen.contains(&"svg".to_owned()));
}

#[test]
fn the_text_says_every_metric_and_every_note() {
    let text = report::text(&motion());
    for wanted in [
        "M1 stalls",
        "3 of 120 ticks, ratio 0.0250",
        "M2 age",
        "limit 700",
        "M3 seams",
        "M4 smoothness",
        "M5 tracking",
        "M6 lateness",
        "M8 deadlines",
        "M9 interventions",
        "outside 2, workspace 0",
        "M11 delay",
        "M12 stops",
        "other settings",
        "its beginning",
        "2 records cannot be read",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    assert!(
        !text.contains('\u{0}') && !text.contains(['{', '}']),
        "{text}"
    );
}
