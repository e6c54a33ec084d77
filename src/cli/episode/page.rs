//! The metrics of an episode as one page of HTML, which needs nothing else: styles and pictures stand
//! in it, and it runs no script.

use serde_json::Value;

use super::plot::{Chart, Curve, chart, colour, columns, escape, parts};
use super::report;
use crate::cli::print::{field, items};

/// Points of a curve that a page asks for: one for each column of a screen.
pub(super) const POINTS: usize = 1200;

const STYLE: &str = "\
body{font:15px/1.4 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.3em}h2{font-size:1.05em;margin:1.6em 0 .3em}\
table{border-collapse:collapse;font-size:13px}td,th{padding:2px 10px 2px 0;text-align:left;vertical-align:top}\
svg{width:100%;background:#fafafa;border:1px solid #ddd}\
polyline{fill:none;stroke-width:1.2}rect{fill:#4477aa}\
text{font-size:11px;fill:#555}.grid{stroke:#ddd}.mark{stroke:#cc3311;stroke-width:.6}\
.limit{stroke:#cc3311;stroke-dasharray:6 4}.key{display:inline-block;margin-right:1em;font-size:12px}\
.scroll{overflow-x:auto}";

/// Gives the page of a document that was asked for with curves.
pub(super) fn page(motion: &Value) -> String {
    let title = escape(&format!("How {} moved", field(motion, "/episode")));
    let mut body = format!("<h1>{title}</h1>{}", pairs(&report::summary(motion)));
    body += &section("Metrics", &pairs(&report::figures(motion)));
    let seams = marks(motion);
    let over_ticks = [
        ("Commanded positions, rad or m", positions(motion)),
        ("Largest commanded speed, 1/s", one(motion, "/speed", None)),
        ("Largest commanded jerk, 1/s³", one(motion, "/jerk", None)),
        ("Age of actions, ms; dashed: the oldest that is sent", {
            let limit = motion
                .pointer("/action_age_limit_ms")
                .and_then(Value::as_f64);
            one(motion, "/age_ms", limit)
        }),
    ];
    for (name, mut picture) in over_ticks {
        picture.marks.clone_from(&seams);
        let name = format!("{name}, over ticks; red: seams");
        body += &section(&name, &chart(&picture));
    }
    body += &key(motion);
    let late = columns(&late(motion));
    body += &section("Servo ticks by lateness, µs; heights logarithmic", &late);
    let tables = [
        ("Seams", report::seams(motion)),
        ("Tracking", report::tracking(motion)),
        ("Stops", report::stops(motion)),
    ];
    for (name, rows) in tables {
        body += &section(name, &table(&rows));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>{title}</title>\
         <style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
}

fn section(name: &str, content: &str) -> String {
    format!("<h2>{}</h2>{content}", escape(name))
}

fn pairs(rows: &[(String, String)]) -> String {
    let row = |(name, text): &(String, String)| {
        format!(
            "<tr><th>{}</th><td>{}</td></tr>",
            escape(name),
            escape(text)
        )
    };
    format!(
        "<table>{}</table>",
        rows.iter().map(row).collect::<String>()
    )
}

/// A table whose first row is its header.
fn table(rows: &[Vec<String>]) -> String {
    let row = |(i, cells): (usize, &Vec<String>)| {
        let tag = if i == 0 { "th" } else { "td" };
        let cell = |text: &String| format!("<{tag}>{}</{tag}>", escape(text));
        format!("<tr>{}</tr>", cells.iter().map(cell).collect::<String>())
    };
    if rows.len() < 2 {
        return "<p>none</p>".to_owned();
    }
    let rows: String = rows.iter().enumerate().map(row).collect();
    format!("<div class=\"scroll\"><table>{rows}</table></div>")
}

/// The ticks of the seams.
fn marks(motion: &Value) -> Vec<f64> {
    items(motion, "/seams/items")
        .filter_map(|seam| seam.pointer("/tick")?.as_f64())
        .collect()
}

/// The points' values at `path` over their ticks.
fn series(motion: &Value, path: &str) -> Vec<Vec<(f64, f64)>> {
    let points = items(motion, "/curves/points");
    parts(points.filter_map(|point| {
        let tick = point.pointer("/tick")?.as_f64()?;
        Some((tick, point.pointer(path).and_then(Value::as_f64)))
    }))
}

fn one(motion: &Value, path: &str, limit: Option<f64>) -> Chart {
    let curve = Curve {
        colour: "#4477aa".to_owned(),
        parts: series(motion, path),
    };
    Chart {
        curves: vec![curve],
        limit,
        ..Chart::default()
    }
}

fn positions(motion: &Value) -> Chart {
    let n = items(motion, "/curves/dofs").count();
    let curves = (0..n).map(|dof| Curve {
        colour: colour(dof, n),
        parts: series(motion, &format!("/position/{dof}")),
    });
    Chart {
        curves: curves.collect(),
        ..Chart::default()
    }
}

/// Which colour is which degree of freedom.
fn key(motion: &Value) -> String {
    let n = items(motion, "/curves/dofs").count();
    let names = items(motion, "/curves/dofs").enumerate().map(|(i, name)| {
        let (colour, name) = (colour(i, n), escape(&field(name, "")));
        format!("<span class=\"key\" style=\"color:{colour}\">■ {name}</span>")
    });
    section(
        "Colours of the positions",
        &format!("<p>{}</p>", names.collect::<String>()),
    )
}

/// Columns of the histogram: below each end, and what is later than all of them.
fn late(motion: &Value) -> Vec<(String, u64)> {
    let ends: Vec<String> = items(motion, "/curves/late_us")
        .map(|end| field(end, ""))
        .collect();
    let last = ends.last().map(|end| format!("{end} +"));
    let names = ends.iter().map(|end| format!("< {end}")).chain(last);
    let counts = items(motion, "/curves/late").map(|n| n.as_u64().unwrap_or(0));
    names.zip(counts).collect()
}

#[cfg(test)]
mod tests;
