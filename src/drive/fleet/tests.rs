//! The fleet against a small gateway in the same thread, on a clock that only moves when told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use serde_json::{Value, json};

use super::super::area::{self, Area};
use super::super::gallery::Watched;
use super::super::owed::Promise;
use super::super::plan::Movement;
use super::super::roam::Roam;
use super::super::roster::Roster;
use super::super::trace::Trace;
use super::*;
use crate::client::Dialect;
use crate::geo::Place;
use crate::geo::distance::metres;
use crate::wire::frame::{self, Opcode, Role};
use crate::wire::json::Edges;
use crate::wire::message::{Decoder, Message};
use crate::wire::slim::{self, StateFrames};
use crate::wire::state::{self, State};
use crate::wire::units::{lat_e7, lon_e7};
use crate::wire::upgrade::{self, Request};

const RADIUS_M: f64 = 500.0;

/// How a gateway misbehaves; the default is a good one.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Every so many deliveries, one is left out.
    drop_every: u64,
    /// Every so many, one is made twice.
    twice_every: u64,
    /// Every so many updates, someone far away gets it too.
    stray_every: u64,
    /// The next connections cannot be made.
    connects_fail: u32,
    /// This vehicle may not register.
    refuses: Option<&'static str>,
    /// At this time, the connection of this vehicle is closed.
    closes: Option<(u64, &'static str)>,
    /// At this time, the connection of this vehicle breaks.
    resets: Option<(u64, &'static str)>,
    /// At this time everybody is sent away, to come back.
    sends_away: Option<u64>,
    /// Upgrades are answered with 503.
    full: bool,
    /// So many bytes of a send are taken at once; 0: all.
    takes: usize,
    /// At this time the fleet is told to stop, and the gateway falls silent.
    stops: Option<u64>,
    /// Viewers are never shown the first of the vehicles.
    hides: bool,
    /// Viewers are not told that a vehicle has left the view.
    keeps: bool,
    /// Nobody is told who belongs to a key.
    nameless: bool,
}

#[derive(Default)]
struct Peer {
    upgraded: bool,
    decoder: Decoder,
    is_binary: bool,
    vehicle: Option<String>,
    place: Option<Place>,
    /// Its last position.
    state: Option<(State, u64)>,
    view: Option<Edges>,
    /// Whom it was shown.
    shown: BTreeSet<u64>,
    /// Whom it knows by key.
    named: BTreeSet<u64>,
    /// With this code.
    said_goodbye: Option<u16>,
    shut: bool,
    pongs: u64,
}

type Publish = Box<dyn FnMut(&Report)>;

struct World {
    fleet: Fleet<Publish>,
    reports: Rc<RefCell<Vec<Report>>>,
    faults: Faults,
    now: Now,
    peers: BTreeMap<ConnId, Peer>,
    released: u32,
    opened: u32,
    asked: u32,
    /// For the fleet, by the time of their arrival.
    to_fleet: VecDeque<(u64, ConnId, Arrival)>,
    deliveries: u64,
    /// To viewers.
    viewed: u64,
    gone: u64,
    updates: u64,
    latency_ms: u64,
}

enum Arrival {
    Opened,
    ConnectFailed,
    Bytes(Vec<u8>),
    Writable,
    Ended(Ended),
}

fn plan(vehicles: u32, hz: u64, drive_ms: u64) -> Plan {
    Plan {
        roster: Roster::numbered("drive", vehicles),
        movement: Movement::Roam(Roam::new(vehicles, (30.2672, -97.7431), 1_500.0, 5)),
        period_us: 1_000_000 / hz,
        drive_ms,
        promise: Promise { radius_m: RADIUS_M, neighbours_max: 0, encounters: false },
        judged_every: 1,
        dialect: Dialect::Json,
        viewers: 0,
        area: Area::new(area::square((30.2672, -97.7431), 800.0)),
        host: "localhost:3002".into(),
        path: "/v2v".into(),
        seed: 5,
    }
}

/// The same in the binary dialect.
fn binary(plan: Plan) -> Plan {
    Plan { dialect: Dialect::Binary, promise: Promise { encounters: true, ..plan.promise }, ..plan }
}

fn run(plan: Plan, faults: Faults) -> World {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let publish: Publish = {
        let reports = reports.clone();
        Box::new(move |report| reports.borrow_mut().push(report.clone()))
    };
    let now = Now { mono_ms: 1_000, unix_ms: 1_760_000_000_000 };
    let mut world = World {
        fleet: Fleet::new(plan, publish),
        reports,
        faults,
        now,
        peers: BTreeMap::new(),
        released: 0,
        opened: 0,
        asked: 7,
        to_fleet: VecDeque::new(),
        deliveries: 0,
        viewed: 0,
        gone: 0,
        updates: 0,
        latency_ms: 3,
    };
    while !world.fleet.is_stopped() {
        world.step();
        assert!(world.now.mono_ms < 200_000, "it does not end: {:?}", world.fleet.report);
    }
    assert_eq!(world.released, world.opened, "every connection is released");
    assert_eq!(world.fleet.next_deadline(), None);
    world
}

impl World {
    fn report(&self) -> Report {
        self.reports.borrow().last().unwrap().clone()
    }

    /// To the next moment at which something happens.
    fn step(&mut self) {
        let arrival_ms = self.to_fleet.front().map(|&(at_ms, ..)| at_ms);
        let deadline_ms = self.fleet.next_deadline();
        let next_ms = [arrival_ms, deadline_ms].into_iter().flatten().min().expect("something is to happen");
        assert!(deadline_ms.is_none_or(|at_ms| at_ms > self.now.mono_ms) || self.now.mono_ms == 1_000, "a busy loop");
        let passed_ms = next_ms.saturating_sub(self.now.mono_ms);
        self.now.mono_ms += passed_ms;
        self.now.unix_ms += passed_ms;
        self.fail();
        while self.to_fleet.front().is_some_and(|&(at_ms, ..)| at_ms <= self.now.mono_ms) {
            let (_, conn, arrival) = self.to_fleet.pop_front().unwrap();
            self.arrive(conn, arrival);
        }
        while self.turn() {}
    }

    fn arrive(&mut self, conn: ConnId, arrival: Arrival) {
        if !self.peers.contains_key(&conn) && !matches!(arrival, Arrival::ConnectFailed) {
            return;
        }
        let now = self.now;
        match arrival {
            Arrival::Opened => {
                self.opened += 1;
                self.fleet.handle(now, Input::Opened { conn, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
            }
            Arrival::ConnectFailed => self.fleet.handle(now, Input::Ended { conn, how: Ended::ConnectFailed }),
            // Whatever the split.
            Arrival::Bytes(mut bytes) => {
                let middle = bytes.len() / 3;
                let (head, tail) = bytes.split_at_mut(middle);
                for bytes in [head, tail].into_iter().filter(|bytes| !bytes.is_empty()) {
                    self.fleet.handle(now, Input::Bytes { conn, bytes });
                }
            }
            Arrival::Writable => self.fleet.handle(now, Input::Writable { conn }),
            Arrival::Ended(how) => self.fleet.handle(now, Input::Ended { conn, how }),
        }
    }

    fn send(&mut self, conn: ConnId, arrival: Arrival) {
        self.to_fleet.push_back((self.now.mono_ms + self.latency_ms, conn, arrival));
    }

    /// Carries out one turn.
    fn turn(&mut self) -> bool {
        let Some(turn) = self.fleet.poll_turn(self.now) else { return false };
        let sends: Vec<(ConnId, Vec<u8>)> =
            turn.sends.iter().map(|send| (send.conn, turn.bytes(send).to_vec())).collect();
        let (finished, released) = (turn.finished.to_vec(), turn.released.to_vec());
        let connects = turn.connects;
        let mut seen = BTreeSet::new();
        assert!(sends.iter().all(|(conn, _)| seen.insert(*conn)), "one send per connection and turn");
        for (conn, mut bytes) in sends {
            if self.faults.takes > 0 && bytes.len() > self.faults.takes {
                let rest = bytes.split_off(self.faults.takes);
                self.fleet.handle(self.now, Input::Blocked { conn, rest: &rest });
                self.send(conn, Arrival::Writable);
            }
            self.hear(conn, bytes);
        }
        for conn in finished {
            let peer = self.peers.get_mut(&conn).unwrap();
            assert!(!std::mem::replace(&mut peer.shut, true), "finished once");
            self.send(conn, Arrival::Ended(Ended::Eof));
        }
        for conn in released {
            self.peers.remove(&conn).expect("released once");
            self.released += 1;
        }
        for _ in 0..connects {
            let conn = ConnId { index: self.asked, generation: 1 };
            self.asked += 1;
            if self.faults.connects_fail > 0 {
                self.faults.connects_fail -= 1;
                self.send(conn, Arrival::ConnectFailed);
                continue;
            }
            self.peers.insert(conn, Peer::default());
            self.send(conn, Arrival::Opened);
        }
        true
    }

    /// What a gateway does with bytes.
    fn hear(&mut self, conn: ConnId, mut bytes: Vec<u8>) {
        let Some(mut peer) = self.peers.remove(&conn) else { return };
        assert!(!peer.shut, "nothing is sent after the end");
        let mut out = Vec::new();
        if !peer.upgraded {
            let Ok(Some((Request::Upgrade(request), used))) = upgrade::parse(&bytes) else { panic!("{bytes:?}") };
            assert_eq!((request.path, used), ("/v2v", bytes.len()));
            if self.faults.full {
                out.extend_from_slice(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            } else {
                peer.is_binary = request.offers("ringroad.v1");
                upgrade::accept(&mut out, &request, peer.is_binary.then_some("ringroad.v1"));
                say(&mut out, &json!({"event": "connected", "data": {"ts": 1, "sessionId": "x"}}));
            }
            peer.upgraded = true;
            bytes.clear();
        }
        let mut at = 0;
        loop {
            let (used, message) = peer.decoder.decode(Role::Server, 4096, &mut bytes[at..]).unwrap();
            at += used;
            let said: Value = match message {
                None => break,
                Some(Message::Text(text)) => serde_json::from_slice(text).unwrap(),
                Some(Message::Binary(message)) => {
                    let reported = slim::read(message).unwrap();
                    assert!(peer.is_binary && reported.state.key == state::key(peer.vehicle.as_ref().unwrap()));
                    self.moved(&mut peer, reported.state, reported.ts.unwrap());
                    continue;
                }
                Some(Message::Pong(payload)) => {
                    assert_eq!(payload, b"alive?");
                    peer.pongs += 1;
                    continue;
                }
                Some(Message::Close { code, .. }) => {
                    // An answer repeats the code.
                    assert_eq!(code, Some(peer.said_goodbye.unwrap_or(1000)));
                    if peer.said_goodbye.is_none() {
                        frame::encode_close(&mut out, 1000, "");
                    }
                    peer.said_goodbye = code;
                    continue;
                }
                other => panic!("{other:?}"),
            };
            let data = &said["data"];
            match said["event"].as_str().unwrap() {
                "register" => {
                    let id = data["vehicleId"].as_str().unwrap();
                    if self.faults.refuses == Some(id) {
                        say(&mut out, &json!({"event": "error", "data": {"code": "auth_failed"}}));
                        frame::encode_close(&mut out, 4003, "auth_failed");
                        peer.said_goodbye = Some(4003);
                        continue;
                    }
                    peer.vehicle = Some(id.to_string());
                    say(&mut out, &json!({"event": "registered", "data": {"vehicleId": id}}));
                    frame::encode(&mut out, Opcode::Ping, b"alive?");
                }
                "location_update" => {
                    assert_eq!(data["vehicleId"], peer.vehicle.as_deref().unwrap());
                    assert!(!peer.is_binary, "a position as JSON");
                    let degrees = |key: &str| data[key].as_f64().unwrap();
                    let state = State {
                        lat_e7: lat_e7(degrees("lat")),
                        lon_e7: lon_e7(degrees("lon")),
                        ..State::unavailable(state::key(data["vehicleId"].as_str().unwrap()))
                    };
                    self.moved(&mut peer, state, data["ts"].as_u64().unwrap());
                }
                "view" => {
                    let e7 = |key: &str| (data[key].as_f64().unwrap() * 1e7).round() as i32;
                    let [south_e7, west_e7, north_e7, east_e7] = ["south", "west", "north", "east"].map(e7);
                    peer.view = Some(Edges { south_e7, west_e7, north_e7, east_e7 });
                    say(&mut out, &json!({"event": "watching", "data": {"epoch": 1, "cut": false}}));
                    self.send(conn, Arrival::Bytes(std::mem::take(&mut out)));
                    let all: Vec<_> =
                        self.peers.values().filter_map(|other| Some((other.vehicle.clone()?, other.state?))).collect();
                    for (vehicle, (state, ts)) in all {
                        self.show(conn, &mut peer, &vehicle, &state, ts);
                    }
                    if peer.is_binary {
                        StateFrames::begin(&mut out, 0, 1, self.now.unix_ms).finish(&mut out, true);
                    }
                }
                "heartbeat" => {}
                other => panic!("{other}"),
            }
        }
        if !out.is_empty() {
            self.send(conn, Arrival::Bytes(out));
        }
        self.peers.insert(conn, peer);
    }

    /// A vehicle, which is not among the peers just now, is at a place.
    fn moved(&mut self, peer: &mut Peer, state: State, ts: u64) {
        let place = Place::from_e7(state.lat_e7, state.lon_e7);
        (peer.place, peer.state) = (Some(place), Some((state, ts)));
        let vehicle = peer.vehicle.clone().unwrap();
        self.updates += 1;
        let every = |count: u64, n: u64| n > 0 && count.is_multiple_of(n);
        let stray = every(self.updates, self.faults.stray_every);
        let others: Vec<(ConnId, Option<f64>)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.place.is_some() || peer.view.is_some())
            .map(|(conn, peer)| (*conn, peer.place.map(|other| metres(place, other))))
            .collect();
        for (conn, distance_m) in others {
            let mut other = self.peers.remove(&conn).unwrap();
            match distance_m {
                None => self.show(conn, &mut other, &vehicle, &state, ts),
                Some(distance_m) if distance_m <= RADIUS_M || (stray && distance_m > RADIUS_M + 200.0) => {
                    self.deliveries += 1;
                    let times = match self.deliveries {
                        n if every(n, self.faults.drop_every) => 0,
                        n if every(n, self.faults.twice_every) => 2,
                        _ => 1,
                    };
                    let out = self.position(&mut other, &vehicle, &state, ts);
                    (0..times).for_each(|_| self.send(conn, Arrival::Bytes(out.clone())));
                }
                Some(_) => {}
            }
            self.peers.insert(conn, other);
        }
    }

    /// Tells a viewer of a vehicle, if it is in view or was.
    fn show(&mut self, conn: ConnId, viewer: &mut Peer, vehicle: &str, state: &State, ts: u64) {
        if self.faults.hides && vehicle == "drive-00000" {
            return;
        }
        let Edges { south_e7, west_e7, north_e7, east_e7 } = viewer.view.unwrap();
        let inside = (south_e7..=north_e7).contains(&state.lat_e7) && (west_e7..=east_e7).contains(&state.lon_e7);
        let mut out = Vec::new();
        if inside {
            viewer.shown.insert(state.key);
            self.viewed += 1;
            out = self.position(viewer, vehicle, state, ts);
        } else if viewer.shown.remove(&state.key) && !self.faults.keeps {
            self.gone += 1;
            if viewer.is_binary {
                let mut frames = StateFrames::begin(&mut out, 0, 1, self.now.unix_ms);
                frames.push(&mut out, &slim::gone(state.key));
                frames.finish(&mut out, false);
            } else {
                say(&mut out, &json!({"event": "peer_gone", "data": {"vehicleId": vehicle}}));
            }
        }
        if !out.is_empty() {
            self.send(conn, Arrival::Bytes(out));
        }
    }

    /// A position as a peer is told of it.
    fn position(&self, peer: &mut Peer, vehicle: &str, state: &State, ts: u64) -> Vec<u8> {
        let mut out = Vec::new();
        if peer.is_binary {
            if peer.named.insert(state.key) && !self.faults.nameless {
                let key = format!("{:016x}", state.key);
                let identity = json!({"key": key, "vehicleId": vehicle, "driverName": "x", "vehicleInfo": {}});
                say(&mut out, &json!({"event": "vehicle_identity", "data": identity}));
            }
            let state = State { sec_mark: (ts % 60_000) as u16, ..*state };
            let mut frames = StateFrames::begin(&mut out, 0, 0, self.now.unix_ms);
            frames.push(&mut out, &state::encode(&state));
            frames.finish(&mut out, false);
        } else {
            let data = json!({"vehicleId": vehicle, "lat": 1.5, "lon": 2.5, "ts": ts, "coalesced": true});
            say(&mut out, &json!({"event": "peer_location", "data": data}));
        }
        out
    }

    /// Ends connections whose time has come.
    fn fail(&mut self) {
        if self.faults.stops.is_some_and(|at_ms| at_ms <= self.now.mono_ms) {
            self.to_fleet.clear();
            if self.fleet.report.phase < Phase::Closing {
                self.fleet.handle(self.now, Input::Stop);
            }
        }
        let of = |peers: &BTreeMap<ConnId, Peer>, id: &str| {
            peers.iter().find(|(_, peer)| peer.vehicle.as_deref() == Some(id)).map(|(conn, _)| *conn)
        };
        if let Some((_, id)) = self.faults.closes.take_if(|(at_ms, _)| *at_ms <= self.now.mono_ms) {
            let conn = of(&self.peers, id).unwrap();
            let mut out = Vec::new();
            frame::encode_close(&mut out, 4008, "slow");
            let peer = self.peers.get_mut(&conn).unwrap();
            (peer.place, peer.state, peer.said_goodbye) = (None, None, Some(4008));
            self.send(conn, Arrival::Bytes(out));
        }
        if self.faults.sends_away.take_if(|at_ms| *at_ms <= self.now.mono_ms).is_some() {
            let mut out = Vec::new();
            frame::encode_close(&mut out, 1012, "shutdown");
            for peer in self.peers.values_mut() {
                (peer.place, peer.state, peer.view, peer.said_goodbye) = (None, None, None, Some(1012));
            }
            let all: Vec<ConnId> = self.peers.keys().copied().collect();
            all.into_iter().for_each(|conn| self.send(conn, Arrival::Bytes(out.clone())));
        }
        if let Some((_, id)) = self.faults.resets.take_if(|(at_ms, _)| *at_ms <= self.now.mono_ms) {
            let conn = of(&self.peers, id).unwrap();
            let peer = self.peers.get_mut(&conn).unwrap();
            (peer.place, peer.state) = (None, None);
            self.send(conn, Arrival::Ended(Ended::Reset));
        }
    }
}

fn say(out: &mut Vec<u8>, message: &Value) {
    frame::encode(out, Opcode::Text, message.to_string().as_bytes());
}

#[test]
fn a_good_gateway_is_found_good() {
    for plan in [plan(60, 5, 4_000), binary(plan(60, 5, 4_000))] {
        is_found_good(plan);
    }
}

fn is_found_good(plan: Plan) {
    let world = run(plan, Faults::default());
    let report = world.report();
    let tally = &report.tally;
    assert_eq!((report.phase, report.registered, report.driven_ms), (Phase::Done, 60, 4_000));
    assert_eq!((tally.sent, tally.received), (60 * 20, world.deliveries));
    assert_eq!((tally.missing(), tally.wrong, tally.duplicate, tally.late), (0, 0, 0, 0));
    assert!(tally.owed > tally.received * 8 / 10, "{tally:?}");
    assert_eq!((tally.latency.quantile_ms(0.5), tally.latency.max_ms()), (3, 3));
    assert_eq!((report.skipped, report.withheld, report.strangers), (0, 0, 0));
    assert!(report.errors.is_empty() && report.closes.is_empty(), "{report}");
    assert_eq!((report.traffic.positions, report.traffic.position_messages), (world.deliveries, world.deliveries));
    assert_eq!((report.traffic.unnamed, report.gone), (0, 0));
}

#[test]
fn viewers_are_owed_the_newest_of_what_is_in_view() {
    for plan in [plan(60, 2, 40_000), binary(plan(60, 2, 40_000))] {
        let dialect = plan.dialect;
        let world = run(Plan { viewers: 2, ..plan }, Faults::default());
        let report = world.report();
        assert_eq!((report.registered, report.watched.len(), report.phase), (60, 2, Phase::Done));
        assert_eq!((report.tally.missing(), report.tally.wrong, report.tally.received), (0, 0, world.deliveries));
        let all = Watched::all(&report.watched);
        assert_eq!((all.records, all.gone), (world.viewed, world.gone), "{report}");
        assert!(all.owed > 500 && all.gone > 10 && all.present > 40, "{report}");
        assert_eq!((all.missing(), all.seen), (0, all.present), "{report}");
        assert_eq!((all.wrong, all.duplicate, all.backwards, all.ghosts, all.gone_unseen), (0, 0, 0, 0, 0));
        assert_eq!((all.latency.quantile_ms(0.5), all.latency.max_ms(), all.undated), (3, 3, 0));
        assert_eq!(all.complete_ms, (dialect == Dialect::Binary).then_some(3));
        assert_eq!(report.traffic.positions, world.deliveries + world.viewed);
        assert_eq!(report.traffic.unnamed, 0);
    }
}

#[test]
fn who_is_sent_away_comes_back_and_watches_again() {
    for plan in [plan(60, 2, 40_000), binary(plan(60, 2, 40_000))] {
        let world = run(Plan { viewers: 2, ..plan }, Faults { sends_away: Some(15_000), ..Faults::default() });
        let report = world.report();
        assert_eq!((report.registered, report.returned, report.viewers_returned), (60, 60, 2), "{report}");
        assert_eq!(report.closes, BTreeMap::from([("1012 shutdown".to_string(), 62)]));
        assert_eq!((report.tally.missing(), report.tally.wrong), (0, 0), "{report}");
        for watched in &report.watched {
            assert_eq!((watched.missing(), watched.seen), (0, watched.present), "{report}");
            assert_eq!((watched.wrong, watched.duplicate, watched.backwards), (0, 0, 0), "{report}");
            assert_eq!((watched.ghosts, watched.gone_unseen), (0, 0), "{report}");
            // Most of it since: it asked at 2 s, was sent away at 15 s, and they drove for 40 s.
            assert!(watched.owed > 800 && watched.present > 20, "{report}");
        }
    }
}

#[test]
fn what_a_bad_gateway_shows_to_viewers_is_counted() {
    let watched = |faults| {
        let report = run(Plan { viewers: 2, ..binary(plan(60, 2, 40_000)) }, faults).report();
        (Watched::all(&report.watched), report.traffic.unnamed)
    };
    let (all, _) = watched(Faults { hides: true, ..Faults::default() });
    assert!(all.missing() > 0 && all.present - all.seen == 2, "{all:?}");
    let (all, _) = watched(Faults { keeps: true, ..Faults::default() });
    assert!(all.ghosts > 10 && all.gone == 0 && all.missing() == 0, "{all:?}");
    let (all, unnamed) = watched(Faults { nameless: true, ..Faults::default() });
    assert!(all.missing() == 0 && unnamed > all.records, "{all:?}");
}

#[test]
fn updates_are_spread_evenly_over_the_period() {
    let fleet = Fleet::new(plan(100, 1, 10_000), |_: &Report| {});
    let due: Vec<u64> = (0..201).map(|tick| fleet.due_us(tick) / 1000).collect();
    assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 10));
    assert_eq!((due[0], due[100], due[200]), (0, 1_000, 2_000));
}

#[test]
fn what_a_bad_gateway_does_is_counted_to_the_last() {
    let faults = Faults { drop_every: 10, twice_every: 7, stray_every: 50, ..Faults::default() };
    let world = run(plan(60, 5, 4_000), faults);
    let tally = &world.report().tally;
    assert_eq!(tally.duplicate, world.deliveries / 7 - world.deliveries / 70);
    assert!(tally.wrong > 0);
    let dropped = world.deliveries / 10;
    assert!((dropped * 7 / 10..=dropped).contains(&tally.missing()), "{} of {dropped}", tally.missing());
    assert_eq!(tally.received, world.deliveries - dropped + tally.duplicate);
    assert_eq!(tally.received, tally.paid + tally.unsure + tally.wrong + tally.duplicate);
}

#[test]
fn refusals_and_losses_have_their_names() {
    let faults = Faults {
        connects_fail: 3,
        refuses: Some("drive-00004"),
        closes: Some((3_000, "drive-00005")),
        resets: Some((3_500, "drive-00006")),
        ..Faults::default()
    };
    let report = run(plan(30, 5, 4_000), faults).report();
    assert_eq!((report.phase, report.registered, report.deserted), (Phase::Done, 29, false));
    assert_eq!(report.errors, BTreeMap::from([("auth_failed".to_string(), 1)]));
    let closes: Vec<(&str, u64)> = report.closes.iter().map(|(why, count)| (why.as_str(), *count)).collect();
    assert_eq!(closes, [("4003 auth_failed", 1), ("4008 slow", 1), ("connection failed", 3), ("reset", 1)]);
    // Those who left are owed nothing any more, and nothing that they got before is wrong.
    assert_eq!((report.tally.missing(), report.tally.wrong), (0, 0));
}

#[test]
fn a_gateway_that_takes_no_one_ends_the_drive_at_once() {
    let world = run(plan(10, 1, 60_000), Faults { full: true, ..Faults::default() });
    let report = world.report();
    assert_eq!((report.phase, report.registered, report.tally.sent), (Phase::Done, 0, 0));
    assert_eq!(report.closes.values().sum::<u64>(), 10);
    assert!(report.closes.keys().all(|why| why.starts_with("upgrade refused") && why.contains("503")), "{report}");
    assert!(world.now.mono_ms < 5_000);
}

#[test]
fn a_gateway_that_is_not_there_is_given_up() {
    let world = run(plan(10, 1, 60_000), Faults { connects_fail: u32::MAX, ..Faults::default() });
    assert_eq!((world.report().registered, world.report().phase), (0, Phase::Done));
    assert!(world.now.mono_ms < 1_000 + JOINING_STALLED_MS + CLOSING_MS_MAX + 1_000);
}

#[test]
fn a_drive_that_nobody_is_left_in_ends_and_says_so() {
    let faults =
        Faults { closes: Some((3_000, "drive-00000")), resets: Some((3_500, "drive-00001")), ..Faults::default() };
    let world = run(plan(2, 5, 60_000), faults);
    let report = world.report();
    assert_eq!((report.phase, report.registered, report.deserted), (Phase::Done, 2, true));
    assert_eq!((report.tally.missing(), report.closes.len()), (0, 2), "{report}");
    assert!(world.now.mono_ms < 10_000);
}

#[test]
fn a_short_send_goes_on_where_it_stopped() {
    // Larger than the handshake, which the little gateway wants in one piece; a registration is longer.
    let world = run(plan(20, 5, 3_000), Faults { takes: 200, ..Faults::default() });
    let report = world.report();
    assert_eq!((report.registered, report.tally.missing(), report.tally.wrong), (20, 0, 0));
    assert_eq!(report.tally.sent, 20 * 15 - report.withheld);
    assert!(report.closes.is_empty(), "{report}");
}

#[test]
fn stop_is_a_proper_goodbye() {
    let reports: Publish = Box::new(|_| {});
    let now = Now { mono_ms: 1_000, unix_ms: 1_760_000_000_000 };
    let mut fleet = Fleet::new(plan(5, 1, 60_000), reports);
    assert_eq!(fleet.poll_turn(now).unwrap().connects, 5);
    let conn = ConnId { index: 0, generation: 1 };
    fleet.handle(now, Input::Opened { conn, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    assert_eq!(fleet.poll_turn(now).unwrap().sends.len(), 1);
    fleet.handle(now, Input::Stop);
    assert_eq!(fleet.poll_turn(now).unwrap().released, [conn]);
    assert!(fleet.is_stopped());
    // A connection that was still being made when all was over.
    let conn = ConnId { index: 1, generation: 1 };
    fleet.handle(now, Input::Opened { conn, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    assert_eq!(fleet.poll_turn(now).unwrap().released, [conn]);
    assert!(fleet.poll_turn(now).is_none());
}

#[test]
fn who_has_left_early_misses_nothing() {
    let world = run(plan(60, 5, 60_000), Faults { stops: Some(5_000), ..Faults::default() });
    let report = world.report();
    assert_eq!((report.phase, report.registered), (Phase::Done, 60));
    assert!(report.driven_ms < 5_000 && report.tally.owed > 1_000, "{report}");
    assert_eq!((report.tally.missing(), report.tally.wrong), (0, 0), "{report}");
}

#[test]
fn after_our_goodbye_nothing_counts_as_lost() {
    let now = Now { mono_ms: 1_000, unix_ms: 1_760_000_000_000 };
    let mut fleet = Fleet::new(plan(2, 1, 60_000), |_: &Report| {});
    assert_eq!(fleet.poll_turn(now).unwrap().connects, 2);
    let conn = ConnId { index: 0, generation: 1 };
    fleet.handle(now, Input::Opened { conn, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    let turn = fleet.poll_turn(now).unwrap();
    let request = turn.bytes(&turn.sends[0]).to_vec();
    let Ok(Some((Request::Upgrade(request), _))) = upgrade::parse(&request) else { panic!("{request:?}") };
    let mut reply = Vec::new();
    upgrade::accept(&mut reply, &request, None);
    fleet.handle(now, Input::Bytes { conn, bytes: &mut reply });
    fleet.handle(now, Input::Stop);
    // The other one was still being connected, and a gateway that goes down may send anything.
    let other = ConnId { index: 1, generation: 1 };
    fleet.handle(now, Input::Ended { conn: other, how: Ended::ConnectFailed });
    fleet.handle(now, Input::Bytes { conn, bytes: &mut [0xFF; 4] });
    assert_eq!(fleet.poll_turn(now).unwrap().released, [conn]);
    assert!(fleet.is_stopped());
    assert!(fleet.report.closes.is_empty(), "{}", fleet.report);
}

#[test]
fn a_recording_is_replayed_faster() {
    let rows: String = (0..8)
        .flat_map(|bus| {
            let row = move |minute: u32, lat: f64| format!("bus {bus},2016-12-16T08:{minute:02}:00Z,{lat},-97.0\n");
            // The last one's recording ends early.
            [row(0, 30.0), row(if bus == 7 { 1 } else { 4 }, 30.01)]
        })
        .collect();
    let trace = Trace::read(format!("vehicle_id,timestamp,latitude,longitude\n{rows}").as_bytes()).unwrap();
    let names: Vec<&str> = trace.vehicles.iter().map(|track| track.name.as_str()).collect();
    let roster = Roster::named("drive", names);
    let movement = Movement::replay(trace, 60.0);
    let world = run(Plan { roster, movement, ..plan(8, 5, 4_000) }, Faults::default());
    let report = world.report();
    assert_eq!(report.registered, 8);
    assert_eq!((report.tally.missing(), report.tally.wrong), (0, 0));
    // Seven send for 4 s; one for a minute of the recording, which is a second.
    assert!((7 * 20 + 5..=7 * 20 + 6).contains(&report.tally.sent), "{}", report.tally.sent);
    assert_eq!(report.trace.unwrap().0, 16);
}
