//! A gateway that runs for long, with readers that stall: it must not grow, and who reads must have the newest.
//!
//! Vehicles stand in groups, everyone near the others of its group, and move two times per second. Half of them speak
//! JSON, half `ringroad.v1`. Three of ten stall:
//! most pause for a while and read on; some never read again until the gateway closes them, and then come back. Alerts go
//! to everyone, so that who never reads falls behind the bound.
//!
//! Every few seconds all hold still for a *muster*: whoever reads must then come to have heard the last step of everyone
//! in its group, however long it had paused before. The gateway's resident memory is looked at every second.
//!
//! `cargo test --release --test soak -- --ignored --nocapture` is the long form; RINGROAD_SOAK_S sets its seconds.

mod dialect;
// The other tests use more of it.
#[allow(dead_code)]
#[path = "../it/gateway.rs"]
mod gateway;
#[path = "../it/patience.rs"]
mod patience;
mod vehicle;

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringroad::metrics::Label;
use ringroad::shard::close::CloseReason;
use serde_json::json;

use dialect::event;
use gateway::Gateway;
use patience::{PATIENCE, until};
use vehicle::{Habit, Random, Tally, Vehicle};

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Plan {
    groups: usize,
    seconds: u64,
    /// For laggards, per worker; it grows to twice that before it is trimmed.
    log_bytes: usize,
    /// Of all groups together.
    alert_bytes_per_s: usize,
    /// How long a vehicle reads, and how long it then pauses, seconds.
    reads_s: (f64, f64),
    pauses_s: (f64, f64),
    muster_s: u64,
    /// By how much memory may be more in the last quarter of the time than in the second.
    growth_bytes_max: u64,
}

impl Plan {
    /// A vehicle that has not read for longer may be closed for it: a good part of the log has come.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(0.6 * self.log_bytes as f64 / self.alert_bytes_per_s as f64)
    }
}

/// Minutes, and a machine of its own.
const LONG: Plan = Plan {
    groups: 100,
    seconds: 600,
    log_bytes: 256 * 1024,
    alert_bytes_per_s: 6_000,
    reads_s: (5.0, 40.0),
    pauses_s: (5.0, 20.0),
    muster_s: 20,
    // The allocator takes and gives memory in steps of 4 MiB, and the two workers' logs are between one and two times
    // their bound: two steps. Of the 600,000 updates of those five minutes not 14 bytes each may be left over.
    growth_bytes_max: 8 * 1024 * 1024,
};

/// Like the rest of the tests.
const SHORT: Plan = Plan {
    groups: 12,
    seconds: 15,
    log_bytes: 64 * 1024,
    alert_bytes_per_s: 16_000,
    reads_s: (0.3, 1.5),
    pauses_s: (0.3, 0.8),
    muster_s: 3,
    // Nothing is warm yet: each worker has 2 MiB for rendered positions, and is still filling them, beside steps as above.
    growth_bytes_max: 20 * 1024 * 1024,
};

const GROUP: usize = 10;
const TICKS_PER_S: u64 = 20;
const TICK: Duration = Duration::from_millis(1_000 / TICKS_PER_S);
/// Each vehicle moves at every tenth tick.
const TICKS_PER_STEP: u64 = 10;
/// Of one alert.
const FILLING_BYTES: usize = 1_500;
const THREADS: usize = 4;

fn habit(group: usize, at: usize) -> Habit {
    match at {
        7 | 8 => Habit::Pauses,
        9 if group.is_multiple_of(2) => Habit::Quits,
        9 => Habit::Pauses,
        _ => Habit::Reads,
    }
}

/// The groups that one thread drives.
struct Part {
    groups: Vec<Vec<Vehicle>>,
    tally: Tally,
}

impl Part {
    fn new(addr: SocketAddr, plan: &Plan, thread: usize) -> Part {
        let mut random = Random(thread as u64);
        let mut vehicle = |group, at| Vehicle::new(addr, (group, at), habit(group, at), random.within(plan.reads_s));
        let groups = (thread..plan.groups).step_by(THREADS);
        let groups = groups.map(|group| (0..GROUP).map(|at| vehicle(group, at)).collect()).collect();
        Part { groups, tally: Tally::default() }
    }

    fn vehicles(&mut self) -> impl Iterator<Item = &mut Vehicle> {
        self.groups.iter_mut().flatten()
    }

    fn drive(&mut self, addr: SocketAddr, plan: &Plan, random: &mut Random) {
        let begun = Instant::now();
        let muster_ticks = plan.muster_s * TICKS_PER_S;
        let alert_ticks = (THREADS * FILLING_BYTES) as u64 * TICKS_PER_S / plan.alert_bytes_per_s as u64;
        for tick in 1..=plan.seconds * TICKS_PER_S {
            for (at, vehicle) in self.groups.iter_mut().flatten().enumerate() {
                if vehicle.closed {
                    // Not shortly before a muster: it could miss what the others say for the last time.
                    if muster_ticks - tick % muster_ticks > TICKS_PER_S {
                        self.tally.lost += 1;
                        vehicle.come_back(addr, random.within(plan.reads_s));
                    }
                    continue;
                }
                if (tick + at as u64).is_multiple_of(TICKS_PER_STEP) {
                    vehicle.step();
                }
                vehicle.read(plan, &mut self.tally);
                vehicle.change(plan, random, &mut self.tally);
            }
            if tick.is_multiple_of(alert_ticks) {
                let group = (tick / alert_ticks) as usize % self.groups.len();
                let crier = &mut self.groups[group][0];
                let data = json!({"senderId": crier.id, "vehicleInfo": {"filling": "x".repeat(FILLING_BYTES)}});
                crier.say(event("emergency_alert", data));
            }
            if tick.is_multiple_of(muster_ticks) {
                self.muster(plan);
            }
            // When the machine has stood still, this time is not made up for.
            thread::sleep((begun + TICK * tick as u32).saturating_duration_since(Instant::now()).min(TICK));
        }
    }

