//! A Redis server of our own, on a port that the kernel chose. It ends with its value.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::machine::{self, Seat};
use crate::{PATIENCE, until};

/// What runs the server.
pub const PROGRAM: &str = "redis-server";

pub struct Redis {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Redis {
    /// A server with nothing in it, that keeps nothing.
    pub fn start() -> Redis {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            let port = probe.local_addr().expect("its address").port();
            drop(probe);
            let dir = tempfile::tempdir().expect("a directory");
            let mut command = Command::new(PROGRAM);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.arg("--dir").arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = machine::seated(Seat::Beside, || command.spawn()).expect("it is installed");
            let mut server = Redis { port, child, _dir: dir };
            // Somebody else may have taken the port meanwhile; then it has ended.
            if server.comes_up(deadline) {
                return server;
            }
        }
    }

    fn comes_up(&mut self, deadline: Instant) -> bool {
        while self.child.try_wait().expect("a child of ours").is_none() {
            if self.ask("PING").is_some_and(|answer| answer.starts_with("+PONG")) {
                return true;
            }
            assert!(Instant::now() < deadline, "{PROGRAM} does not come up");
        }
        false
    }

    /// The first bytes of the answer to a command without arguments that have spaces.
    pub fn ask(&self, command: &str) -> Option<String> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        socket.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut buffer = [0; 64];
        let len = socket.read(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    /// Squares that somebody listens to.
    pub fn squares(&self) -> u64 {
        let answer = self.ask("PUBSUB CHANNELS v2v:cell:*").expect("an answer");
        let count = answer.strip_prefix('*').and_then(|list| list.split('\r').next()?.parse().ok());
        count.unwrap_or_else(|| panic!("no list: {answer:?}"))
    }

    /// A gateway of this name that has found this server.
    pub fn gateway(&self, name: &str, number: usize, settings: &[&str]) -> Gateway {
        let (url, node) = (format!("redis.url={}", self.url()), format!("redis.node_id={name}"));
        let settings: Vec<&str> = [&url[..], &node].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start(name, number, &settings);
        until(&format!("{name} finds Redis"), || gateway.metrics().get("ringroad_backplane_workers_up") == 1);
        gateway
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its processor time so far.
    pub fn seconds(&self) -> f64 {
        machine::process_seconds(self.child.id())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program says of its version; `None`: it is not there.
pub fn version(program: &str) -> Option<String> {
    let said = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let number = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Some(number.map_or_else(|| text.trim().to_owned(), |number| format!("{program} {number}")))
}
