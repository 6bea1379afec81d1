//! What can be wrong with a configuration, said so that the operator knows where to look and what to write instead.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as it was named on the command line.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// The key of a `--set`. Its value is left out: it may be a secret.
    Set(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => write!(f, "default"),
            Source::File { path, line } => write!(f, "{path}:{line}"),
            Source::Variable(name) => write!(f, "environment variable {name}"),
            Source::Set(key) => write!(f, "--set {key}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file as it was named.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{at}: {reason}")]
    Syntax {
        /// The line at which reading stopped.
        at: Source,
        /// What the reader says.
        reason: String,
    },
    /// `--set` without `=`.
    #[error("--set {text}: expected section.key=value")]
    Malformed {
        /// What was given, as far as it looks like a key.
        text: String,
    },
    /// No such key.
    #[error("{at}: unknown key `{key}`; the nearest known key is `{nearest}`")]
    Unknown {
        /// The key as it was meant, dotted.
        key: String,
        /// A known key, or a section.
        nearest: String,
        /// Who says so.
        at: Source,
    },
    /// A value of the wrong type, or out of range.
    #[error("{at}: `{key}` is {value}; expected {expected}")]
    Invalid {
        /// The key, dotted.
        key: String,
        /// What was given, as TOML; shortened, and masked if it is a secret.
        value: String,
        /// What would have been right.
        expected: String,
        /// Who says so.
        at: Source,
    },
    /// Two values that do not go together, or something that this version cannot do.
    #[error("{at}: {reason}")]
    Refused {
        /// What does not go together, with the keys and the values.
        reason: String,
        /// Who set the first of the keys.
        at: Source,
    },
}

/// Everything that is wrong with a configuration: a start that fails tells all of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
