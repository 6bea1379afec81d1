//! The file with the process id, by which a successor finds its predecessor.
//!
//! The process whose id stands in it holds a lock on it (flock(2)). A file that a crash has left is not locked, so an id
//! that now belongs to somebody else is never signalled.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::Failure;

/// Our file, or the one that will be.
pub struct PidFile {
    path: PathBuf,
    /// The predecessor's, while it runs.
    predecessor: Option<File>,
    /// Ours, locked.
    own: Option<File>,
}

impl PidFile {
    /// Looks who is there.
    pub fn look(path: &Path) -> Result<PidFile, Failure> {
        let predecessor = match File::open(path) {
            Ok(file) if is_locked(&file).map_err(|error| failed(path, error))? => Some(file),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(path, error)),
        };
        Ok(PidFile { path: path.to_owned(), predecessor, own: None })
    }

    /// Whether a process is to be replaced.
    pub fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Puts our id into the file, and asks the predecessor to drain.
    pub fn take_over(&mut self) -> Result<(), Failure> {
        // A file of our own, moved over the other one: the predecessor's lock stays with its own.
        let new = self.path.with_extension(format!("{}.new", std::process::id()));
        let written = File::create(&new).and_then(|mut file| {
            file.lock()?;
            writeln!(file, "{}", std::process::id())?;
            fs::rename(&new, &self.path)?;
            Ok(file)
        });
        self.own = Some(written.map_err(|error| failed(&self.path, error))?);
        let Some(mut predecessor) = self.predecessor.take() else { return Ok(()) };
        // It may have ended since we looked, and its id may be another's now.
        if !is_locked(&predecessor).map_err(|error| failed(&self.path, error))? {
            return Ok(());
        }
        let mut text = String::new();
        predecessor.read_to_string(&mut text).map_err(|error| failed(&self.path, error))?;
        let pid: i32 = text.trim().parse().map_err(|_| failed(&self.path, format!("{text:?} is no process id")))?;
        tracing::info!(pid, "the predecessor is asked to drain");
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|error| failed(&self.path, format!("process {pid}: {error}")))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let Some(own) = &self.own else { return };
        // A successor has put its own in this place.
        let is_ours = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        if let (Ok(own), Ok(there)) = (own.metadata(), fs::metadata(&self.path))
            && is_ours(own, there)
        {
            // One that stays is not locked, and so nobody's.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_locked(file: &File) -> std::io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock()?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::Runtime(format!("{}: {why}", path.display()))
}
