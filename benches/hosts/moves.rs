//! Positions from client to client at moderate load, real gateways between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::delays::Delays;
use crate::gateway::Gateway;
use crate::machine::{self, Others};
use crate::plan::{Probe, WEST_E7};
use crate::redis::Redis;
use crate::stage::vehicles;
use crate::table::Table;
use crate::{Extent, Verdict, until};

/// Vehicles that move, each with a listener of its own on both hosts.
const MOVERS: usize = 10;

/// How often each of them moves, per second.
const RATE: u32 = 10;

const SETTINGS: [&str; 4] = [
    "vehicles.coalesce_ms=0",
    "vehicles.nearby_list_ms=0",
    "rate_limits.location_update.burst=0",
    "presence.scope=none",
];

pub fn run(extent: Extent, redis: &Redis, verdict: &mut Verdict) {
    let moves = extent.pick(5, 15 * RATE);
    let total = moves as usize * MOVERS;
    println!("positions, {MOVERS} vehicles that move {RATE} times per second; milliseconds from client to client");
    let mut table = Table::new(["", "p50", "p99", "max", "arrived", "others %"]);
    let ticks: &[u64] = extent.pick(&[20], &[20, 5, 0]);
    for tick_ms in ticks {
        if extent == Extent::Full {
            machine::wait_for_quiet();
        }
        let ([here, there], others) = measure(redis, *tick_ms, moves);
        let ratio = there.quantile_ms(0.5) / here.quantile_ms(0.5);
        for (host, delays) in [("same host", &here), ("other host", &there)] {
            let arrived = format!("{} of {total}", delays.count());
            table.row(
                [format!("{host}, tick {tick_ms} ms")]
                    .into_iter()
                    .chain(delays.cells())
                    .chain([arrived, format!("{:.0}", others * 100.0)]),
            );
        }
        table.row([format!("  other : same, tick {tick_ms} ms"), format!("{ratio:.1}×")]);
        // A newer position may replace one that waits, if this machine stood still between two; but not many.
        let few = total - total / 20;
        verdict.demand(there.count() >= few, || format!("{} of {total} positions arrived", there.count()));
    }
    println!("{table}");
}

/// What listeners on both hosts have heard, and how much else this machine did meanwhile.
fn measure(redis: &Redis, tick_ms: u64, moves: u32) -> ([Delays; 2], f64) {
    redis.ask("FLUSHALL");
    let tick = format!("redis.position_tick_ms={tick_ms}");
    let settings: Vec<&str> = SETTINGS.into_iter().chain([&tick[..]]).collect();
    let names = ["moves-a", "moves-b"];
    let hosts = [0, 1].map(|at| redis.gateway(names[at], at, &settings));
    let stop = Arc::new(AtomicBool::new(false));
    let probes: Vec<Arc<Probe>> = (0..MOVERS)
        .map(|at| Arc::new(Probe::new(format!("mover-{at}"), (900_000, WEST_E7 + 500_000 + at as i32 * 200_000))))
        .collect();
    let heard = [0, 1].map(|_| Arc::new(Mutex::new(Delays::default())));
    let mut newest: Vec<Arc<Mutex<Option<u32>>>> = Vec::new();
    let (mut movers, mut readers, mut senders) = (Vec::new(), Vec::new(), Vec::new());
    for (at, probe) in probes.iter().enumerate() {
        for (host, heard) in heard.iter().enumerate() {
            let client = Client::place(hosts[host].addr, &format!("listener-{at}-{host}"), probe.beside(host));
            let (probe, heard, last) = (probe.clone(), heard.clone(), Arc::new(Mutex::new(None)));
            newest.push(last.clone());
            let (sender, reader) = client.listen(stop.clone(), move |event, arrived| {
                if let Some((number, delay)) = probe.heard(event, arrived) {
                    *last.lock().expect("unpoisoned") = Some(number);
                    // The first one only finds each other.
                    if number > 0 {
                        heard.lock().expect("unpoisoned").add(delay);
                    }
                }
            });
            senders.push(sender);
            readers.push(reader);
        }
        let (mover, reader) = Client::register(hosts[0].addr, &probe.id).listen(stop.clone(), |_, _| ());
        movers.push(mover);
        readers.push(reader);
    }
    let everyone = (3 * MOVERS) as u64;
    until("the hosts know all vehicles", || hosts.iter().all(|host| vehicles(host) == everyone));
    until("both hosts listen", || hosts.iter().all(|host| host.metrics().get("ringroad_backplane_squares") == 1));
    until("Redis knows it", || redis.squares() == 1);
    let all_heard = |number: u32| newest.iter().all(|newest| *newest.lock().expect("unpoisoned") == Some(number));
    let move_one = |at: usize, movers: &mut Vec<crate::client::Sender>| {
        let (lat_e7, lon_e7) = probes[at].next();
        movers[at].locate(&probes[at].id, lat_e7, lon_e7);
    };
    (0..MOVERS).for_each(|at| move_one(at, &mut movers));
    until("everyone sees its mover", || all_heard(0));
    let seconds = || redis.seconds() + hosts.iter().map(Gateway::seconds).sum::<f64>();
    let (watch, used) = (Others::watch(), seconds());
    let began = Instant::now();
    let step = Duration::from_secs(1) / RATE / MOVERS as u32;
    for number in 0..moves * MOVERS as u32 {
        thread::sleep((began + step * number).saturating_duration_since(Instant::now()));
        move_one(number as usize % MOVERS, &mut movers);
    }
    let others = watch.share(seconds() - used);
    // Whatever is replaced on the way, the newest arrives.
    until("the newest positions arrive", || all_heard(moves));
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().expect("it reads to the end"));
    drop((movers, senders));
    hosts.into_iter().for_each(Gateway::stop);
    (heard.map(|heard| std::mem::take(&mut *heard.lock().expect("unpoisoned"))), others)
}
