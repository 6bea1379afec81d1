//! What keeps this host from being a good one for Ringroad, and what to do about it.
//!
//! Pure readers of `/proc` and `/sys` below a root folder, so that a tree of files can stand for a host. What cannot be
//! read is [`Verdict::Unknown`] with the reason, never a guess.
//!
//! - [`host`]: the tree, and how its files are written.
//! - [`sysctls`]: the kernel settings of `tuning/sysctl.d/90-ringroad.conf`, and what is wanted of each.
//! - `kernel`, `process`, `machine`, `network`: everything else, by what it belongs to.
//! - [`certificate`]: what the port shows, where it speaks TLS.
//! - [`capacity`]: how many connections this host can hold.
//! - `show`: the report as a table or as JSON.

pub mod capacity;
pub mod certificate;
pub mod host;
mod kernel;
mod machine;
mod network;
mod process;
mod show;
pub mod sysctls;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trees;

use std::fmt;

use serde::Serialize;

use capacity::Capacity;
pub use host::{Host, Unread};

use crate::config::{Config, Steer};

/// What comes of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it is wanted.
    Ok,
    /// It could not be read.
    Unknown,
    /// It works, less well than it could.
    Warn,
    /// Ringroad does not start, or refuses connections.
    Blocking,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: the name of a sysctl, or words.
    pub check: String,
    /// What is there; `None` if that is unknown.
    pub value: Option<String>,
    /// What should be there.
    pub wanted: String,
    /// Whether it is.
    pub verdict: Verdict,
    /// What to do about it: with warnings and blocking problems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of all verdicts.
    pub verdict: Verdict,
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
    /// If it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

/// What the shell has found out about io_uring; files do not tell.
#[derive(Clone, Debug)]
pub enum Uring {
    /// A ring of the kind that Ringroad needs could be made.
    Usable {
        /// Whether it can wait for completions to gather (Linux 6.12).
        min_wait: bool,
    },
    /// It could not, for this reason.
    Refused(String),
    /// Nobody tried, for this reason.
    Untried(String),
}

/// What the gateway that is to run here needs.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Port that it listens on; 0: any.
    pub port: u16,
    /// Threads; 0: one per CPU that the process may use.
    pub workers: u16,
    /// Connections that one of them takes at most.
    pub conns_per_worker_max: u32,
    /// A connection goes to the worker of the CPU that takes it in.
    pub steer_by_cpu: bool,
    /// Its port speaks TLS.
    pub is_encrypted: bool,
}

impl Needs {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Needs {
        Needs {
            port: config.server.listen.port(),
            workers: config.server.workers,
            conns_per_worker_max: config.limits.conns_per_worker_max,
            steer_by_cpu: config.server.steer == Steer::Cpu,
            is_encrypted: config.tls.is_on(),
        }
    }

    /// Threads that will run. Where the CPUs cannot be read, one.
    fn workers(&self, host: &Host) -> u64 {
        match self.workers {
            0 => process::cpus_allowed(host).map_or(1, |cpus| cpus.len().max(1) as u64),
            workers => workers.into(),
        }
    }

    /// Connections that the configuration lets in.
    fn conns_max(&self, host: &Host) -> u64 {
        self.workers(host) * u64::from(self.conns_per_worker_max)
    }
}

/// Looks at everything.
pub fn examine(host: &Host, needs: &Needs, uring: &Uring) -> Report {
    let mut findings = Vec::new();
    kernel::look(host, needs, uring, &mut findings);
    process::look(host, needs, &mut findings);
    sysctls::look(host, &mut findings);
    network::look(host, needs, &mut findings);
    machine::look(host, needs, &mut findings);
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    Report { verdict, findings, capacity: None }
}

impl Report {
    /// Something that was found elsewhere.
    pub fn add(&mut self, finding: Finding) {
        self.verdict = self.verdict.max(finding.verdict);
        self.findings.push(finding);
    }

    /// The checks that keep Ringroad from running.
    pub fn blocking(&self) -> impl Iterator<Item = &str> {
        self.findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Blocking)
            .map(|finding| finding.check.as_str())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Warn => "warn",
            Verdict::Blocking => "blocking",
        })
    }
}

/// A check that has its name and its wish, and waits for what is found.
#[derive(Clone, Copy, Debug)]
struct Check<'a> {
    name: &'a str,
    wanted: &'a str,
}

impl Check<'_> {
    fn ok(self, value: impl Into<String>) -> Finding {
        self.finding(Some(value.into()), Verdict::Ok, None, None)
    }

    fn warn(self, value: impl Into<String>, fix: impl Into<String>) -> Finding {
        self.finding(Some(value.into()), Verdict::Warn, Some(fix.into()), None)
    }

    fn blocking(self, value: impl Into<String>, fix: impl Into<String>) -> Finding {
        self.finding(Some(value.into()), Verdict::Blocking, Some(fix.into()), None)
    }

    fn unknown(self, reason: impl fmt::Display) -> Finding {
        self.finding(None, Verdict::Unknown, None, Some(reason.to_string()))
    }

    fn finding(self, value: Option<String>, verdict: Verdict, fix: Option<String>, reason: Option<String>) -> Finding {
        Finding { check: self.name.to_owned(), value, wanted: self.wanted.to_owned(), verdict, fix, reason }
    }
}
