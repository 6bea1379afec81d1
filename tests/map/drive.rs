//! `ringroad drive`, for as long as a test needs it.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::gateway::ringroad;

/// A fleet; it says goodbye when it is dropped.
pub struct Drive(Child);

impl Drive {
    pub fn start(addr: SocketAddr, options: &[&str]) -> Drive {
        let url = format!("ws://{addr}/v2v");
        let args: Vec<&str> = ["drive", &url, "--seconds", "3600"].iter().chain(options).copied().collect();
        Drive(ringroad(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts"))
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let asked = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let status = self.0.wait();
        if !std::thread::panicking() {
            asked.expect("our child");
            let status = status.expect("our child");
            assert!(status.success(), "{status}");
        }
    }
}
