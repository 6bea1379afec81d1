//! Counters as Prometheus text, format 0.0.4.

use std::fmt::Write;

use super::workers::PER_WORKER;
use super::{Buckets, Counters, Family, Kind, Values};
use crate::turn::ShardId;

/// `Content-Type` of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A value of the whole process, which no worker counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauge {
    /// Its Prometheus name.
    pub name: &'static str,
    /// What it counts in, or empty.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Now.
    pub value: f64,
}

impl Gauge {
    /// How long the process has run, under the name that dashboards know.
    pub fn uptime_seconds(value: f64) -> Gauge {
        Gauge { name: "v2v_uptime_seconds", unit: "seconds", help: "Time since the gateway started.", value }
    }

    /// Over how many workers the counters are summed.
    pub fn workers(workers: usize) -> Gauge {
        Gauge { name: "ringroad_workers", unit: "", help: "Worker threads.", value: workers as f64 }
    }
}

/// What the version's label hangs on.
const BUILD_INFO: Family =
    Family { name: "ringroad_build_info", kind: Kind::Gauge, unit: "", help: "Always 1; the version is a label." };

/// Writes everything: the sum over workers, what is told of each of them, the gauges of the process, the version.
pub fn render(out: &mut String, workers: &[(ShardId, Counters)], gauges: &[Gauge]) {
    let mut total = Counters::default();
    workers.iter().for_each(|(_, counters)| total.add(counters));
    total.visit(&mut |family, values| write_family(out, family, &values));
    for line in PER_WORKER {
        write_head(out, line.family);
        for (worker, counters) in workers {
            let _ = writeln!(out, "{}{{worker=\"{}\"}} {}", line.family.name, worker.0, (line.value)(counters));
        }
    }
    for gauge in gauges {
        write_head(out, Family { name: gauge.name, kind: Kind::Gauge, unit: gauge.unit, help: gauge.help });
        let _ = writeln!(out, "{} {}", gauge.name, gauge.value);
    }
    write_head(out, BUILD_INFO);
    let _ = writeln!(out, "{}{{version=\"{}\"}} 1", BUILD_INFO.name, env!("CARGO_PKG_VERSION"));
}

fn write_family(out: &mut String, family: Family, values: &Values) {
    let name = family.name;
    write_head(out, family);
    // Writing to a String cannot fail.
    let _ = match values {
        Values::One(value) => writeln!(out, "{name} {value}"),
        Values::Labelled(label, cells) => {
            cells.iter().try_for_each(|(text, value)| writeln!(out, "{name}{{{label}=\"{text}\"}} {value}"))
        }
        Values::Buckets(Buckets { cumulative, sum_ms, count }) => {
            for (bound_ms, value) in cumulative {
                let _ = writeln!(out, "{name}_bucket{{le=\"{bound_ms}\"}} {value}");
            }
            writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum_ms}\n{name}_count {count}")
        }
    };
}

/// The lines before a family's series. `# UNIT` is OpenMetrics: to the text format 0.0.4 it is a comment, which
/// scrapers skip. Only names that end in their unit may have one, and counters are called `…_total` behind it.
fn write_head(out: &mut String, Family { name, kind, unit, help }: Family) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
