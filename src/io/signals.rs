//! SIGINT and SIGTERM, waited for by the thread that started the workers.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
pub use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::threads::Running;

fn ends() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}

/// Keeps both signals from interrupting this thread and every thread that it starts from now on. To be called before
/// the workers start: one that does not block them would get them.
pub fn block() -> nix::Result<()> {
    ends().thread_block()
}

/// Waits for one of the two. They have their usual effect again then: a second one ends the process at once.
pub fn wait() -> nix::Result<Signal> {
    let signal = ends().wait()?;
    ends().thread_unblock()?;
    Ok(signal)
}

/// Waits for one of the two as [`wait`] does, or until all workers have ended by themselves (`None`).
pub fn wait_while(running: &Running) -> nix::Result<Option<Signal>> {
    let signals = SignalFd::with_flags(&ends(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        let mut either = [signals.as_fd(), running.all_ended()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut either, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if let Some(info) = signals.read_signal()? {
            ends().thread_unblock()?;
            return Ok(Some(Signal::try_from(info.ssi_signo as i32)?));
        }
        if either[1].any() == Some(true) {
            return Ok(None);
        }
    }
}

/// Tells without waiting whether one of the two has come.
pub struct Pending(SignalFd);

impl Pending {
    /// Blocks both signals as [`block`] does, and watches for them.
    pub fn watch() -> nix::Result<Pending> {
        block()?;
        SignalFd::with_flags(&ends(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Pending)
    }

    /// Whether one came since the last call. The next one has its usual effect then.
    pub fn has_come(&self) -> bool {
        let came = matches!(self.0.read_signal(), Ok(Some(_)));
        if came {
            // A signal that stays blocked only cannot end the process a second time.
            let _ = ends().thread_unblock();
        }
        came
    }
}
