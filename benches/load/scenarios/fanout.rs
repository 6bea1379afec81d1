//! One alert to everyone, and then the next.

use crate::client::drive;
use crate::contender::{BUN, BUN_CORK, FLOOR_SEND, NODE_WS, PATH_EPOLL, PATH_TASKS, RINGROAD, SOCKET_IO};
use crate::stage::{Meter, Stage, Trial, figure, grouped, percent, table, times};

/// Connections that are told.
const EVERYONE: [usize; 2] = [1_000, 10_000];

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    for &everyone in extent.pick(&[50][..], &EVERYONE) {
        stage.say(format!("fanout: alerts to {} connections", grouped(everyone as f64)));
        let contenders = [&FLOOR_SEND, &RINGROAD, &PATH_EPOLL, &PATH_TASKS, &BUN, &BUN_CORK, &NODE_WS, &SOCKET_IO];
        let rows = stage.rounds(&contenders, |contender, _| {
            let mut trial = Trial::open(contender, &[], everyone)?;
            // Once before it counts, so that everything has been touched.
            drive::alerts(&mut trial.fleet, 0.1);
            let meter = Meter::start(&trial.server);
            let (raised, seconds, heard) = drive::alerts(&mut trial.fleet, extent.pick(0.2, 3.0));
            let costs = meter.costs(&trial.server);
            trial.close();
            let owed = raised * everyone as u64;
            if heard.alerts != owed || heard.errors + heard.closed > 0 {
                let (came, errors, closed) = (heard.alerts, heard.errors, heard.closed);
                return Err(format!("{came} of {owed} came, {errors} errors, {closed} closed"));
            }
            let sends = heard.alerts as f64;
            Ok([sends / seconds, sends / costs.server_s, costs.server, costs.client, costs.others])
        });
        let floor = [0, 1].map(|column| figure(&rows, &FLOOR_SEND, column));
        let head = ["sends/s", "to the floor", "per CPU second", "to the floor", "server %", "client %", "others %"];
        let table = table(&head, &rows, |[rate, per_second, server, client, others]| {
            let mut cells = vec![grouped(*rate), times(*rate, floor[0])];
            cells.extend([grouped(*per_second), times(*per_second, floor[1])]);
            cells.extend([server, client, others].map(|share| percent(*share)));
            cells
        });
        stage.say(table);
    }
}
