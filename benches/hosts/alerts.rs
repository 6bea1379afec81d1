//! Alerts from a client to clients on both hosts, real gateways between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{self, Client};
use crate::delays::Delays;
use crate::gateway::Gateway;
use crate::machine::{self, Others};
use crate::redis::Redis;
use crate::table::Table;
use crate::{Extent, Verdict, until};

/// Alerts per second.
const RATE: u32 = 100;

/// On the other host 99 of 100 must be there by then.
const TARGET_P99_MS: f64 = 15.0;

/// What is tried.
struct Trial {
    name: &'static str,
    /// Tokens of the bucket that the hosts share; 0: it is not asked.
    burst: u32,
    /// Alerts per second.
    rate: u32,
    alerts: u32,
    /// Further clients of the sender's host.
    crowd: usize,
}

pub fn run(extent: Extent, redis: &Redis, verdict: &mut Verdict) {
    let plain = Trial { name: "", burst: 0, rate: RATE, alerts: extent.pick(RATE / 2, RATE * 12), crowd: 0 };
    let shared = Trial { name: ", asks the shared bucket", burst: 1_000_000, ..plain };
    let (rate, alerts) = extent.pick((RATE, 20), (20, 200));
    let crowded = Trial { name: ", 2,000 clients on the sender's", rate, alerts, crowd: 2_000, ..plain };
    println!(
        "alerts, {RATE} per second, {} of each, {alerts} with a crowd; milliseconds from client to client",
        plain.alerts
    );
    let mut table = Table::new(["", "p50", "p99", "max", "lost", "doubled", "others %"]);
    for trial in [plain, shared, crowded].iter().filter(|trial| extent == Extent::Full || trial.crowd == 0) {
        let (name, alerts) = (trial.name, trial.alerts);
        if extent == Extent::Full {
            machine::wait_for_quiet();
        }
        let ([here, there], others) = measure(redis, trial);
        let ratio = there.delays.quantile_ms(0.5) / here.delays.quantile_ms(0.5);
        for (host, heard) in [("same host", &here), ("other host", &there)] {
            let cells =
                [heard.lost(alerts) as f64, heard.doubled as f64, others * 100.0].map(|cell| format!("{cell:.0}"));
            table.row([format!("{host}{name}")].into_iter().chain(heard.delays.cells()).chain(cells));
            verdict.demand(heard.lost(alerts) == 0, || format!("{} alerts lost, {host}{name}", heard.lost(alerts)));
            verdict.demand(heard.doubled == 0, || format!("{} alerts came twice, {host}{name}", heard.doubled));
        }
        table.row([format!("  other : same{name}"), format!("{ratio:.1}×")]);
        if extent == Extent::Full {
            let p99 = there.delays.quantile_ms(0.99);
            verdict.wish(p99 <= TARGET_P99_MS, || format!("p99 {p99:.2} ms > {TARGET_P99_MS} ms{name}"));
        }
    }
    println!("{table}");
}

/// What one listener has heard.
#[derive(Default)]
struct Heard {
    delays: Delays,
    seen: Vec<bool>,
    doubled: usize,
}

impl Heard {
    fn lost(&self, alerts: u32) -> usize {
        alerts as usize - self.seen.iter().filter(|seen| **seen).count()
    }
}

/// What listeners on both hosts have heard, and how much else this machine did meanwhile.
fn measure(redis: &Redis, trial: &Trial) -> ([Heard; 2], f64) {
    redis.ask("FLUSHALL");
    let &Trial { burst, rate, alerts, crowd, .. } = trial;
    let settings = [format!("rate_limits.emergency_alert.burst={burst}"), "presence.scope=none".to_owned()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let hosts = ["alerts-a", "alerts-b"];
    let hosts = [0, 1].map(|at| redis.gateway(hosts[at], at, &settings));
    for host in &hosts {
        until("the hosts know each other", || host.metrics().get("v2v_ws_process_count") == 2);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let crowd = (crowd > 0).then(|| client::crowd(hosts[0].addr, crowd, stop.clone()));
    let (mut sender, sender_reads) = Client::register(hosts[0].addr, "sender").listen(stop.clone(), |_, _| ());
    let mut heard = Vec::new();
    let mut readers: Vec<_> = crowd.into_iter().chain([sender_reads]).collect();
    for (at, host) in hosts.iter().enumerate() {
        let mine = Arc::new(Mutex::new(Heard { seen: vec![false; alerts as usize], ..Heard::default() }));
        let (sent, all) = (sent.clone(), mine.clone());
        let client = Client::register(host.addr, &format!("listener-{at}"));
        let (_, reader) = client.listen(stop.clone(), move |event, arrived| {
            let Some(number) = alert_number(event) else { return };
            let sent = sent.lock().expect("nobody panics with it")[number];
            let mut mine = all.lock().expect("nobody panics with it");
            if std::mem::replace(&mut mine.seen[number], true) {
                mine.doubled += 1;
            } else {
                mine.delays.add(arrived - sent);
            }
        });
        heard.push(mine);
        readers.push(reader);
    }
    let seconds = || redis.seconds() + hosts.iter().map(Gateway::seconds).sum::<f64>();
    let (watch, used) = (Others::watch(), seconds());
    let began = Instant::now();
    for number in 0..alerts {
        let due = began + Duration::from_secs(1) * number / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.lock().expect("nobody panics with it").push(Instant::now());
        sender.send(&alert("sender", number));
    }
    let others = watch.share(seconds() - used);
    // What has not come by then is lost; so late, the deadline does not fail the run but the figure.
    let deadline = Instant::now() + Duration::from_secs(5);
    let is_complete = || heard.iter().all(|heard| heard.lock().expect("unpoisoned").lost(alerts) == 0);
    while !is_complete() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    // One that were to come a second time would have been sent a second time.
    let repeated: u64 = hosts.iter().map(|host| host.metrics().get("ringroad_backplane_alerts_repeated_total")).sum();
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().expect("it reads to the end"));
    drop(sender);
    hosts.into_iter().for_each(Gateway::stop);
    let mut heard = heard.into_iter().map(|heard| std::mem::take(&mut *heard.lock().expect("unpoisoned")));
    let [here, mut there] = [heard.next().expect("two"), heard.next().expect("two")];
    there.doubled += repeated as usize;
    ([here, there], others)
}

/// An `emergency_alert` with a number in it.
pub fn alert(sender: &str, number: u32) -> String {
    format!(r#"{{"event":"emergency_alert","data":{{"senderId":"{sender}","vehicleInfo":{{"number":{number}}}}}}}"#)
}

/// The number in one that was heard.
pub fn alert_number(event: &Value) -> Option<usize> {
    (event["event"] == "emergency_alert").then(|| event["data"]["vehicleInfo"]["number"].as_u64())?.map(|n| n as usize)
}
