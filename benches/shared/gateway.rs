//! The real binary with one worker, or another server, on a processor of its own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::PATIENCE;
use crate::machine::{self, Seat};

pub struct Gateway {
    pub addr: SocketAddr,
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Gateway {
    /// A gateway that listens on a port of the kernel's choice, and serves.
    pub fn start(name: &str, number: usize, settings: &[&str]) -> Gateway {
        Gateway::launch(name, number, Gateway::command(settings)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What starts the real binary.
    pub fn command(settings: &[&str]) -> Command {
        let sets = settings.iter().copied().flat_map(|set| ["--set", set]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringroad"));
        command.env_clear().args(["--listen", "127.0.0.1:0", "--workers", "1"]).args(sets);
        command
    }

    /// Runs any server that says ` listening on ADDRESS` in its first line, or says why it does not.
    pub fn launch(name: &str, number: usize, mut command: Command) -> Result<Gateway, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = machine::seated(Seat::Gateway(number), || command.spawn());
        let mut child = child.map_err(|error| format!("{name} does not start: {error}"))?;
        let mut stderr = child.stderr.take().expect("piped");
        let log = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut gateway = Gateway { addr: ([127, 0, 0, 1], 0).into(), child, log: Some(log) };
        let mut line = String::new();
        stdout.read_line(&mut line).map_err(|error| format!("{name}: {error}"))?;
        let addr = line.rsplit_once(" listening on ").and_then(|(_, addr)| addr.trim().parse().ok());
        gateway.addr = addr.ok_or_else(|| format!("{name} does not start:\n{}", gateway.end()))?;
        // The pipe is still to be emptied.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(gateway)
    }

    /// Everything that it counts, now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics"))
    }

    /// What it answers to a request.
    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a reply");
        text.split_once("\r\n\r\n").expect("a head").1.to_owned()
    }

    /// Its processor time so far.
    pub fn seconds(&self) -> f64 {
        machine::process_seconds(self.id())
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(self) {
        let (status, log) = self.terminate();
        assert!(status.success() && !log.contains(" ERROR "), "{status}\n{log}");
    }

    /// The same of a server that need not end well: how it ended, and what it has logged.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        kill(Pid::from_raw(self.id() as i32), Signal::SIGTERM).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("a child of ours") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not stop:\n{}", self.end()),
            }
            thread::sleep(std::time::Duration::from_millis(1));
        };
        let log = self.end();
        (status, log)
    }

    /// Ends it if it still runs. What it has logged.
    fn end(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.take().map_or_else(String::new, |log| log.join().unwrap_or_default())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let log = self.end();
        if thread::panicking() {
            eprintln!("{log}");
        }
    }
}

/// Series of an exposition, by their names with labels.
#[derive(Clone, Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Metrics(lines.filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?))).collect())
    }

    pub fn get(&self, series: &str) -> u64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} among the metrics")) as u64
    }

    /// All of them.
    pub fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(series, value)| (&series[..], *value))
    }
}
