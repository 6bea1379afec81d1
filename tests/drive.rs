//! A fleet against the gateway, on real sockets: what `ringroad drive` and `ringroad demo` are made of.

use std::ops::ControlFlow;

use ringroad::config::Config;
use ringroad::drive::report::Phase;
use ringroad::drive::{self, DriveError, DriveOptions, Recording};
use ringroad::gateway;
use ringroad::io::Running;

fn gateway(change: impl FnOnce(&mut Config)) -> (Running, DriveOptions) {
    let mut config = Config::default();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.workers = 2;
    change(&mut config);
    let running = gateway::serve(config).unwrap();
    let url = format!("ws://{}/v2v", running.addr().unwrap());
    (running, DriveOptions { url, ..DriveOptions::default() })
}

fn stop(running: Running) {
    running.stop();
    running.join().unwrap();
}

#[test]
fn everyone_hears_of_their_neighbours_and_nobody_else_does() {
    let (running, options) = gateway(|_| {});
    let mut phases = Vec::new();
    let options = DriveOptions { vehicles: Some(80), hz: 2.0, seconds: Some(3.0), ..options };
    let report = drive::run(options, |report| {
        phases.push(report.phase);
        ControlFlow::Continue(())
    });
    stop(running);
    let report = report.unwrap();
    assert_eq!((report.registered, report.phase), (80, Phase::Done));
    assert!(phases.is_sorted() && phases.contains(&Phase::Driving), "{phases:?}");
    let tally = &report.tally;
    assert_eq!(tally.sent + report.skipped, 80 * 6);
    assert!(tally.owed > 1_000, "{report}");
    assert_eq!((tally.wrong, tally.duplicate, report.strangers), (0, 0, 0), "{report}");
    // On a machine that stands still for two seconds, what was owed is late; it must not be lost.
    assert!(tally.missing() <= tally.late, "{report}");
    assert!(report.errors.is_empty() && report.closes.is_empty(), "{report}");
}

#[test]
fn a_recording_is_driven_until_somebody_has_seen_enough() {
    let (running, options) = gateway(|_| {});
    let recording = Some(Recording::Bundled(include_bytes!("../data/austin-hour.csv.gz")));
    let options = DriveOptions { recording, vehicles: Some(40), speedup: 30.0, ..options };
    let report = drive::run(options, |report| match report.driven_ms {
        0..1_500 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    stop(running);
    let report = report.unwrap();
    assert_eq!((report.registered, report.phase), (40, Phase::Done));
    assert!(report.driven_ms < report.planned_ms && report.tally.sent > 0, "{report}");
    assert!(report.closes.is_empty(), "{report}");
    assert_eq!(report.trace.unwrap().1.duplicate, 1);
}

#[test]
fn a_gateway_that_takes_nobody_is_named_with_its_reason() {
    let (running, options) = gateway(|config| {
        config.auth.required = true;
        config.auth.secret = "a secret that the fleet does not know".into();
    });
    let result = drive::run(DriveOptions { vehicles: Some(3), ..options }, |_| ControlFlow::Continue(()));
    stop(running);
    let Err(error @ DriveError::Nobody(_)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("auth_failed: 3"), "{error}");
}
