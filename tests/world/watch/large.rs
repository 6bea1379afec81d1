//! Views of more than one send holds, changed while they are on their way.

use std::collections::{BTreeMap, BTreeSet};

use ringroad::config::Config;
use ringroad::sim::{ClientId, Heard, World};
use ringroad::turn::Ended;
use ringroad::wire::slim::{self, COMPLETE, SUBPROTOCOL};
use ringroad::wire::state::{FLAG_GONE, key};
use serde_json::Value;

use crate::bad_input::Random;

const SETTINGS: &str = "presence.scope = 'none'
    vehicles.coalesce_ms = 0
    viewers.area_km2_max = 1000000
    viewers.requests = { burst = 0, per_ms = 1 }
    rate_limits.location_update = { burst = 0, per_ms = 1 }";

/// Vehicles in a row, two kilometres from each other.
const ROW: usize = 25;

/// Some hundred vehicles, and somebody who watches rows of them.
struct Large {
    world: World,
    /// The driver of each, unless it has left, and how often it has moved.
    fleet: Vec<(Option<ClientId>, usize)>,
    by_key: BTreeMap<u64, usize>,
    viewer: ClientId,
    epoch: u64,
    /// What the viewer believes to be in view, and how often that had moved.
    held: BTreeMap<usize, usize>,
    newest: BTreeMap<usize, usize>,
    named: BTreeSet<usize>,
    /// Epochs that were complete.
    complete: Vec<u16>,
    /// How many states it was sent.
    states: usize,
}

