//! A report for people and for programs.

use std::fmt;

use super::capacity::Capacity;
use super::{Report, Verdict};

impl Report {
    /// As JSON, for programs.
    pub fn to_json(&self) -> String {
        // Texts and numbers only: nothing in it can fail.
        simd_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// The table: a line for each check, and below it what to do.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for finding in &self.findings {
            let value = finding.value.as_deref().unwrap_or("–");
            write!(f, "{:8}  {:width$}  {value}", finding.verdict, finding.check)?;
            if finding.verdict != Verdict::Ok {
                write!(f, " (wanted: {})", finding.wanted)?;
            }
            writeln!(f)?;
            for remark in finding.fix.iter().chain(&finding.reason) {
                writeln!(f, "{:8}  {:width$}  → {remark}", "", "")?;
            }
        }
        let count = |verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        writeln!(
            f,
            "\n{} blocking, {} warnings, {} unknown, {} ok",
            count(Verdict::Blocking),
            count(Verdict::Warn),
            count(Verdict::Unknown),
            count(Verdict::Ok)
        )?;
        self.capacity.as_ref().map_or(Ok(()), |capacity| write!(f, "\n{capacity}"))
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.connections, self.limited_by) {
            (Some(connections), Some(by)) => {
                writeln!(f, "This host can hold about {connections} idle connections; what ends first: {by}.")?;
            }
            _ => writeln!(f, "How many connections this host can hold is not known.")?,
        }
        let width = self.bounds.iter().map(|bound| bound.of.len()).max().unwrap_or(0);
        for bound in &self.bounds {
            let connections = bound.connections.map_or_else(|| "–".to_owned(), |connections| connections.to_string());
            writeln!(f, "  {:width$}  {connections:>12}  {}", bound.of, bound.because)?;
        }
        Ok(())
    }
}
