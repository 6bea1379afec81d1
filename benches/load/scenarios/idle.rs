//! Many vehicles that have registered and say nothing: memory and rest.

use std::time::{Duration, Instant};

use crate::client::{Fleet, fleet};
use crate::contender::{BUN, NODE_WS, PATH_EPOLL, PATH_TASKS, RINGROAD, SOCKET_IO};
use crate::facts;
use crate::stage::{Meter, SETTINGS, Stage, Trial, grouped, percent, table, times};

const VEHICLES: usize = 15_000;

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let vehicles = extent.pick(100, VEHICLES);
    stage.say(format!("idle: {} registered vehicles", grouped(vehicles as f64)));
    let rows = stage.rounds(&[&RINGROAD, &PATH_EPOLL, &PATH_TASKS, &BUN, &NODE_WS, &SOCKET_IO], |contender, _| {
        let server = contender.start(0, &SETTINGS)?;
        // One comes and goes first, so that what everyone needs once is there.
        drop(Fleet::connect(&[server.addr], contender.talk, 1, 1)?);
        let empty_bytes = facts::resident_bytes(server.id()) as f64;
        let fleet = Fleet::connect(&[server.addr], contender.talk, vehicles, fleet::POLITE)?;
        let mut trial = Trial { server, fleet };
        trial.rest();
        let full_bytes = facts::resident_bytes(trial.server.id()) as f64;
        let meter = Meter::start(&trial.server);
        let (began, rest) = (Instant::now(), extent.pick(Duration::from_millis(200), Duration::from_secs(10)));
        while began.elapsed() < rest {
            trial.fleet.poll(50);
        }
        let costs = meter.costs(&trial.server);
        let closed = trial.fleet.take_heard().closed;
        trial.close();
        if closed > 0 {
            return Err(format!("{closed} closed"));
        }
        Ok([(full_bytes - empty_bytes) / vehicles as f64, empty_bytes, full_bytes, costs.server, costs.others])
    });
    let first = rows.first().and_then(|row| row.figures.as_ref().ok()).map_or(f64::NAN, |figures| figures[0]);
    let head = ["bytes per vehicle", "to the first", "empty MB", "full MB", "server % at rest", "others %"];
    let table = table(&head, &rows, |[each, empty, full, server, others]| {
        let mut cells = vec![grouped(*each), times(*each, first)];
        cells.extend([empty, full].map(|bytes| format!("{:.1}", bytes / 1e6)));
        cells.extend([format!("{:.2}", server * 100.0), percent(*others)]);
        cells
    });
    stage.say(table);
}
