//! The lines of the log: text or JSON, and what the journal wants to know of each.

use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::Failure;

/// The variable that asks for JSON. It is none of the configuration, because what is wrong there is logged too.
const VARIABLE: &str = "RINGROAD_LOG_FORMAT";

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

impl Lines {
    /// As the environment asks for.
    pub fn asked() -> Result<Lines, Failure> {
        let shape = match std::env::var(VARIABLE).ok().as_deref() {
            None | Some("" | "text") => Shape::Text,
            Some("json") => Shape::Json,
            Some(other) => return Err(Failure::Usage(format!("{VARIABLE}={other}: expected text or json"))),
        };
        let stream = std::env::var("JOURNAL_STREAM").ok();
        Ok(Lines { shape, to_journal: stream.is_some_and(|stream| is_stderr(&stream)) })
    }
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
