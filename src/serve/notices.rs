//! What the service manager is told (sd_notify(3)), and the watchdog that it keeps.

use std::time::{Duration, Instant};

use ringroad::io::Running;
use sd_notify::NotifyState;

/// Of its time, how often a watchdog is fed: three times, so that one late look does not end the process.
const FEEDS: u32 = 3;

/// Tells the manager, if there is one: without `NOTIFY_SOCKET` nothing happens.
pub struct Notices;

impl Notices {
    /// It serves.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It reads its configuration again; [`Notices::ready`] follows.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no monotonic clock"),
        }
    }

    /// It lets go of everybody and ends, within this time at the latest.
    pub fn stopping(&self, status: &str, within: Duration) {
        // The manager's own patience may be less than the drain that an operator has set.
        let within_us = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within_us), NotifyState::Status(status)]);
    }

    fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Calls the workers, and feeds the manager's watchdog if each has answered the call before.
pub struct Watchdog {
    every: Duration,
    look_at: Instant,
    /// The workers that do not answer have been named.
    is_named: bool,
}

impl Watchdog {
    /// The one that the manager asks for (`WATCHDOG_USEC`).
    pub fn asked_for() -> Option<Watchdog> {
        let every = sd_notify::watchdog_enabled()? / FEEDS;
        Some(Watchdog { every, look_at: Instant::now(), is_named: false })
    }

    /// Looks if it is time; how long until the next time.
    pub fn look(&mut self, running: &Running, notices: &Notices) -> Duration {
        let now = Instant::now();
        if now >= self.look_at {
            let silent = running.silent();
            if silent.is_empty() {
                notices.alive();
                running.call();
            } else if !self.is_named {
                let workers: Vec<String> = silent.iter().map(|worker| worker.0.to_string()).collect();
                tracing::error!(workers = workers.join(", "), "stuck: the watchdog is not fed");
            }
            self.is_named = !silent.is_empty();
            self.look_at = now + self.every;
        }
        self.look_at.saturating_duration_since(now)
    }
}
