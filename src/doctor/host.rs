//! A host as its files tell of it: the tree below a root folder, and how numbers and sets of CPUs are written there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A host, or a copy of its `/proc` and `/sys`.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    /// Whose limits are read: `self`, or a process id.
    process: String,
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// No such file.
    #[error("/{0} does not exist")]
    Missing(String),
    /// The file is there.
    #[error("/{0}: {1}")]
    Failed(String, String),
    /// It says something else than it should.
    #[error("/{path} is not understood: {text}")]
    Strange {
        /// Which file.
        path: String,
        /// Its beginning.
        text: String,
    },
}

/// Characters of a file that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

impl Host {
    /// The host whose files lie below this folder; `pid`: of a process other than this one.
    pub fn below(root: impl Into<PathBuf>, pid: Option<u32>) -> Host {
        Host { root: root.into(), process: pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string()) }
    }

    /// A file's text, without the blanks around it.
    pub fn read(&self, path: &str) -> Result<String, Unread> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) => Err(unread(path, &error)),
        }
    }

    /// The same of a file that `/proc` has for each process.
    pub fn of_process(&self, file: &str) -> Result<String, Unread> {
        self.read(&self.process_path(file))
    }

    pub(super) fn process_path(&self, file: &str) -> String {
        format!("proc/{}/{file}", self.process)
    }

    /// A number.
    pub fn number(&self, path: &str) -> Result<u64, Unread> {
        let text = self.read(path)?;
        text.parse().map_err(|_| strange(path, &text))
    }

    /// Names in a folder, sorted.
    pub fn names(&self, path: &str) -> Result<Vec<String>, Unread> {
        let entries = fs::read_dir(self.root.join(path)).map_err(|error| unread(path, &error))?;
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// A set of CPUs or nodes, as in `0-3,8`.
    pub fn set(&self, path: &str) -> Result<Vec<u32>, Unread> {
        let text = self.read(path)?;
        members(&text).ok_or_else(|| strange(path, &text))
    }

    /// The value of a line `name: value`, as in `/proc/meminfo` and `status`.
    pub fn field(&self, path: &str, name: &str) -> Result<String, Unread> {
        let text = self.read(path)?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .ok_or_else(|| strange(path, &format!("no line {name}")))
    }

    /// Whether this is the host that we run on.
    pub fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }
}

fn unread(path: &str, error: &io::Error) -> Unread {
    match error.kind() {
        io::ErrorKind::NotFound => Unread::Missing(path.to_owned()),
        _ => Unread::Failed(path.to_owned(), error.to_string()),
    }
}

/// The error for a file that says something else than it should.
pub(super) fn strange(path: &str, text: &str) -> Unread {
    Unread::Strange { path: path.to_owned(), text: text.chars().take(SHOWN_CHARS_MAX).collect() }
}

/// The members of a set as the kernel lists it; none of an empty one.
pub(super) fn members(text: &str) -> Option<Vec<u32>> {
    let mut members = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // A kernel has 8,192 CPUs at most.
        if last < first || last - first > 8_192 {
            return None;
        }
        members.extend(first..=last);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn sets_as_the_kernel_lists_them() {
        assert_eq!(members("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(members("5"), Some(vec![5]));
        assert_eq!(members(""), Some(vec![]));
        for strange in ["x", "3-1", "1-", "0-4294967295"] {
            assert_eq!(members(strange), None, "{strange}");
        }
    }
}
