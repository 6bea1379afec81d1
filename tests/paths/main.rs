//! The benchmark's servers do what they are measured for: the paths serve a fleet as the gateway does, the floors answer.

#[path = "../../benches/load/floors.rs"]
#[expect(dead_code, reason = "the benchmark starts them as processes")]
mod floors;
#[path = "../../benches/load/paths/mod.rs"]
#[expect(dead_code, reason = "the benchmark starts them as processes")]
mod paths;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use ringroad::client::{Client, Dialect, Heard, Registration};
use ringroad::config::Config;
use ringroad::drive::{self, DriveOptions};

use paths::door::Door;
use paths::shell::Shell;

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a thread of this process.
struct Server<T> {
    addr: SocketAddr,
    goodbye: EventFd,
    thread: JoinHandle<io::Result<T>>,
}

impl<T: Send + 'static> Server<T> {
    fn start(config: &Config, run: impl FnOnce(Door, OwnedFd) -> io::Result<T> + Send + 'static) -> Server<T> {
        let door = Door::open(([127, 0, 0, 1], 0).into(), config.limits.unsent_bytes_max).expect("a port");
        let addr = door.addr;
        let goodbye = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        let also = goodbye.as_fd().try_clone_to_owned().expect("a descriptor");
        Server { addr, goodbye, thread: thread::spawn(move || run(door, also)) }
    }

    fn stop(self) -> T {
        self.goodbye.write(1).expect("room in a counter");
        self.thread.join().expect("no panic").expect("an orderly end")
    }
}

impl Server<()> {
    fn path(name: &str, config: Config) -> Server<()> {
        let given = config.clone();
        match name {
            "path-epoll" => {
                Server::start(&config, move |door, goodbye| paths::epoll::run(door, Shell::new(given), goodbye))
            }
            "path-tasks" => {
                Server::start(&config, move |door, goodbye| paths::tasks::run(door, Shell::new(given), goodbye))
            }
            _ => panic!("{name}: no such path"),
        }
    }
}

/// One connection with a blocking socket.
struct Visitor {
    socket: TcpStream,
    client: Client,
    /// Received behind what was looked for last.
    unheard: Vec<u8>,
}

impl Visitor {
    fn enter(addr: SocketAddr, seed: u64) -> Visitor {
        let socket = TcpStream::connect(addr).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut visitor =
            Visitor { socket, client: Client::new(Dialect::Json, "bench", "/v2v", seed), unheard: Vec::new() };
        visitor.say();
        visitor.hear(|heard| matches!(heard, Heard::Upgraded).then_some(()));
        visitor
    }

    fn register(&mut self, vehicle_id: &str) {
        self.client.register(&Registration { vehicle_id, driver_name: "Ada", ..Registration::default() });
        self.say();
        next(self, "registered");
    }

    fn say(&mut self) {
        self.socket.write_all(self.client.pending()).expect("sent");
        self.client.pending_mut().clear();
    }

    /// Reads until something is what is wanted.
    fn hear<T>(&mut self, mut wanted: impl FnMut(Heard<'_>) -> Option<T>) -> T {
        let mut bytes = [0; 16 * 1024];
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut came = std::mem::take(&mut self.unheard);
            let mut at = 0;
            while let (used, Some(heard)) = self.client.hear(&mut came[at..]).expect("WebSocket") {
                at += used;
                if let Some(found) = wanted(heard) {
                    self.unheard = came.split_off(at);
                    return found;
                }
            }
            let len = self.socket.read(&mut bytes).expect("something in time");
            assert!(len > 0, "it has closed the connection");
            self.unheard.extend_from_slice(&bytes[..len]);
        }
        panic!("it did not come");
    }
}

/// The text of the next event of that name.
fn next(visitor: &mut Visitor, wanted: &str) -> String {
    visitor.hear(|heard| match heard {
        Heard::Event { name, text } if name == wanted => Some(text.to_owned()),
        _ => None,
    })
}

fn counted(addr: SocketAddr, series: &str) -> u64 {
    let mut socket = TcpStream::connect(addr).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n").expect("sent");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("a reply, and then the end");
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).expect(series);
    line.parse().expect("a number")
}

#[test]
fn a_fleet_gets_what_it_is_owed() {
    for path in paths::NAMES {
        for dialect in [Dialect::Json, Dialect::Binary] {
            let server = Server::path(path, Config::default());
            let url = format!("ws://{}/v2v", server.addr);
            let options =
                DriveOptions { url, dialect, vehicles: Some(80), hz: 2.0, seconds: Some(2.0), ..Default::default() };
            let report = drive::run(options, |_| ControlFlow::Continue(())).expect("a drive");
            server.stop();
            let tally = &report.tally;
            assert_eq!(report.registered, 80, "{path}: {report}");
            assert!(tally.owed > 500 && report.errors.is_empty() && report.closes.is_empty(), "{path}: {report}");
            // Where a machine stands still for nearly as long as from one update to the next, the newer one replaces the
            // older.
            let stood_still = tally.latency.max_ms() >= 400;
            assert!(stood_still || (tally.missing(), tally.wrong) == (0, 0), "{path}: {report}");
        }
    }
}

