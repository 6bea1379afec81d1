//! What a drive has shown, as one line while it runs and as a table at its end.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::gallery::Watched;
use super::latency::Latency;
use super::owed::Tally;
use super::trace::Dirt;
use crate::client::Dialect;

/// Cells of the progress bar.
const BAR: usize = 24;

/// Codes and reasons that are counted each by itself. They are the gateway's words, and it may have as many as it likes.
const NAMES_MAX: usize = 32;

/// Characters of one; a close frame has room for 123 bytes.
const NAME_CHARS_MAX: usize = 123;

/// Viewers that have a line each.
const VIEWERS_SHOWN_MAX: usize = 8;

/// What counts all the others.
const OTHERS: &str = "(others)";

/// How far a drive has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Vehicles connect and register.
    #[default]
    Joining,
    /// Vehicles drive.
    Driving,
    /// No more updates; deliveries in flight may arrive.
    Settling,
    /// Connections are closed.
    Closing,
    /// All is over.
    Done,
}

/// What came while the fleet drove, and for a while after; of vehicles and viewers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// All bytes.
    pub bytes: u64,
    /// Positions, of whatever vehicle.
    pub positions: u64,
    /// Messages that they came in.
    pub position_messages: u64,
    /// Bytes of those, their frames' headers too.
    pub position_bytes: u64,
    /// `vehicle_identity` events.
    pub identities: u64,
    /// Bytes of those, likewise.
    pub identity_bytes: u64,
    /// Records of vehicles whose identity had not been told.
    pub unnamed: u64,
}

impl Traffic {
    /// Bytes on the wire per position; NaN without any.
    pub fn bytes_per_position(&self) -> f64 {
        self.position_bytes as f64 / self.positions as f64
    }

    /// The same of everything that came.
    pub fn all_bytes_per_position(&self) -> f64 {
        self.bytes as f64 / self.positions as f64
    }
}

/// Everything that a drive counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How far it is.
    pub phase: Phase,
    /// How it speaks.
    pub dialect: Dialect,
    /// Vehicles of the fleet.
    pub vehicles: u32,
    /// How many of them have registered.
    pub registered: u32,
    /// How often one that a gateway had sent away (1012) has registered again.
    pub returned: u64,
    /// How often a viewer that was sent away likewise has come back.
    pub viewers_returned: u64,
    /// Not one was left when driving ended: there was nobody to miss anything.
    pub deserted: bool,
    /// How long they have driven, ms.
    pub driven_ms: u64,
    /// How long they are to drive, ms.
    pub planned_ms: u64,
    /// Updates and deliveries to vehicles.
    pub tally: Tally,
    /// What each viewer was sent.
    pub watched: Vec<Watched>,
    /// Bytes.
    pub traffic: Traffic,
    /// Neighbours that vehicles were told are gone.
    pub gone: u64,
    /// Deliveries of vehicles that are not of this fleet.
    pub strangers: u64,
    /// Updates that were not sent because their time had passed: this program was too slow.
    pub skipped: u64,
    /// Updates that were not sent because the connection took no bytes: the gateway was too slow.
    pub withheld: u64,
    /// `error` events by their code.
    pub errors: BTreeMap<String, u64>,
    /// Connections that ended or could not be made, before we said goodbye, by why.
    pub closes: BTreeMap<String, u64>,
    /// Of the recording that is replayed: rows used, and its dirt.
    pub trace: Option<(u64, Dirt)>,
}

impl Report {
    /// One line for a terminal.
    pub fn progress_line(&self) -> String {
        let (done, of, what) = match self.phase {
            Phase::Joining => (self.registered as u64, self.vehicles as u64, "joining"),
            Phase::Driving => (self.driven_ms, self.planned_ms, "driving"),
            Phase::Settling => (1, 1, "settling"),
            Phase::Closing => (1, 1, "closing"),
            Phase::Done => (1, 1, "done"),
        };
        let filled = (done.min(of) * BAR as u64 / of.max(1)) as usize;
        let mut line = format!("[{}{}] {what:<8} ", "#".repeat(filled), "-".repeat(BAR - filled));
        let tally = &self.tally;
        // Writing into memory does not fail.
        let _ = match self.phase {
            Phase::Joining => write!(line, "{} of {} vehicles", grouped(done), grouped(of)),
            _ => write!(
                line,
                "{:>3}/{} s  {} vehicles  sent {}  received {}  ratio {}  p99 {} ms",
                self.driven_ms / 1000,
                self.planned_ms.div_ceil(1000),
                grouped(self.registered as u64),
                grouped(tally.sent),
                grouped(tally.received),
                self.ratio(),
                tally.latency.quantile_ms(0.99),
            ),
        };
        line
    }

