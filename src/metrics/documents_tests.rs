//! What is written about the metrics, and what is built on them, speaks of those that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::turn::ShardId;

/// What the documents may speak of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    name: String,
    kind: String,
    label: String,
    unit: String,
    help: String,
}

/// Every family, read back from what a scrape gets.
fn exposed() -> Vec<Told> {
    let mut text = String::new();
    let gauges = [Gauge::uptime_seconds(1.0), Gauge::workers(1)];
    render(&mut text, &[(ShardId(0), Counters::default())], &gauges);
    let mut all: Vec<Told> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => all.push(Told {
                name: name.to_owned(),
                kind: String::new(),
                label: String::new(),
                unit: String::new(),
                help: help.to_owned(),
            }),
            ["#", "TYPE", _, kind] => all.last_mut().expect("help first").kind = kind.to_owned(),
            ["#", "UNIT", _, unit] => all.last_mut().expect("help first").unit = unit.to_owned(),
            _ => {
                let labels = line.split_once('{').and_then(|(_, labels)| labels.split_once('='));
                if let Some((label, _)) = labels.filter(|(label, _)| *label != "le") {
                    all.last_mut().expect("help first").label = label.to_owned();
                }
            }
        }
    }
    all
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(docs().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn the_document_says_of_every_metric_what_the_code_says_and_of_no_other() {
    let text = read("METRICS.md");
    let mut told = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, unit, help, advice] = cells[..] else { panic!("not five cells: {line}") };
        assert!(!advice.is_empty(), "nothing to do with it: {line}");
        let (kind, label) = kind.split_once(" by ").unwrap_or((kind, ""));
        let [name, label] = [name, label].map(|text| text.trim_matches('`').to_owned());
        let one = Told { name, kind: kind.into(), label, unit: unit.into(), help: help.into() };
        assert!(told.insert(one), "twice: {line}");
    }
    let exposed: BTreeSet<Told> = exposed().into_iter().collect();
    let (missing, unknown): (Vec<_>, Vec<_>) =
        (exposed.difference(&told).collect(), told.difference(&exposed).collect());
    assert!(missing.is_empty() && unknown.is_empty(), "docs/METRICS.md lacks {missing:#?}\nand invents {unknown:#?}");
}

/// Names in a PromQL expression that would be metrics of ours.
fn names_in(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["ringroad_", "v2v_", "process_"].iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// Checks that an expression names metrics, that all of them exist, and histograms by a series that they have.
fn holds_to_what_exists(expression: &str) {
    let all = exposed();
    let names = names_in(expression);
    assert!(!names.is_empty() || expression.starts_with("up"), "it asks for nothing of ours: {expression}");
    for name in names {
        let plain = all.iter().any(|told| told.name == name && told.kind != "histogram");
        let in_histogram = ["_bucket", "_sum", "_count"].iter().any(|suffix| {
            let family = name.strip_suffix(suffix);
            family.is_some_and(|family| all.iter().any(|told| told.name == family && told.kind == "histogram"))
        });
        assert!(plain || in_histogram, "no metric {name}: {expression}");
    }
    // Labels that are asked for exist in one of the families.
    for by in expression.split(" by (").skip(1) {
        for label in by.split(')').next().unwrap_or_default().split(',').map(str::trim) {
            let known = ["le", "instance", "job"].contains(&label) || all.iter().any(|told| told.label == label);
            assert!(known, "no label {label}: {expression}");
        }
    }
}

/// Every `expr` of a dashboard, however deep.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("monitoring/grafana.json")).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() >= 20, "{}", found.len());
    found.iter().for_each(|expression| holds_to_what_exists(expression));
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has its id");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_say_what_to_do() {
    let text = read("monitoring/alerts.yml");
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 10, "{}", alerts.len());
    for alert in alerts {
        let expression = alert.lines().find_map(|line| line.trim().strip_prefix("expr: ")).expect("on one line");
        holds_to_what_exists(expression);
        for part in ["for: ", "labels: {severity: ", "summary: ", "action: "] {
            assert!(alert.lines().any(|line| line.trim().starts_with(part)), "no {part}in {alert}");
        }
    }
}

#[test]
fn a_metric_that_does_not_exist_is_noticed() {
    for expression in
        ["rate(ringroad_bogus_total[1m])", "ringroad_turn_ms", "1", "sum by (bogus) (ringroad_connections)"]
    {
        std::panic::catch_unwind(|| holds_to_what_exists(expression)).expect_err(expression);
    }
    holds_to_what_exists("histogram_quantile(0.99, sum by (le) (rate(ringroad_turn_ms_bucket[5m])))");
}