#[test]
fn who_does_not_read_for_a_while_gets_everything_in_order() {
    for path in paths::NAMES {
        let mut config = Config::default();
        config.rate_limits.emergency_alert.burst = 0;
        config.limits.outbox_bytes_max = 16 * 1024 * 1024;
        let server = Server::path(path, config);
        let mut reader = Visitor::enter(server.addr, 1);
        reader.register("reader");
        let mut sender = Visitor::enter(server.addr, 2);
        sender.register("sender");
        // More than the kernel keeps for somebody who does not read; one at a time, so that they are many sends.
        let padding = "x".repeat(1_900);
        let alerts = 4_000;
        for number in 0..alerts {
            let info = format!(r#"{{"number":{number},"padding":"{padding}"}}"#);
            let alert = format!(r#"{{"event":"emergency_alert","data":{{"senderId":"sender","vehicleInfo":{info}}}}}"#);
            sender.client.say(&alert);
            sender.say();
            next(&mut sender, "emergency_alert");
        }
        assert!(counted(server.addr, "ringroad_sends_blocked_total") > 0, "{path} has never found a socket full");
        for number in 0..alerts {
            let text = next(&mut reader, "emergency_alert");
            assert!(text.contains(&format!(r#""number":{number},"#)), "{path}: {number} is not {text}");
        }
        server.stop();
    }
}

#[test]
fn who_leaves_without_a_word_is_let_go() {
    for path in paths::NAMES {
        let server = Server::path(path, Config::default());
        let mut visitors: Vec<_> = (0..50).map(|seed| Visitor::enter(server.addr, seed)).collect();
        visitors.iter_mut().zip(100..).for_each(|(visitor, number)| visitor.register(&format!("car-{number}")));
        assert_eq!(counted(server.addr, "ringroad_accepts_total"), 51, "{path}: they and who asks");
        drop(visitors);
        let deadline = Instant::now() + PATIENCE;
        while counted(server.addr, "ringroad_sockets_closed_total") < 50 {
            assert!(Instant::now() < deadline, "{path} keeps them");
        }
        server.stop();
    }
}

#[test]
fn a_stop_is_said_to_everybody() {
    for path in paths::NAMES {
        let server = Server::path(path, Config::default());
        let mut visitors: Vec<_> = (0..3).map(|seed| Visitor::enter(server.addr, seed)).collect();
        server.goodbye.write(1).expect("room in a counter");
        for visitor in &mut visitors {
            let code = visitor.hear(|heard| if let Heard::Closed { code, .. } = heard { Some(code) } else { None });
            assert_eq!(code, 1012, "{path}");
        }
        drop(visitors);
        server.stop();
    }
}

#[test]
fn settings_that_ask_for_what_a_path_has_not_are_refused() {
    let read = |sets: &[&str]| {
        let args: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).map(str::to_owned).collect();
        paths::settings::read(&args).map(|config| config.vehicles.coalesce_ms)
    };
    assert_eq!(read(&["vehicles.coalesce_ms=7"]), Ok(7));
    for asked in ["server.workers=2", "redis.url=redis://127.0.0.1", "radio.device=/dev/null", "vehicles.nothing=1"] {
        assert!(read(&[asked]).is_err(), "{asked}");
    }
    assert!(paths::settings::read(&["--listen".to_owned()]).is_err());
}

/// What the floor sends is as long as what the gateway sends, and as many get it.
#[test]
fn the_floor_sends_what_a_gateway_does() {
    let alert = r#"{"event":"emergency_alert","data":{"senderId":"car-7","vehicleInfo":{"model":"Golf"}}}"#;
    let floor = Server::start(&Config::default(), |door, goodbye| floors::run("floor-send", door, goodbye));
    let mut config = Config::default();
    config.rate_limits.emergency_alert.burst = 0;
    let path = Server::path("path-epoll", config);
    let told = |addr, registers: bool| {
        let mut visitors: Vec<_> = (0..10).map(|seed| Visitor::enter(addr, seed)).collect();
        if registers {
            visitors[7].register("car-7");
        }
        // Two that arrive together are two.
        visitors[7].client.say(alert);
        visitors[7].client.say(alert);
        visitors[7].say();
        let twice = visitors.iter_mut().flat_map(|visitor| [0; 2].map(|_| next(visitor, "emergency_alert").len()));
        twice.collect::<Vec<_>>()
    };
    assert_eq!(told(floor.addr, false), told(path.addr, true));
    assert_eq!(floor.stop(), 0, "frames were lost");
    path.stop();
}

#[test]
fn the_floor_takes_what_comes_and_says_nothing() {
    let floor = Server::start(&Config::default(), |door, goodbye| floors::run("floor-recv", door, goodbye));
    let mut visitor = Visitor::enter(floor.addr, 1);
    visitor.client.register(&Registration { vehicle_id: "car-1", driver_name: "Ada", ..Registration::default() });
    // More than a socket holds: who can send it all is read.
    let nothing = "x".repeat(1_000_000);
    for _ in 0..30 {
        visitor.client.say(&nothing);
        visitor.say();
    }
    assert_eq!(floor.stop(), 0);
    let mut left = Vec::new();
    // Closed with bytes that it has not read, a socket resets.
    let _ = visitor.socket.read_to_end(&mut left);
    assert!(left.is_empty(), "it has answered");
}
