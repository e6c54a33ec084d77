//! Strategies against delay as one SVG picture, which needs nothing else.
//!
//! Four panels over the delay: success, boundary, jerk and age, a line a strategy. Of rows under
//! several jitters or losses those of the first are drawn.

use std::fmt::Write as _;

use crate::bench::asynchronous::contender::Contender;
use crate::bench::asynchronous::figures::Row;

/// Size of a panel with its labels, in the picture's own units.
const PANEL: (f64, f64) = (470.0, 250.0);
/// Room of a panel for the labels left and below, and at the other ends.
const LEFT: f64 = 54.0;
const BELOW: f64 = 34.0;
const EDGE: f64 = 26.0;
/// Room for the key, above the panels.
const KEY: f64 = 44.0;
/// Colours that are told apart without seeing red and green (P. Tol's vibrant and bright schemes), and
/// the pattern of the line: of nine strategies some are drawn over others.
const LINES: [(&str, &str); 9] = [
    ("#555555", "2 3"),
    ("#cc3311", "none"),
    ("#ee7733", "8 3"),
    ("#bbaa00", "8 3"),
    ("#aa3377", "4 3"),
    ("#ee3377", "none"),
    ("#0077bb", "none"),
    ("#33bbee", "3 3"),
    ("#009988", "8 3"),
];

/// What a panel shows.
struct Figure {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    /// Whether the upright axis is logarithmic.
    logarithmic: bool,
    /// Lines of the grid.
    grid: &'static [f64],
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "success",
        of: |row| Some(row.success),
        logarithmic: false,
        grid: &[0.0, 0.25, 0.5, 0.75, 1.0],
    },
    Figure {
        name: "boundary between chunks, 95th percentile, mm",
        of: |row| row.boundary_p95_mm,
        logarithmic: true,
        grid: &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
    },
    Figure {
        name: "jerk, root mean square, m/s³",
        of: |row| Some(row.rms_jerk),
        logarithmic: true,
        grid: &[10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0],
    },
    Figure {
        name: "age of the actions, 95th percentile, ms",
        of: |row| row.age_p95_ms,
        logarithmic: false,
        grid: &[0.0, 300.0, 600.0, 900.0, 1200.0, 1500.0],
    },
];

/// Draws rows.
pub(super) fn svg(rows: &[Row]) -> String {
    let first = rows.first().map(|row| (row.jitter, row.loss));
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| Some((row.jitter, row.loss)) == first)
        .collect();
    let (width, height) = (2.0 * PANEL.0, 2.0 * PANEL.1 + KEY);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n"
    );
    key(&mut svg, &rows);
    for (place, figure) in FIGURES.iter().enumerate() {
        let column = if place % 2 == 0 { 0.0 } else { PANEL.0 };
        let line = if place < 2 { KEY } else { KEY + PANEL.1 };
        panel(&mut svg, &rows, (figure, (column, line)));
    }
    svg + "</svg>\n"
}

fn key(svg: &mut String, rows: &[&Row]) {
    let (mut x, mut y) = (LEFT, 16.0);
    for (contender, (colour, pattern)) in drawn(rows) {
        if 2.0 * PANEL.0 - 160.0 < x {
            (x, y) = (LEFT, y + 18.0);
        }
        let end = x + 26.0;
        put(
            svg,
            format_args!(
                "<line x1=\"{x:.0}\" y1=\"{y:.0}\" x2=\"{end:.0}\" y2=\"{y:.0}\" stroke=\"{colour}\" \
                 stroke-width=\"2\" stroke-dasharray=\"{pattern}\"/>\n"
            ),
        );
        text(svg, "start", (end + 5.0, y + 4.0), contender.name());
        x += 150.0;
    }
}

/// The strategies that the rows have, each with its line.
fn drawn(rows: &[&Row]) -> impl Iterator<Item = (Contender, (&'static str, &'static str))> {
    let named: Vec<Contender> = rows.iter().map(|row| row.strategy).collect();
    let lines = Contender::ALL.into_iter().zip(LINES);
    lines.filter(move |(contender, _)| named.contains(contender))
}