    /// Of what was owed, the share that came. Not rounded up: 1.0000 is everything.
    pub fn ratio(&self) -> String {
        format!("{:.4}", (self.tally.ratio() * 1e4).floor() / 1e4)
    }

    /// One more `error` event.
    pub fn count_error(&mut self, code: &str) {
        count(&mut self.errors, code);
    }

    /// One more connection that ended or could not be made.
    pub fn count_close(&mut self, why: &str) {
        count(&mut self.closes, why);
    }

    /// Per second of driving.
    fn rate(&self, count: u64) -> u64 {
        count * 1000 / self.driven_ms.max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        let with_rate = |count| format!("{:>15}   {}/s", grouped(count), grouped(self.rate(count)));
        let count = |count| format!("{:>15}", grouped(count));
        row(
            "vehicles registered",
            format!("{:>15}   of {}", grouped(self.registered as u64), grouped(self.vehicles as u64)),
        )?;
        row("driven", format!("{:>15.1} s", self.driven_ms as f64 / 1e3))?;
        row("updates sent", with_rate(tally.sent))?;
        row("deliveries received", with_rate(tally.received))?;
        row("deliveries owed", with_rate(tally.owed))?;
        row("owed and received", format!("{:>15}   ratio {}", grouped(tally.paid), self.ratio()))?;
        row("missing", count(tally.missing()))?;
        row("undecided", count(tally.unsure))?;
        for (name, value) in [
            ("wrong", tally.wrong),
            ("duplicate", tally.duplicate),
            ("late", tally.late),
            ("as two met", tally.encounters),
            ("without a time", tally.undated),
            ("not judged", tally.unjudged),
            ("vehicles returned", self.returned),
            ("viewers returned", self.viewers_returned),
            ("neighbours gone", self.gone),
            ("of other vehicles", self.strangers),
            ("updates skipped", self.skipped),
            ("updates withheld", self.withheld),
        ] {
            if value > 0 {
                row(name, count(value))?;
            }
        }
        latency(f, "latency", &tally.latency)?;
        self.traffic(f)?;
        self.views(f)?;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        for (all, one, counts) in [("errors", "error", &self.errors), ("connections lost", "lost", &self.closes)] {
            row(all, count(counts.values().sum()))?;
            for (name, value) in counts {
                row(&format!("  {one}: {name}"), count(*value))?;
            }
        }
        if let Some((rows, dirt)) = &self.trace {
            row("trace rows used", count(*rows))?;
            for (kind, rows) in dirt.kinds().into_iter().filter(|(_, rows)| *rows > 0) {
                row(&format!("  {kind}"), count(rows))?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// What came, in bytes.
    fn traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        let mut row = |name: &str, bytes: u64| {
            let each = bytes as f64 / traffic.positions.max(1) as f64;
            writeln!(f, "{name:<22} {:>15}   {each:.1} per position", grouped(bytes))
        };
        row("bytes received", traffic.bytes)?;
        row("  of positions", traffic.position_bytes)?;
        if traffic.identities > 0 {
            row("  of identities", traffic.identity_bytes)?;
        }
        for (name, count) in [("identities", traffic.identities), ("positions unnamed", traffic.unnamed)] {
            if count > 0 {
                writeln!(f, "{name:<22} {:>15}", grouped(count))?;
            }
        }
        Ok(())
    }

    /// What viewers saw: all together, and each if they are few.
    fn views(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.watched.is_empty() {
            return Ok(());
        }
        let all = Watched::all(&self.watched);
        let count = |count| format!("{:>15}", grouped(count));
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        row("viewers", count(self.watched.len() as u64))?;
        row("  records", format!("{}   {}/s", count(all.records), grouped(self.rate(all.records))))?;
        row("  vehicles seen", format!("{}   of {} in view", count(all.seen), grouped(all.present)))?;
        row("  updates in view", format!("{}   missing {}", count(all.owed), grouped(all.missing())))?;
        row("  gone", count(all.gone))?;
        for (name, value) in [
            ("  wrong", all.wrong),
            ("  duplicate", all.duplicate),
            ("  backwards", all.backwards),
            ("  ghosts", all.ghosts),
            ("  gone unseen", all.gone_unseen),
            ("  without a time", all.undated),
        ] {
            if value > 0 {
                row(name, count(value))?;
            }
        }
        if let Some(ms) = all.complete_ms {
            row("  complete after", format!("{ms:>12} ms   the last"))?;
        }
        latency(f, "  latency", &all.latency)?;
        if self.watched.len() > VIEWERS_SHOWN_MAX {
            return Ok(());
        }
        for (viewer, one) in self.watched.iter().enumerate() {
            let [p50, p99] = [0.5, 0.99].map(|share| one.latency.quantile_ms(share));
            let cut = if one.cut { "  cut" } else { "" };
            writeln!(
                f,
                "{:<22} {:>15}   records, {} of {} vehicles, p50 {p50} ms, p99 {p99} ms, gone {}{cut}",
                format!("  viewer {viewer}"),
                grouped(one.records),
                grouped(one.seen),
                grouped(one.present),
                grouped(one.gone),
            )?;
        }
        Ok(())
    }
}

fn latency(f: &mut fmt::Formatter<'_>, name: &str, latency: &Latency) -> fmt::Result {
    let (p50, p99) = (latency.quantile_ms(0.5), latency.quantile_ms(0.99));
    for (name, ms, what) in [(name, p50, "p50"), ("", p99, "p99"), ("", latency.max_ms(), "max")] {
        writeln!(f, "{name:<22} {ms:>12} ms   {what}")?;
    }
    Ok(())
}

/// One more of a name that came from elsewhere: bounded, and fit for a terminal.
fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let name: String = name.trim_end().chars().take(NAME_CHARS_MAX).map(shown).collect();
    let is_counted = counts.len() < NAMES_MAX || counts.contains_key(&name);
    *counts.entry(if is_counted { name } else { OTHERS.into() }).or_default() += 1;
}

/// With a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut tally = Tally {
            sent: 150_000,
            received: 2_999_000,
            owed: 2_998_001,
            paid: 2_997_998,
            unsure: 999,
            ..Tally::default()
        };
        for ms in [1, 2, 2, 3, 40] {
            tally.latency.record(ms);
        }
        Report {
            phase: Phase::Driving,
            vehicles: 1_000,
            registered: 998,
            driven_ms: 15_000,
            planned_ms: 30_000,
            tally,
            errors: BTreeMap::from([("rate_limited".into(), 7)]),
            closes: BTreeMap::from([("4008 slow".into(), 2)]),
            ..Report::default()
        }
    }

    #[test]
    fn thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn names_from_elsewhere_are_bounded_and_printable() {
        let mut report = Report::default();
        (0..1_000).for_each(|n| report.count_error(&format!("code {n}")));
        report.count_error("code 3");
        report.count_close(&format!("4000 \x1b[2J\n{}", "x".repeat(500)));
        report.count_close("4001 ");
        assert_eq!((report.errors.len(), report.errors.values().sum::<u64>()), (NAMES_MAX + 1, 1_001));
        assert_eq!((report.errors["code 3"], report.errors[OTHERS]), (2, 968));
        assert_eq!(report.closes["4001"], 1);
        assert!(report.closes.keys().all(|name| !name.contains(char::is_control) && name.chars().count() <= 123));
    }

    #[test]
    fn the_line_of_progress() {
        let expected = "[############------------] driving   15/30 s  998 vehicles  sent 150,000  received 2,999,000  \
                        ratio 0.9999  p99 40 ms";
        assert_eq!(report().progress_line(), expected);
        let joining = Report { phase: Phase::Joining, registered: 250, ..report() };
        assert_eq!(joining.progress_line(), "[######------------------] joining  250 of 1,000 vehicles");
        assert_eq!(Report::default().ratio(), "1.0000");
        assert!(Report::default().progress_line().starts_with("[------------------------] joining"));
    }

    #[test]
    fn the_table() {
        let dirt = Dirt { duplicate: 1, ..Dirt::default() };
        let table = Report { trace: Some((9_255, dirt)), ..report() }.to_string();
        for line in [
            "vehicles registered                998   of 1,000",
            "updates sent                   150,000   10,000/s",
            "deliveries owed              2,998,001   199,866/s",
            "owed and received            2,997,998   ratio 0.9999",
            "missing                              3",
            "latency                           2 ms   p50",
            "errors                               7",
            "  error: rate_limited                7",
            "connections lost                     2",
            "  lost: 4008 slow                    2",
            "trace rows used                  9,255",
        ] {
            assert!(table.lines().any(|other| other == line), "{line} is not in\n{table}");
        }
        assert!(!table.lines().any(|line| line.starts_with("wrong")), "what did not happen is left out");
    }
}
