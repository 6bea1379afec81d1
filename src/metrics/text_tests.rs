//! The exposition is read back by a small reader that knows the format and nothing of the writer.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::metrics::{Label, PerLabel};
use crate::shard::close::CloseReason;
use crate::wire::error::ErrorCode;

/// What a scraper would know: family to type, series (name and labels) to value.
#[derive(Debug, Default)]
struct Exposition {
    types: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Reads the format, and fails at the first line that is not of it.
fn read(text: &str) -> Result<Exposition, String> {
    let mut all = Exposition::default();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    if !text.ends_with('\n') {
        return Err("no newline at the end".into());
    }
    for line in text.lines() {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(help) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = help.split_once(' ') else { return wrong("help without text") };
            if !is_name(name) || help.is_empty() || !helped.insert(name.to_owned()) {
                return wrong("bad or second help");
            }
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = kind.split_once(' ') else { return wrong("type without kind") };
            if !["counter", "gauge", "histogram"].contains(&kind) || !helped.contains(name) {
                return wrong("bad type");
            }
            if all.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                return wrong("second type");
            }
            current = name.to_owned();
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let Some((name, unit)) = unit.split_once(' ') else { return wrong("unit without text") };
            // OpenMetrics 1.0, "Unit": "the metric family name MUST have the unit as a suffix", which of counters is
            // the name without `_total`.
            let is_suffix = name.strip_suffix("_total").unwrap_or(name).ends_with(&format!("_{unit}"));
            if name != current || !is_suffix || all.units.insert(name.to_owned(), unit.to_owned()).is_some() {
                return wrong("bad unit");
            }
        } else {
            let Some((series, value)) = line.rsplit_once(' ') else { return wrong("no value") };
            let Ok(value) = value.parse::<f64>() else { return wrong("bad value") };
            let name = series.split('{').next().unwrap_or_default();
            let labels = &series[name.len()..];
            let labels_are_fine = labels.is_empty()
                || labels.strip_prefix('{').and_then(|rest| rest.strip_suffix("\"}")).is_some_and(|inner| {
                    inner.split_once("=\"").is_some_and(|(label, text)| is_name(label) && !text.contains(['"', '\\']))
                });
            if !is_name(name) || !labels_are_fine {
                return wrong("bad series");
            }
            let histogram = all.types.get(&current).is_some_and(|kind| kind == "histogram");
            let suffixes: &[&str] = if histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            if !suffixes.iter().any(|suffix| name == format!("{current}{suffix}")) {
                return wrong("series outside its family");
            }
            if all.series.insert(series.to_owned(), value).is_some() {
                return wrong("second series");
            }
        }
    }
    Ok(all)
}

fn rendered(counters: &Counters) -> Exposition {
    exposed(&[(ShardId(0), counters.clone())])
}

