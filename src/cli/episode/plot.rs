//! Curves and columns as SVG, within a page of HTML.
//!
//! Every text that goes into a page passes [`escape`]; every number is one that was formatted here.

use std::fmt::Write;

use super::report::short;

/// Width of a picture, in its own units.
const WIDTH: f64 = 960.0;
/// Height of a picture.
const HEIGHT: f64 = 180.0;
/// Room for the labels of the upright axis, of the level one, and at the other ends.
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 22.0;
const EDGE: f64 = 10.0;

/// A curve; where it has a gap, it has several parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// Colour, as CSS writes it.
    pub(super) colour: String,
    /// Parts, each of points `(x, y)`.
    pub(super) parts: Vec<Vec<(f64, f64)>>,
}

/// A picture of curves over ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart {
    /// The curves.
    pub(super) curves: Vec<Curve>,
    /// Where upright lines stand.
    pub(super) marks: Vec<f64>,
    /// Where a level line stands.
    pub(super) limit: Option<f64>,
}

/// Smallest and largest value of a picture's axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// The range of values; one of no width is widened.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = values.filter(|x| x.is_finite());
        let (low, high) = finite
            .map(|x| (x, x))
            .reduce(|(low, high), (x, _)| (low.min(x), high.max(x)))?;
        let room = if low < high { 0.0 } else { 0.5 };
        Some(Self {
            low: low - room,
            high: high + room,
        })
    }

    /// Where a value stands, from 0 to 1.
    fn place(self, x: f64) -> f64 {
        (x - self.low) / (self.high - self.low)
    }

    /// Ends and middle.
    fn labels(self) -> [f64; 3] {
        [self.low, f64::midpoint(self.low, self.high), self.high]
    }
}

/// Splits points at missing values.
pub(super) fn parts(points: impl Iterator<Item = (f64, Option<f64>)>) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    for (x, y) in points {
        match (y, parts.last_mut()) {
            (Some(y), Some(part)) => part.push((x, y)),
            (None, Some(part)) if !part.is_empty() => parts.push(Vec::new()),
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// One of `n` colours that are far apart.
pub(super) fn colour(i: usize, n: usize) -> String {
    format!("hsl({:.0},65%,45%)", 360.0 * real(i) / real(n.max(1)))
}

/// Draws curves; a picture without a point says so.
pub(super) fn chart(chart: &Chart) -> String {
    let points = || {
        let parts = chart.curves.iter().flat_map(|curve| &curve.parts);
        parts.flatten().copied()
    };
    let ranges = Range::of(points().map(|(x, _)| x))
        .zip(Range::of(points().map(|(_, y)| y).chain(chart.limit)));
    let Some((across, up)) = ranges else {
        return "<p>nothing was recorded</p>".to_owned();
    };
    let x_of = |x: f64| LEFT + across.place(x) * (WIDTH - LEFT - EDGE);
    let y_of = |y: f64| HEIGHT - BOTTOM - up.place(y) * (HEIGHT - BOTTOM - EDGE);
    let mut svg = open();
    for mark in chart
        .marks
        .iter()
        .filter(|x| (across.low..=across.high).contains(x))
    {
        line(
            &mut svg,
            "mark",
            (x_of(*mark), EDGE),
            (x_of(*mark), HEIGHT - BOTTOM),
        );
    }
    for y in up.labels() {
        line(&mut svg, "grid", (LEFT, y_of(y)), (WIDTH - EDGE, y_of(y)));
        label(&mut svg, "end", (LEFT - 6.0, y_of(y) + 4.0), &short(y));
    }
    for x in across.labels() {
        label(
            &mut svg,
            "middle",
            (x_of(x), HEIGHT - 6.0),
            &format!("{x:.0}"),
        );
    }
    if let Some(limit) = chart.limit {
        line(
            &mut svg,
            "limit",
            (LEFT, y_of(limit)),
            (WIDTH - EDGE, y_of(limit)),
        );
    }
    for curve in &chart.curves {
        for part in &curve.parts {
            let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", x_of(*x), y_of(*y));
            let places: Vec<_> = part
                .iter()
                .filter(|(_, y)| y.is_finite())
                .map(place)
                .collect();
            let colour = escape(&curve.colour);
            put(
                &mut svg,
                format_args!(
                    "<polyline stroke=\"{colour}\" points=\"{}\"/>",
                    places.join(" ")
                ),
            );
        }
    }
    svg + "</svg>"
}

/// Draws columns with their names below; heights are logarithmic, so that a single late tick among
/// ten thousand is seen.
pub(super) fn columns(columns: &[(String, u64)]) -> String {
    let height_of = |n: u64| real_u64(n).ln_1p();
    let highest = columns
        .iter()
        .map(|(_, n)| height_of(*n))
        .fold(0.0, f64::max);
    if highest <= 0.0 {
        return "<p>nothing was recorded</p>".to_owned();
    }
    let each = (WIDTH - LEFT - EDGE) / real(columns.len());
    let room = HEIGHT - BOTTOM - 2.0 * EDGE;
    let mut svg = open();
    for (i, (name, n)) in columns.iter().enumerate() {
        let (x, height) = (LEFT + each * real(i), room * height_of(*n) / highest);
        let top = HEIGHT - BOTTOM - height;
        put(
            &mut svg,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                each * 0.8
            ),
        );
        let middle = x + each * 0.4;
        label(&mut svg, "middle", (middle, top - 3.0), &n.to_string());
        label(&mut svg, "middle", (middle, HEIGHT - 6.0), name);
    }
    svg + "</svg>"
}

/// Makes a text safe within elements and attributes; control characters become spaces.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

fn open() -> String {
    format!("<svg viewBox=\"0 0 {WIDTH:.0} {HEIGHT:.0}\" role=\"img\">")
}

fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    put(
        svg,
        format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ),
    );
}

