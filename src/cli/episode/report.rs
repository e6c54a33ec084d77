//! The metrics of an episode as lines for a terminal, and as rows for [`super::page`].

use serde_json::Value;

use crate::cli::print::{field, items, table};

/// The metrics, with the paths of their figures in braces (see [`filled`]).
const FIGURES: [(&str, &str); 12] = [
    (
        "M1 stalls",
        "{/stalls/stalled} of {/stalls/ticks} ticks, ratio {/stalls/ratio}; {/stalls/events} times, \
         longest {/stalls/longest}",
    ),
    (
        "M2 age",
        "p50 {/age_ms/p50}, p95 {/age_ms/p95}, p99 {/age_ms/p99}, max {/age_ms/max} ms; limit \
         {/action_age_limit_ms}",
    ),
    (
        "M3 seams",
        "{#/seams/items}; disagreement over steps within chunks {/seams/disagreement_ratio}",
    ),
    (
        "M3 ratios",
        "at seams over within chunks: position {/seams/rho/0}, velocity {/seams/rho/1}, acceleration \
         {/seams/rho/2}, jerk {/seams/rho/3}",
    ),
    (
        "M4 smoothness",
        "jerk rms {/smoothness/rms_jerk}, max {/smoothness/max_jerk} per s³; LDLJ \
         {/smoothness/ldlj}, SPARC {/smoothness/sparc}",
    ),
    ("M5 tracking", "{#/tracking} degrees of freedom"),
    (
        "M6 lateness",
        "p50 {/lateness/late_us/p50}, p99 {/lateness/late_us/p99}, p99.9 {/lateness/late_us/p999}, \
         max {/lateness/late_us/max} µs; {/lateness/slips} slips",
    ),
    (
        "M8 deadlines",
        "of {/deadlines/chunks} chunks {/deadlines/hard} hard, {/deadlines/soft} soft; servo ticks \
         {/deadlines/servo_per_million} per million",
    ),
    (
        "M9 interventions",
        "{/interventions/per_thousand} per thousand servo ticks: position \
         {/interventions/by_flag/position_clamped}, speed {/interventions/by_flag/speed_clamped}, not \
         finite {/interventions/by_flag/not_finite}, outside {/interventions/by_flag/outside}, \
         workspace {/interventions/by_flag/workspace}",
    ),
    (
        "M11 delay",
        "p50 {/economy/delay_ms/p50}, p99 {/economy/delay_ms/p99}, p99.9 {/economy/delay_ms/p999} \
         ms; duty {/economy/duty}",
    ),
    (
        "M11 chunks",
        "{/economy/chunks} taken or late, {/economy/discarded} discarded, {/economy/overruns} \
         overran, {/economy/refused} refused, {/economy/unanswered} unanswered; \
         {/economy/generated_per_played} rows made for each one played",
    ),
    ("M12 stops", "{#/stops}"),
];

/// Gives the text for a terminal.
pub(super) fn text(motion: &Value) -> String {
    let pairs = summary(motion).into_iter().chain(figures(motion));
    let rows: Vec<_> = pairs.map(|(name, text)| vec![name, text]).collect();
    let mut parts = vec![table(&rows)];
    let tables = [
        ("M3 seams", seams(motion)),
        ("M5 tracking", tracking(motion)),
        ("M12 stops", stops(motion)),
    ];
    for (name, rows) in tables {
        if 1 < rows.len() {
            parts.push(format!("{name}\n{}", table(&rows)));
        }
    }
    parts.join("\n\n")
}

/// What the episode is, and what its figures rest on.
pub(super) fn summary(motion: &Value) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = [
        ("episode", "/episode"),
        ("cell", "/cell"),
        ("instruction", "/instruction"),
        ("outcome", "/outcome"),
        ("policy", "/policy"),
    ]
    .into_iter()
    .map(|(name, path)| (name.to_owned(), field(motion, path)))
    .collect();
    let played = format!(
        "{} s, {} ticks; the guard has counted {}",
        number(motion, "/duration_s"),
        field(motion, "/ticks_played"),
        field(motion, "/ticks_counted"),
    );
    rows.push(("played".to_owned(), played));
    let mut note = |text: String| rows.push(("note".to_owned(), text));
    match field(motion, "/settings").as_str() {
        "other" => note(
            "made under other settings than the cell has now: lengths and limits may be wrong"
                .to_owned(),
        ),
        "unknown" => note("does not say under which settings it was made".to_owned()),
        _ => {}
    }
    if motion.pointer("/cut") == Some(&Value::Bool(true)) {
        note("longer than what is looked at: these figures are of its beginning".to_owned());
    }
    if motion.pointer("/damaged").and_then(Value::as_u64) != Some(0) {
        note(format!(
            "{} records cannot be read",
            field(motion, "/damaged")
        ));
    }
    rows
}