fn panel(svg: &mut String, rows: &[&Row], (figure, (left, top)): (&Figure, (f64, f64))) {
    let scale = |y: f64| if figure.logarithmic { y.log10() } else { y };
    let (Some(lowest), Some(highest)) = (figure.grid.first(), figure.grid.last()) else {
        return;
    };
    let (low, high) = (scale(*lowest), scale(*highest));
    let last = rows.iter().map(|row| row.d).max().unwrap_or(0).max(1);
    let (right, bottom) = (left + PANEL.0 - EDGE, top + PANEL.1 - BELOW);
    let x_of = |d: u32| left + LEFT + f64::from(d) / f64::from(last) * (right - left - LEFT);
    // What lies beyond the axis is drawn at its end.
    let y_of = |y: f64| {
        let part = ((scale(y) - low) / (high - low)).clamp(0.0, 1.0);
        bottom - part * (bottom - top - EDGE)
    };
    text(svg, "start", (left + LEFT, top + EDGE - 8.0), figure.name);
    for y in figure.grid {
        let at = y_of(*y);
        put(
            svg,
            format_args!(
                "<line x1=\"{:.0}\" y1=\"{at:.1}\" x2=\"{right:.0}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n",
                left + LEFT
            ),
        );
        text(svg, "end", (left + LEFT - 6.0, at + 4.0), &y.to_string());
    }
    let mut delays: Vec<u32> = rows.iter().map(|row| row.d).collect();
    delays.sort_unstable();
    delays.dedup();
    for d in delays {
        text(svg, "middle", (x_of(d), bottom + 14.0), &d.to_string());
    }
    let middle = f64::midpoint(left + LEFT, right);
    text(
        svg,
        "middle",
        (middle, bottom + 28.0),
        "delay, ticks of 33 ms",
    );
    for (contender, (colour, pattern)) in drawn(rows) {
        let of_it = rows.iter().filter(|row| row.strategy == contender);
        let mut points: Vec<(u32, f64)> = of_it
            .filter_map(|row| Some((row.d, (figure.of)(row)?)))
            .filter(|(_, y)| y.is_finite())
            .collect();
        points.sort_unstable_by_key(|(d, _)| *d);
        let places = points
            .iter()
            .map(|(d, y)| format!("{:.1},{:.1}", x_of(*d), y_of(*y)));
        let places: Vec<String> = places.collect();
        put(
            svg,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                 stroke-dasharray=\"{pattern}\" points=\"{}\"/>\n",
                places.join(" ")
            ),
        );
    }
}

fn text(svg: &mut String, anchor: &str, (x, y): (f64, f64), words: &str) {
    put(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333333\">{words}</text>\n"
        ),
    );
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = svg.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strategy: Contender, d: u32, rms_jerk: f64) -> Row {
        Row {
            strategy,
            d,
            jitter: 0.0,
            loss: 0.0,
            prefix: 0.0,
            n: 2,
            success: 0.5,
            success_interval: [0.1, 0.9],
            stalls: 0.0,
            boundary_p95_mm: None,
            rms_jerk,
            age_p95_ms: Some(f64::NAN),
            age_p99_ms: None,
            reaction_p50_ms: None,
            reaction_p95_ms: None,
            stopped: 0.0,
            commands_sha256: String::new(),
        }
    }

    #[test]
    fn a_line_has_the_points_of_its_strategy_in_the_order_of_delay() {
        let rows = [
            row(Contender::Naive, 10, 3000.0),
            row(Contender::Naive, 0, 10.0),
            row(Contender::Sync, 5, 1e9),
        ];
        let svg = svg(&rows);
        // The third panel, from left to right and from its lowest to its highest line.
        assert!(svg.contains("points=\"54.0,510.0 444.0,320.0\""), "{svg}");
        assert!(svg.contains("points=\"249.0,320.0\""), "{svg}");
        assert!(svg.contains(">naive<") && svg.contains(">sync<"), "{svg}");
        assert!(!svg.contains(">blend<") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn rows_under_another_jitter_are_left_out() {
        let jittery = Row {
            jitter: 0.3,
            ..row(Contender::Blend, 0, 10.0)
        };
        let svg = svg(&[row(Contender::Naive, 0, 10.0), jittery]);
        assert!(svg.contains(">naive<") && !svg.contains(">blend<"), "{svg}");
        assert!(super::svg(&[]).ends_with("</svg>\n"));
    }
}
