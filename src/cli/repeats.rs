//! Lines that repeat: of each place in the code, so many within a period, and then one that says how many more there
//! were.
//!
//! A log is for people, and a line that comes thousands of times hides the others. What is held back is only counted,
//! so there is nothing to lose: it is as much as there are places that log.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringroad::config::Log;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How long the message may be that a count repeats.
const SHOWN_CHARS_MAX: usize = 120;

/// What each place has said in its period. Shared by the threads that log and the one that looks.
#[derive(Clone, Debug, Default)]
pub struct Repeats(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// Lines of one place in a period; 0: any number.
    lines_max: u32,
    period: Duration,
    by_place: HashMap<Identifier, Place>,
}

/// One place's period.
#[derive(Debug)]
struct Place {
    begun: Instant,
    lines: u32,
    /// What was not written.
    held: u64,
    about: &'static Metadata<'static>,
    /// The message of the first line that was held back.
    message: String,
}

impl Repeats {
    /// Holds lines back from now on, as the configuration says.
    pub fn configure(&self, config: &Log) {
        let mut said = self.said();
        (said.lines_max, said.period) = (config.repeats_max, Duration::from_millis(config.repeats_ms));
    }

    /// Ends the periods that are over, and says how many lines each has held back. Without this being called, they
    /// go on.
    pub fn look(&self) {
        self.end(|place, period| place.begun.elapsed() >= period);
    }

    /// Ends all of them.
    pub fn end_all(&self) {
        self.end(|_, _| true);
    }

    fn end(&self, is_over: impl Fn(&Place, Duration) -> bool) {
        let mut over = Vec::new();
        {
            let said = &mut *self.said();
            let period = said.period;
            said.by_place.retain(|_, place| {
                let stays = !is_over(place, period);
                if !stays && place.held > 0 {
                    over.push((place.about, place.held, std::mem::take(&mut place.message)));
                }
                stays
            });
        }
        // In the order in which they stand in the code, and without the lock: these are lines too.
        over.sort_by_key(|(about, ..)| (about.file(), about.line()));
        for (about, held, message) in over {
            tell(*about.level(), about.target(), held, &message);
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // Nothing that is done under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line is to be written now.
    fn may_say(&self, event: &Event<'_>) -> bool {
        let about = event.metadata();
        if about.target() == module_path!() {
            return true;
        }
        let said = &mut *self.said();
        if said.lines_max == 0 {
            return true;
        }
        let place = said.by_place.entry(about.callsite()).or_insert_with(|| Place {
            begun: Instant::now(),
            lines: 0,
            held: 0,
            about,
            message: String::new(),
        });
        if place.lines < said.lines_max {
            place.lines += 1;
            return true;
        }
        if place.held == 0 {
            event.record(&mut MessageOf(&mut place.message));
        }
        place.held += 1;
        false
    }
}

/// The level has to be known where it is written.
fn tell(level: Level, of: &str, held: u64, message: &str) {
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!($level, of, held, "… and {held} more like it: {message}")
        };
    }
    match level {
        Level::ERROR => tell!(Level::ERROR),
        Level::WARN => tell!(Level::WARN),
        Level::INFO => tell!(Level::INFO),
        Level::DEBUG => tell!(Level::DEBUG),
        _ => tell!(Level::TRACE),
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.may_say(event)
    }
}

/// Takes the message out of an event, and no more of it than is shown.
struct MessageOf<'a>(&'a mut String);

impl Visit for MessageOf<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // It ends with an error once there is enough.
            let _ = fmt::write(self, format_args!("{value:?}"));
        }
    }
}

impl fmt::Write for MessageOf<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = SHOWN_CHARS_MAX.saturating_sub(self.0.chars().count());
        self.0.extend(text.chars().take(room));
        if text.chars().count() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of something that logs.
    fn logged(repeats_max: u32, repeats_ms: u64, log: impl FnOnce(&Repeats)) -> Vec<String> {
        let (repeats, written) = (Repeats::default(), Written::default());
        repeats.configure(&Log { repeats_max, repeats_ms, ..Log::default() });
        let to = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || to.clone()).with_ansi(false).without_time();
        let subscriber = tracing_subscriber::registry().with(repeats.clone()).with(lines);
        tracing::subscriber::with_default(subscriber, || log(&repeats));
        let text = String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("UTF-8");
        let ours = text.lines().filter_map(|line| line.trim_start().split_once("ringroad::cli::repeats"));
        ours.map(|(level, line)| format!("{level}{}", line.trim_start_matches("::tests"))).collect()
    }

    const HOUR_MS: u64 = 3_600_000;

    fn flood(lines: u32) {
        for n in 0..lines {
            tracing::warn!(target: "ringroad::cli::repeats::tests", n, "a {} that repeats", "line");
        }
    }

    #[test]
    fn of_many_lines_the_first_are_written_and_the_others_counted() {
        let lines = logged(2, HOUR_MS, |repeats| {
            flood(7);
            tracing::info!(target: "ringroad::cli::repeats::tests", "another place");
            // Its period is not over.
            repeats.look();
            repeats.end_all();
            // And begins anew.
            flood(1);
            repeats.end_all();
        });
        let expected = [
            "WARN : a line that repeats n=0",
            "WARN : a line that repeats n=1",
            "INFO : another place",
            "WARN : … and 5 more like it: a line that repeats of=\"ringroad::cli::repeats::tests\" held=5",
            "WARN : a line that repeats n=0",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_period_ends_when_it_is_looked_at() {
        let lines = logged(1, 0, |repeats| {
            flood(3);
            repeats.look();
            flood(1);
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].contains("and 2 more like it"), "{lines:?}");
    }

    #[test]
    fn without_a_limit_everything_is_written() {
        assert_eq!(logged(0, HOUR_MS, |_| flood(100)).len(), 100);
    }

    #[test]
    fn a_long_message_is_cut() {
        let lines = logged(1, HOUR_MS, |repeats| {
            for _ in 0..2 {
                tracing::warn!(target: "ringroad::cli::repeats::tests", "{}", "ä".repeat(10_000));
            }
            repeats.end_all();
        });
        assert_eq!(lines[1].matches('ä').count(), SHOWN_CHARS_MAX);
    }
}
