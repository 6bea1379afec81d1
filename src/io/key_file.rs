//! The file of keys: read at the start, and again when it has changed or somebody asks for it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::auth::{Keys, KeysError};
use crate::limits;

use super::small_file;
use super::threads::KeyRing;

/// Why the keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read.
    #[error("`auth.key_file` {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it says is of no use.
    #[error("`auth.key_file` {}: {source}", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeysError,
    },
}

/// A file of keys, and what it was like when it was last looked at.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    secret: String,
    /// `None`: it was not there.
    stamp: Option<Stamp>,
}

/// A file that is written anew has another one, whichever way it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            inode: metadata.ino(),
            // When its content or its name last changed: a copy may bring an old mtime along.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            bytes: metadata.len(),
        }
    }
}

impl KeyFile {
    /// A file that has not been read. `secret` joins its keys, if there is one.
    pub fn new(path: &Path, secret: &str) -> KeyFile {
        KeyFile { path: path.to_owned(), secret: secret.to_owned(), stamp: None }
    }

    /// Reads it.
    pub fn read(&mut self) -> Result<Arc<Keys>, KeyFileError> {
        // Before it is read: what changes meanwhile is noticed the next time.
        self.stamp = self.look();
        let read = || {
            let bytes = small_file::read(&self.path, limits::KEY_FILE_BYTES_MAX, "a file of keys")?;
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
        };
        let text = read().map_err(|source| KeyFileError::Unreadable { path: self.path.clone(), source })?;
        let keys = Keys::of_file(&self.secret, &text);
        keys.map(Arc::new).map_err(|source| KeyFileError::Unusable { path: self.path.clone(), source })
    }

    /// Whether it is another one than when it was read.
    fn has_changed(&self) -> bool {
        self.look() != self.stamp
    }

    fn look(&self) -> Option<Stamp> {
        std::fs::metadata(&self.path).ok().as_ref().map(Stamp::of)
    }
}

/// Looks after a file of keys until it is dropped.
#[derive(Debug)]
pub struct KeyWatch {
    asks: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyWatch {
    /// Gives the workers the keys of a file that has been read, whenever they change.
    pub fn start(mut file: KeyFile, ring: KeyRing) -> io::Result<KeyWatch> {
        let (asks, asked) = sync_channel(1);
        let look = Duration::from_millis(limits::KEY_FILE_LOOK_MS);
        let watch = move || {
            loop {
                match asked.recv_timeout(look) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if !file.has_changed() => {}
                    Err(RecvTimeoutError::Timeout) | Ok(()) => reload(&mut file, &ring),
                }
            }
        };
        let thread = thread::Builder::new().name("ringroad-keys".to_owned()).spawn(watch)?;
        Ok(KeyWatch { asks: Some(asks), thread: Some(thread) })
    }

    /// Reads the file again, changed or not. Does not wait for it.
    pub fn reload(&self) {
        if let Some(asks) = &self.asks {
            match asks.try_send(()) {
                // It has been asked to, and has not begun.
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => tracing::error!("nobody looks after auth.key_file any more"),
            }
        }
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been told already.
            let _ = thread.join();
        }
    }
}

/// Reads a file again. Keys that cannot be used do not take the place of those that can.
fn reload(file: &mut KeyFile, ring: &KeyRing) {
    match file.read() {
        Ok(keys) => {
            tracing::info!(file = %file.path.display(), keys = keys.len(), "keys were read anew");
            ring.give(Some(keys));
        }
        Err(error) => {
            tracing::warn!(%error, "the keys before stay in use");
            ring.give(None);
        }
    }
}
