//! More vehicles in a larger city: what a delivery costs must not grow with them.
//!
//! All sizes have the same number of updates, so few that each delivery is a send of its own: what is sent together would
//! make the smaller city cheaper. The floor sends as much to as many connections, and what it costs grows with the kernel's own
//! memory per connection.

use crate::client::drive;
use crate::contender::{Contender, FLOOR_SEND, PATH_EPOLL, PATH_TASKS, RINGROAD, RINGROAD_V1};
use crate::places::{Places, ring_road};
use crate::stage::{Costs, Meter, Stage, Trial, grouped, percent, table, times};

/// How many there are, as dense each time.
const VEHICLES: [usize; 3] = [1_000, 4_000, 16_000];

/// Updates per second, all vehicles together, whatever their number.
const RATE: f64 = 1_000.0;

/// What a gateway does that is never too busy to send at once.
const SETTINGS: [&str; 1] = ["vehicles.flush_busy_ms=0"];

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let sizes = extent.pick([40, 60, 80], VEHICLES);
    let rate = extent.pick(500.0, RATE);
    let cities = sizes.map(ring_road);
    stage.say(format!("scale: {} updates/s in all, {}; 31 neighbours each", grouped(rate), SETTINGS[0]));
    let contenders = [&RINGROAD, &RINGROAD_V1, &FLOOR_SEND, &PATH_EPOLL, &PATH_TASKS];
    let rows = stage.rounds(&contenders, |contender, _| {
        let mut figures = [0.0; 6];
        for (at, city) in cities.iter().enumerate() {
            let seconds = extent.pick(0.3, 4.0);
            let one = if contender.talk == FLOOR_SEND.talk { sends } else { deliveries };
            let (each_us, costs) = one(contender, city, rate, seconds)?;
            figures[at] = each_us;
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

/// What a delivery costs, µs.
fn deliveries(contender: &Contender, city: &Places, rate: f64, seconds: f64) -> Result<(f64, Costs), String> {
    let mut trial = Trial::place(contender, &SETTINGS, city)?;
    let measured = trial.drive(rate, seconds);
    trial.close();
    match measured.flaw() {
        Some(flaw) => Err(format!("{} vehicles: {flaw}", city.at.len())),
        None => Ok((measured.each_us(), measured.costs)),
    }
}

/// What a bare send to one of as many connections costs, µs.
fn sends(contender: &Contender, city: &Places, _rate: f64, seconds: f64) -> Result<(f64, Costs), String> {
    let mut trial = Trial::open(contender, &[], city.at.len())?;
    drive::alerts(&mut trial.fleet, seconds / 4.0);
    let meter = Meter::start(&trial.server);
    let (_, _, heard) = drive::alerts(&mut trial.fleet, seconds);
    let costs = meter.costs(&trial.server);
    trial.close();
    Ok((costs.server_s * 1e6 / heard.alerts as f64, costs))
}
