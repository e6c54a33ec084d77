//! Prints to standard output: JSON documents unchanged, or aligned tables for people.

use std::io::{self, ErrorKind, Write};

use serde_json::Value;

/// Writes text and a line break; a reader that has left is no error.
///
/// # Errors
/// What the system returns.
pub fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Aligns rows in columns; the first row is the header, the last column may be as long as it likes.
pub fn table(rows: &[Vec<String>]) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let clean: String = cell
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            format!("{clean:<width$}")
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Gives a field as text: `-` if it is absent or null.
pub fn field(document: &Value, path: &str) -> String {
    match document.pointer(path) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(x) if number.is_f64() => format!("{x:.3}"),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

/// Gives the items of a list.
pub fn items<'a>(document: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    document
        .pointer(path)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Gives a time of day of milliseconds since 1970 as `2026-01-31 23:59:59Z`; `-` if it is absent.
pub fn time(document: &Value, path: &str) -> String {
    let Some(ms) = document.pointer(path).and_then(Value::as_u64) else {
        return "-".to_owned();
    };
    let seconds = ms / 1000;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970, by counting from a March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["ID".into(), "STATE".into()],
            vec!["a\tb".into(), "queued".into()],
        ];
        assert_eq!(table(&rows), "ID   STATE\na b  queued");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn times_are_utc() {
        for (ms, text) in [
            (0_u64, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_767_225_599_999, "2025-12-31 23:59:59Z"),
            (1_767_225_600_000, "2026-01-01 00:00:00Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(time(&json!({ "at_ms": ms }), "/at_ms"), text);
        }
        assert_eq!(time(&json!({}), "/at_ms"), "-");
    }

    #[test]
    fn fields_are_short() {
        let document = json!({ "a": { "b": 1.23456 }, "n": 7, "s": "x", "none": null });
        let got = ["/a/b", "/n", "/s", "/none", "/absent"].map(|path| field(&document, path));
        assert_eq!(got, ["1.235", "7", "x", "-", "-"]);
    }
}