/// The metrics, one line each.
pub(super) fn figures(motion: &Value) -> Vec<(String, String)> {
    let lines = FIGURES.iter();
    lines
        .map(|(name, text)| ((*name).to_owned(), filled(text, motion)))
        .collect()
}

/// Puts numbers into a text: `{/path}` is the number there, `{#/path}` how many items are there.
fn filled(text: &str, motion: &Value) -> String {
    let mut parts = text.split('{');
    let mut line = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (path, rest) = part.split_once('}').unwrap_or((part, ""));
        match path.strip_prefix('#') {
            Some(path) => line += &items(motion, path).count().to_string(),
            None => line += &number(motion, path),
        }
        line += rest;
    }
    line
}

/// One row for each seam, under a header.
pub(super) fn seams(motion: &Value) -> Vec<Vec<String>> {
    let header = [
        "TICK",
        "STRATEGY",
        "ROW",
        "PREFIX",
        "USED",
        "DELAY",
        "APART",
        "POSITION",
        "VELOCITY",
        "ACCELERATION",
        "JERK",
        "AGE",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(items(motion, "/seams/items").map(|seam| {
        let whole = ["/tick", "/strategy", "/index"].map(|path| field(seam, path));
        let counts = ["/prefix_conditioned", "/prefix_used", "/delay_ticks"];
        let counts = counts.map(|path| field(seam, path));
        let reals = [
            "/disagreement",
            "/position",
            "/velocity",
            "/acceleration",
            "/jerk",
            "/age_ms",
        ];
        let reals = reals.map(|path| number(seam, path));
        whole.into_iter().chain(counts).chain(reals).collect()
    }));
    rows
}

/// One row for each degree of freedom, under a header.
pub(super) fn tracking(motion: &Value) -> Vec<Vec<String>> {
    let header = ["JOINT", "UNIT", "LAG MS", "RMS", "P99", "MAX"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(items(motion, "/tracking").map(|dof| {
        let names = ["/name", "/unit"].map(|path| field(dof, path));
        let reals = ["/lag_ms", "/rms", "/error/p99", "/error/max"].map(|path| number(dof, path));
        names.into_iter().chain(reals).collect()
    }));
    rows
}

/// One row for each stop, under a header.
pub(super) fn stops(motion: &Value) -> Vec<Vec<String>> {
    let header = [
        "AT MS",
        "MODE",
        "REASON",
        "AFTER",
        "STILL MS",
        "PREDICTED",
        "WAY RATIO",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(items(motion, "/stops").map(|stop| {
        let reals = |paths: &[&str]| -> Vec<String> {
            paths.iter().map(|path| number(stop, path)).collect()
        };
        let mut row = reals(&["/detected_ms"]);
        row.extend(["/mode", "/reason", "/decelerates_after"].map(|path| field(stop, path)));
        row.extend(reals(&[
            "/standstill_ms",
            "/predicted_ms",
            "/distance_ratio",
        ]));
        row
    }));
    rows
}

/// A number with as many digits as a reader wants; `-` if it is absent.
pub(super) fn number(document: &Value, path: &str) -> String {
    document
        .pointer(path)
        .and_then(Value::as_f64)
        .map_or_else(|| "-".to_owned(), short)
}

/// A number with as many digits as a reader wants.
pub(super) fn short(x: f64) -> String {
    let size = x.abs();
    if x.fract() == 0.0 || 1000.0 <= size {
        format!("{x:.0}")
    } else if 10.0 <= size {
        format!("{x:.1}")
    } else if 0.1 <= size {
        format!("{x:.3}")
    } else if 1e-3 <= size {
        format!("{x:.4}")
    } else {
        format!("{x:.2e}")
    }
}