impl Large {
    fn new(count: usize, protocol: Option<&str>) -> Large {
        let mut world = World::new(1, toml::from_str::<Config>(SETTINGS).expect("known keys"));
        let fleet: Vec<_> = (0..count).map(|_| (Some(world.connect(0)), 0)).collect();
        let viewer = match protocol {
            Some(protocol) => world.connect_with(0, protocol),
            None => world.connect(0),
        };
        let by_key = (0..count).map(|number| (key(&format!("veh-{number}")), number)).collect();
        let mut large = Large {
            world,
            fleet,
            by_key,
            viewer,
            epoch: 0,
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
            named: BTreeSet::new(),
            complete: Vec::new(),
            states: 0,
        };
        for number in 0..count {
            let data = format!(r#"{{"vehicleId":"veh-{number}","driverName":"A driver of whom much is to be said"}}"#);
            large.say(number, &format!(r#"{{"event":"register","data":{data}}}"#));
            large.moves(number, 0);
        }
        large.world.settle();
        large
    }

    fn say(&mut self, number: usize, text: &str) {
        if let Some(driver) = self.fleet[number].0 {
            self.world.say(driver, text);
        }
    }

    /// A vehicle reports that it has moved so often, within its place in its row.
    fn moves(&mut self, number: usize, times: usize) {
        self.fleet[number].1 = times;
        let (lat, lon) = (row(number) as f64 * 0.02 + 48.0, (number % ROW) as f64 * 0.02 + 11.0);
        let data = format!(
            r#"{{"vehicleId":"veh-{number}","lat":{},"lon":{lon},"speed":{}}}"#,
            lat + (times % 2) as f64 * 1e-4,
            times as f64 / 50.0
        );
        self.say(number, &format!(r#"{{"event":"location_update","data":{data}}}"#));
    }

    /// The viewer watches rows.
    fn views(&mut self, rows: std::ops::Range<usize>) {
        self.epoch += 1;
        let (south, north) = (rows.start as f64 * 0.02 + 47.99, rows.end as f64 * 0.02 + 47.99);
        let data = format!(r#"{{"south":{south},"west":10,"north":{north},"east":13}}"#);
        self.world.send(self.viewer, &format!(r#"{{"event":"view","data":{data}}}"#));
    }

    /// Who is in some rows.
    fn within(&self, rows: &std::ops::Range<usize>) -> BTreeMap<usize, usize> {
        let all = self.fleet.iter().enumerate();
        all.filter(|(number, (driver, _))| driver.is_some() && rows.contains(&row(*number)))
            .map(|(number, (_, times))| (number, *times))
            .collect()
    }

    /// Takes in what the viewer has heard.
    fn listen(&mut self) {
        for heard in self.world.take_heard(self.viewer) {
            match heard {
                Heard::Text(text) => {
                    let event: Value = serde_json::from_str(&text).expect("JSON");
                    let id = event["data"]["vehicleId"].as_str().and_then(|id| id.strip_prefix("veh-")?.parse().ok());
                    match (event["event"].as_str(), id) {
                        (Some("vehicle_identity"), Some(number)) => {
                            assert!(self.named.insert(number), "{number} is named twice");
                        }
                        (Some("peer_location"), Some(number)) => {
                            let speed = event["data"]["speed"].as_f64().expect("a speed");
                            self.hears(number, (speed * 50.0).round() as usize);
                        }
                        (Some("peer_gone"), Some(number)) => self.loses(number),
                        (Some("connected" | "watching"), None) => {}
                        _ => panic!("{text}"),
                    }
                }
                Heard::Binary(frame) => {
                    let (header, states) = slim::states(&frame).expect("valid").expect("states");
                    for state in states {
                        let number = self.by_key[&state.key];
                        assert!(self.named.contains(&number), "{number} has no name yet");
                        if state.flags & FLAG_GONE == 0 {
                            self.hears(number, usize::from(state.speed));
                        } else {
                            self.loses(number);
                        }
                    }
                    if header.flags & COMPLETE != 0 {
                        self.complete.push(header.epoch);
                    }
                }
            }
        }
    }

    fn hears(&mut self, number: usize, times: usize) {
        self.states += 1;
        assert!(self.newest.insert(number, times) <= Some(times), "an older state of {number}");
        self.held.insert(number, times);
    }

    fn loses(&mut self, number: usize) {
        assert!(self.held.remove(&number).is_some(), "{number} has gone, and was not there");
    }
}

fn row(number: usize) -> usize {
    number / ROW
}

#[test]
fn a_view_that_is_replaced_while_it_is_told_becomes_the_new_one() {
    for protocol in [Some(SUBPROTOCOL), None] {
        let mut large = Large::new(700, protocol);
        large.world.stall(large.viewer, 1_000);
        large.views(0..20);
        large.views(10..28);
        let mut pieces = 0;
        while large.held != large.within(&(10..28)) {
            large.world.trickle(large.viewer, 15_000);
            large.world.advance(5);
            large.listen();
            pieces += 1;
            assert!(pieces < 100, "{} in view, complete {:?}", large.held.len(), large.complete);
        }
        assert!(pieces > 3, "{pieces} pieces");
        large.world.resume(large.viewer);
        large.listen();
        assert_eq!(large.complete, if protocol.is_some() { vec![2] } else { vec![] });
        // Of the first view, what one send holds was on its way; of the second, nothing comes twice.
        let all = large.within(&(0..28)).len();
        assert!((451..=all).contains(&large.states), "{} states", large.states);
        large.views(0..28);
        large.world.advance(20);
        large.listen();
        assert!(large.held == large.within(&(0..28)), "{} in view", large.held.len());
    }
}

#[test]
fn however_it_is_cut_and_changed_it_ends_as_it_should() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let mut large = Large::new(600, [Some(SUBPROTOCOL), None][random.below(2)]);
        let mut rows = 0..24;
        large.views(rows.clone());
        large.world.stall(large.viewer, random.below(80_000));
        for step in 1..25 {
            match random.below(4) {
                0 => {
                    let from = random.below(20);
                    rows = from..from + 1 + random.below(24);
                    large.views(rows.clone());
                }
                1 => {
                    for _ in 0..10 {
                        if let Some(driver) = large.fleet[random.below(600)].0.take() {
                            large.world.hang_up(driver, Ended::Eof);
                        }
                    }
                }
                2 => (0..600).step_by(1 + random.below(20)).for_each(|number| large.moves(number, step)),
                _ => large.world.advance(random.below(50) as u64),
            }
            large.world.trickle(large.viewer, random.below(30_000));
            large.listen();
        }
        large.world.resume(large.viewer);
        large.world.advance(20);
        large.listen();
        let expected = large.within(&rows);
        assert!(large.held == expected, "seed {seed}: {} in view, not {}", large.held.len(), expected.len());
        assert!(
            large.complete.is_sorted() && large.complete.iter().collect::<BTreeSet<_>>().len() == large.complete.len()
        );
        assert!(large.complete.is_empty() || large.complete.last().map(|epoch| u64::from(*epoch)) == Some(large.epoch));
    }
}
