//! More vehicles around than one may have as neighbours: whom it has, and what a large crowd costs.

use std::collections::BTreeSet;

use ringroad::config::Config;
use ringroad::geo::Place;
use ringroad::geo::distance::metres;
use ringroad::limits;
use ringroad::metrics::Counters;
use ringroad::sim::{ClientId, World};
use ringroad::turn::Ended;

use crate::bad_input::Random;
use crate::proximity::PLAIN;
use crate::script::Play;

/// Every vehicle may have two neighbours. 0.001° of latitude is 111 m.
#[track_caller]
fn two_each(script: &str) {
    Play::default().run(PLAIN).run("set vehicles.neighbours_max = 2").run(script);
}

#[test]
fn a_vehicle_has_the_nearest_and_changes_for_one_that_is_nearer_by_a_fifth() {
    two_each(
        "a registers; b registers; c registers; d registers
         a at 48 11; b at 48.001 11; c at 48.0022 11
         a< connected, registered a, enter b 111, peer b 48.001 11, enter c 245, peer c 48.0022 11
         forget
         d at 48.0004 11
         d< enter a 44, enter b 67
         a< exit c, enter d 44, peer d 48.0004 11
         b< exit c, enter d 67, peer d 48.0004 11
         c< nothing
         d at 48.0006 11
         a b< peer d 48.0006 11
         c d< nothing
         +998ms
         a b c d< nothing
         +1ms
         c< nothing
         +1ms
         c< exit a, enter d 178, peer d 48.0006 11 (-1000ms)
         a b d< nothing
         +10s
         a b c d< nothing
         count ringroad_connections_closed_total = 0",
    );
}

#[test]
fn who_leaves_exits_at_once_and_the_place_is_filled_at_the_next_choice() {
    for leaving in ["b hangs up", "b at 48.1 11"] {
        two_each(
            &"a registers; b registers; c registers; d registers
              a at 48 11; b at 48.001 11; c at 48.002 11; d at 48.003 11
              +2s
              forget
              LEAVING
              a c d< exit b
              +1s
              a< enter d 334, peer d 48.003 11 (-3000ms)
              c< enter a 222, peer a 48 11 (-3000ms)
              d< enter a 334, peer a 48 11 (-3000ms)
              +10s
              a c d< nothing"
                .replace("LEAVING", leaving),
        );
    }
}

#[test]
fn a_vehicle_that_stands_still_chooses_all_the_same() {
    two_each(
        "a registers; b registers; c registers; d registers
         a at 48 11; b at 48.001 11; c at 48.0021 11; d at 48.004 11
         +5s
         forget
         d at 48.0003 11
         a b c d< nothing
         +1s
         a< exit c, enter d 33, peer d 48.0003 11 (-1000ms)
         b< exit c, enter d 78, peer d 48.0003 11 (-1000ms)
         c< nothing
         d< exit c, enter a 33, peer a 48 11 (-6000ms)
         +10s
         a b c d< nothing",
    );
}

#[test]
fn a_new_connection_is_told_of_those_whom_the_vehicle_has() {
    let crowd = "shards 2
        a@0 registers; b@0 registers; c@0 registers; d@1 registers
        a at 48 11; b at 48.001 11; c at 48.002 11; d at 48.0025 11
        +2s
        forget";
    two_each(&format!(
        "{crowd}\na2@0 registers as a\na2< connected, registered a, enter b 111, enter c 222\n+2s\na2< nothing"
    ));
    two_each(&format!(
        "{crowd}\na2@1 registers as a\na2< connected, registered a, enter b 111, enter c 222\n+2s\na2< nothing"
    ));
    // Whoever has it keeps it.
    two_each(&format!(
        "{crowd}\na2@1 registers as a\nb c d< nothing\na2 at 48.0001 11\nb< peer a 48.0001 11\nd< nothing"
    ));
}

#[test]
fn the_list_is_of_neighbours() {
    Play::default().run(
        "set presence.scope = 'none'
         set vehicles.neighbours_max = 1
         a registers; b registers; c registers
         a at 48 11; b at 48.001 11; c at 48.003 11
         +1s
         forget
         +1s
         b at 48.002 11
         +1001ms
         a< peer b 48.002 11 (-1001ms)
         b< exit a, enter c 111, peer c 48.003 11 (-3001ms), list(c 111)
         c< peer b 48.002 11 (-1001ms)
         +29s
         a< list(b 222), ping",
    );
}

