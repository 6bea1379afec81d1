//! The radio modem: a serial line, read and written by worker 0.
//!
//! The line is slow and the device may be pulled out. Neither is ever waited for: what does not fit is shed and
//! counted, and a lost device is tried again every few seconds.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::termios::{self, BaudRate, ControlFlags, SetArg};

use super::counters::ShellCounters;
use super::ring::DataRing;
use crate::limits;

const BAUDS: [(u32, BaudRate); 13] = [
    (1200, BaudRate::B1200),
    (2400, BaudRate::B2400),
    (4800, BaudRate::B4800),
    (9600, BaudRate::B9600),
    (19200, BaudRate::B19200),
    (38400, BaudRate::B38400),
    (57600, BaudRate::B57600),
    (115200, BaudRate::B115200),
    (230400, BaudRate::B230400),
    (460800, BaudRate::B460800),
    (921600, BaudRate::B921600),
    (1000000, BaudRate::B1000000),
    (2000000, BaudRate::B2000000),
];

/// Why a radio device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RadioError {
    /// The speed is none that a serial line has.
    #[error("{0} baud is not a speed of a serial line; known are {known}", known = known_bauds())]
    Baud(u32),
    /// The device could not be opened.
    #[error("cannot open the radio device {}: {source}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The device is something else.
    #[error("the radio device {} cannot be set up as a serial line: {source}", path.display())]
    Setup {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn known_bauds() -> String {
    BAUDS.map(|(baud, _)| baud.to_string()).join(", ")
}

#[derive(Debug)]
enum Device {
    Open(File),
    /// Tried again at this time (`mono_ms`); not known before the pump looked.
    ///
    /// Until the polls of the former descriptor have ended it is held, or they would be taken for those of the next.
    Lost {
        reopen_at: Option<u64>,
        _held: Option<File>,
    },
}

/// An open serial line, raw, 8N1, and what waits for it.
#[derive(Debug)]
pub struct Radio {
    path: PathBuf,
    baud: BaudRate,
    device: Device,
    pending: VecDeque<u8>,
    /// A poll for bytes is running.
    polls_readable: bool,
    /// A poll for room is running.
    polls_writable: bool,
}

impl Radio {
    /// Opens a tty.
    pub fn open(path: &Path, baud: u32) -> Result<Radio, RadioError> {
        let known = BAUDS.iter().find(|(known, _)| *known == baud);
        let &(_, baud) = known.ok_or(RadioError::Baud(baud))?;
        Ok(Radio {
            path: path.to_owned(),
            baud,
            device: Device::Open(open(path, baud)?),
            pending: VecDeque::new(),
            polls_readable: false,
            polls_writable: false,
        })
    }

    /// Waits for bytes.
    pub(crate) fn listen(&mut self, ring: &mut DataRing) -> io::Result<()> {
        if let Device::Open(device) = &self.device
            && !self.polls_readable
        {
            self.polls_readable = true;
            ring.radio_readable(device.as_fd())?;
        }
        Ok(())
    }

    /// The line has bytes, or is gone.
    pub(crate) fn read(
        &mut self,
        now_ms: u64,
        mut heard: impl FnMut(&[u8]),
        ring: &mut DataRing,
        counts: &mut ShellCounters,
    ) -> io::Result<()> {
        self.polls_readable = false;
        let mut bytes = [0; 1024];
        // A few reads at most: the line is slow, and others wait.
        for _ in 0..4 {
            let Device::Open(device) = &mut self.device else { return Ok(()) };
            match device.read(&mut bytes) {
                Ok(0) => self.lose(&ErrorKind::UnexpectedEof.into(), counts),
                Ok(len) => {
                    counts.radio_read_bytes += len as u64;
                    heard(&bytes[..len]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => self.lose(&error, counts),
            }
            break;
        }
        self.reopen_if_due(now_ms, ring)?;
        self.listen(ring)
    }

    /// Writes what the line takes, keeps what fits, sheds the rest.
    pub(crate) fn write(&mut self, bytes: &[u8], ring: &mut DataRing, counts: &mut ShellCounters) -> io::Result<()> {
        if matches!(self.device, Device::Lost { .. }) {
            counts.radio_bytes_shed += bytes.len() as u64;
            return Ok(());
        }
        let room = limits::RADIO_PENDING_BYTES_MAX - self.pending.len();
        let kept = bytes.len().min(room);
        // Behind bytes that wait, half a message is worth nothing.
        let kept = if kept < bytes.len() && !self.pending.is_empty() { 0 } else { kept };
        counts.radio_bytes_shed += (bytes.len() - kept) as u64;
        self.pending.extend(&bytes[..kept]);
        self.push_out(ring, counts)
    }

    /// The line takes bytes again, or is gone.
    pub(crate) fn resume(&mut self, ring: &mut DataRing, counts: &mut ShellCounters) -> io::Result<()> {
        self.polls_writable = false;
        self.push_out(ring, counts)
    }

    fn push_out(&mut self, ring: &mut DataRing, counts: &mut ShellCounters) -> io::Result<()> {
        while !self.pending.is_empty() && !self.polls_writable {
            let Device::Open(device) = &mut self.device else { break };
            match device.write(self.pending.as_slices().0) {
                // A driver that takes nothing and does not say why would be asked for ever.
                Ok(0) => self.lose(&ErrorKind::WriteZero.into(), counts),
                Ok(len) => {
                    counts.radio_written_bytes += len as u64;
                    self.pending.drain(..len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.polls_writable = true;
                    ring.radio_writable(device.as_fd())?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.lose(&error, counts),
            }
        }
        Ok(())
    }

    fn lose(&mut self, error: &io::Error, counts: &mut ShellCounters) {
        tracing::warn!(path = %self.path.display(), %error, "the radio device is lost");
        counts.radio_lost += 1;
        counts.radio_bytes_shed += self.pending.len() as u64;
        self.pending.clear();
        let device = std::mem::replace(&mut self.device, Device::Lost { reopen_at: None, _held: None });
        if let Device::Open(device) = device {
            self.device = Device::Lost { reopen_at: None, _held: Some(device) };
        }
    }

    /// When (`mono_ms`) the pump has to look after a lost device.
    pub(crate) fn reopen_at(&self) -> Option<u64> {
        match self.device {
            Device::Open(_) => None,
            Device::Lost { reopen_at, .. } => Some(reopen_at.unwrap_or(0)),
        }
    }

    /// Tries a lost device again, if it is time.
    pub(crate) fn reopen_if_due(&mut self, now_ms: u64, ring: &mut DataRing) -> io::Result<()> {
        let polls = self.polls_readable || self.polls_writable;
        let Device::Lost { reopen_at, .. } = &mut self.device else { return Ok(()) };
        match *reopen_at {
            None => {
                *reopen_at = Some(now_ms + limits::RADIO_REOPEN_MS);
                if polls { ring.cancel_radio() } else { Ok(()) }
            }
            Some(at) if now_ms < at => Ok(()),
            // The cancel may have met a poll on its way from one of the kernel's lists to another.
            Some(_) if polls => {
                *reopen_at = Some(now_ms + limits::RADIO_REOPEN_MS);
                ring.cancel_radio()
            }
            Some(_) => match open(&self.path, self.baud) {
                Ok(device) => {
                    tracing::info!(path = %self.path.display(), "the radio device is back");
                    self.device = Device::Open(device);
                    self.listen(ring)
                }
                Err(_) => {
                    *reopen_at = Some(now_ms + limits::RADIO_REOPEN_MS);
                    Ok(())
                }
            },
        }
    }
}

fn open(path: &Path, baud: BaudRate) -> Result<File, RadioError> {
    // Without O_NOCTTY a terminal could become ours, and its hang-up our SIGHUP.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let device = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let device = device.map_err(|source| RadioError::Open { path: path.to_owned(), source })?;
    let set_up = || -> nix::Result<()> {
        let mut settings = termios::tcgetattr(&device)?;
        termios::cfmakeraw(&mut settings);
        settings.control_flags &= !(ControlFlags::CSTOPB | ControlFlags::CRTSCTS);
        settings.control_flags |= ControlFlags::CLOCAL | ControlFlags::CREAD;
        termios::cfsetspeed(&mut settings, baud)?;
        termios::tcsetattr(&device, SetArg::TCSANOW, &settings)
    };
    set_up().map_err(|error| RadioError::Setup { path: path.to_owned(), source: error.into() })?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_baud_is_named_with_the_known_ones() {
        let error = Radio::open(Path::new("/dev/null"), 12345).unwrap_err().to_string();
        assert!(error.contains("12345") && error.contains("57600"), "{error}");
    }

    #[test]
    fn what_is_not_a_serial_line_is_refused() {
        let error = Radio::open(Path::new("/dev/null"), 57600).unwrap_err();
        assert!(matches!(error, RadioError::Setup { .. }), "{error}");
        let error = Radio::open(Path::new("/dev/no-such-radio"), 57600).unwrap_err();
        assert!(matches!(error, RadioError::Open { .. }), "{error}");
    }
}
