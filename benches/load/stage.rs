//! What scenarios have in common: rounds, figures and their medians, and what is printed and kept.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Extent, PATIENCE, Verdict};
use crate::client::drive::{self, Driven};
use crate::client::{Fleet, fleet};
use crate::contender::Contender;
use crate::facts;
use crate::gateway::Gateway;
use crate::machine::{self, Others};
use crate::places::Places;
use crate::table::Table;

/// Settings that Ringroad has in every scenario: no update is held back, refused or announced, and nothing but positions
/// is told of neighbours. None of the others limits, coalesces or lists anything.
pub const SETTINGS: [&str; 6] = [
    "vehicles.coalesce_ms=0",
    "vehicles.nearby_list_ms=0",
    "rate_limits.location_update.burst=0",
    "rate_limits.emergency_alert.burst=0",
    "presence.scope=none",
    "limits.broadcast_log_bytes=16777216",
];

/// A server that takes next to nothing for so long has nothing left to do.
const REST: Duration = Duration::from_millis(60);

/// A server and its fleet.
pub struct Trial {
    pub server: Gateway,
    pub fleet: Fleet,
}

impl Trial {
    /// Starts a contender and connects a fleet.
    pub fn open(contender: &Contender, settings: &[&str], vehicles: usize) -> Result<Trial, String> {
        let settings: Vec<&str> = SETTINGS.iter().chain(settings).copied().collect();
        let server = contender.start(0, &settings)?;
        let fleet = Fleet::connect(&[server.addr], contender.talk, vehicles, fleet::POLITE)?;
        Ok(Trial { server, fleet })
    }

    /// The same, with everyone at a place.
    pub fn place(contender: &Contender, settings: &[&str], places: &Places) -> Result<Trial, String> {
        let mut trial = Trial::open(contender, settings, places.at.len())?;
        trial.fleet.place(places.at.clone(), places.neighbours.clone());
        Ok(trial)
    }

    /// Sends positions for so long, and says what that took.
    pub fn drive(&mut self, per_second: f64, seconds: f64) -> Measured {
        let meter = Meter::start(&self.server);
        let driven = drive::positions(&mut self.fleet, per_second, seconds);
        meter.stop(&self.server, driven)
    }

    /// Waits until the server has worked off what it was sent: until it takes next to no processor time.
    pub fn rest(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 2 && Instant::now() < deadline {
            let before = self.server.seconds();
            let window = Instant::now();
            while window.elapsed() < REST {
                self.fleet.poll(5);
            }
            quiet = if self.server.seconds() - before < REST.as_secs_f64() / 4.0 { quiet + 1 } else { 0 };
        }
    }

    /// Ends both, clients first: then no server has to wait for goodbyes.
    pub fn close(self) {
        drop(self.fleet);
        self.server.terminate();
    }
}

/// Processor time and other work meanwhile.
pub struct Meter {
    server_s: f64,
    client_s: f64,
    others: Others,
    began: Instant,
}

impl Meter {
    pub fn start(server: &Gateway) -> Meter {
        Meter {
            server_s: server.seconds(),
            client_s: machine::process_seconds(std::process::id()),
            others: Others::watch(),
            began: Instant::now(),
        }
    }

    fn stop(self, server: &Gateway, driven: Driven) -> Measured {
        let costs = self.costs(server);
        Measured { driven, costs }
    }

    /// What was taken so far.
    pub fn costs(&self, server: &Gateway) -> Costs {
        let server_s = server.seconds() - self.server_s;
        let client_s = machine::process_seconds(std::process::id()) - self.client_s;
        let seconds = self.began.elapsed().as_secs_f64();
        Costs { server_s, server: server_s / seconds, client: client_s / seconds, others: self.others.share(server_s) }
    }
}

/// What something took.
#[derive(Clone, Copy)]
pub struct Costs {
    /// Processor time of the server.
    pub server_s: f64,
    /// Shares of one processor.
    pub server: f64,
    pub client: f64,
    pub others: f64,
}

pub struct Measured {
    pub driven: Driven,
    pub costs: Costs,
}

impl Measured {
    /// Deliveries per second.
    pub fn rate(&self) -> f64 {
        self.driven.heard.positions as f64 / self.driven.seconds
    }

    /// Processor time of the server per delivery, µs.
    pub fn each_us(&self) -> f64 {
        self.costs.server_s * 1e6 / self.driven.heard.positions as f64
    }

    /// What was not as it has to be; `None`: all was.
    pub fn flaw(&self) -> Option<String> {
        let (driven, heard) = (&self.driven, &self.driven.heard);
        if heard.errors + heard.closed + heard.wrong > 0 {
            return Some(format!("{} errors, {} closed, {} wrong", heard.errors, heard.closed, heard.wrong));
        }
        match (driven.lost(), driven.withheld) {
            (0, 0) => None,
            (lost, 0) => Some(format!("{lost} of {} lost", driven.owed)),
            (_, withheld) => Some(format!("{withheld} updates not sent in time")),
        }
    }
}