#[test]
fn presence_of_those_near_is_told_to_those_who_have_them() {
    Play::default().run(
        "set presence.scope = 'nearby'
         set vehicles.nearby_list_ms = 0
         set vehicles.neighbours_max = 2
         a registers; b registers; c registers; d registers
         a at 48 11; b at 48.001 11; c at 48.002 11; d at 48.003 11
         +2s
         forget
         d hangs up
         a b< nothing
         c< offline d (-2000ms), exit d
         a hangs up
         b< offline a (-2000ms), exit a
         c< nothing
         +1s
         b< nothing
         c< nothing",
    );
}

/// A fleet in a world of its own: who is where, and whom each has been told near.
struct Depot {
    world: World,
    vehicles: Vec<Parked>,
    most: usize,
}

struct Parked {
    client: ClientId,
    e7: (i32, i32),
    told: BTreeSet<usize>,
}

/// Degrees (1e-7) of a metre at the equator, either way, a little more than one.
const METRE_E7: f64 = 90.0;

impl Depot {
    /// Registered, and nowhere yet.
    fn new(count: usize, shards: usize, most: usize) -> Depot {
        let config: Config = toml::from_str(&format!(
            "vehicles = {{ nearby_list_ms = 0, coalesce_ms = 0, flush_ms = 0, neighbours_max = {most} }}
             presence.scope = 'none'
             rate_limits.location_update = {{ burst = 0, per_ms = 1 }}"
        ))
        .expect("known keys");
        let world = World::new(shards as u16, config);
        let mut depot = Depot { world, vehicles: Vec::new(), most };
        for v in 0..count {
            depot.meet(v % shards);
        }
        depot
    }

