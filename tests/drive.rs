//! A fleet against the gateway, on real sockets: what `ringroad drive` and `ringroad demo` are made of.

use std::collections::{HashMap, HashSet};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::thread;

use ringroad::client::Dialect;
use ringroad::config::Config;
use ringroad::drive::report::Phase;
use ringroad::drive::{self, DriveError, DriveOptions, Recording, Report, View};
use ringroad::gateway::{self, Gateway};
use serde_json::{Value, json};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

fn gateway(change: impl FnOnce(&mut Config)) -> (Gateway, DriveOptions) {
    let mut config = Config::default();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.workers = 2;
    change(&mut config);
    let running = gateway::serve(config).unwrap();
    let url = format!("ws://{}/v2v", running.addr().unwrap());
    (running, DriveOptions { url, ..DriveOptions::default() })
}

fn stop(running: Gateway) {
    running.stop();
    running.join().unwrap();
}

#[test]
fn everyone_hears_of_their_neighbours_and_nobody_else_does() {
    for dialect in [Dialect::Json, Dialect::Binary] {
        hear_of_their_neighbours(dialect);
    }
}

fn hear_of_their_neighbours(dialect: Dialect) {
    let (running, options) = gateway(|_| {});
    let mut phases = Vec::new();
    let options = DriveOptions { dialect, vehicles: Some(80), hz: 2.0, seconds: Some(3.0), ..options };
    let report = drive::run(options, |report| {
        phases.push(report.phase);
        ControlFlow::Continue(())
    });
    stop(running);
    let report = report.unwrap();
    assert_eq!((report.registered, report.phase), (80, Phase::Done));
    assert!(phases.is_sorted() && phases.contains(&Phase::Driving), "{phases:?}");
    let tally = &report.tally;
    assert_eq!(tally.sent + report.skipped, 80 * 6);
    assert!(tally.owed > 1_000, "{report}");
    assert_eq!((tally.duplicate, report.strangers), (0, 0), "{report}");
    is_all_there(&report);
    assert!(report.errors.is_empty() && report.closes.is_empty(), "{report}");
    let traffic = &report.traffic;
    // A record has 32 bytes, and shares its headers with others; nobody needs a tenth of that in JSON.
    let bytes = if dialect == Dialect::Binary { 32.0..60.0 } else { 120.0..240.0 };
    assert!(bytes.contains(&traffic.bytes_per_position()), "{report}");
    assert_eq!((traffic.unnamed, tally.undated), (0, 0), "{report}");
    assert_eq!(traffic.identities > 0, dialect == Dialect::Binary, "{report}");
}

/// What is owed has come, and nothing else; unless this machine stood still for nearly as long as from one update to the
/// next: then the newer one replaces the older, wherever its vehicle has driven meanwhile.
fn is_all_there(report: &Report) {
    let tally = &report.tally;
    let stood_still = tally.latency.max_ms() >= 400;
    assert!(stood_still || (tally.missing(), tally.wrong) == (0, 0), "{report}");
    assert!(tally.missing() + tally.wrong <= tally.owed / 20, "{report}");
}

#[test]
fn viewers_see_what_is_in_view_and_nothing_else() {
    for dialect in [Dialect::Json, Dialect::Binary] {
        let (running, options) = gateway(|_| {});
        let view = Some(View::Side(700.0));
        let options =
            DriveOptions { dialect, vehicles: Some(80), hz: 2.0, seconds: Some(5.0), viewers: 3, view, ..options };
        let report = drive::run(options, |_| ControlFlow::Continue(()));
        stop(running);
        let report = report.unwrap();
        assert!(report.errors.is_empty() && report.closes.is_empty(), "{report}");
        is_all_there(&report);
        assert_eq!((report.traffic.unnamed, report.watched.len()), (0, 3), "{report}");
        for watched in &report.watched {
            assert!(watched.owed > 20 && watched.records > 20 && watched.present > 2, "{report}");
            assert_eq!(watched.seen, watched.present, "{report}");
            assert!(watched.missing() == 0 || watched.latency.max_ms() >= 1_500, "{report}");
            assert_eq!((watched.wrong, watched.duplicate, watched.backwards, watched.ghosts), (0, 0, 0, 0), "{report}");
            assert_eq!((watched.gone_unseen, watched.undated, watched.cut), (0, 0, false), "{report}");
            assert_eq!(watched.complete_ms.is_some(), dialect == Dialect::Binary, "{report}");
        }
    }
}

