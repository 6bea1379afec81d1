//! Reading the files that an operator names: whatever the path leads to, no more than so many bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The content of a file of at most `bytes_max` bytes. A folder, a pipe or a device is none; `what` it should be is said of
/// one that is too large for it.
pub(super) fn read(path: &Path, bytes_max: u64, what: &str) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    match content.len() as u64 > bytes_max {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("too large to be {what}"))),
        false => Ok(content),
    }
}
