//! The events about watching, in all their forms.

use super::*;

fn written(event: Event<'_>) -> String {
    let mut out = Vec::new();
    event.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_identity_has_the_fields_that_are_there() {
    let identity = |license_plate: Option<&str>, model: Option<&str>, color: Option<&str>| Identity {
        vehicle_id: "bus-7".into(),
        driver_name: "Ada \"A\"".into(),
        license_plate: license_plate.map(Into::into),
        model: model.map(Into::into),
        color: color.map(Into::into),
        connected_ms: 9,
    };
    for (identity, info) in [
        (identity(None, None, None), r#"{}"#),
        (identity(None, Some("Citaro"), None), r#"{"model":"Citaro"}"#),
        (identity(Some("A 1"), None, Some("white")), r#"{"licensePlate":"A 1","color":"white"}"#),
        (identity(Some(""), Some("x"), Some("\t")), r#"{"licensePlate":"","model":"x","color":"\t"}"#),
    ] {
        let names = r#""vehicleId":"bus-7","driverName":"Ada \"A\"""#;
        let data = format!(r#"{{"key":"000000000000000f",{names},"vehicleInfo":{info}}}"#);
        assert_eq!(
            written(Event::VehicleIdentity { key: 0x0F, identity: &identity }),
            format!(r#"{{"event":"vehicle_identity","data":{data}}}"#)
        );
    }
}

#[test]
fn what_is_watched_is_told_as_it_was_asked_for() {
    let nothing = Event::Watching { epoch: 1, vehicles: 0, cut: false, view: None, near_m: None, follow: 0 };
    assert_eq!(
        written(nothing),
        r#"{"event":"watching","data":{"epoch":1,"vehicles":0,"cut":false,"view":null,"nearM":null,"follow":0}}"#
    );
    let view = Some(Edges { south_e7: -1, west_e7: 1_795_000_000, north_e7: 0, east_e7: -1_800_000_000 });
    let much = Event::Watching { epoch: 70_000, vehicles: 20_000, cut: true, view, near_m: Some(250.5), follow: 3 };
    assert_eq!(
        written(much),
        concat!(
            r#"{"event":"watching","data":{"epoch":70000,"vehicles":20000,"cut":true,"#,
            r#""view":{"south":-0.0000001,"west":179.5,"north":0,"east":-180},"nearM":250.5,"follow":3}}"#
        )
    );
    assert_eq!(
        written(Event::ServerShutdown { reconnect_in_ms: 4_200, ts: 7 }),
        r#"{"event":"server_shutdown","data":{"reconnectInMs":4200,"ts":7}}"#
    );
    assert_eq!(
        written(Event::PeerGone { vehicle_id: "bus-9" }),
        r#"{"event":"peer_gone","data":{"vehicleId":"bus-9"}}"#
    );
}
