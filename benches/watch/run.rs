//! One fleet against one gateway: what was carried between two looks, and what it cost.

use std::ops::ControlFlow;
use std::time::Instant;

use ringroad::drive::gallery::Watched;
use ringroad::drive::{self, DriveOptions, Report};

use crate::bench::{Extent, Verdict};
use crate::gateway::{Gateway, Metrics};
use crate::machine::{self, Others, Seat};

/// Times that a trial is repeated while other work disturbs it.
const TRIES: usize = 3;

/// So long before the end of a drive, or the first report after that, is the second look: reports come every 250 ms.
const LAST_LOOK_MS: u64 = 500;

/// Settings that every trial has: nobody's rate is limited, and that thousands come at once is told to nobody.
const SETTINGS: [&str; 2] = ["rate_limits.location_update.burst=0", "presence.scope=none"];

/// What is tried.
pub struct Trial<'a> {
    pub name: String,
    /// Of the gateway, beside [`SETTINGS`].
    pub settings: &'a [&'a str],
    /// Of the fleet, but for its URL.
    pub options: DriveOptions,
    /// It is about time, so other work disturbs it.
    pub is_timed: bool,
}

/// What happened between two looks while the fleet drove, and what the fleet said in the end.
pub struct Measured {
    pub seconds: f64,
    pub sent: u64,
    /// To vehicles.
    pub deliveries: u64,
    /// To viewers.
    pub records: u64,
    /// Processor time of the gateway, and of this process.
    pub gateway_s: f64,
    pub driver_s: f64,
    /// Share of one processor that other work on this machine took.
    pub others: f64,
    /// Turns and rounds of the gateway's worker: no longer than, milliseconds.
    pub turn_ms: Longest,
    pub round_ms: Longest,
    pub report: Report,
}

/// The upper bound of the longest of some durations; infinite beyond the last bucket.
#[derive(Clone, Copy)]
pub struct Longest(pub f64);

impl std::fmt::Display for Longest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_infinite() { f.write_str("more") } else { write!(f, "≤ {}", self.0) }
    }
}

impl Measured {
    /// Positions to vehicles and viewers.
    pub fn positions(&self) -> u64 {
        self.deliveries + self.records
    }

    /// Processor time of the gateway per position, µs.
    pub fn each_us(&self) -> f64 {
        self.gateway_s * 1e6 / self.positions() as f64
    }

    pub fn rate(&self, count: u64) -> String {
        grouped((count as f64 / self.seconds) as u64)
    }

    /// As a share of one processor.
    pub fn percent(&self, seconds: f64) -> String {
        format!("{:.0}", seconds / self.seconds * 100.0)
    }

    pub fn others_percent(&self) -> String {
        format!("{:.0}", self.others * 100.0)
    }
}

/// What has been counted at one time.
struct Look {
    at: Instant,
    sent: u64,
    deliveries: u64,
    records: u64,
    gateway_s: f64,
    driver_s: f64,
    metrics: Metrics,
    others: Others,
}

impl Look {
    fn take(gateway: &Gateway, report: &Report) -> Look {
        Look {
            at: Instant::now(),
            sent: report.tally.sent,
            deliveries: report.tally.received,
            records: Watched::all(&report.watched).records,
            gateway_s: gateway.seconds(),
            driver_s: machine::process_seconds(std::process::id()),
            metrics: gateway.metrics(),
            others: Others::watch(),
        }
    }
}

/// Runs a trial, again if other work disturbed it; fails if the gateway lost anybody or said anything wrong.
pub fn run(extent: Extent, trial: &Trial<'_>, verdict: &mut Verdict) -> Measured {
    let needs_quiet = trial.is_timed && extent == Extent::Full;
    let mut best: Option<Measured> = None;
    for _ in 0..if needs_quiet { TRIES } else { 1 } {
        if needs_quiet {
            machine::wait_for_quiet();
        }
        let measured = once(trial);
        let is_quiet = !machine::is_disturbed(measured.others);
        if best.as_ref().is_none_or(|best| measured.others < best.others) {
            best = Some(measured);
        }
        if is_quiet {
            break;
        }
    }
    let measured = best.expect("one try at least");
    let (report, name) = (&measured.report, &trial.name);
    let all = Watched::all(&report.watched);
    verdict.demand(report.errors.is_empty() && report.closes.is_empty(), || format!("{name}:\n{report}"));
    verdict.demand(report.traffic.unnamed == 0 && report.tally.duplicate == 0, || format!("{name}:\n{report}"));
    verdict.demand(all.seen == all.present && all.ghosts == 0, || format!("{name}:\n{report}"));
    // A machine that stands still lets the ledger misjudge who was where.
    let few = report.tally.received / 10_000;
    verdict.demand(report.tally.wrong + all.wrong <= few, || format!("{name}:\n{report}"));
    if needs_quiet {
        let missing = report.tally.missing() + all.missing();
        verdict
            .wish(missing == 0, || format!("{name}: {missing} positions that were owed were replaced by newer ones"));
        verdict.wish(report.skipped + report.withheld == 0, || {
            format!("{name}: {} updates were not sent in time", report.skipped + report.withheld)
        });
    }
    measured
}

fn once(trial: &Trial<'_>) -> Measured {
    let settings: Vec<&str> = SETTINGS.iter().chain(trial.settings).copied().collect();
    let gateway = Gateway::start("gateway", 0, &settings);
    let options = DriveOptions { url: format!("ws://{}/v2v", gateway.addr), ..trial.options.clone() };
    let (mut begin, mut end) = (None, None);
    let report = machine::seated(Seat::Beside, || {
        drive::run(options, |report| {
            // Viewers ask for their view within the first quarter; then all is as it goes on. On a machine that stands
            // still, the second look may come after the last update.
            if begin.is_none() {
                if report.driven_ms * 5 > report.planned_ms * 2 {
                    begin = Some(Look::take(&gateway, report));
                }
            } else if end.is_none() && report.driven_ms + LAST_LOOK_MS > report.planned_ms {
                end = Some(Look::take(&gateway, report));
            }
            ControlFlow::Continue(())
        })
    });
    let report = report.unwrap_or_else(|error| panic!("{}: {error}", trial.name));
    gateway.stop();
    let (begin, end) = begin.zip(end).unwrap_or_else(|| panic!("{}: reports were too rare:\n{report}", trial.name));
    let gateway_s = end.gateway_s - begin.gateway_s;
    Measured {
        seconds: (end.at - begin.at).as_secs_f64(),
        sent: end.sent - begin.sent,
        deliveries: end.deliveries - begin.deliveries,
        records: end.records - begin.records,
        gateway_s,
        driver_s: end.driver_s - begin.driver_s,
        others: begin.others.share(gateway_s),
        turn_ms: longest("ringroad_turn_ms", &begin.metrics, &end.metrics),
        round_ms: longest("ringroad_round_ms", &begin.metrics, &end.metrics),
        report,
    }
}

/// The bound of the highest bucket of a histogram that has grown in between.
fn longest(histogram: &str, before: &Metrics, after: &Metrics) -> Longest {
    let grown = |series: &str| after.get(series) - before.get(series);
    let all = grown(&format!("{histogram}_count"));
    let prefix = format!("{histogram}_bucket{{le=\"");
    // Buckets count all that are not longer: the least bound that counts everything.
    let bounds = after.series().filter_map(|(series, _)| {
        let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?.parse::<f64>().ok()?;
        (grown(series) == all).then_some(bound)
    });
    Longest(bounds.fold(f64::INFINITY, f64::min))
}

/// With a comma at each thousand.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
