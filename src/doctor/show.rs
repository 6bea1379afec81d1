//! A report for people and for programs.

use std::fmt;

use super::capacity::Capacity;
use super::process::shown;
use super::sysctls::SYSCTLS;
use super::{Finding, Report, Verdict};

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
            "\nblocking: {}, warnings: {}, unknown: {}, ok: {}",
            count(Verdict::Blocking),
            count(Verdict::Warn),
            count(Verdict::Unknown),
            count(Verdict::Ok)
        )?;
        let outcome = match self.verdict {
            Verdict::Blocking => "Ringroad does not run here before what is blocking is mended.",
            Verdict::Warn => "Ringroad runs here; what is warned of makes it run worse than it could.",
            Verdict::Ok | Verdict::Unknown => "Ringroad runs here as well as it can, as far as is known.",
        };
        writeln!(f, "{outcome}")?;
        let is_sysctl = |finding: &&Finding| SYSCTLS.iter().any(|sysctl| sysctl.name == finding.check);
        if self.findings.iter().filter(is_sysctl).any(|finding| finding.fix.is_some()) {
            let file = "tuning/sysctl.d/90-ringroad.conf";
            writeln!(
                f,
                "All sysctls at once, and after the next boot too: cp {file} /etc/sysctl.d/ && sysctl --system"
            )?;
        }
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
            let connections = bound.connections.map_or_else(|| "–".to_owned(), shown);
            writeln!(f, "  {:width$}  {connections:>12}  {}", bound.of, bound.because)?;
        }
        Ok(())
    }
}
