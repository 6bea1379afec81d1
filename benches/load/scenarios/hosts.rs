//! Two servers that share a Redis, and a city of which each has every second vehicle: what a delivery costs, half of them
//! from one server to the other.

use std::time::Duration;

use crate::client::{Fleet, drive, fleet};
use crate::contender::{RINGROAD, SOCKET_IO};
use crate::machine::{self, Others};
use crate::places::ring_road;
use crate::redis::{self, Redis};
use crate::stage::{SETTINGS, Stage, grouped, percent, table};

const VEHICLES: usize = 1_000;

/// Updates per second and vehicle. The second server shares its processor with Redis and with the client.
const HZ: f64 = 1.0;

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let Some(version) = redis::version(redis::PROGRAM) else {
        return stage.say(format!("hosts: left out, {} is not installed\n", redis::PROGRAM));
    };
    let city = ring_road(extent.pick(60, VEHICLES));
    let count = city.at.len();
    stage.say(format!("hosts: {count} vehicles at {HZ} Hz, every second one on the other of two servers; {version}"));
    let rows = stage.rounds(&[&RINGROAD, &SOCKET_IO], |contender, _| {
        let redis = Redis::start();
        let url = redis.url();
        let setting = format!("redis.url={url}");
        let settings: Vec<&str> = SETTINGS.iter().copied().chain([&setting[..]]).collect();
        let start = |number| contender.start_with(number, &settings, &[("REDIS_URL", &url)]);
        let servers = [start(0)?, start(1)?];
        let addrs = [servers[0].addr, servers[1].addr];
        let mut fleet = Fleet::connect(&addrs, contender.talk, count, fleet::POLITE)?;
        fleet.place(city.at.clone(), city.neighbours.clone());
        // Each server learns which squares the other one's vehicles see into; then everyone moves once more.
        fleet.rest(Duration::from_millis(500));
        drive::positions(&mut fleet, count as f64 * HZ, extent.pick(1.0, 2.0));
        let seconds = || [servers[0].seconds(), servers[1].seconds(), redis.seconds()];
        let (before, others) = (seconds(), Others::watch());
        let client_s = machine::process_seconds(std::process::id());
        let driven = drive::positions(&mut fleet, count as f64 * HZ, extent.pick(0.5, 5.0));
        let after = seconds();
        let client_s = machine::process_seconds(std::process::id()) - client_s;
        let [one, other, redis_s] = std::array::from_fn(|at| after[at] - before[at]);
        let others = others.share(one + other + redis_s);
        drop(fleet);
        servers.into_iter().for_each(|server| drop(server.terminate()));
        let (lost, mut heard) = (driven.lost(), driven.heard);
        if heard.errors + heard.closed + heard.wrong > 0 || driven.withheld > 0 {
            let (errors, closed, wrong) = (heard.errors, heard.closed, heard.wrong);
            return Err(format!("{errors} errors, {closed} closed, {wrong} wrong, {} late", driven.withheld));
        }
        let came = heard.positions as f64;
        let [p50, p99] = [0.5, 0.99].map(|share| heard.quantile_ms(share));
        let each = |seconds: f64| seconds * 1e6 / came;
        Ok([
            came / driven.seconds,
            lost as f64,
            each(one + other),
            each(redis_s),
            p50,
            p99,
            client_s / driven.seconds,
            others,
        ])
    });
    let head =
        ["deliveries/s", "lost", "servers' µs each", "Redis's µs each", "p50 ms", "p99 ms", "client %", "others %"];
    let table = table(&head, &rows, |[rate, lost, servers_us, redis_us, p50, p99, client, others]| {
        let mut cells = vec![grouped(*rate), grouped(*lost)];
        cells.extend([servers_us, redis_us].map(|each_us| format!("{each_us:.2}")));
        cells.extend([p50, p99].map(|ms| format!("{ms:.1}")));
        cells.extend([client, others].map(|share| percent(*share)));
        cells
    });
    stage.say(table);
}
