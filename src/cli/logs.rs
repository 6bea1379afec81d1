//! The log: lines of text or JSON, and what the journal wants to know of each; or entries of the journal, with fields.

use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::Failure;

/// The variable that asks for JSON. It is none of the configuration, because what is wrong there is logged too.
const VARIABLE: &str = "RINGROAD_LOG_FORMAT";

/// What fields are called in the journal begins so: theirs have other meanings.
const FIELD_PREFIX: &str = "RINGROAD";

/// Where the log goes, and as what.
pub enum Format {
    /// Lines on stderr.
    Lines(Lines),
    /// Entries with fields, in the journal's own protocol.
    Journal(tracing_journald::Layer),
}

impl Format {
    /// As the environment asks for.
    pub fn asked() -> Result<Format, Failure> {
        let shape = match std::env::var(VARIABLE).ok().as_deref() {
            None | Some("" | "text") => Shape::Text,
            Some("json") => Shape::Json,
            Some("journal") => {
                let unreachable =
                    |error| Failure::Usage(format!("{VARIABLE}=journal: the journal cannot be reached: {error}"));
                return journal().map(Format::Journal).map_err(unreachable);
            }
            Some(other) => {
                return Err(Failure::Usage(format!("{VARIABLE}={other}: expected text, json or journal")));
            }
        };
        let stream = std::env::var("JOURNAL_STREAM").ok();
        Ok(Format::Lines(Lines { shape, to_journal: stream.is_some_and(|stream| is_stderr(&stream)) }))
    }
}

fn journal() -> std::io::Result<tracing_journald::Layer> {
    let mappings = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(Some(FIELD_PREFIX.to_owned())).with_priority_mappings(mappings))
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Json,
}

/// Writes one line for each thing that is logged.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    shape: Shape,
    /// The journal reads them: it has its own time, and takes the priority from the line's beginning.
    to_journal: bool,
}

/// systemd.exec(5), "$JOURNAL_STREAM": "device and inode numbers of the connection file descriptor are formatted in
/// decimal, separated by a colon"; a process should compare them, because its stderr may have been redirected since.
fn is_stderr(stream: &str) -> bool {
    let Ok(stderr) = std::io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(file) = std::fs::File::from(stderr).metadata() else { return false };
    stream == format!("{}:{}", file.dev(), file.ino())
}

/// sd-daemon(3): a line may begin with its priority in angle brackets, numbers as in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.to_journal {
            write!(to, "<{}>", priority(*event.metadata().level()))?;
        }
        match (self.shape, self.to_journal) {
            (Shape::Json, _) => format::format().json().flatten_event(true).format_event(context, to, event),
            (Shape::Text, true) => format::format().without_time().format_event(context, to, event),
            (Shape::Text, false) => format::format().format_event(context, to, event),
        }
    }
}