    /// Everyone takes a last step, and whoever reads comes to hear of all of them.
    fn muster(&mut self, plan: &Plan) {
        self.vehicles().filter(|vehicle| !vehicle.closed).for_each(Vehicle::step);
        for group in &mut self.groups {
            // Who is overdue may have been closed and not know it.
            let known = group.iter().filter(|vehicle| !vehicle.overdue);
            let last: Vec<(String, i32)> = known.map(|vehicle| (vehicle.id.clone(), vehicle.lat_e7)).collect();
            for vehicle in group.iter_mut().filter(|vehicle| !vehicle.stalled) {
                for (id, lat_e7) in &last {
                    until(&format!("{} has heard that {id} is at {lat_e7}", vehicle.id), || {
                        vehicle.read(plan, &mut self.tally);
                        vehicle.closed || vehicle.id == *id || vehicle.heard.get(id) == Some(lat_e7)
                    });
                }
            }
        }
        self.tally.musters += 1;
    }
}

/// Resident memory of a process.
fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of its own");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples[samples.len() / 2]
}

fn soak(plan: Plan) {
    assert!(plan.pauses_s.1 < plan.patience().as_secs_f64(), "nobody who only pauses is to be closed");
    // Before the gateway starts: it inherits the limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let gateway = Gateway::start(&[&format!("limits.broadcast_log_bytes={}", plan.log_bytes)]);
    let (addr, pid) = (gateway.addr, gateway.pid());
    let mut parts: Vec<_> = (0..THREADS).map(|thread| Part::new(addr, &plan, thread)).collect();
    until("all are registered", || {
        for Part { groups, tally } in &mut parts {
            groups.iter_mut().flatten().for_each(|vehicle| vehicle.read(&plan, tally));
        }
        gateway.vehicles() == (plan.groups * GROUP) as u64
    });

    let mut rss = Vec::new();
    let begun = Instant::now();
    thread::scope(|scope| {
        for (part, seed) in parts.iter_mut().zip(100..) {
            let plan = &plan;
            scope.spawn(move || part.drive(addr, plan, &mut Random(seed)));
        }
        for second in 1..=plan.seconds {
            thread::sleep((begun + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
            rss.push(rss_bytes(pid));
        }
    });

    let sum = |count: fn(&Tally) -> u64| parts.iter().map(|part| count(&part.tally)).sum::<u64>();
    let (positions, pauses, musters, lost) =
        (sum(|tally| tally.positions), sum(|tally| tally.pauses), parts[0].tally.musters, sum(|tally| tally.lost));
    let conflated = gateway.metric("ringroad_state_conflated_total");
    let quarter = rss.len() / 4;
    let (early, late) = (median(&rss[quarter..2 * quarter]), median(&rss[3 * quarter..]));
    println!(
        "{} vehicles for {} s: {positions} positions heard, {conflated} conflated, {pauses} pauses, {musters} musters, \
         {lost} closed and back; resident {} KiB in the second quarter and {} KiB in the last",
        plan.groups * GROUP,
        plan.seconds,
        early / 1024,
        late / 1024
    );

    let closed =
        |why: CloseReason| gateway.metric(&format!("ringroad_connections_closed_total{{reason=\"{}\"}}", why.as_str()));
    let slow = closed(CloseReason::Slow);
    // Some of those who do not read have been closed and do not know it yet.
    let overdue = parts.iter_mut().flat_map(Part::vehicles).filter(|vehicle| vehicle.overdue).count() as u64;
    assert!(lost > 0 && lost <= slow && slow <= lost + overdue, "{slow} closed, {lost} back, {overdue} overdue");
    assert_eq!(gateway.metric("ringroad_slow_readers_total{queue=\"log\"}"), slow);
    // What asks for the metrics is closed as well.
    let others = CloseReason::ALL.iter().filter(|why| !matches!(why, CloseReason::Slow | CloseReason::Http));
    let others: Vec<_> = others.filter(|why| closed(**why) > 0).collect();
    assert!(others.is_empty(), "some were closed for {others:?}");
    assert_eq!(gateway.metric_sum("ringroad_errors_total") + gateway.metric_sum("ringroad_shed_total"), 0);
    assert!(pauses > lost && conflated > 0 && musters > 0, "it was not what it should have been");
    assert!(late <= early + plan.growth_bytes_max, "{early} bytes, and later {late}; every second: {rss:?}");
    drop(parts);
    gateway.stop();
}

#[test]
fn a_gateway_with_stalled_readers_does_not_grow() {
    soak(SHORT);
}

#[test]
#[ignore = "takes ten minutes"]
fn a_gateway_with_stalled_readers_does_not_grow_in_ten_minutes() {
    let seconds = std::env::var("RINGROAD_SOAK_S").map_or(LONG.seconds, |text| text.parse().expect("seconds"));
    soak(Plan { seconds, ..LONG });
}
