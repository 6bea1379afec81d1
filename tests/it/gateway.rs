//! The real binary, started for one test and held to a clean end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{PATIENCE, until};

/// Rates are the pure tests' business; here they would only make everything slow.
const UNLIMITED: [&str; 7] = [
    "rate_limits.location_update.burst=0",
    "rate_limits.send_message.burst=0",
    "rate_limits.signaling.burst=0",
    "rate_limits.ice_candidate.burst=0",
    "rate_limits.emergency_alert.burst=0",
    "vehicles.coalesce_ms=0",
    // So is leaving slowly, but for the tests of that.
    "server.drain_ms=0",
];

/// The binary with nothing of the machine's own settings.
pub fn ringroad(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringroad"));
    command.env_clear().args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A gateway that runs. When it is dropped it is asked to stop, and has to: with exit code 0 and no error logged.
pub struct Gateway {
    pub addr: SocketAddr,
    child: Child,
    ended: Option<ExitStatus>,
    stderr: Option<JoinHandle<String>>,
    /// What it says on stdout after the first two lines.
    lines: Receiver<String>,
}

impl Gateway {
    /// Two workers on a port of 127.0.0.1 that the kernel chooses, without rate limits.
    pub fn start(settings: &[&str]) -> Gateway {
        Gateway::listen("127.0.0.1:0", settings)
    }

    pub fn listen(addr: &str, settings: &[&str]) -> Gateway {
        Gateway::start_with(&["--listen", addr], settings, &[])
    }

    /// One that logs as much as this.
    pub fn start_logging(level: &str, settings: &[&str]) -> Gateway {
        Gateway::start_with(&["--listen", "127.0.0.1:0"], settings, &[("RINGROAD_LOG", level)])
    }

    /// With options of `serve` of its own, and something in its environment.
    pub fn start_with(options: &[&str], settings: &[&str], env: &[(&str, &str)]) -> Gateway {
        let sets = UNLIMITED.iter().chain(settings).flat_map(|setting| ["--set", setting]);
        let args: Vec<&str> = ["serve", "--workers", "2"].iter().chain(options).copied().chain(sets).collect();
        let mut child = ringroad(&args).envs(env.iter().copied()).spawn().expect("the binary starts");
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let lines = lines_of(child.stdout.take().expect("piped"));
        let addr = ([0, 0, 0, 0], 0).into();
        let mut gateway = Gateway { addr, child, ended: None, stderr: Some(stderr), lines };
        let line =
            gateway.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not start:\n{}", gateway.kill()));
        let (_, addr) = line.rsplit_once(" listening on ").unwrap_or_else(|| panic!("no address in {line:?}"));
        gateway.addr = addr.parse().expect("an address");
        let line = gateway.lines.recv_timeout(PATIENCE).expect("a second line");
        assert_eq!(line, "workers: 2");
        gateway
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        self.ended = self.ended.or_else(|| self.child.try_wait().expect("our child"));
        self.ended.is_some()
    }

    /// The private address, as it says.
    pub fn private_addr(&self) -> SocketAddr {
        let said = || self.lines.recv_timeout(PATIENCE).expect("a line about the private address");
        let line = std::iter::repeat_with(said).find(|line| line.starts_with("private address: ")).expect("lines");
        line["private address: ".len()..].parse().expect("an address")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        until("the gateway ends", || {
            ended = self.child.try_wait().expect("our child");
            ended.is_some()
        });
        self.ended = ended;
        ended.expect("just waited for")
    }

    fn stderr(&mut self) -> String {
        self.stderr.take().map_or_else(String::new, |reader| reader.join().unwrap_or_default())
    }

    /// Asks it to stop, holds it to a clean end, and gives its log.
    pub fn stop(mut self) -> String {
        self.end()
    }

    /// Asks it to stop although it has logged errors, and gives its log.
    pub fn stop_with_errors(mut self) -> String {
        self.signal(Signal::SIGTERM);
        assert!(self.wait().success());
        self.stderr()
    }

    /// Ends it as a power cut would (`kill -9`), and gives its log.
    pub fn crash(mut self) -> String {
        let log = self.kill();
        held_to_no_error(&log);
        log
    }

    fn end(&mut self) -> String {
        if self.ended.is_none() {
            self.signal(Signal::SIGTERM);
            let deadline = Instant::now() + PATIENCE;
            while self.ended.is_none() {
                if Instant::now() > deadline {
                    panic!("it does not stop:\n{}", self.kill());
                }
                thread::sleep(std::time::Duration::from_millis(1));
                self.ended = self.child.try_wait().expect("our child");
            }
        }
        let log = self.stderr();
        assert!(self.ended.is_some_and(|status| status.success()), "{:?}\n{log}", self.ended);
        held_to_no_error(&log);
        log
    }

    fn kill(&mut self) -> String {
        if self.ended.is_none() {
            // It may have ended meanwhile.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
        self.stderr()
    }

    /// The answer to an HTTP request, given as method and target.
    pub fn ask(&self, request: &str, headers: &[(&str, &str)]) -> Reply {
        Gateway::ask_at(self.addr, request, headers)
    }

    /// The same of another address of its own.
    pub fn ask_at(addr: SocketAddr, request: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut text = format!("{request} HTTP/1.1\r\nHost: {addr}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        Reply::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[])
    }

    /// The same of another address of its own.
    pub fn get_at(addr: SocketAddr, path: &str) -> Reply {
        Gateway::ask_at(addr, &format!("GET {path}"), &[])
    }

    /// How many vehicles `/health` counts.
    pub fn vehicles(&self) -> u64 {
        self.get("/health").json()["vehicles"].as_u64().expect("a number")
    }

    /// One series of `/metrics`, with its label if it has one.
    pub fn metric(&self, series: &str) -> u64 {
        Gateway::metric_at(self.addr, series)
    }

    /// The same as another address of its own says.
    pub fn metric_at(addr: SocketAddr, series: &str) -> u64 {
        let text = Gateway::get_at(addr, "/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// The sum over the labels of a family of `/metrics`.
    pub fn metric_sum(&self, family: &str) -> u64 {
        Gateway::sum_in(&self.get("/metrics").body, family)
    }

    /// The sum over the labels of a family in what `/metrics` said.
    pub fn sum_in(text: &str, family: &str) -> u64 {
        let cells = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once("} "));
        cells.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
    }

    /// Which registered vehicles are on the same worker.
    ///
    /// `/vehicles` begins with those of the worker that was asked, so as soon as the other one has answered, the place
    /// where the order was turned around is the border. `None`: one worker has them all, or the same one answered all
    /// of 64 connections.
    pub fn halves(&self) -> Option<[Vec<String>; 2]> {
        let list = || -> Vec<String> {
            let listing = self.get("/vehicles").json();
            let vehicles = listing["vehicles"].as_array().expect("a list");
            vehicles.iter().map(|vehicle| vehicle["vehicleId"].as_str().expect("an id").to_owned()).collect()
        };
        let mut first = list();
        let turned = (0..64).map(|_| list()).find(|listing| *listing != first)?;
        let border = first.iter().position(|id| *id == turned[0]).expect("nobody came or went");
        let second = first.split_off(border);
        Some([first, second])
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.kill());
        } else if self.stderr.is_some() {
            self.end();
        }
    }
}

fn held_to_no_error(log: &str) {
    assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
}

/// Lines as they come.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody listens once the test is over; the pipe is still to be emptied.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// An HTTP reply, read to the end of its connection.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn read(stream: &mut TcpStream) -> Reply {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a reply");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}
