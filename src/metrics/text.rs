//! Counters as Prometheus text, format 0.0.4.

use std::fmt::Write;

use super::{Buckets, Counters, Family, Kind, Values};

/// `Content-Type` of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A value of the whole process, which no worker counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauge {
    /// Its Prometheus name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Now.
    pub value: f64,
}

impl Gauge {
    /// How long the process has run, under the name that dashboards know.
    pub fn uptime_seconds(value: f64) -> Gauge {
        Gauge { name: "v2v_uptime_seconds", help: "Seconds since the gateway started.", value }
    }

    /// Over how many workers the counters are summed.
    pub fn workers(workers: usize) -> Gauge {
        Gauge { name: "ringroad_workers", help: "Worker threads.", value: workers as f64 }
    }
}

/// Writes everything: the sum over workers, the gauges of the process, the version.
pub fn render(out: &mut String, total: &Counters, gauges: &[Gauge]) {
    total.visit(&mut |family, values| write_family(out, family, &values));
    for gauge in gauges {
        write_head(out, gauge.name, Kind::Gauge, "", gauge.help);
        let _ = writeln!(out, "{} {}", gauge.name, gauge.value);
    }
    write_head(out, "ringroad_build_info", Kind::Gauge, "", "Always 1; the version is a label.");
    let _ = writeln!(out, "ringroad_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
}

fn write_family(out: &mut String, family: Family, values: &Values) {
    let name = family.name;
    write_head(out, name, family.kind, family.unit, family.help);
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

fn write_head(out: &mut String, name: &str, kind: Kind, unit: &str, help: &str) {
    let unit = if unit.is_empty() { String::new() } else { format!(" Unit: {unit}.") };
    let help = format!("{help}{unit}").replace('\\', "\\\\").replace('\n', "\\n");
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
