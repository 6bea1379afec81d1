//! Network namespaces: machines of their own, joined by cables that can be pulled.
//!
//! A namespace belongs to a thread and to what the thread starts, and goes with them: nothing is left behind.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

/// Takes the calling thread into a new namespace with a loopback device. `Err`: why this machine does not let it.
pub fn enter() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("unshare: {error}"))?;
    ip("link set lo up")
}

/// Runs `ip` in the namespace of the calling thread.
pub fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A cable between two namespaces: both ends have its name, and the addresses `198.18.<net>.1` (this side) and `.2`.
/// That net is set aside for tests of networks (RFC 2544).
pub struct Cable {
    pub name: &'static str,
    pub net: u8,
}

impl Cable {
    fn lay(&self, other: Pid) -> Result<(), String> {
        let Cable { name, net } = self;
        ip(&format!("link add {name} type veth peer name {name} netns {other}"))?;
        ip(&format!("addr add 198.18.{net}.1/30 dev {name}"))?;
        ip(&format!("link set {name} up"))
    }

    fn plug_in(&self) -> Result<(), String> {
        let Cable { name, net } = self;
        ip(&format!("addr add 198.18.{net}.2/30 dev {name}"))?;
        ip(&format!("link set {name} up"))
    }

    /// What is on its way is lost, and nobody is told.
    pub fn pull(&self) {
        ip(&format!("link set {} down", self.name)).expect("our end");
    }

    pub fn put_back(&self) {
        ip(&format!("link set {} up", self.name)).expect("our end");
    }
}

/// Runs something in a new namespace that these cables lead to.
pub fn beyond<T: Send + 'static>(
    cables: &[&'static Cable],
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (tell, told) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let there = cables.to_vec();
    let thread = thread::spawn(move || {
        let entered = enter();
        let _ = tell.send(entered.map(|()| gettid()));
        // The cables are laid, or were not: then their other end is missing and says so.
        let _ = gone.recv();
        there.iter().try_for_each(|cable| cable.plug_in())?;
        Ok(run())
    });
    let other = told.recv().map_err(|error| error.to_string())?;
    let laid = other.and_then(|other| cables.iter().try_for_each(|cable| cable.lay(other)));
    drop(go);
    let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    laid.and(result)
}
