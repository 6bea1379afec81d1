//! What a drive shows on a terminal while it runs.

use std::io::{IsTerminal, Write};

use ringroad::drive::Report;

/// A table on stderr that is written over and over, if somebody watches.
#[derive(Default)]
pub struct LiveTable {
    lines: usize,
}

impl LiveTable {
    /// Shows everything that the drive has counted so far.
    pub fn show(&mut self, report: &Report) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        // A line that the terminal wraps would count as two.
        let text: Vec<String> = std::iter::once(report.progress_line())
            .chain(report.to_string().lines().map(str::to_owned))
            .map(|line| line.chars().take(79).collect())
            .collect();
        self.clear();
        self.lines = text.len();
        // A broken stderr has nobody to tell.
        let _ = writeln!(std::io::stderr(), "{}", text.join("\n"));
    }

    fn clear(&mut self) {
        if self.lines > 0 {
            // Up as many lines, then everything below the cursor goes.
            let _ = write!(std::io::stderr(), "\x1b[{}A\x1b[J", self.lines);
        }
        self.lines = 0;
    }
}

impl Drop for LiveTable {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A line on stderr that is written over and over, if somebody watches.
#[derive(Default)]
pub struct ProgressLine {
    width: usize,
}

impl ProgressLine {
    /// Shows how far the drive is.
    pub fn show(&mut self, report: &Report) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let line = report.progress_line();
        let width = line.chars().count();
        // Blanks cover what is left of a longer line. A broken stderr has nobody to tell.
        let _ = write!(std::io::stderr(), "\r{line}{}", " ".repeat(self.width.saturating_sub(width)));
        self.width = width;
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.width > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
