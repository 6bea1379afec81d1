//! Views of more than one send holds, on lines that are thinner than what moves in them.

use std::collections::{BTreeMap, BTreeSet};

use ringroad::config::Config;
use ringroad::sim::{ClientId, Heard, World};
use ringroad::turn::Ended;
use ringroad::wire::slim::{self, COMPLETE};
use ringroad::wire::state::{FLAG_GONE, key};

const SETTINGS: &str = "presence.scope = 'none'
    vehicles.coalesce_ms = 0
    rate_limits.location_update = { burst = 0, per_ms = 1000 }";

/// A view of all of them.
const ALL: &str = r#""south":47,"west":10,"north":50,"east":13"#;

struct Fleet {
    world: World,
    drivers: Vec<ClientId>,
}

impl Fleet {
    /// Vehicles two kilometres from each other, in rows of 25.
    fn new(count: usize, settings: &str) -> Fleet {
        let config: Config = toml::from_str(&format!("{SETTINGS}\n{settings}")).expect("known keys");
        let mut world = World::new(1, config);
        let drivers: Vec<ClientId> = (0..count).map(|_| world.connect(0)).collect();
        for (number, driver) in drivers.iter().enumerate() {
            let data = format!(r#"{{"vehicleId":"veh-{number}","driverName":"A driver of whom much is to be said"}}"#);
            world.say(*driver, &format!(r#"{{"event":"register","data":{data}}}"#));
        }
        let mut fleet = Fleet { world, drivers };
        fleet.move_all(0);
        fleet
    }

    /// Everybody is so many metres north of where it began.
    fn move_all(&mut self, metres: usize) {
        for (number, driver) in self.drivers.iter().enumerate() {
            let (lat, lon) =
                (48.0 + (number / 25) as f64 * 0.02 + metres as f64 * 1e-5, 11.0 + (number % 25) as f64 * 0.02);
            let data = format!(r#"{{"vehicleId":"veh-{number}","lat":{lat},"lon":{lon},"speed":{metres}}}"#);
            self.world.say(*driver, &format!(r#"{{"event":"location_update","data":{data}}}"#));
        }
        self.world.settle();
    }

    /// The `speed` with which each vehicle was heard of, in order.
    fn heard_in_json(&mut self, viewer: ClientId) -> BTreeMap<String, Vec<u64>> {
        let mut heard = BTreeMap::<String, Vec<u64>>::new();
        for text in self.world.take(viewer) {
            let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            if event["event"] == "peer_location" {
                let id = event["data"]["vehicleId"].as_str().expect("an id").to_owned();
                heard.entry(id).or_default().push(event["data"]["speed"].as_f64().expect("a speed") as u64);
            }
        }
        heard
    }
}

#[test]
fn a_pace_holds_for_a_view_of_several_sends() {
    let mut fleet = Fleet::new(700, "");
    let viewer = fleet.world.connect(0);
    fleet.world.send(viewer, &format!(r#"{{"event":"view","data":{{{ALL},"maxHz":1}}}}"#));
    assert_eq!(fleet.heard_in_json(viewer).len(), 700);
    fleet.world.advance(2_000);

    fleet.world.stall(viewer, 1_000);
    fleet.move_all(1);
    fleet.move_all(2);
    fleet.world.resume(viewer);
    let heard = fleet.heard_in_json(viewer);
    let (older, newer): (Vec<_>, Vec<_>) = heard.values().partition(|speeds| **speeds == [1]);
    assert!(newer.iter().all(|speeds| **speeds == [2]), "each once: {heard:?}");
    assert!(older.len() > 300 && newer.len() > 100, "{} and {}", older.len(), newer.len());
    assert_eq!(heard.len(), 700);

    fleet.world.advance(990);
    assert_eq!(fleet.heard_in_json(viewer), BTreeMap::new(), "before its time");
    fleet.world.advance(20);
    let heard = fleet.heard_in_json(viewer);
    assert_eq!(heard.len(), older.len(), "those that had moved again, and no others");
    assert!(heard.values().all(|speeds| *speeds == [2]), "{heard:?}");
}

#[test]
fn a_snapshot_becomes_complete_however_much_moves_and_leaves_meanwhile() {
    let mut fleet = Fleet::new(700, "");
    let viewer = fleet.world.connect_with(0, slim::SUBPROTOCOL);
    fleet.world.stall(viewer, 1_000);
    fleet.world.send(viewer, &format!(r#"{{"event":"view","data":{{{ALL}}}}}"#));
    let keys: Vec<u64> = (0..700).map(|number| key(&format!("veh-{number}"))).collect();
    let (mut in_view, mut left) = (BTreeSet::new(), BTreeSet::new());
    for step in 1.. {
        assert!(step < 20, "still not complete, with {} in view", in_view.len());
        // One of those that the reader has heard of leaves, and one that it has not.
        for number in [step, 700 - step] {
            fleet.world.hang_up(fleet.drivers[number], Ended::Eof);
            left.insert(keys[number]);
        }
        fleet.move_all(step);
        fleet.world.trickle(viewer, 20_000);
        let frames = fleet.world.take_heard(viewer).into_iter().filter_map(|heard| match heard {
            Heard::Binary(frame) => Some(frame),
            Heard::Text(_) => None,
        });
        let mut complete = false;
        for frame in frames {
            let (header, states) = slim::states(&frame).expect("valid").expect("states");
            complete |= header.flags & COMPLETE != 0;
            for state in states {
                let is_news =
                    if state.flags & FLAG_GONE == 0 { in_view.insert(state.key) } else { in_view.remove(&state.key) };
                assert!(is_news, "the snapshot has nobody twice, and who goes was there");
            }
        }
        if complete {
            break;
        }
    }
    for (number, key) in keys.iter().enumerate() {
        assert!(in_view.contains(key) || left.contains(key), "veh-{number} is missing");
    }
}

#[test]
fn a_turn_ends_although_many_watch_and_nobody_misses_anything() {
    let mut fleet = Fleet::new(300, "viewers.nearest = 100");
    let viewers: Vec<ClientId> = (0..350).map(|_| fleet.world.connect_with(0, slim::SUBPROTOCOL)).collect();
    for viewer in &viewers {
        fleet.world.say(*viewer, &format!(r#"{{"event":"view","data":{{{ALL}}}}}"#));
    }
    fleet.world.settle();
    let cuts = |fleet: &mut Fleet| fleet.world.counters(0).settles_cut;
    let before = cuts(&mut fleet);
    fleet.world.advance(1_000);
    assert!(cuts(&mut fleet) > before, "all of them choose in the same millisecond");
    viewers.iter().for_each(|viewer| drop(fleet.world.take_heard(*viewer)));
    fleet.world.advance(500);

    let before = cuts(&mut fleet);
    fleet.move_all(1);
    assert!(cuts(&mut fleet) > before + 1, "300 that move, each before 350 viewers");
    fleet.world.advance(40);
    for viewer in &viewers {
        assert_eq!(states(fleet.world.take_heard(*viewer)), 100, "the nearest");
    }
    fleet.world.advance(1_000);
    for viewer in &viewers {
        assert_eq!(states(fleet.world.take_heard(*viewer)), 200, "and the others, once");
    }
}

fn states(heard: Vec<Heard>) -> usize {
    let frames = heard.iter().filter_map(|heard| match heard {
        Heard::Binary(frame) => slim::states(frame).expect("valid"),
        Heard::Text(_) => None,
    });
    frames.map(|(header, _)| usize::from(header.count)).sum()
}

#[test]
fn what_was_there_before_one_looked_says_nothing_about_the_way() {
    let mut fleet = Fleet::new(2_100, "");
    fleet.world.advance(30_000);
    let viewer = fleet.world.connect_with(0, slim::SUBPROTOCOL);
    fleet.world.send(viewer, &format!(r#"{{"event":"view","data":{{{ALL}}}}}"#));
    assert_eq!(states(fleet.world.take_heard(viewer)), 2_100);
    assert_eq!(fleet.world.counters(0).peer_locations, 2_100);
    assert_eq!(fleet.world.counters(0).delivery_latency_ms.count(), 0);

    fleet.world.advance(100);
    let before = fleet.world.counters(0).state_frames;
    fleet.move_all(1);
    let heard = fleet.world.take_heard(viewer);
    assert_eq!(heard.len(), 2, "as many as one frame may have, and the rest");
    assert_eq!(fleet.world.counters(0).state_frames - before, 2);
    assert_eq!(states(heard), 2_100);
    let latency = &fleet.world.counters(0).delivery_latency_ms;
    assert_eq!((latency.count(), latency.sum_ms()), (2_100, 0.0));
}
