//! SIGINT, SIGTERM and SIGHUP, waited for by the thread that started the workers.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
pub use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::threads::Running;

fn ends() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}

/// What a gateway heeds: the two that end it, and the one that lets it read its configuration again.
fn all() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

/// Keeps the three from interrupting this thread and every thread that it starts from now on. To be called before the
/// workers start: one that does not block them would get them.
pub fn block() -> nix::Result<()> {
    all().thread_block()
}

/// What a thread was woken by that waits for signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One of the three. After the first that ends the process, the next one of these ends it at once.
    Signal(Signal),
    /// All workers have ended.
    Ended,
    /// Nothing; the time is over.
    Nothing,
}

/// Waits for signals that [`block`] keeps from the threads.
pub struct Ear(SignalFd);

impl Ear {
    /// Listens from now on; what has come since the signals were blocked is heard too.
    pub fn listen() -> nix::Result<Ear> {
        SignalFd::with_flags(&all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Ear)
    }

    /// Waits for a signal, for the end of all workers, or for this long.
    pub fn hear(&self, running: &Running, within: Option<Duration>) -> nix::Result<Heard> {
        let deadline = within.map(|within| Instant::now() + within);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // Rounded up, so that it does not spin through the last millisecond.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
            });
            let mut either = [self.0.as_fd(), running.all_ended()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut either, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let has_ended = either[1].any() == Some(true);
            if let Some(info) = self.0.read_signal()? {
                let signal = Signal::try_from(info.ssi_signo as i32)?;
                if ends().contains(signal) {
                    ends().thread_unblock()?;
                }
                return Ok(Heard::Signal(signal));
            }
            if has_ended {
                return Ok(Heard::Ended);
            }
            if left == Some(Duration::ZERO) {
                return Ok(Heard::Nothing);
            }
        }
    }
}

/// Tells without waiting whether one of those that end a process has come.
pub struct Pending(SignalFd);

impl Pending {
    /// Blocks SIGINT and SIGTERM as [`block`] does, and watches for them.
    pub fn watch() -> nix::Result<Pending> {
        ends().thread_block()?;
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