#[test]
fn a_recording_is_driven_until_somebody_has_seen_enough() {
    let (running, options) = gateway(|_| {});
    let recording = Some(Recording::Bundled(include_bytes!("../data/austin-hour.csv.gz")));
    let options = DriveOptions { recording, vehicles: Some(40), speedup: 30.0, ..options };
    let report = drive::run(options, |report| match report.driven_ms {
        0..1_500 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    stop(running);
    let report = report.unwrap();
    assert_eq!((report.registered, report.phase), (40, Phase::Done));
    assert!(report.driven_ms < report.planned_ms && report.tally.sent > 0, "{report}");
    assert!(report.closes.is_empty(), "{report}");
    assert_eq!(report.trace.unwrap().1.duplicate, 1);
}

#[test]
fn a_gateway_that_takes_nobody_is_named_with_its_reason() {
    let (running, options) = gateway(|config| {
        config.auth.required = true;
        config.auth.secret = "a secret that the fleet does not know".into();
    });
    let result = drive::run(DriveOptions { vehicles: Some(3), ..options }, |_| ControlFlow::Continue(()));
    stop(running);
    let Err(error @ DriveError::Nobody(_)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("auth_failed: 3"), "{error}");
}

#[test]
fn a_token_in_the_address_is_good_for_the_whole_fleet() {
    let secret = "a secret that is known to the fleet";
    let (running, options) = gateway(|config| {
        config.auth.required = true;
        config.auth.secret = secret.into();
    });
    let (header, key) = (jsonwebtoken::Header::default(), jsonwebtoken::EncodingKey::from_secret(secret.as_bytes()));
    let token = jsonwebtoken::encode(&header, &json!({"roles": ["vehicle"]}), &key).unwrap();
    let url = format!("{}?token={token}", options.url);
    let options = DriveOptions { url, vehicles: Some(6), hz: 5.0, seconds: Some(1.0), ..options };
    let report = drive::run(options, |_| ControlFlow::Continue(())).unwrap();
    stop(running);
    assert!(report.errors.is_empty() && report.tally.sent >= 6, "{report}");
    assert!(!report.to_string().contains(&token), "{report}");
}

/// A gateway that shares no line with ours and does not always tell the truth. Everyone is near everyone; what it does
/// to each delivery depends on how many there were, and it counts for itself.
#[derive(Default)]
struct Liar {
    vehicles: HashMap<String, Vehicle>,
    updates: u64,
    deliveries: u64,
    owed: u64,
    lost: u64,
    repeated: u64,
    invented: u64,
    /// Of messages with positions, from their first byte to their last.
    position_bytes: u64,
    identities: u64,
}

struct Vehicle {
    socket: WebSocket<TcpStream>,
    /// It takes positions as records.
    is_binary: bool,
    /// Whom it knows by key.
    named: HashSet<u64>,
}

/// A position as it came: JSON, or a record and its time.
#[derive(Clone)]
enum Position {
    Json(Value),
    Record(Vec<u8>, u64),
}

impl Liar {
    fn tell(&mut self, vehicle: &str, message: Message) -> u64 {
        let Some(vehicle) = self.vehicles.get_mut(vehicle) else { return 0 };
        let payload = message.len() as u64;
        vehicle.socket.send(message).unwrap();
        // A server's frame has no mask.
        payload + if payload < 126 { 2 } else { 4 }
    }

    fn tell_event(&mut self, vehicle: &str, event: Value) -> u64 {
        self.tell(vehicle, Message::text(event.to_string()))
    }

    /// Passes on a position, as if it was so many milliseconds older.
    fn tell_position(&mut self, vehicle: &str, sender: &str, position: &Position, older_ms: u64) {
        self.deliveries += 1;
        self.position_bytes += match position {
            Position::Json(data) => {
                let mut location = data.clone();
                location["coalesced"] = json!(true);
                location["ts"] = json!(data["ts"].as_u64().unwrap() - older_ms);
                self.tell_event(vehicle, json!({"event": "peer_location", "data": location}))
            }
            Position::Record(record, ts) => {
                let key = u64::from_le_bytes(record[..8].try_into().unwrap());
                if self.vehicles.get_mut(vehicle).is_some_and(|vehicle| vehicle.named.insert(key)) {
                    self.identities += 1;
                    let who = json!({"key": format!("{key:016x}"), "vehicleId": sender, "driverName": "Ada"});
                    self.tell_event(vehicle, json!({"event": "vehicle_identity", "data": who}));
                }
                // Base time a second later than the fix, so that it has to be resolved; a second record in the same
                // frame that is none of the fleet's; and records that have grown by four bytes.
                let ts = ts - older_ms;
                let mut frame = vec![1, 1, 36, 0, 2, 0, 0, 0];
                frame.extend_from_slice(&(ts + 1_000).to_le_bytes());
                let mut record = record.clone();
                record[26..28].copy_from_slice(&((ts % 60_000) as u16).to_le_bytes());
                frame.extend_from_slice(&record);
                frame.extend_from_slice(b"more");
                record[28..30].copy_from_slice(&(1u16 << 15).to_le_bytes());
                record[0] ^= 1;
                frame.extend_from_slice(&record);
                frame.extend_from_slice(b"more");
                self.tell(vehicle, Message::binary(frame))
            }
        };
    }

    fn update(&mut self, sender: &str, position: &Position) {
        self.updates += 1;
        let mut told: Vec<String> = self.vehicles.keys().filter(|id| *id != sender).cloned().collect();
        told.sort();
        for vehicle in told {
            self.owed += 1;
            // It is honest at first: before a vehicle's own position is surely known, nothing is surely owed to it.
            let times = match self.owed % 100 {
                _ if self.updates <= 100 => 1,
                7 | 77 => 0,
                33 => 2,
                50 => {
                    self.invented += 1;
                    self.tell_position(&vehicle, sender, position, 1);
                    1
                }
                _ => 1,
            };
            self.lost += u64::from(times == 0);
            self.repeated += u64::from(times == 2);
            for _ in 0..times {
                self.tell_position(&vehicle, sender, position, 0);
            }
        }
    }

    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    fn serve(stream: TcpStream, liar: &Mutex<Liar>) {
        stream.set_nodelay(true).unwrap();
        let writer = stream.try_clone().unwrap();
        let mut is_binary = false;
        // The fleet looks whether anyone is there before it sends its vehicles.
        let accepted = tungstenite::accept_hdr(stream, |request: &Request, mut response: Response| {
            if let Some(protocol) = request.headers().get("Sec-WebSocket-Protocol") {
                assert_eq!(protocol, "ringroad.v1");
                is_binary = true;
                response.headers_mut().insert("Sec-WebSocket-Protocol", protocol.clone());
            }
            Ok(response)
        });
        let Ok(mut reader) = accepted else { return };
        let socket = WebSocket::from_raw_socket(writer, Role::Server, None);
        let mut vehicle = Some(Vehicle { socket, is_binary, named: HashSet::new() });
        let mut own = String::new();
        while let Ok(message) = reader.read() {
            let message: Value = match message {
                Message::Text(text) => serde_json::from_str(&text).unwrap(),
                Message::Binary(bytes) => {
                    let mut liar = liar.lock().unwrap();
                    assert!(liar.vehicles[&own].is_binary && bytes.len() == 48, "{bytes:?}");
                    assert_eq!(bytes[..8], [1, 1, 32, 0, 1, 0, 0, 0]);
                    let base = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
                    let sec_mark = u16::from_le_bytes(bytes[42..44].try_into().unwrap());
                    assert_eq!(base % 60_000, u64::from(sec_mark));
                    liar.update(&own, &Position::Record(bytes[16..].to_vec(), base));
                    continue;
                }
                _ => continue,
            };
            let mut liar = liar.lock().unwrap();
            match message["event"].as_str() {
                Some("register") => {
                    own = message["data"]["vehicleId"].as_str().unwrap().to_owned();
                    liar.vehicles.insert(own.clone(), vehicle.take().expect("one registration"));
                    liar.tell_event(&own, json!({"event": "registered", "data": {"vehicleId": own}}));
                }
                Some("location_update") => {
                    assert!(!liar.vehicles[&own].is_binary);
                    liar.update(&own, &Position::Json(message["data"].clone()));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_numbers_are_those_that_an_independent_count_has() {
    for dialect in [Dialect::Json, Dialect::Binary] {
        are_those_that_an_independent_count_has(dialect);
    }
}

fn are_those_that_an_independent_count_has(dialect: Dialect) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/v2v", listener.local_addr().unwrap());
    let liar = Arc::new(Mutex::new(Liar::default()));
    let shared = liar.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let liar = shared.clone();
            thread::spawn(move || Liar::serve(stream.unwrap(), &liar));
        }
    });
    // The diagonal of the square is shorter than the radius, so everyone is near everyone, whenever one looks.
    let options = DriveOptions {
        url,
        dialect,
        vehicles: Some(20),
        hz: 5.0,
        seconds: Some(3.0),
        side_m: 300.0,
        ..Default::default()
    };
    let report = drive::run(options, |_| ControlFlow::Continue(())).unwrap();

    let liar = liar.lock().unwrap();
    let tally = &report.tally;
    assert!(liar.updates > 200 && liar.lost > 20 && liar.repeated > 10 && liar.invented > 10, "{report}");
    assert_eq!(tally.sent, liar.updates, "{report}");
    assert_eq!(tally.received, liar.deliveries, "{report}");
    assert_eq!(tally.owed + tally.unsure, liar.owed, "{report}");
    assert!(tally.unsure < liar.owed / 4, "{report}");
    assert_eq!(tally.duplicate, liar.repeated, "{report}");
    assert_eq!(tally.wrong, liar.invented, "{report}");
    // On a machine that stands still for two seconds some come too late to be counted as paid.
    assert_eq!(tally.missing(), liar.lost + tally.late, "{report}");
    let traffic = &report.traffic;
    assert_eq!((traffic.positions, traffic.position_bytes), (liar.deliveries, liar.position_bytes), "{report}");
    assert_eq!((traffic.identities, traffic.unnamed), (liar.identities, 0), "{report}");
}
