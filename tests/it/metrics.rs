//! What an operator sees of a gateway: series that add up, in a format that Prometheus's own tool reads.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client::{Client, dial};
use crate::fleet::Fleet;
use crate::gateway::Gateway;
use crate::until;

/// promtool, given arguments and input; `None` if it is not installed. Exit code and what it says.
fn promtool(args: &[&str], input: &str) -> Option<(Option<i32>, String)> {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: promtool is not installed (Debian package prometheus)");
        return None;
    };
    // It may have ended without reading.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let done = child.wait_with_output().expect("our child");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    Some((done.status.code(), said))
}

#[test]
fn connections_are_told_apart_by_state_and_workers_add_up() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 6);
    let count = fleet.vehicles.len() as u64;
    let _slim = Client::connect_slim(gateway.addr);
    let _half_open = dial(gateway.addr);
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(1.0, 2.0);
        vehicle.text("nonsense");
        vehicle.sync();
    }
    until("all are there", || {
        let state = |state| gateway.metric(&format!("ringroad_connections{{state=\"{state}\"}}"));
        (state("json"), state("slim"), state("handshake"), state("listing")) == (count, 1, 1, 1)
    });
    let role = |role| gateway.metric(&format!("ringroad_clients{{role=\"{role}\"}}"));
    assert_eq!((role("vehicle"), role("viewer"), role("idle")), (count, 0, 1));
    assert_eq!(gateway.metric("ringroad_upgrades_total{dialect=\"slim\"}"), 1);
    assert_eq!(gateway.metric("ringroad_messages_out_total{event=\"registered\"}"), count);
    assert_eq!(gateway.metric("ringroad_commands_total{event=\"location_update\"}"), count);
    assert_eq!(gateway.metric("ringroad_commands_total{event=\"register\"}"), count);
    assert_eq!(gateway.metric_sum("ringroad_worker_vehicles"), count);
    assert_eq!(gateway.metric_sum("ringroad_worker_messages_in_total"), gateway.metric("ringroad_messages_in_total"));
    // Fleets have vehicles on both workers.
    assert!(gateway.metric("ringroad_worker_vehicles{worker=\"0\"}") < count);
    assert_eq!(gateway.metric("ringroad_outbox_bytes"), 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("it runs");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let bytes = kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") * 1_024;
    let told = gateway.metric("process_resident_memory_bytes");
    assert!((bytes / 2..bytes * 2).contains(&told), "{told} of {bytes}");
}

#[test]
fn work_shows_as_processor_time() {
    let gateway = Gateway::start(&[]);
    let mut client = Client::connect(gateway.addr).register("car-1");
    until("a millisecond of work is seen", || {
        client.sync();
        gateway.metric("ringroad_cpu_ms_total") > 0
    });
    // Of one scrape: the workers go on meanwhile.
    let text = gateway.get("/metrics").body;
    let total = text.lines().find_map(|line| line.strip_prefix("ringroad_cpu_ms_total ")).expect("the sum");
    assert_eq!(Gateway::sum_in(&text, "ringroad_worker_cpu_ms_total").to_string(), total);
}

