//! Dirt of every kind, and the way between fixes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const HEADING: &str = "vehicle_id,timestamp,speed,route_id,trip_id,latitude,longitude,trip_headsign\n";

fn trace(rows: &str) -> Trace {
    Trace::read(format!("{HEADING}{rows}").as_bytes()).unwrap()
}

/// One row at a minute and second of an hour.
fn row(name: &str, time: &str, speed: &str, lat: &str, lon: &str) -> String {
    format!("{name},2016-12-16T08:{time}-06:00,{speed},1,2,{lat},{lon},\"1-Metro, SB\"\n")
}

#[test]
fn each_kind_of_dirt_is_counted_and_the_rest_is_there() {
    let rows = [
        row("1", "00:00", "5.0", "30.0", "-97.0"),
        row("1", "01:00", "5.0", "30.001", "-97.0"),
        row("1", "01:00", "5.0", "30.002", "-97.0"),
        row("1", "02:00", "5.0", "0", "0.0"),
        row("1", "02:10", "5.0", "91", "-97.0"),
        row("1", "02:20", "5.0", "30.0", "-181"),
        row("1", "02:30", "114", "30.0", "-97.0"),
        row("1", "02:40", "-1", "30.0", "-97.0"),
        row("1", "02:50", "5.0", "north", "-97.0"),
        row("1", "61:00", "5.0", "30.0", "-97.0"),
        row("1", "02:55", "fast", "30.0", "-97.0"),
        row("1", "02:56", "5", "NaN", "-97.0"),
        row("", "02:57", "5", "30.0", "-97.0"),
        "1,2016\n".to_string(),
        row("1", "00:30", "", "30.0005", "-97.0"),
        // 11 km in a minute, and back.
        row("1", "03:00", "5.0", "30.1", "-97.0"),
        row("1", "04:00", "5.0", "30.002", "-97.0"),
        row("2", "00:00", "5.0", "30.0", "-97.0"),
    ];
    let trace = trace(&rows.concat());
    let dirt =
        Dirt { unparsable: 6, null_island: 1, out_of_range: 2, impossible_speed: 3, duplicate: 1, out_of_order: 1 };
    assert_eq!(trace.dirt, dirt);
    assert_eq!((trace.rows, dirt.skipped()), (5, 13));
    let names: Vec<_> = trace.vehicles.iter().map(|track| track.name.as_str()).collect();
    assert_eq!(names, ["1", "2"]);
    let lats: Vec<_> = trace.vehicles[0].points.iter().map(|point| point.lat_e7).collect();
    assert_eq!(lats, [300_000_000, 300_005_000, 300_010_000, 300_020_000]);
}

#[test]
fn gzip_is_known_by_its_content() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(format!("{HEADING}{}", row("1", "00:00", "5", "30.0", "-97.0")).as_bytes()).unwrap();
    let trace = Trace::read(&gzip.finish().unwrap()[..]).unwrap();
    assert_eq!((trace.rows, trace.dirt), (1, Dirt::default()));
}

#[test]
fn what_is_no_trace_says_so() {
    let error = |text: &str| Trace::read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(""), "there is no column \"vehicle_id\"");
    assert_eq!(error("vehicle_id,timestamp,latitude\n"), "there is no column \"longitude\"");
    assert!(error(&format!("{HEADING}{}", row("1", "00:00", "5", "0", "0"))).starts_with("no row can be used"));
    assert!(Trace::read(&[0x1F, 0x8B, 0, 0][..]).is_err());
}

#[test]
fn the_hour_of_austin() {
    let trace = Trace::read(&include_bytes!("../../../data/austin-hour.csv.gz")[..]).unwrap();
    assert_eq!(trace.vehicles.len(), 261);
    assert_eq!(trace.rows + trace.dirt.skipped(), 9_256);
    assert_eq!(trace.dirt, Dirt { duplicate: 1, out_of_order: 100, ..Dirt::default() });
    let (first, last) = trace.span_ms();
    assert_eq!((last - first) / 60_000, 63);
}

fn track(points: &[(i64, f64, f64)]) -> Track {
    let points = points
        .iter()
        .map(|&(second, lat, lon)| Point { unix_ms: second * 1000, lat_e7: lat_e7(lat), lon_e7: lon_e7(lon) })
        .collect();
    Track { points, ..Track::new("1") }
}

#[test]
fn between_fixes_in_a_straight_line() {
    let mut track = track(&[(100, 30.0, -97.0), (200, 30.01, -97.0), (300, 30.01, -97.02)]);
    assert_eq!(track.fix(99_999), None);
    let at = |track: &mut Track, ms| {
        let fix = track.fix(ms).unwrap();
        let heading = fix.heading_degrees.map(|heading| heading.round());
        (fix.lat_e7, fix.lon_e7, (fix.speed_mps * 100.0).round() / 100.0, heading)
    };
    assert_eq!(at(&mut track, 100_000), (300_000_000, -970_000_000, 11.09, Some(0.0)));
    assert_eq!(at(&mut track, 150_000), (300_050_000, -970_000_000, 11.09, Some(0.0)));
    assert_eq!(at(&mut track, 250_000), (300_100_000, -970_100_000, 19.3, Some(270.0)));
    assert_eq!(at(&mut track, 300_000), (300_100_000, -970_200_000, 0.0, Some(270.0)));
    assert_eq!(track.fix(300_001), None);
}

#[test]
fn across_the_antimeridian_the_short_way() {
    let mut track = track(&[(0, -17.0, 179.99), (100, -17.0, -179.99)]);
    let lons: Vec<_> = [0, 25, 50, 75, 100].map(|second| track.fix(second * 1000).unwrap().lon_e7).to_vec();
    assert_eq!(lons, [1_799_900_000, 1_799_950_000, 1_800_000_000, -1_799_950_000, -1_799_900_000]);
    assert_eq!(track.heading_degrees.map(f64::round), Some(90.0));
}

#[test]
fn a_long_silence_is_not_filled() {
    let mut track = track(&[(0, 30.0, -97.0), (301, 30.01, -97.0), (400, 30.01, -97.0)]);
    assert!(track.fix(0).is_some());
    assert_eq!(track.fix(150_000), None);
    let fix = track.fix(301_000).unwrap();
    assert_eq!((fix.lat_e7, fix.speed_mps, fix.heading_degrees), (300_100_000, 0.0, None));
}
