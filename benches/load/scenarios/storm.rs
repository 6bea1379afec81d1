//! Everyone comes at once.

use std::time::Instant;

use crate::client::Fleet;
use crate::contender::{BUN, NODE_WS, PATH_EPOLL, PATH_TASKS, RINGROAD, SOCKET_IO};
use crate::stage::{Meter, SETTINGS, Stage, Trial, grouped, percent, table, times};

const VEHICLES: usize = 15_000;

pub fn run(stage: &mut Stage) {
    let vehicles = stage.extent.pick(100, VEHICLES);
    stage.say(format!("storm: {} connect, upgrade and register at once", grouped(vehicles as f64)));
    let rows = stage.rounds(&[&RINGROAD, &PATH_EPOLL, &PATH_TASKS, &BUN, &NODE_WS, &SOCKET_IO], |contender, _| {
        let server = contender.start(0, &SETTINGS)?;
        let meter = Meter::start(&server);
        let began = Instant::now();
        let fleet = Fleet::connect(&[server.addr], contender.talk, vehicles, vehicles)?;
        let seconds = began.elapsed().as_secs_f64();
        let costs = meter.costs(&server);
        Trial { server, fleet }.close();
        Ok([seconds, costs.server_s * 1e6 / vehicles as f64, costs.server, costs.client, costs.others])
    });
    let first = rows.first().and_then(|row| row.figures.as_ref().ok()).map_or(f64::NAN, |figures| figures[0]);
    let head = ["seconds", "to the first", "µs each", "server %", "client %", "others %"];
    let table = table(&head, &rows, |[seconds, each_us, shares @ ..]| {
        let mut cells = vec![format!("{seconds:.2}"), times(*seconds, first), format!("{each_us:.0}")];
        cells.extend(shares.map(percent));
        cells
    });
    stage.say(table);
}