/// What is measured with what, and what comes of it.
pub struct Stage {
    pub extent: Extent,
    pub verdict: Verdict,
    rounds: usize,
    /// Names of contenders, or parts of them; none: all.
    only: Vec<String>,
    text: String,
}

/// Figures of one contender: medians of the rounds, or why there are none.
pub struct Row<const N: usize> {
    pub contender: &'static Contender,
    pub figures: Result<[f64; N], String>,
}

impl Stage {
    pub fn new(extent: Extent, rounds: usize, only: Vec<String>) -> Stage {
        Stage { extent, verdict: Verdict::default(), rounds, only, text: String::new() }
    }

    /// Prints something, and keeps it for the results.
    pub fn say(&mut self, text: impl Display) {
        println!("{text}");
        self.text += &format!("{text}\n");
    }

    /// Measures contenders in turn, some rounds of all. `measure` is told the figures of the contender's last round.
    pub fn rounds<const N: usize>(
        &mut self,
        contenders: &[&'static Contender],
        mut measure: impl FnMut(&'static Contender, Option<&[f64; N]>) -> Result<[f64; N], String>,
    ) -> Vec<Row<N>> {
        let wanted = |contender: &&&Contender| {
            self.only.is_empty() || self.only.iter().any(|only| contender.name.contains(&only[..]))
        };
        let contenders: Vec<&'static Contender> = contenders.iter().filter(wanted).copied().collect();
        let mut taken: Vec<Result<Vec<[f64; N]>, String>> =
            contenders.iter().map(|contender| contender.absence().map_or(Ok(Vec::new()), Err)).collect();
        for round in 0..self.rounds {
            for (contender, taken) in contenders.iter().zip(&mut taken) {
                let Ok(figures) = taken else { continue };
                match measure(contender, figures.last()) {
                    Ok(more) => {
                        eprintln!("    {} round {}: {more:.2?}", contender.name, round + 1);
                        figures.push(more);
                    }
                    Err(error) => *taken = Err(error),
                }
            }
        }
        let rows = contenders.into_iter().zip(taken);
        let rows = rows.map(|(contender, taken)| Row { contender, figures: taken.map(|rounds| medians(&rounds)) });
        let rows: Vec<Row<N>> = rows.collect();
        for row in &rows {
            if let Err(error) = &row.figures {
                // Who is not installed is left out; who is there has to work.
                let is_absent = row.contender.absence().is_some();
                self.verdict
                    .demand(is_absent || self.extent == Extent::Full, || format!("{}: {error}", row.contender.name));
            }
        }
        rows
    }

    /// Writes what was said to `benches/results/NAME.md`.
    pub fn save(&self, name: &str, command: &str) -> std::io::Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        fs::create_dir_all(&folder)?;
        let (machine, date) = (machine::describe(), facts::today());
        let settings = SETTINGS.map(|setting| format!("`{setting}`")).join(", ");
        let text = format!(
            "# Load: {name}\n\n{date}; {machine}.\n\n`{command}`: medians of {} rounds. Ringroad has one worker and these settings beside those \
             named with a scenario: {settings}.\n\n```text\n{}```\n",
            self.rounds, self.text
        );
        fs::write(folder.join(name).with_extension("md"), text)
    }
}

/// Of each column the middle value.
fn medians<const N: usize>(rounds: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|column| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

/// A table of rows, the first column being names; `cells` makes the others of a row's figures.
pub fn table<const N: usize>(head: &[&str], rows: &[Row<N>], cells: impl Fn(&[f64; N]) -> Vec<String>) -> Table {
    let mut table = Table::new(std::iter::once("").chain(head.iter().copied()));
    for row in rows {
        let cells = match &row.figures {
            Ok(figures) => cells(figures),
            // The rest of it has been said where it happened.
            Err(error) => vec![error.lines().next().unwrap_or_default().to_owned()],
        };
        table.row(std::iter::once(row.contender.name.to_owned()).chain(cells));
    }
    table
}

/// A figure of a contender's row; NaN: there is none.
pub fn figure<const N: usize>(rows: &[Row<N>], contender: &Contender, column: usize) -> f64 {
    let row = rows.iter().find(|row| row.contender.name == contender.name);
    row.and_then(|row| row.figures.as_ref().ok()).map_or(f64::NAN, |figures| figures[column])
}

/// How many times `figure` is of `other`, as a cell.
pub fn times(figure: f64, other: f64) -> String {
    format!("{:.2}×", figure / other)
}

/// With a comma at each thousand.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share, in percent.
pub fn percent(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}
