//! Viewers of a whole city: what each position that they are shown costs beside the city itself.

use crate::contender::{Contender, PATH_EPOLL, PATH_TASKS, RINGROAD, RINGROAD_V1};
use crate::places::ring_road;
use crate::stage::{Stage, Trial, grouped, percent, table};

const VEHICLES: usize = 4_000;
const VIEWERS: usize = 100;

/// Updates per second and vehicle.
const HZ: f64 = 1.0;

/// An area that holds all of them.
const EVERYTHING: &str = r#"{"south":29.5,"west":-98.5,"north":31.0,"east":-97.0}"#;

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let (vehicles, viewers) = extent.pick((60, 3), (VEHICLES, VIEWERS));
    let city = ring_road(vehicles);
    stage.say(format!("viewers: {viewers} that see all of {} vehicles, {HZ} Hz", grouped(vehicles as f64)));
    let contenders: [&'static Contender; 4] = [&RINGROAD, &RINGROAD_V1, &PATH_EPOLL, &PATH_TASKS];
    let rows = stage.rounds(&contenders, |contender, _| {
        let mut trial = Trial::place(contender, &[], &city)?;
        let (rate, seconds) = (vehicles as f64 * HZ, extent.pick(0.3, 4.0));
        let without = trial.drive(rate, seconds);
        let server = trial.server.addr;
        trial.fleet.add_viewers(&[server], viewers, EVERYTHING)?;
        // They are shown everything once first.
        trial.rest();
        let mut with = trial.drive(rate, seconds);
        trial.close();
        if let Some(flaw) = without.flaw().or(with.flaw()) {
            return Err(flaw);
        }
        let shown = (with.driven.owed - without.driven.owed) as f64;
        let more_us = (with.costs.server_s - without.costs.server_s) * 1e6 / shown;
        let heard = &mut with.driven.heard;
        let [p50, p99] = [0.5, 0.99].map(|share| heard.quantile_ms(share));
        let costs = with.costs;
        Ok([shown / with.driven.seconds, more_us, p50, p99, costs.server, costs.client, costs.others])
    });
    let head = ["to viewers/s", "µs each", "p50 ms", "p99 ms", "server %", "client %", "others %"];
    let table = table(&head, &rows, |[rate, more_us, p50, p99, shares @ ..]| {
        let mut cells = vec![grouped(*rate), format!("{more_us:.2}"), format!("{p50:.1}"), format!("{p99:.1}")];
        cells.extend(shares.map(percent));
        cells
    });
    stage.say(table);
}
