//! What a stretch of feeding has shown, and how it is told.

use crate::delays::Delays;
use crate::gateway::Metrics;
use crate::stage::Look;
use crate::table::Table;
use crate::{Extent, Verdict};

/// A feeder that is behind by more than this does not keep up, milliseconds.
const BEHIND_MS_MAX: f64 = 100.0;

/// What happened between two looks.
#[derive(Clone, Default)]
pub struct Measured {
    pub seconds: f64,
    pub fed: u64,
    pub heard: u64,
    pub replaced: u64,
    pub gaps: u64,
    /// By either host, for whatever reason.
    pub dropped: u64,
    pub behind_ms: f64,
    /// Share of one processor that other work on this machine took.
    pub others: f64,
    pub sender: f64,
    pub receiver: f64,
    pub redis: f64,
    pub bus_lag_ms: f64,
    pub here: Delays,
    pub there: Delays,
    pub alerts: Delays,
    /// Published and never heard, once all was at rest.
    pub missing: i64,
}

impl Measured {
    pub fn between(before: &Look, after: &Look) -> Measured {
        let metric = |series: &str| after.metrics.get(series) - before.metrics.get(series);
        let cpu = |who: usize| after.seconds[who] - before.seconds[who];
        let (sent, sent_before) = (&after.sender.backplane, &before.sender.backplane);
        let dropped_there = "ringroad_backplane_dropped_total";
        let frames = metric("ringroad_backplane_lag_ms_count");
        Measured {
            seconds: (after.at - before.at).as_secs_f64(),
            fed: after.fed - before.fed,
            heard: metric("ringroad_backplane_states_in_total"),
            replaced: sent.states_conflated - sent_before.states_conflated,
            gaps: metric("ringroad_backplane_gaps_total"),
            dropped: sent.dropped.iter().map(|(_, count)| count).sum::<u64>()
                - sent_before.dropped.iter().map(|(_, count)| count).sum::<u64>()
                + sum(&after.metrics, dropped_there)
                - sum(&before.metrics, dropped_there),
            sender: cpu(0),
            receiver: cpu(1),
            redis: cpu(2),
            bus_lag_ms: metric("ringroad_backplane_lag_ms_sum") as f64 / frames as f64,
            ..Measured::default()
        }
    }

    pub fn delivered(&self) -> f64 {
        if self.heard == 0 { self.fed as f64 } else { self.heard as f64 }
    }

    /// Everything that was fed arrived, nearly at once, and nothing was lost.
    pub fn works(&self) -> bool {
        let (fed, heard) = (self.fed as f64, (self.heard + self.replaced) as f64);
        self.gaps == 0
            && self.dropped == 0
            && self.missing == 0
            && self.behind_ms < BEHIND_MS_MAX
            && heard > 0.99 * fed
            && self.replaced as f64 <= 0.01 * fed
    }

    pub fn check(&self, required: u64, extent: Extent, verdict: &mut Verdict) {
        verdict.demand(self.gaps == 0, || format!("{} gaps at {required} states per second", self.gaps));
        verdict.demand(self.dropped == 0, || format!("{} dropped at {required} states per second", self.dropped));
        verdict.demand(self.missing == 0, || format!("{} states published and not heard", self.missing));
        verdict.demand(self.there.count() > 0, || "no probe was heard on the other host".to_owned());
        if extent == Extent::Full {
            let rate = self.heard as f64 / self.seconds;
            let enough = rate >= 0.99 * required as f64;
            verdict.wish(enough, || format!("{rate:.0} of {required} states per second delivered"));
        }
    }
}

/// The sum over a family's labels.
fn sum(metrics: &Metrics, family: &str) -> u64 {
    let of_family = |series: &str| series.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'));
    metrics.series().filter(|(series, _)| of_family(series)).map(|(_, value)| value as u64).sum()
}

/// Two tables of the same rows: what was carried at which cost, and how long it took.
pub struct Tables {
    loads: Table,
    delays: Table,
}

impl Tables {
    pub fn new() -> Tables {
        let loads = [
            "states/s",
            "delivered/s",
            "replaced",
            "gaps",
            "dropped",
            "behind ms",
            "sender %",
            "receiver %",
            "Redis %",
            "others %",
        ];
        let delays = ["milliseconds, p50/p99/max", "same host", "other host", "alert, other host", "bus lag, mean"];
        Tables { loads: Table::new([""].into_iter().chain(loads)), delays: Table::new(delays) }
    }

    pub fn row(&mut self, name: &str, measured: &Measured) {
        let rate = |count: u64| format!("{:.0}", count as f64 / measured.seconds);
        let share = |seconds: f64| format!("{:.1}", seconds / measured.seconds * 100.0);
        self.loads.row([
            name.to_owned(),
            rate(measured.fed),
            rate(measured.heard),
            measured.replaced.to_string(),
            measured.gaps.to_string(),
            measured.dropped.to_string(),
            format!("{:.1}", measured.behind_ms),
            share(measured.sender),
            share(measured.receiver),
            share(measured.redis),
            format!("{:.0}", measured.others * 100.0),
        ]);
        if measured.heard > 0 {
            let delays = [&measured.here, &measured.there, &measured.alerts].map(|delays| delays.cells().join(" / "));
            self.delays.row([name.to_owned()].into_iter().chain(delays).chain([format!("{:.1}", measured.bus_lag_ms)]));
        }
    }

    pub fn print(&self) {
        println!("{}\n{}", self.loads, self.delays);
        println!("  sender, receiver, Redis: one core is 100 %; the sender's includes feeding\n");
    }
}