fn exposed(workers: &[(ShardId, Counters)]) -> Exposition {
    let mut text = String::new();
    render(&mut text, workers, &[Gauge::uptime_seconds(12.5), Gauge::workers(2)]);
    read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn every_line_is_of_the_format() {
    let all = rendered(&Counters::default());
    assert_eq!(all.series["v2v_uptime_seconds"], 12.5);
    assert_eq!(all.units["v2v_uptime_seconds"], "seconds");
    assert_eq!(all.units["ringroad_received_bytes_total"], "bytes");
    assert_eq!(all.series["ringroad_workers"], 2.0);
    assert_eq!(all.series[concat!("ringroad_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
}

#[test]
fn the_reader_refuses_what_is_not_of_the_format() {
    let head = "# HELP a b\n# TYPE a counter\n";
    for tail in [
        "a",
        "a x\n",
        "b 1\n",
        "a 1\na 1\n",
        "a{b=c} 1\n",
        "a{b=\"c\" 1\n",
        "# TYPE a counter\n",
        "a-b 1\n",
        "# UNIT a ms\n",
    ] {
        read(&format!("{head}{tail}")).expect_err(tail);
    }
    read(&format!("{head}a 1\n")).expect("right");
}

#[test]
fn names_that_dashboards_know_are_there_with_their_types() {
    let all = rendered(&Counters::default());
    let known = [
        ("v2v_messages_total", "counter"),
        ("v2v_emergencies_total", "counter"),
        ("v2v_call_sessions_total", "counter"),
        ("v2v_active_vehicles", "gauge"),
        ("v2v_uptime_seconds", "gauge"),
        ("v2v_spatial_candidates_examined", "counter"),
        ("v2v_spatial_candidates_within_radius", "counter"),
        ("v2v_location_updates_received", "counter"),
        ("v2v_location_updates_processed", "counter"),
        ("v2v_location_updates_coalesced", "counter"),
        ("v2v_message_delivery_latency_ms", "histogram"),
        ("v2v_pubsub_messages_published", "counter"),
        ("v2v_pubsub_messages_consumed", "counter"),
        ("v2v_pubsub_replay_skipped", "counter"),
        ("v2v_ws_process_count", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
    ];
    for (name, kind) in known {
        assert_eq!(all.types.get(name).map(String::as_str), Some(kind), "{name}");
    }
    for name in all.types.keys() {
        assert!(name.starts_with("ringroad_") || known.iter().any(|(known, _)| known == name), "{name}");
    }
}

#[test]
fn our_counters_end_in_total_and_gauges_do_not() {
    for (name, kind) in rendered(&Counters::default()).types {
        if name.starts_with("ringroad_") {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        }
    }
}

#[test]
fn the_histogram_is_cumulative() {
    let mut total = Counters::default();
    [0, 1, 10, 11, 400, 6000].into_iter().for_each(|ms| total.delivery_latency_ms.observe(ms));
    let all = rendered(&total);
    let name = "v2v_message_delivery_latency_ms";
    let bounds = ["0", "10", "50", "100", "250", "500", "1000", "2000", "5000", "+Inf"];
    let buckets = bounds.map(|bound| all.series[&format!("{name}_bucket{{le=\"{bound}\"}}")]);
    assert_eq!(buckets, [1.0, 3.0, 4.0, 4.0, 4.0, 5.0, 5.0, 5.0, 5.0, 6.0]);
    assert_eq!(all.series[&format!("{name}_count")], 6.0);
    assert_eq!(all.series[&format!("{name}_sum")], 6422.0);

    [30, 60, 2_500, 20_000].into_iter().for_each(|us| total.shell.turn_ms.observe(us));
    let all = rendered(&total);
    let buckets = ["0.05", "0.1", "2.5", "10", "25", "1000", "+Inf"]
        .map(|bound| all.series[&format!("ringroad_turn_ms_bucket{{le=\"{bound}\"}}")]);
    assert_eq!(buckets, [1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    assert_eq!(all.series["ringroad_turn_ms_sum"], 22.59);
}

#[test]
fn the_sum_over_workers_is_exposed() {
    let mut one = Counters { messages: 1, active_vehicles: 1, ..Counters::default() };
    one.closes.increment(CloseReason::Slow);
    one.errors.add(ErrorCode::RateLimited, 3);
    one.delivery_latency_ms.observe(20);
    one.shell.busy_percent = 7;
    let two = Counters { connections_open: 4, ..one.clone() };
    let all = exposed(&[(ShardId(0), one), (ShardId(1), two)]);
    assert_eq!(all.series["ringroad_worker_connections{worker=\"0\"}"], 0.0);
    assert_eq!(all.series["ringroad_worker_connections{worker=\"1\"}"], 4.0);
    assert_eq!(all.series["ringroad_worker_busy_percent{worker=\"1\"}"], 7.0);
    assert_eq!(all.series["ringroad_busy_percent"], 14.0);
    assert_eq!(all.series["v2v_messages_total"], 2.0);
    assert_eq!(all.series["v2v_active_vehicles"], 2.0);
    assert_eq!(all.series["ringroad_connections_closed_total{reason=\"slow\"}"], 2.0);
    assert_eq!(all.series["ringroad_errors_total{code=\"rate_limited\"}"], 6.0);
    assert_eq!(all.series["v2v_message_delivery_latency_ms_sum"], 40.0);
}

#[test]
fn label_values_are_plain_and_all_exposed() {
    fn plain<E: Label>() {
        let texts: BTreeSet<_> = E::ALL.iter().map(|label| label.label()).collect();
        assert_eq!(texts.len(), E::ALL.len(), "no two are alike");
        for text in texts {
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{text}");
        }
        assert_eq!(PerLabel::<E>::default().iter().count(), E::ALL.len());
        assert!(E::ALL.iter().enumerate().all(|(position, label)| label.index() == position));
    }
    plain::<CloseReason>();
    plain::<ErrorCode>();
    plain::<crate::shard::close::ShedReason>();
    plain::<crate::shard::close::SlowIn>();
    plain::<crate::shard::census::ConnState>();
    plain::<crate::wire::json::EventKind>();
}