fn label(svg: &mut String, anchor: &str, (x, y): (f64, f64), text: &str) {
    let text = escape(text);
    put(
        svg,
        format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"),
    );
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = svg.write_fmt(text);
}

fn real(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}

fn real_u64(n: u64) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_splits_a_curve() {
        let points = [
            (0.0, None),
            (1.0, Some(5.0)),
            (2.0, Some(6.0)),
            (3.0, None),
            (4.0, Some(7.0)),
        ];
        let split = parts(points.into_iter());
        assert_eq!(split, [vec![(1.0, 5.0), (2.0, 6.0)], vec![(4.0, 7.0)]]);
        assert!(parts(std::iter::empty()).is_empty());
    }

    #[test]
    fn every_point_stands_within_the_picture() {
        let curve = Curve {
            colour: colour(0, 1),
            parts: vec![vec![(10.0, -3.0), (20.0, 4.0), (30.0, f64::NAN)]],
        };
        let svg = chart(&Chart {
            curves: vec![curve],
            marks: vec![15.0, 99.0],
            limit: Some(8.0),
        });
        assert!(svg.contains("points=\"76.0,158.0 "), "{svg}");
        assert_eq!(svg.matches("class=\"mark\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"limit\"").count(), 1, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_level_curve_and_none_are_drawn_too() {
        let curve = Curve {
            colour: colour(1, 3),
            parts: vec![vec![(5.0, 2.0)]],
        };
        let level = chart(&Chart {
            curves: vec![curve],
            ..Chart::default()
        });
        assert!(
            !level.contains("NaN") && level.contains("<polyline"),
            "{level}"
        );
        assert_eq!(chart(&Chart::default()), "<p>nothing was recorded</p>");
        assert_eq!(
            columns(&[("0".to_owned(), 0)]),
            "<p>nothing was recorded</p>"
        );
    }

    #[test]
    fn no_text_leaves_its_place() {
        let bad = "<script>alert(\"x\" & 'y')</script>\n";
        let safe = "&lt;script&gt;alert(&quot;x&quot; &amp; &#39;y&#39;)&lt;/script&gt; ";
        assert_eq!(escape(bad), safe);
        let svg = columns(&[(bad.to_owned(), 3)]);
        assert!(svg.contains(safe) && !svg.contains("<script"), "{svg}");
    }
}
