//! Turns that do not end before the shell looks for more: what comes between their pieces is neither lost nor doubled nor
//! out of order, and nobody waits for ever.

use std::collections::BTreeMap;

use ringroad::config::Config;
use ringroad::limits;
use ringroad::sim::{ClientId, World};
use serde_json::Value;

use crate::bad_input::Random;

const SETTINGS: &str = "presence.scope = 'none'
    rate_limits.emergency_alert = { burst = 0, per_ms = 1000 }
    rate_limits.send_message = { burst = 0, per_ms = 1000 }
    rate_limits.location_update = { burst = 0, per_ms = 1000 }
    vehicles.coalesce_ms = 0
    vehicles.flush_ms = 0
    vehicles.nearby_list_ms = 0
";

fn world(shards: u16, settings: &str) -> World {
    let config: Config = toml::from_str(&format!("{SETTINGS}{settings}")).expect("known keys");
    World::new(shards, config)
}

fn register(world: &mut World, shard: usize, id: &str) -> ClientId {
    let client = world.connect(shard);
    world.send(client, &format!(r#"{{"event":"register","data":{{"vehicleId":"{id}","driverName":"x"}}}}"#));
    client
}

fn alert(id: &str, n: usize, filling: &str) -> String {
    format!(
        r#"{{"event":"emergency_alert","data":{{"senderId":"{id}","vehicleInfo":{{"n":{n},"filling":"{filling}"}}}}}}"#
    )
}

/// A fleet that only listens, so large that a broadcast to it takes several turns, and one vehicle that cries.
struct Crowd {
    world: World,
    crier: ClientId,
    readers: Vec<ClientId>,
    cries: usize,
}

impl Crowd {
    fn of(readers: usize, settings: &str) -> Crowd {
        let mut world = world(1, settings);
        let crier = register(&mut world, 0, "crier");
        let readers = (0..readers).map(|_| world.connect(0)).collect();
        world.faults.round_turns_max = 1;
        Crowd { world, crier, readers, cries: 0 }
    }

    /// Alerts come in, and the shard gets one turn.
    fn round(&mut self, cries: usize, filling: &str) {
        for _ in 0..cries {
            self.world.say(self.crier, &alert("crier", self.cries, filling));
            self.cries += 1;
        }
        self.world.round();
    }

    /// Which alerts a reader has heard since the last call.
    fn heard(world: &mut World, reader: ClientId) -> Vec<usize> {
        let number = |text: &String| {
            let event: Value = serde_json::from_str(text).expect("JSON");
            event["data"]["vehicleInfo"]["n"].as_u64().map(|n| n as usize)
        };
        world.take(reader).iter().filter_map(number).collect()
    }

    fn counted(&mut self, count: impl Fn(&ringroad::metrics::Counters) -> u64) -> u64 {
        count(self.world.counters(0))
    }
}

#[test]
fn who_waits_longest_goes_first_while_the_inputs_do_not_end() {
    let readers = 5 * limits::TURN_SENDS_MAX / 2;
    let mut crowd = Crowd::of(readers, "");
    for _ in 0..3 {
        crowd.round(1, "");
    }
    let first: Vec<Vec<usize>> = crowd.readers.iter().map(|reader| Crowd::heard(&mut crowd.world, *reader)).collect();
    assert!(first.iter().all(|heard| heard.first() == Some(&0)), "three turns are enough for all of them");
    for _ in 0..7 {
        crowd.round(1, "");
    }
    crowd.world.settle();
    for (reader, mut heard) in crowd.readers.iter().zip(first) {
        heard.extend(Crowd::heard(&mut crowd.world, *reader));
        assert!(heard.iter().copied().eq(0..10), "{heard:?}");
    }
}

/// Log bytes for laggards; while a turn does not end it holds eight times as many.
const LOG: &str = "limits.broadcast_log_bytes = 4096";

#[test]
fn a_log_that_is_never_all_sent_forgets_what_everybody_has() {
    let mut crowd = Crowd::of(limits::TURN_SENDS_MAX + 50, LOG);
    // Far more than it holds altogether, but little at a time.
    for _ in 0..40 {
        crowd.round(2, &"x".repeat(400));
    }
    crowd.world.settle();
    assert_eq!(crowd.counted(|counters| counters.slow_readers.total()), 0);
    for reader in &crowd.readers {
        assert!(Crowd::heard(&mut crowd.world, *reader).into_iter().eq(0..80));
    }
}

#[test]
fn a_laggard_has_its_bound_also_in_a_turn_that_does_not_end() {
    let mut crowd = Crowd::of(limits::TURN_SENDS_MAX + 50, LOG);
    let laggard = crowd.readers[7];
    crowd.world.stall(laggard, 100);
    for _ in 0..40 {
        crowd.round(2, &"x".repeat(400));
    }
    assert_eq!(crowd.counted(|counters| counters.slow_readers.total()), 1);
    assert_eq!(crowd.counted(|counters| counters.connections_opened), crowd.readers.len() as u64 + 1);
    crowd.world.settle();
    crowd.world.resume(laggard);
    assert_eq!(crowd.world.closed(laggard), Some((Some(4008), "slow")));
    for reader in crowd.readers.iter().filter(|reader| **reader != laggard) {
        assert!(Crowd::heard(&mut crowd.world, *reader).into_iter().eq(0..80));
    }
}

#[test]
fn more_than_can_be_told_to_all_closes_those_who_have_not_been_told() {
    let mut crowd = Crowd::of(5 * limits::TURN_SENDS_MAX / 2, LOG);
    for _ in 0..6 {
        crowd.round(7, &"x".repeat(1_900));
    }
    crowd.world.settle();
    let closed = crowd.counted(|counters| counters.slow_readers.total());
    assert_eq!(crowd.counted(|counters| counters.slow_readers.of(ringroad::shard::close::SlowIn::Log)), closed);
    let mut seen = 0;
    for reader in &crowd.readers {
        let heard = Crowd::heard(&mut crowd.world, *reader);
        let whole = heard.len() == crowd.cries;
        assert!(heard.iter().copied().eq(0..heard.len()), "nothing is left out in the middle: {heard:?}");
        match crowd.world.closed(*reader) {
            None => assert!(whole),
            why => assert_eq!((why, whole), (Some((Some(4008), "slow")), false)),
        }
        seen += u64::from(!whole);
    }
    assert!(closed == seen && 0 < closed && closed < crowd.readers.len() as u64, "{closed} and {seen}");
}

#[test]
fn who_is_spoken_to_without_end_hears_what_goes_to_everyone() {
    let mut crowd = Crowd::of(0, "");
    let busy = register(&mut crowd.world, 0, "busy");
    crowd.world.take(busy);
    // Broadcasts are not copied behind an outbox in such lengths.
    let filling = "x".repeat(1_900);
    let mut told = 0;
    for n in 0..10 {
        for _ in 0..10 {
            crowd.world.say(crowd.crier, &alert("crier", n, &filling));
        }
        for _ in 0..3 {
            crowd.world.say(crowd.crier, &format!(
                r#"{{"event":"send_message","data":{{"senderId":"crier","recipientId":"busy","content":"{told}"}}}}"#
            ));
            told += 1;
            crowd.world.round();
        }
    }
    // Without a turn that ended.
    let heard = crowd.world.take(busy);
    let alerts = heard.iter().filter(|text| text.contains("emergency_alert")).count();
    let messages: Vec<&String> = heard.iter().filter(|text| text.contains("receive_message")).collect();
    assert!(alerts >= 80, "{alerts} of 100");
    let in_order = (0..).zip(&messages).all(|(n, text)| text.contains(&format!(r#""content":"{n}""#)));
    assert!(messages.len() >= told - 3 && in_order, "{messages:?}");
}

/// What is due comes also in a turn that does not end.
#[test]
fn timers_fire_in_the_midst_of_a_turn() {
    let mut crowd = Crowd::of(3 * limits::TURN_SENDS_MAX, "vehicles.ping_ms = 1000");
    let silent = crowd.world.connect(0);
    crowd.world.advance(999);
    crowd.round(1, "");
    let pings = |world: &World| world.pings_and_pongs(silent).0;
    assert_eq!(pings(&crowd.world), 0);
    // A ping may be a 64th of its interval late.
    crowd.world.pass(1_000 / limits::REST_SLACK_PART);
    // Nothing comes in, and the turn has pieces left.
    let mut rounds = 0;
    while pings(&crowd.world) == 0 {
        rounds += 1;
        assert!(rounds <= 4 && crowd.world.round(), "the turn ended first");
    }
}

/// A reader that has just become writable again has not had its rest yet.
#[test]
fn a_listing_goes_on_if_its_time_is_looked_at_between_two_pieces() {
    let mut world = world(1, "");
    for n in 0..3_000 {
        register(&mut world, 0, &format!("car-{n}"));
    }
    let reader = world.open(0);
    world.stall(reader, 0);
    world.send_bytes(reader, b"GET /vehicles HTTP/1.1\r\nHost: sim\r\n\r\n");
    world.trickle(reader, 2 * limits::CLOSE_BYTES_MIN);
    world.pass(limits::CLOSE_MS_MAX);
    world.wake(reader);
    world.settle();
    let reply = world.reply(reader);
    assert!(reply.len() > 4 * limits::CLOSE_BYTES_MIN && reply.ends_with("]}"), "{} bytes", reply.len());
    assert_eq!(reply.matches("car-").count(), 3_000);
}

const CARS: [&str; 6] = ["car-0", "car-1", "car-2", "car-3", "car-4", "car-5"];

/// Everything that cars do, at any point of each other's turns, with readers that stall.
fn traffic(seed: u64) {
    let mut random = Random(seed);
    let shards = 1 + random.below(2);
    let mut world = world(shards as u16, "");
    let cars: Vec<ClientId> = (0..).zip(CARS).map(|(n, id)| register(&mut world, n % shards, id)).collect();
    world.faults.round_turns_max = 1 + random.below(2);
    let position = |id: &str, n: usize| {
        let lat = 48.0 + n as f64 * 1e-6;
        format!(r#"{{"event":"location_update","data":{{"vehicleId":"{id}","lat":{lat:.6},"lon":11,"ts":{n}}}}}"#)
    };
    for (car, id) in cars.iter().zip(CARS) {
        world.send(*car, &position(id, 0));
    }
    for car in &cars {
        world.take(*car);
    }
    // What each was owed: (kind, sender) to numbers.
    let mut owed: Vec<BTreeMap<(&str, &str), Vec<usize>>> = vec![BTreeMap::new(); cars.len()];
    let mut newest = [0; CARS.len()];
    for n in 1..400 {
        let (at, to) = (random.below(cars.len()), random.below(cars.len()));
        let id = CARS[at];
        match random.below(10) {
            0 | 1 => {
                world.say(cars[at], &alert(id, n, ""));
                owed.iter_mut().for_each(|owed| owed.entry(("alert", id)).or_default().push(n));
            }
            2..=4 => {
                let (recipient, content) = (CARS[to], n);
                world.say(cars[at], &format!(
                    r#"{{"event":"send_message","data":{{"senderId":"{id}","recipientId":"{recipient}","content":"{content}"}}}}"#
                ));
                owed[to].entry(("message", id)).or_default().push(n);
            }
            5..=7 => {
                world.say(cars[at], &position(id, n));
                newest[at] = n;
            }
            8 => world.stall(cars[at], random.below(300)),
            _ => world.wake(cars[at]),
        }
        for _ in 0..random.below(3) {
            world.round();
        }
    }
    for car in &cars {
        world.resume(*car);
    }
    for (at, car) in cars.iter().enumerate() {
        let mut heard: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        let mut positions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for text in world.take(*car) {
            let event: Value = serde_json::from_str(&text).expect("JSON");
            let data = &event["data"];
            let of = |key: &str| *CARS.iter().find(|id| data[key] == **id).expect("one of ours");
            match event["event"].as_str().expect("a name") {
                "emergency_alert" => {
                    let n = data["vehicleInfo"]["n"].as_u64().expect("a number") as usize;
                    heard.entry(("alert", of("senderId"))).or_default().push(n);
                }
                "receive_message" => {
                    let n = data["content"].as_str().and_then(|n| n.parse().ok()).expect("a number");
                    heard.entry(("message", of("senderId"))).or_default().push(n);
                }
                "peer_location" => {
                    positions.entry(of("vehicleId")).or_default().push(data["ts"].as_u64().expect("a time") as usize);
                }
                _ => panic!("seed {seed}: {text}"),
            }
        }
        assert_eq!(heard, owed[at], "seed {seed}: {}", CARS[at]);
        for (peer, newest) in CARS.iter().zip(newest) {
            let positions = positions.remove(peer).unwrap_or_default();
            assert!(positions.is_sorted_by(|a, b| a < b), "seed {seed}: {positions:?}");
            let expected = (*peer != CARS[at] && newest > 0).then_some(newest);
            assert_eq!(positions.last().copied(), expected, "seed {seed}: {} of {peer}", CARS[at]);
        }
    }
}

#[test]
fn inputs_at_any_point_of_a_turn_are_all_heard_in_order() {
    for seed in 0..200 {
        traffic(seed);
    }
}
