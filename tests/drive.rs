//! A fleet against the gateway, on real sockets: what `ringroad drive` and `ringroad demo` are made of.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::thread;

use ringroad::config::Config;
use ringroad::drive::report::Phase;
use ringroad::drive::{self, DriveError, DriveOptions, Recording};
use ringroad::gateway;
use ringroad::io::Running;
use serde_json::{Value, json};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

fn gateway(change: impl FnOnce(&mut Config)) -> (Running, DriveOptions) {
    let mut config = Config::default();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.workers = 2;
    change(&mut config);
    let running = gateway::serve(config).unwrap();
    let url = format!("ws://{}/v2v", running.addr().unwrap());
    (running, DriveOptions { url, ..DriveOptions::default() })
}

fn stop(running: Running) {
    running.stop();
    running.join().unwrap();
}

#[test]
fn everyone_hears_of_their_neighbours_and_nobody_else_does() {
    let (running, options) = gateway(|_| {});
    let mut phases = Vec::new();
    let options = DriveOptions { vehicles: Some(80), hz: 2.0, seconds: Some(3.0), ..options };
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
    assert_eq!((tally.wrong, tally.duplicate, report.strangers), (0, 0, 0), "{report}");
    // On a machine that stands still for two seconds, what was owed is late; it must not be lost.
    assert!(tally.missing() <= tally.late, "{report}");
    assert!(report.errors.is_empty() && report.closes.is_empty(), "{report}");
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

/// A gateway that shares no line with ours and does not always tell the truth. Everyone is near everyone; what it does
/// to each delivery depends on how many there were, and it counts for itself.
#[derive(Default)]
struct Liar {
    vehicles: HashMap<String, WebSocket<TcpStream>>,
    updates: u64,
    deliveries: u64,
    owed: u64,
    lost: u64,
    repeated: u64,
    invented: u64,
}

impl Liar {
    fn tell(&mut self, vehicle: &str, event: Value) {
        if let Some(socket) = self.vehicles.get_mut(vehicle) {
            socket.send(Message::text(event.to_string())).unwrap();
        }
    }

    fn update(&mut self, data: &Value) {
        self.updates += 1;
        let sender = data["vehicleId"].as_str().unwrap().to_owned();
        let mut told: Vec<String> = self.vehicles.keys().filter(|id| **id != sender).cloned().collect();
        told.sort();
        for vehicle in told {
            self.owed += 1;
            let mut location = data.clone();
            location["coalesced"] = json!(true);
            // It is honest at first: before a vehicle's own position is surely known, nothing is surely owed to it.
            let times = match self.owed % 100 {
                _ if self.updates <= 100 => 1,
                7 | 77 => 0,
                33 => 2,
                50 => {
                    self.invented += 1;
                    let mut invented = location.clone();
                    invented["ts"] = json!(data["ts"].as_u64().unwrap() - 1);
                    self.tell(&vehicle, json!({"event": "peer_location", "data": invented}));
                    self.deliveries += 1;
                    1
                }
                _ => 1,
            };
            self.lost += u64::from(times == 0);
            self.repeated += u64::from(times == 2);
            for _ in 0..times {
                self.deliveries += 1;
                self.tell(&vehicle, json!({"event": "peer_location", "data": location}));
            }
        }
    }

    fn serve(stream: TcpStream, liar: &Mutex<Liar>) {
        stream.set_nodelay(true).unwrap();
        let writer = stream.try_clone().unwrap();
        // The fleet looks whether anyone is there before it sends its vehicles.
        let Ok(mut reader) = tungstenite::accept(stream) else { return };
        let mut writer = Some(WebSocket::from_raw_socket(writer, Role::Server, None));
        while let Ok(message) = reader.read() {
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            let mut liar = liar.lock().unwrap();
            match message["event"].as_str() {
                Some("register") => {
                    let id = message["data"]["vehicleId"].as_str().unwrap();
                    liar.vehicles.insert(id.to_owned(), writer.take().expect("one registration"));
                    liar.tell(id, json!({"event": "registered", "data": {"vehicleId": id}}));
                }
                Some("location_update") => liar.update(&message["data"]),
                _ => {}
            }
        }
    }
}

#[test]
fn the_numbers_are_those_that_an_independent_count_has() {
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
    let options =
        DriveOptions { url, vehicles: Some(20), hz: 5.0, seconds: Some(3.0), side_m: 300.0, ..Default::default() };
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
}
