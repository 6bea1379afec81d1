//! Positions that nobody is near enough to be told of: what receiving one costs.

use crate::contender::{BUN, FLOOR_RECV, NODE_WS, PATH_EPOLL, PATH_TASKS, RINGROAD, RINGROAD_V1};
use crate::places::apart;
use crate::stage::{Meter, Stage, Trial, figure, grouped, percent, table, times};

const VEHICLES: usize = 8_000;

/// Updates per second, of all vehicles together.
const RATES: [f64; 2] = [50_000.0, 150_000.0];

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let places = apart(extent.pick(100, VEHICLES));
    for &rate in extent.pick(&[1_000.0][..], &RATES) {
        stage.say(format!("ingest: {} vehicles, {} updates/s, nobody near", places.at.len(), grouped(rate)));
        let contenders = [&FLOOR_RECV, &RINGROAD, &RINGROAD_V1, &PATH_EPOLL, &PATH_TASKS, &BUN, &NODE_WS];
        let rows = stage.rounds(&contenders, |contender, _| {
            let mut trial = Trial::place(contender, &[], &places)?;
            let meter = Meter::start(&trial.server);
            let driven = crate::client::drive::positions(&mut trial.fleet, rate, extent.pick(0.3, 4.0));
            // Shares are those of the drive; what it has left to do is in the cost of each.
            let during = meter.costs(&trial.server);
            trial.rest();
            let server_s = meter.costs(&trial.server).server_s;
            trial.close();
            let heard = &driven.heard;
            if heard.errors + heard.closed > 0 {
                return Err(format!("{} errors, {} closed", heard.errors, heard.closed));
            }
            let sent = driven.sent as f64;
            let withheld = driven.withheld as f64;
            Ok([sent / driven.seconds, withheld, server_s * 1e6 / sent, during.server, during.client, during.others])
        });
        let floor = figure(&rows, &FLOOR_RECV, 2);
        let head = ["updates/s", "not sent in time", "µs each", "to the floor", "server %", "client %", "others %"];
        let table = table(&head, &rows, |[rate, withheld, each_us, server, client, others]| {
            let mut cells = vec![grouped(*rate), grouped(*withheld), format!("{each_us:.2}"), times(*each_us, floor)];
            cells.extend([server, client, others].map(|share| percent(*share)));
            cells
        });
        stage.say(table);
    }
}
