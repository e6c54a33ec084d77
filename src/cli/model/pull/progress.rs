//! How far it is: one line that is written over on a terminal, one line a file elsewhere.

use std::io::{self, IsTerminal, Write};

use crate::cli::model::size;

/// What is told of the work on standard error.
pub(super) struct Progress {
    on_terminal: bool,
    total: u64,
    done: u64,
    file: String,
    shown: Option<(u64, String)>,
}

impl Progress {
    /// Begins on so many bytes.
    pub(super) fn new(total: u64) -> Self {
        Self {
            on_terminal: io::stderr().is_terminal(),
            total,
            done: 0,
            file: String::new(),
            shown: None,
        }
    }

    /// The next file.
    pub(super) fn begin(&mut self, file: &str) {
        file.clone_into(&mut self.file);
        self.show();
    }

    /// So many bytes more are there.
    pub(super) fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        self.show();
    }

    /// So many bytes are not there after all.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.done = self.done.saturating_sub(bytes);
        self.show();
    }

    /// Something that people should know, once.
    pub(super) fn note(&mut self, text: &str) {
        self.line(text);
        self.shown = None;
        self.show();
    }

    /// The file is whole, and verified.
    pub(super) fn finish(&mut self, bytes: u64) {
        if !self.on_terminal {
            let text = format!("{}: {}, verified", self.file, size(bytes));
            self.line(&text);
        }
    }

    /// Leaves the line to others.
    pub(super) fn end(&mut self) {
        if self.on_terminal && self.shown.take().is_some() {
            let _ = writeln!(io::stderr());
        }
    }

    // Nobody needs to hear that progress cannot be shown.
    fn line(&self, text: &str) {
        let start = if self.on_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{start}{text}");
    }

    fn show(&mut self) {
        // A tenth of a per cent is 9 MB of the released network.
        let now = self.done.saturating_mul(1000).checked_div(self.total);
        let now = (now.unwrap_or(0), self.file.clone());
        if self.on_terminal && self.shown.as_ref() != Some(&now) {
            let (thousandths, file) = &now;
            let (percent, tenth) = (thousandths / 10, thousandths % 10);
            let (done, total) = (size(self.done), size(self.total));
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{percent:3}.{tenth} %  {done} of {total}  {file}"
            );
            self.shown = Some(now);
        }
    }
}
