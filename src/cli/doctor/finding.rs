//! What a finding is: what was seen, what it means, what to do.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::Document;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and may become a problem or bound what the machine is good for.
    Note,
    /// Must be mended before a daemon runs here.
    Mend,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Mend => "MEND",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `ticks` or `disk`.
    pub area: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was seen.
    pub what: String,
    /// What that means.
    pub means: String,
    /// What to do about it.
    pub todo: String,
    /// The figures behind it; null where there are none.
    pub figures: Value,
}

/// Nothing to be done.
pub const NOTHING: &str = "nothing";

impl Finding {
    /// A finding without figures.
    pub fn new(area: &'static str, level: Level, what: impl Into<String>) -> Self {
        Self {
            area,
            level,
            what: what.into(),
            means: String::new(),
            todo: NOTHING.to_owned(),
            figures: Value::Null,
        }
    }

    /// Says what it means.
    #[must_use]
    pub fn means(mut self, text: impl Into<String>) -> Self {
        self.means = text.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn todo(mut self, text: impl Into<String>) -> Self {
        self.todo = text.into();
        self
    }

    /// Adds what was measured.
    #[must_use]
    pub fn figures(mut self, figures: impl Serialize) -> Self {
        // Plain numbers and texts, which always have a JSON form.
        self.figures = serde_json::to_value(figures).unwrap_or(Value::Null);
        self
    }
}

/// The document for people: a table, and below it what matters about each finding.
pub fn text(document: &Document) -> String {
    let mut rows = vec![["", "what", "found"].map(str::to_owned).to_vec()];
    for found in &document.findings {
        let row = [found.level.word(), found.area, &found.what];
        rows.push(row.map(str::to_owned).to_vec());
    }
    let mut text = crate::cli::print::table(&rows);
    text.push_str("\n\n");
    for found in &document.findings {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{} ({})", found.area, found.level.word());
        let _ = writeln!(text, "  means: {}", found.means);
        let _ = writeln!(text, "  to do: {}", found.todo);
    }
    let machine = &document.machine;
    let _ = write!(
        text,
        "\nplatform tier: {}; {} cores of {}, kernel {}",
        document.tier, machine.cores, machine.processor, machine.kernel
    );
    text
}
