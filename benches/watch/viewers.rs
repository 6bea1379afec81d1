//! What viewers cost, and what they see.

use ringroad::client::Dialect;
use ringroad::drive::gallery::Watched;
use ringroad::drive::{DriveOptions, View};
use ringroad::wire::json::Edges;

use crate::DIALECTS;
use crate::bench::{Extent, Verdict};
use crate::run::{Trial, grouped, run as measure};
use crate::table::Table;

/// Vehicles that move once per second in a square that gives each 8 neighbours, metres.
const VEHICLES: u32 = 5_000;
const SIDE_M: f64 = 22_000.0;

const VIEWERS: u32 = 100;

/// Where nobody is.
const NOWHERE: View = View::Box(Edges { south_e7: -1_000_000, west_e7: 0, north_e7: 0, east_e7: 1_000_000 });

pub fn run(extent: Extent, verdict: &mut Verdict) {
    let (vehicles, viewers) = extent.pick((60, 3), (VEHICLES, VIEWERS));
    let side_m = extent.pick(2_400.0, SIDE_M);
    println!("{viewers} viewers over {} vehicles that move once per second", grouped(vehicles.into()));
    let head = [
        "",
        "to vehicles/s",
        "to viewers/s",
        "seen of present",
        "gateway %",
        "more than without",
        "µs per record",
        "p50",
        "p99",
        "complete ms",
        "fleet %",
        "others %",
    ];
    let mut table = Table::new(head);
    for (name, dialect) in DIALECTS {
        let mut without = 0.0;
        let part = View::Side(side_m / 4.0);
        let cases = [
            ("without viewers", 0, None),
            ("of an empty area", viewers, Some(NOWHERE)),
            ("of a sixteenth", viewers, Some(part)),
            ("of everything", viewers, None),
        ];
        for &(what, viewers, view) in extent.pick(&cases[1..3], &cases[..]) {
            let seconds = Some(extent.pick(2.0, 20.0));
            let options = DriveOptions {
                dialect,
                vehicles: Some(vehicles),
                viewers,
                view,
                hz: 1.0,
                side_m,
                judged_every: extent.pick(1, 8),
                seconds,
                ..DriveOptions::default()
            };
            let trial = Trial {
                name: format!("{name}, {what}"),
                settings: &["vehicles.nearby_list_ms=0"],
                options,
                is_timed: true,
            };
            let measured = measure(extent, &trial, verdict);
            let all = Watched::all(&measured.report.watched);
            let load = measured.gateway_s / measured.seconds;
            if viewers == 0 {
                without = load;
            }
            let more = load - without;
            let per_record = more * measured.seconds * 1e6 / measured.records as f64;
            let unless = |is_none: bool, text: String| if is_none { "–".to_owned() } else { text };
            table.row([
                trial.name,
                measured.rate(measured.deliveries),
                measured.rate(measured.records),
                unless(viewers == 0, format!("{} of {}", grouped(all.seen), grouped(all.present))),
                measured.percent(measured.gateway_s),
                unless(viewers == 0, format!("{:.1}", more * 100.0)),
                unless(measured.records == 0, format!("{per_record:.2}")),
                unless(measured.records == 0, all.latency.quantile_ms(0.5).to_string()),
                unless(measured.records == 0, all.latency.quantile_ms(0.99).to_string()),
                unless(dialect == Dialect::Json || viewers == 0, all.complete_ms.unwrap_or_default().to_string()),
                measured.percent(measured.driver_s),
                measured.others_percent(),
            ]);
            if view == Some(NOWHERE) {
                verdict.demand(all.records == 0, || format!("{name}: {} records of an empty area", all.records));
            }
        }
    }
    println!("{table}");
}
