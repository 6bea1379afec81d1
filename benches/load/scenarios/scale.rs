//! More vehicles in a larger city: what a delivery costs must not grow with them.

use crate::contender::{Contender, PATH_EPOLL, PATH_TASKS, RINGROAD, RINGROAD_V1};
use crate::places::ring_road;
use crate::stage::{Stage, Trial, grouped, percent, table, times};

/// How many there are, as dense each time.
const VEHICLES: [usize; 3] = [1_000, 4_000, 16_000];

/// Updates per second, all vehicles together, whatever their number.
const RATE: f64 = 6_000.0;

/// A pace would let few vehicles' positions be sent together and many vehicles' not.
const SETTINGS: [&str; 1] = ["vehicles.flush_ms=0"];

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let sizes = extent.pick([40, 60, 80], VEHICLES);
    let rate = extent.pick(500.0, RATE);
    let cities = sizes.map(ring_road);
    stage.say(format!("scale: {} updates/s in all, {}; 31 neighbours each", grouped(rate), SETTINGS[0]));
    let contenders: [&'static Contender; 4] = [&RINGROAD, &RINGROAD_V1, &PATH_EPOLL, &PATH_TASKS];
    let rows = stage.rounds(&contenders, |contender, _| {
        let mut figures = [0.0; 6];
        for (at, city) in cities.iter().enumerate() {
            let mut trial = Trial::place(contender, &SETTINGS, city)?;
            let measured = trial.drive(rate, extent.pick(0.3, 4.0));
            trial.close();
            if let Some(flaw) = measured.flaw() {
                return Err(format!("{} vehicles: {flaw}", city.at.len()));
            }
            figures[at] = measured.each_us();
            let costs = measured.costs;
            for (most, share) in figures[3..].iter_mut().zip([costs.server, costs.client, costs.others]) {
                *most = most.max(share);
            }
        }
        Ok(figures)
    });
    let heads = sizes.map(|size| format!("{} µs each", grouped(size as f64)));
    let head = [&heads[0][..], &heads[1], &heads[2], "last to first", "server %", "client %", "others %"];
    let table = table(&head, &rows, |[few, some, many, shares @ ..]| {
        let mut cells: Vec<String> = [few, some, many].map(|each_us| format!("{each_us:.2}")).to_vec();
        cells.push(times(*many, *few));
        cells.extend(shares.map(percent));
        cells
    });
    stage.say(table);
}
