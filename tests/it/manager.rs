//! What a service manager hears: a datagram socket, as sd_notify(3) has it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::PATIENCE;

pub struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    pub fn new() -> Manager {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Manager { socket, directory }
    }

    /// For the environment of a service.
    pub fn address(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// The next message, if one comes within this time.
    pub fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("a timeout");
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..len].to_vec()).expect("UTF-8"))
    }

    /// The next message that has this line; others are passed over.
    pub fn expect(&self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        while let Some(message) = self.hear(deadline.saturating_duration_since(Instant::now())) {
            if message.lines().any(|one| one == line) {
                return message;
            }
            passed.push(message);
        }
        panic!("waited in vain for {line}; heard {passed:?}")
    }
}
