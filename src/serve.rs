//! `ringroad serve`: a gateway from its start to its end, and what is asked of it meanwhile.
//!
//! The workers serve; this thread waits for signals, tells the service manager how things are, and looks whether every
//! worker is there.

mod notices;
mod pid_file;

use std::time::Duration;

use ringroad::config::{self, Config};
use ringroad::gateway::{self, Gateway};
use ringroad::io::signals::{self, Ear, Heard, Signal};
use ringroad::limits;

use crate::cli::{self, Failure, Logs, ServeArgs};
use crate::runtime;
use notices::{Notices, Watchdog};
use pid_file::PidFile;

/// What a busy host may add to the end of a process.
const SPARE: Duration = Duration::from_secs(1);

/// Runs the gateway until it is asked to stop.
pub fn serve(args: &ServeArgs, logs: &Logs) -> Result<(), Failure> {
    let config = args.config()?;
    logs.configure(&config.log);
    let mut pid_file = args.replace.as_deref().map(PidFile::look).transpose()?;
    signals::block().map_err(runtime)?;
    let ear = Ear::listen().map_err(runtime)?;
    let has_predecessor = pid_file.as_ref().is_some_and(PidFile::has_predecessor);
    let start = if has_predecessor { gateway::serve_beside } else { gateway::serve };
    let running = start(config.clone()).map_err(runtime)?;
    let mut serving = Serving { args, logs, config, running, is_leaving: false, notices: Notices };
    let watched = serving.begin(pid_file.as_mut()).and_then(|()| serving.watch(&ear));
    if watched.is_err() {
        serving.running.stop();
    }
    let joined = serving.running.join().map_err(runtime);
    logs.repeats.end_all();
    // Kept to the last: whoever finds it locked knows that this process is there.
    drop(pid_file);
    watched.and(joined)
}

/// A gateway that runs.
struct Serving<'a> {
    args: &'a ServeArgs,
    logs: &'a Logs,
    config: Config,
    running: Gateway,
    /// It was told to end.
    is_leaving: bool,
    notices: Notices,
}

impl Serving<'_> {
    /// Sends a predecessor away, and says that it is there.
    fn begin(&mut self, pid_file: Option<&mut PidFile>) -> Result<(), Failure> {
        pid_file.map_or(Ok(()), PidFile::take_over)?;
        if let Some(addr) = self.running.addr() {
            cli::say(&cli::announcement(&self.config, addr, self.running.workers().into()))?;
            if let Some(addr) = self.running.private_addr() {
                cli::say(&format!("private address: {addr}\n"))?;
            }
            self.notices.ready(&self.status(addr));
        }
        Ok(())
    }

    fn status(&self, addr: std::net::SocketAddr) -> String {
        format!("listening on {addr}, {} workers", self.running.workers())
    }

    /// Heeds signals and the watchdog until all workers have ended.
    fn watch(&mut self, ear: &Ear) -> Result<(), Failure> {
        let mut watchdog = Watchdog::asked_for();
        loop {
            let within = watchdog.as_mut().map(|watchdog| watchdog.look(&self.running, &self.notices));
            self.logs.repeats.look();
            let within = within.unwrap_or(Duration::MAX).min(Duration::from_millis(limits::LOG_LOOK_MS));
            match ear.hear(&self.running, Some(within)).map_err(runtime)? {
                Heard::Ended => return Ok(()),
                Heard::Nothing => {}
                Heard::Signal(Signal::SIGHUP) if self.is_leaving => {}
                Heard::Signal(Signal::SIGHUP) => self.reload(),
                Heard::Signal(Signal::SIGTERM) => self.leave(self.config.server.drain_ms),
                // Somebody sits at the terminal and waits.
                Heard::Signal(_) => self.leave(0),
            }
        }
    }

    fn leave(&mut self, over_ms: u64) {
        self.is_leaving = true;
        // What `Running::drain` and then `Running::stop` may take, and the end of the threads.
        let within = Duration::from_millis(over_ms.max(limits::LISTENER_LINGER_MS) + limits::CLOSE_MS_MAX)
            + Duration::from_millis(limits::STOP_MS_MAX + limits::QUIESCE_MS_MAX)
            + SPARE;
        if over_ms == 0 {
            self.notices.stopping("stopping", within);
            self.running.stop();
            return;
        }
        tracing::info!(over_ms, "draining; a second signal ends the process at once");
        self.notices.stopping(&format!("draining, over {over_ms} ms"), within);
        self.running.drain(Duration::from_millis(over_ms));
    }

    /// Reads the configuration again, and takes what can be taken of it. One that is not valid changes nothing.
    fn reload(&mut self) {
        self.notices.reloading();
        self.running.reload();
        let outcome = match self.args.effective() {
            Ok(wanted) => {
                let reloaded = config::reload(&self.config, &wanted);
                for key in &reloaded.taken {
                    tracing::info!(key, "has changed, and takes effect");
                }
                for key in &reloaded.left {
                    tracing::warn!(key, "has changed, and takes effect with the next start only");
                }
                let outcome = match (reloaded.taken.is_empty(), reloaded.left.len()) {
                    (true, 0) => "configuration read again, nothing has changed".to_owned(),
                    (_, 0) => "configuration read again".to_owned(),
                    (_, left) => format!("configuration read again, {left} keys need a restart"),
                };
                self.config = reloaded.config;
                self.logs.configure(&self.config.log);
                self.running.configure(self.config.clone());
                outcome
            }
            Err(failure) => {
                for line in failure.reason().lines() {
                    tracing::error!("the configuration stays as it was: {line}");
                }
                "configuration not read again: it is not valid".to_owned()
            }
        };
        tracing::info!("{outcome}");
        if let Some(addr) = self.running.addr() {
            self.notices.ready(&format!("{}; {outcome}", self.status(addr)));
        }
    }
}