    /// Another vehicle registers. Which one it is.
    fn meet(&mut self, shard: usize) -> usize {
        let v = self.vehicles.len();
        let client = self.world.connect(shard);
        let register = format!(r#"{{"event":"register","data":{{"vehicleId":"veh-{v}","driverName":"x"}}}}"#);
        self.world.send(client, &register);
        self.vehicles.push(Parked { client, e7: (0, 0), told: BTreeSet::new() });
        v
    }

    /// A vehicle reports that it is so many metres north and east of the middle. Nobody has a turn yet.
    fn put(&mut self, v: usize, (north_m, east_m): (f64, f64)) {
        let e7 = ((north_m * METRE_E7).round() as i32, (east_m * METRE_E7).round() as i32);
        self.vehicles[v].e7 = e7;
        let (lat, lon) = (f64::from(e7.0) / 1e7, f64::from(e7.1) / 1e7);
        let text =
            format!(r#"{{"event":"location_update","data":{{"vehicleId":"veh-{v}","lat":{lat:.7},"lon":{lon:.7}}}}}"#);
        self.world.say(self.vehicles[v].client, &text);
    }

    /// A vehicle moves by a centimetre.
    fn nudge(&mut self, v: usize) {
        let (north_e7, east_e7) = self.vehicles[v].e7;
        self.put(v, (f64::from(north_e7 + 1) / METRE_E7, f64::from(east_e7) / METRE_E7));
    }

    /// All vehicles in a square of that side.
    fn scatter(&mut self, side_m: f64) {
        let mut random = Random(7);
        for v in 0..self.vehicles.len() {
            self.put(v, ((random.unit() - 0.5) * side_m, (random.unit() - 0.5) * side_m));
        }
    }

    /// Takes what everyone has been told. How many positions each was sent.
    fn hear(&mut self) -> Vec<usize> {
        let all = 0..self.vehicles.len();
        let hear = |v: usize| {
            let texts = self.world.take(self.vehicles[v].client);
            self.note(v, &texts)
        };
        all.map(hear).collect()
    }

    /// Keeps what a vehicle has been told. How many positions are among it.
    fn note(&mut self, v: usize, texts: &[String]) -> usize {
        let id = |text: &str, field: &str| -> usize {
            let at = text.find(field).expect("it is there") + field.len() + r#"":"veh-"#.len();
            text[at..].split('"').next().and_then(|number| number.parse().ok()).expect("a vehicle's number")
        };
        let told = &mut self.vehicles[v].told;
        let mut positions = 0;
        for text in texts {
            if text.contains("peer_location") {
                assert!(told.contains(&id(text, "vehicleId")), "{v} has no such neighbour: {text}");
                positions += 1;
            } else if text.contains(r#""eventType":"enter""#) {
                assert!(told.insert(id(text, "peerVehicleId")), "{v} has it already: {text}");
            } else if text.contains(r#""eventType":"exit""#) {
                assert!(told.remove(&id(text, "peerVehicleId")), "{v} does not have it: {text}");
            }
            assert!(told.len() <= self.most, "{v} has too many");
        }
        positions
    }

    fn metres(&self, a: usize, b: usize) -> f64 {
        let place = |v: usize| Place::from_e7(self.vehicles[v].e7.0, self.vehicles[v].e7.1);
        metres(place(a), place(b))
    }

    /// Everyone in a crowd has as many neighbours as it may, and there is no other within `slack` times the distance of
    /// the farthest.
    fn check_nearest(&self, crowd: impl Iterator<Item = usize> + Clone, slack: f64) {
        for v in crowd.clone() {
            let told = &self.vehicles[v].told;
            assert_eq!(told.len(), self.most, "{v} has neighbours");
            assert!(told.iter().all(|other| crowd.clone().any(|v| v == *other)), "{v} has one that is not there");
            let farthest_m = told.iter().map(|other| self.metres(v, *other)).fold(0.0, f64::max);
            let others = crowd.clone().filter(|other| *other != v && !told.contains(other));
            let nearest_m = others.map(|other| self.metres(v, other)).fold(f64::INFINITY, f64::min);
            assert!(farthest_m * slack <= nearest_m, "{v} has one {farthest_m} m away, and not one at {nearest_m} m");
        }
    }

    /// Everyone has all others within the radius, and is had by them.
    fn check_all(&self, vehicles: impl Iterator<Item = usize> + Clone) {
        for v in vehicles.clone() {
            let near = |other: &usize| *other != v && self.metres(v, *other) <= 500.0;
            let within: BTreeSet<usize> = vehicles.clone().filter(near).collect();
            assert_eq!(self.vehicles[v].told, within, "{v}");
        }
    }

    fn counters(&mut self) -> &mut Counters {
        self.world.counters(0)
    }

    /// One turn. Whether there is more to do, and what it has looked at.
    fn turn(&mut self) -> (bool, u64) {
        let work = |counters: &Counters| {
            let events = counters.proximity_enters + counters.proximity_exits;
            counters.candidates_examined + events * limits::EVENT_WORK as u64
        };
        let before = work(self.counters());
        (self.world.round(), work(self.counters()) - before)
    }
}

#[test]
fn two_thousand_in_one_radius_stop_nobody() {
    const COUNT: usize = 2_000;
    const MOST: usize = 128;
    let mut depot = Depot::new(COUNT, 1, MOST);
    depot.scatter(350.0);

    // They come at once and are looked at by and by. Somebody asks meanwhile, and is answered in the next turn.
    let (mut turns, mut more) = (0, true);
    while more {
        depot.world.say(depot.vehicles[0].client, r#"{"event":"heartbeat"}"#);
        let work;
        (more, work) = depot.turn();
        let one_vehicle = COUNT + MOST * limits::EVENT_WORK;
        assert!(work <= (limits::SETTLE_WORK_MAX + one_vehicle) as u64, "one turn has looked at {work}");
        turns += 1;
        let heard = depot.world.take(depot.vehicles[0].client);
        assert!(heard.iter().any(|text| text.contains("heartbeat_ack")), "no answer in turn {turns}");
        depot.note(0, &heard);
    }
    assert!(turns > 5, "{turns} turns");
    assert_eq!(depot.counters().settles_cut as usize, turns - 1);
    depot.hear();
    depot.check_nearest(0..COUNT, 1.0);
    assert_eq!(depot.counters().proximity_enters as usize, COUNT * MOST, "nobody was told in vain");

    // All move by a centimetre: everyone hears of all its neighbours, once.
    for v in 0..COUNT {
        depot.nudge(v);
    }
    depot.world.settle();
    assert!(depot.hear().iter().all(|positions| *positions == MOST));

    // They stand still. Nobody is near enough to others' neighbours to take a place.
    depot.world.advance(3_000);
    assert!(depot.hear().iter().all(|positions| *positions == 0));
    depot.check_nearest(0..COUNT, 0.8);
    let counters = depot.counters();
    assert_eq!((counters.proximity_enters as usize, counters.proximity_exits), (COUNT * MOST, 0));
    assert_eq!(counters.crowd_choices as usize, COUNT * 4);

    // All but a hundred leave in one turn.
    for v in 100..COUNT {
        depot.world.break_off(depot.vehicles[v].client, Ended::Eof);
        depot.vehicles[v].told.clear();
    }
    depot.world.advance(1_001);
    depot.hear();
    depot.check_all(0..100);
}

#[test]
fn who_leaves_before_it_was_looked_at_is_not_missed_and_not_told() {
    let mut depot = Depot::new(2_000, 1, 128);
    depot.scatter(350.0);
    let (more, _) = depot.turn();
    assert!(more);
    // Of those who have been looked at, and of those who have not.
    for v in (0..2_000).step_by(2) {
        depot.world.break_off(depot.vehicles[v].client, if v % 4 == 0 { Ended::Eof } else { Ended::Reset });
    }
    // Their slots are others' then, who come to the same place in the same turn.
    let newcomers: Vec<usize> = (0..200).map(|_| depot.meet(0)).collect();
    newcomers.iter().for_each(|v| depot.put(*v, (*v as f64 - 2_100.0, 0.0)));
    depot.world.settle();
    depot.world.advance(1_100);
    for v in (0..2_000).step_by(2) {
        depot.world.take(depot.vehicles[v].client);
        depot.vehicles[v].told.clear();
    }
    depot.hear();
    depot.check_nearest((0..2_200).filter(|v| v % 2 == 1 || *v >= 2_000), 0.8);
}

#[test]
fn a_crowd_on_two_shards_is_one_crowd() {
    let mut depot = Depot::new(400, 2, 32);
    depot.scatter(350.0);
    depot.world.settle();
    depot.world.advance(2_100);
    depot.hear();
    depot.check_nearest(0..400, 0.8);
    // Whoever has not moved for a while looks around once. The next moves look at nobody else.
    for looks in [true, false] {
        let examined = depot.counters().candidates_examined;
        for v in 0..400 {
            depot.nudge(v);
        }
        depot.world.settle();
        assert!(depot.hear().iter().all(|positions| *positions == 32));
        assert_eq!(depot.counters().candidates_examined > examined, looks);
    }
}

#[test]
fn a_crowd_that_comes_one_by_one_ends_with_the_nearest() {
    let mut depot = Depot::new(300, 1, 16);
    let mut random = Random(3);
    for v in 0..300 {
        depot.put(v, ((random.unit() - 0.5) * 350.0, (random.unit() - 0.5) * 350.0));
        depot.world.settle();
        depot.world.advance(5);
    }
    depot.world.advance(1_000);
    depot.hear();
    depot.check_nearest(0..300, 0.8);
    // Who was full chose anew once per second at most, whoever came.
    let counters = depot.counters();
    assert!(counters.crowd_choices <= 300 * 4, "{}", counters.crowd_choices);
    assert!(counters.proximity_enters <= 300 * 16 * 4, "{}", counters.proximity_enters);
}

#[test]
fn a_crowd_that_dissolves_leaves_everyone_with_all_that_are_near() {
    for shards in [1, 2] {
        let mut depot = Depot::new(300, shards, 16);
        depot.scatter(350.0);
        depot.world.settle();
        depot.world.advance(1_100);
        depot.hear();
        depot.check_nearest(0..300, 0.8);
        // They drive apart, to 280 m from each other: eight are within the radius then.
        for step in 1..=20 {
            for v in 0..300 {
                let (row, column) = ((v / 20) as f64, (v % 20) as f64);
                depot.put(v, (row * 14.0 * step as f64, column * 14.0 * step as f64));
            }
            depot.world.settle();
            depot.world.advance(200);
        }
        depot.world.advance(1_100);
        depot.hear();
        depot.check_all(0..300);
        // Nobody is in a crowd any more: nobody chooses, and a move is heard by all around at once.
        let choices = depot.counters().crowd_choices;
        depot.world.advance(5_000);
        assert_eq!(depot.counters().crowd_choices, choices);
        depot.nudge(150);
        depot.world.settle();
        let heard: Vec<usize> = depot.hear();
        assert_eq!(heard.iter().sum::<usize>(), depot.vehicles[150].told.len());
        depot.check_all(0..300);
    }
}