/// Names that earlier servers chose, and milliseconds, are style; it exits with 3 for those and 1 for what it cannot read.
#[test]
fn prometheus_reads_what_is_exposed() {
    let gateway = Gateway::start(&[]);
    let text = gateway.get("/metrics").body;
    if let Some((code, said)) = promtool(&["check", "metrics"], &text) {
        assert!(matches!(code, Some(0 | 3)), "{code:?}: {said}");
        let style = |line: &str| {
            line.contains("abbreviated units")
                || line.contains("\"_total\" suffix")
                || line.contains("\"_count\" suffix")
        };
        let other: Vec<&str> = said.lines().filter(|line| !line.is_empty() && !style(line)).collect();
        assert!(other.is_empty(), "{other:?}");
        let ours = said.lines().filter(|line| line.starts_with("ringroad_") && !line.contains("abbreviated units"));
        assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn prometheus_reads_the_rules() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring/alerts.yml");
    let rules = rules.to_str().expect("UTF-8");
    if let Some((code, said)) = promtool(&["check", "rules", rules], "") {
        assert_eq!(code, Some(0), "{said}");
    }
}

/// Series of one host, as promtool writes them (value `a+bxn`: from a, b more each of n minutes), and the one alert that
/// fires then.
const INCIDENTS: [(&str, &[(&str, &str)]); 8] = [
    ("RingroadDown", &[("up{job=\"ringroad\",instance=\"a\"}", "1x5 0x30")]),
    ("RingroadFleetLost", &[("v2v_active_vehicles{instance=\"a\"}", "1000x26 300x10")]),
    (
        "RingroadUneven",
        &[
            ("ringroad_worker_busy_percent{instance=\"a\",worker=\"0\"}", "97x60"),
            ("ringroad_worker_busy_percent{instance=\"a\",worker=\"1\"}", "9x60"),
        ],
    ),
    (
        "RingroadClientsIdle",
        &[
            ("ringroad_clients{instance=\"a\",role=\"idle\"}", "600x60"),
            ("ringroad_clients{instance=\"a\",role=\"vehicle\"}", "400x60"),
        ],
    ),
    ("RingroadShedding", &[("ringroad_shed_total{instance=\"a\",reason=\"mesh_backlog\"}", "0+5x60")]),
    (
        "RingroadRedisAway",
        &[
            ("ringroad_backplane_workers_up{instance=\"a\"}", "1x60"),
            ("ringroad_workers{instance=\"a\"}", "2x60"),
            ("v2v_ws_process_count{instance=\"a\"}", "1x60"),
        ],
    ),
    // It was away already when the gateway started.
    (
        "RingroadRedisAway",
        &[
            ("ringroad_backplane_workers_up{instance=\"a\"}", "0x60"),
            ("ringroad_workers{instance=\"a\"}", "2x60"),
            ("v2v_ws_process_count{instance=\"a\"}", "0x60"),
            ("ringroad_links_down_total{instance=\"a\"}", "0+20x60"),
        ],
    ),
    (
        "RingroadSlowDelivery",
        &[
            ("v2v_message_delivery_latency_ms_bucket{instance=\"a\",le=\"250\"}", "0+50x60"),
            ("v2v_message_delivery_latency_ms_bucket{instance=\"a\",le=\"500\"}", "0+100x60"),
            ("v2v_message_delivery_latency_ms_bucket{instance=\"a\",le=\"+Inf\"}", "0+100x60"),
        ],
    ),
];

/// A file for `promtool test rules`: after half an hour of these series, exactly these alerts fire.
fn rules_test(series: &[(&str, &str)], firing: Option<&str>) -> String {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring/alerts.yml");
    let mut text = format!("rule_files: ['{}']\ntests:\n- interval: 1m\n  input_series:\n", rules.display());
    for (name, values) in series {
        text.push_str(&format!("  - series: '{name}'\n    values: '{values}'\n"));
    }
    let expected = firing.map_or("[]".to_owned(), |name| format!("[{{labels: '{{alertname=\"{name}\"}}', value: 1}}]"));
    text.push_str("  promql_expr_test:\n  - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n");
    text.push_str(&format!("    eval_time: 30m\n    exp_samples: {expected}\n"));
    text
}

#[test]
fn alerts_fire_in_the_incidents_that_they_are_for_and_not_on_a_good_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("test.yml");
    let good_day: &[(&str, &str)] = &[
        ("up{job=\"ringroad\",instance=\"a\"}", "1x60"),
        ("v2v_active_vehicles{instance=\"a\"}", "1000x60"),
        ("ringroad_clients{instance=\"a\",role=\"vehicle\"}", "1000x60"),
        ("ringroad_clients{instance=\"a\",role=\"viewer\"}", "40x60"),
        ("ringroad_clients{instance=\"a\",role=\"idle\"}", "10x60"),
        ("ringroad_worker_busy_percent{instance=\"a\",worker=\"0\"}", "60x60"),
        ("ringroad_worker_busy_percent{instance=\"a\",worker=\"1\"}", "40x60"),
        ("ringroad_shed_total{instance=\"a\",reason=\"mesh_backlog\"}", "7x60"),
        // It has no Redis.
        ("ringroad_backplane_workers_up{instance=\"a\"}", "0x60"),
        ("ringroad_workers{instance=\"a\"}", "2x60"),
        ("v2v_ws_process_count{instance=\"a\"}", "0x60"),
        ("ringroad_links_down_total{instance=\"a\"}", "0x60"),
    ];
    let incidents = INCIDENTS.iter().map(|(name, series)| (Some(*name), *series));
    for (firing, series) in incidents.chain([(None, good_day)]) {
        std::fs::write(&path, rules_test(series, firing)).expect("written");
        let Some((code, said)) = promtool(&["test", "rules", path.to_str().expect("UTF-8")], "") else { return };
        assert_eq!(code, Some(0), "{firing:?}: {said}");
    }
    // And promtool notices if one does not.
    std::fs::write(&path, rules_test(good_day, Some("RingroadDown"))).expect("written");
    assert_eq!(promtool(&["test", "rules", path.to_str().expect("UTF-8")], "").map(|(code, _)| code), Some(Some(1)));
}
