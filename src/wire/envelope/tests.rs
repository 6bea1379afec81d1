//! Envelopes and entries: as written, as others write them, and broken.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const ALERT: &str = r#"{"event":"emergency_alert","data":{"id":"a-1","senderId":"veh-1","vehicleInfo":null,"ts":5}}"#;
const ONLINE: &str = r#"{"event":"presence_update","data":{"vehicleId":"veh-1","status":"online","lastSeen":9}}"#;
const OFFLINE: &str = r#"{"event":"presence_update","data":{"vehicleId":"veh-1","status":"offline","lastSeen":9}}"#;
const TEXT: &str = r#"{"event":"radio_text","data":{"from":"7","content":"é \"quoted\"\n"}}"#;

const SOURCE: Source<'_> =
    Source { node: "node-a.1", epoch: 1_759_000_000_000, worker: 3, at: 1_760_000_000_000, tenant: None };

const WHO: Who<'_> = Who { driver_name: "Ana \"é\"", license_plate: Some("TX-1"), model: None, color: Some("") };

fn written(kind: &Kind<'_>, obj: Option<&str>) -> String {
    written_for(None, kind, obj)
}

fn written_for(tenant: Option<&str>, kind: &Kind<'_>, obj: Option<&str>) -> String {
    let mut out = vec![];
    write(&mut out, &Source { tenant, ..SOURCE }, kind, obj.map(str::as_bytes));
    String::from_utf8(out).expect("we write UTF-8")
}

fn reading<R>(text: &str, then: impl FnOnce(Result<Envelope<'_>, Malformed>) -> R) -> R {
    read(&mut Parser::default(), &mut text.as_bytes().to_vec(), then)
}

fn reading_entry<R>(text: &str, then: impl FnOnce(Result<Entry<'_>, Malformed>) -> R) -> R {
    read_entry(&mut Parser::default(), &mut text.as_bytes().to_vec(), then)
}

/// One of each kind, with what must be its `obj`.
fn every_kind() -> Vec<(Kind<'static>, Option<&'static str>)> {
    let direct = |sender| Kind::Direct { number: 12, sender, recipient: "veh-2" };
    vec![
        (Kind::Event, Some(TEXT)),
        (Kind::Alert { seq: 1 }, Some(ALERT)),
        (Kind::Presence { connected_ms: 8, identity: Some(WHO) }, Some(ONLINE)),
        (Kind::Presence { connected_ms: 8, identity: None }, Some(OFFLINE)),
        (Kind::Beat { head: 0, heads: vec![], workers: 16, lease_ms: 10_000, leaving: false }, None),
        (
            Kind::Beat {
                head: 7,
                heads: vec![("a.b_c-D", 1 << 53), ("north", 1)],
                workers: 1,
                lease_ms: 9,
                leaving: true,
            },
            None,
        ),
        (Kind::Again { of: 2, from: 1, since: 1_759_999_999_999 }, None),
        (Kind::Resent { to: 9 }, None),
        (Kind::Doubt { vehicle_id: "veh-1", connected_ms: 8 }, None),
        (Kind::Where { vehicle_ids: vec!["veh-1", "veh-2"] }, None),
        (Kind::There { to: 2, squares: vec![("veh-1", "u33d"), ("veh-2", "0000")] }, None),
        (direct(Some("veh-1")), Some(TEXT)),
        (direct(None), Some(TEXT)),
        (Kind::Delivered { to: 65_535, number: 12 }, None),
        (Kind::Offline { to: 0, number: 1 << 53 }, None),
    ]
}

#[test]
fn every_kind_comes_back() {
    for (kind, obj) in every_kind() {
        reading(&written(&kind, obj), |envelope| {
            let envelope = envelope.unwrap();
            assert_eq!(envelope.origin, Origin::Text(SOURCE.node));
            assert_eq!(envelope.ringroad, Some((SOURCE.epoch, SOURCE.worker, SOURCE.at, kind)));
            assert_eq!(envelope.obj.map(|obj| String::from_utf8(obj.text).unwrap()).as_deref(), obj);
        });
    }
}

#[test]
fn others_read_what_the_contract_says() {
    let ringroad = |fields: Json| {
        let mut all = json!({"epoch": SOURCE.epoch, "worker": 3, "at": SOURCE.at});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let info = json!({"licensePlate": "TX-1", "color": ""});
    let expected = [
        json!({"kind": "event"}),
        json!({"kind": "alert", "seq": 1}),
        json!({"kind": "presence", "connectedAt": 8, "driverName": WHO.driver_name, "vehicleInfo": info}),
        json!({"kind": "presence", "connectedAt": 8}),
        json!({"kind": "beat", "head": 0, "workers": 16, "leaseMs": 10_000, "leaving": false}),
        json!({"kind": "beat", "head": 7, "heads": {"a.b_c-D": 1u64 << 53, "north": 1}, "workers": 1, "leaseMs": 9,
            "leaving": true}),
        json!({"kind": "again", "of": 2, "from": 1, "since": 1_759_999_999_999u64}),
        json!({"kind": "resent", "to": 9}),
        json!({"kind": "doubt", "vehicleId": "veh-1", "connectedAt": 8}),
        json!({"kind": "where", "vehicleIds": ["veh-1", "veh-2"]}),
        json!({"kind": "there", "to": 2, "squares": {"veh-1": "u33d", "veh-2": "0000"}}),
        json!({"kind": "direct", "number": 12, "sender": "veh-1", "recipient": "veh-2"}),
        json!({"kind": "direct", "number": 12, "sender": null, "recipient": "veh-2"}),
        json!({"kind": "delivered", "to": 65_535, "number": 12}),
        json!({"kind": "offline", "to": 0, "number": 1u64 << 53}),
    ];
    let kinds = every_kind();
    assert_eq!(kinds.len(), expected.len());
    for ((kind, obj), expected) in kinds.into_iter().zip(expected) {
        let mut envelope = json!({"origin": "node-a.1", "ringroad": ringroad(expected)});
        if let Some(obj) = obj {
            envelope["obj"] = serde_json::from_str(obj).unwrap();
        }
        assert_eq!(serde_json::from_str::<Json>(&written(&kind, obj)).unwrap(), envelope);
    }
}

#[test]
fn what_existing_servers_publish() {
    let text = r#" {"obj": {"event": "presence_update", "data": {"vehicleId": "bus-7", "status": "online",
        "lastSeen": 1.76e12, "extra": [1]}}, "origin": 4711} "#;
    reading(text, |envelope| {
        let Envelope { origin, obj, ringroad, tenant: None } = envelope.unwrap() else { panic!("of a tenant") };
        assert_eq!((origin, ringroad), (Origin::Number(4711.0), None));
        let Obj { event, text, id, vehicle_id, status, last_seen } = obj.unwrap();
        assert_eq!((event, id, vehicle_id), ("presence_update", None, Some("bus-7")));
        assert_eq!((status, last_seen), (Some("online"), Some(1_760_000_000_000)));
        let expected = json!({"event": "presence_update",
            "data": {"vehicleId": "bus-7", "status": "online", "lastSeen": 1.76e12 as u64, "extra": [1]}});
        assert_eq!(serde_json::from_slice::<Json>(&text).unwrap(), expected);
    });
    let alert = format!(r#"{{"origin": "worker 12/é", "obj": {ALERT}, "more": null}}"#);
    reading(&alert, |envelope| {
        let Envelope { origin, obj, ringroad, tenant: None } = envelope.unwrap() else { panic!("of a tenant") };
        assert_eq!((origin, ringroad), (Origin::Text("worker 12/é"), None));
        let obj = obj.unwrap();
        assert_eq!((obj.event, obj.id, obj.vehicle_id), ("emergency_alert", Some("a-1"), None));
    });
}

#[test]
fn what_a_gateway_looks_at_is_of_its_type_or_not_there() {
    let data = r#"{"id":7,"vehicleId":"a b","status":null,"lastSeen":"9"}"#;
    reading(&format!(r#"{{"origin":1,"obj":{{"event":"radio_text","data":{data}}}}}"#), |envelope| {
        let obj = envelope.unwrap().obj.unwrap();
        assert_eq!((obj.id, obj.vehicle_id, obj.status, obj.last_seen), (None, None, None, None));
    });
}

fn verdict(text: &str) -> Option<Malformed> {
    reading(text, |envelope| envelope.err())
}

#[test]
fn envelopes_that_are_none() {
    for text in ["", "[]", "7", "null", r#"{"origin":1"#, &"[".repeat(100)] {
        assert_eq!(verdict(text), Some(Malformed::Json), "{text}");
    }
    for origin in ["null", "{}", "true", "[1]"] {
        assert_eq!(verdict(&format!(r#"{{"origin":{origin}}}"#)), Some(Malformed::Origin), "{origin}");
    }
    assert_eq!(verdict("{}"), Some(Malformed::Origin));
    for obj in ["7", "[]", "{}", r#"{"event":"x"}"#, r#"{"event":7,"data":{}}"#, r#"{"event":"x","data":[]}"#] {
        assert_eq!(verdict(&format!(r#"{{"origin":1,"obj":{obj}}}"#)), Some(Malformed::Obj), "{obj}");
    }
    assert_eq!(verdict(r#"{"origin":1,"obj":null}"#), None);
}

/// The envelope with one of its fields gone, or something else in its place.
fn altered(text: &str, path: &[&str], value: Option<Json>) -> String {
    let mut json: Json = serde_json::from_str(text).unwrap();
    let (last, above) = path.split_last().unwrap();
    let parent = above.iter().fold(&mut json, |json, name| &mut json[*name]).as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(last.to_string(), value),
        None => parent.remove(*last),
    };
    json.to_string()
}

#[test]
fn what_gateways_say_is_whole_or_refused() {
    for (kind, obj) in every_kind() {
        let text = written(&kind, obj);
        let fields: Json = serde_json::from_str(&text).unwrap();
        for name in fields["ringroad"].as_object().unwrap().keys() {
            let expected = match name.as_str() {
                "epoch" | "worker" | "at" => Malformed::Ringroad,
                "kind" => Malformed::Kind,
                _ => Malformed::Field,
            };
            for wrong in [None, Some(json!([])), Some(json!(-1)), Some(json!("no kind, no id")), Some(json!(1e16))] {
                // Registrations may leave out what they are about, and beats tenants.
                if ["vehicleInfo", "heads"].contains(&&**name) && wrong.is_none() {
                    continue;
                }
                let text = altered(&text, &["ringroad", name], wrong);
                if name == "driverName" && text.contains("no kind") {
                    continue;
                }
                assert_eq!(verdict(&text), Some(expected), "{text}");
            }
        }
        if obj.is_some() {
            assert_eq!(verdict(&altered(&text, &["obj"], None)), Some(Malformed::Obj));
        }
        for origin in [json!(7), json!(""), json!("a b"), json!("x".repeat(65))] {
            assert_eq!(verdict(&altered(&text, &["origin"], Some(origin))), Some(Malformed::Origin));
        }
        for ringroad in [json!(null), json!([]), json!("event")] {
            assert_eq!(verdict(&altered(&text, &["ringroad"], Some(ringroad))), Some(Malformed::Ringroad));
        }
    }
}

#[test]
fn numbers_have_their_bounds() {
    for (kind, obj, field, least, most) in [
        (Kind::Alert { seq: 1 }, Some(ALERT), "seq", 1, 1u64 << 53),
        (Kind::Again { of: 2, from: 1, since: 3 }, None, "from", 1, 1 << 53),
        (Kind::Again { of: 2, from: 1, since: 3 }, None, "of", 0, 65_535),
        (Kind::Delivered { to: 1, number: 1 }, None, "to", 0, 65_535),
        (Kind::Beat { head: 0, heads: vec![], workers: 1, lease_ms: 1, leaving: false }, None, "workers", 0, 65_535),
        (Kind::Event, Some(TEXT), "worker", 0, 65_535),
    ] {
        let text = written(&kind, obj);
        let with = |value: u64| verdict(&altered(&text, &["ringroad", field], Some(json!(value))));
        assert_eq!((with(least), with(most)), (None, None), "{field}");
        assert!(least == 0 || with(least - 1).is_some(), "{field}");
        // Doubles step by two from here.
        assert!(with(most + 2).is_some(), "{field}");
    }
}

#[test]
fn questions_where_vehicles_are_name_some_and_not_too_many() {
    let most = limits::WHERE_VEHICLES_MAX;
    let ids = |count: usize| (0..count).map(|n| format!("vehicle-{n:032}")).collect::<Vec<_>>();
    for (count, expected) in [(0, Some(Malformed::Field)), (1, None), (most, None), (most + 1, Some(Malformed::Field))]
    {
        let ids = ids(count);
        let asked = written(&Kind::Where { vehicle_ids: vec!["veh-1"] }, None);
        let asked = altered(&asked, &["ringroad", "vehicleIds"], Some(json!(ids)));
        let squares = ids.iter().map(|id| (id.clone(), json!("u33d"))).collect::<serde_json::Map<_, _>>();
        let answer = written(&Kind::There { to: 65_535, squares: vec![("veh-1", "u33d")] }, None);
        let answer = altered(&answer, &["ringroad", "squares"], Some(squares.into()));
        assert_eq!((verdict(&asked), verdict(&answer)), (expected, expected), "{count}");
        assert!(expected.is_some() || asked.len().max(answer.len()) <= limits::WHERE_BYTES_MAX);
    }
    let answer = written(&Kind::There { to: 1, squares: vec![("veh-1", "u33d")] }, None);
    for squares in [json!({"v": "u33d"}), json!({"veh-1": "U33D"}), json!({"veh-1": "u33"}), json!({"veh-1": null})] {
        assert_eq!(verdict(&altered(&answer, &["ringroad", "squares"], Some(squares))), Some(Malformed::Field));
    }
    for vehicle_ids in [json!(["v"]), json!([7]), json!({"veh-1": 1})] {
        let asked = written(&Kind::Where { vehicle_ids: vec!["veh-1"] }, None);
        assert_eq!(verdict(&altered(&asked, &["ringroad", "vehicleIds"], Some(vehicle_ids))), Some(Malformed::Field));
    }
}

#[test]
fn an_alert_has_an_id_and_a_presence_says_who_and_when() {
    let alert = written(&Kind::Alert { seq: 1 }, Some(ALERT));
    let online = written(&Kind::Presence { connected_ms: 8, identity: Some(WHO) }, Some(ONLINE));
    for (text, path, value) in [
        (&alert, &["obj", "data", "id"][..], None),
        (&alert, &["obj", "event"], Some(json!("radio_text"))),
        (&online, &["obj", "event"], Some(json!("emergency_alert"))),
        (&online, &["obj", "data", "vehicleId"], Some(json!("v"))),
        (&online, &["obj", "data", "status"], Some(json!("asleep"))),
        (&online, &["obj", "data", "lastSeen"], None),
    ] {
        assert_eq!(verdict(&altered(text, path, value)), Some(Malformed::Obj), "{path:?}");
    }
    for (name, chars, expected) in [
        ("licensePlate", 64, None),
        ("licensePlate", 65, Some(Malformed::Field)),
        ("model", 65, Some(Malformed::Field)),
        ("color", 65, Some(Malformed::Field)),
    ] {
        let text = altered(&online, &["ringroad", "vehicleInfo", name], Some(json!("é".repeat(chars))));
        assert_eq!(verdict(&text), expected, "{name}");
    }
    for (chars, expected) in [(0, Some(Malformed::Field)), (64, None), (65, Some(Malformed::Field))] {
        let text = altered(&online, &["ringroad", "driverName"], Some(json!("é".repeat(chars))));
        assert_eq!(verdict(&text), expected, "{chars}");
    }
    // Who went has no name any more, whatever stands there.
    let gone = altered(&online, &["obj", "data", "status"], Some(json!("timeout")));
    reading(&gone, |envelope| {
        let (_, _, _, kind) = envelope.unwrap().ringroad.unwrap();
        assert_eq!(kind, Kind::Presence { connected_ms: 8, identity: None });
    });
}

#[test]
fn a_tenant_is_named_or_there_is_none() {
    for (kind, obj) in every_kind() {
        let (without, with) = (written(&kind, obj), written_for(Some("north"), &kind, obj));
        reading(&with, |envelope| {
            let envelope = envelope.unwrap();
            assert_eq!((envelope.tenant, envelope.ringroad.unwrap().3), (Some("north"), kind.clone()));
        });
        reading(&without, |envelope| assert_eq!(envelope.unwrap().tenant, None));
        assert_eq!(
            altered(&with, &["ringroad", "tenant"], None),
            altered(&without, &["no"], None),
            "nothing else changes"
        );
        for wrong in [json!(""), json!("a b"), json!("a:b"), json!("{a}"), json!("x".repeat(65)), json!(7), json!(null)]
        {
            assert_eq!(verdict(&altered(&with, &["ringroad", "tenant"], Some(wrong))), Some(Malformed::Ringroad));
        }
    }
}

#[test]
fn a_beat_names_the_newest_alerts_of_every_tenant() {
    let names: Vec<String> = (0..limits::HEADS_MAX + 1).map(|n| format!("{n:064}")).collect();
    let beat = |count: usize| {
        let heads = names[..count].iter().map(|name| (&**name, 1 << 53)).collect();
        written(&Kind::Beat { head: 1 << 53, heads, workers: 65_535, lease_ms: 1 << 53, leaving: false }, None)
    };
    let most = beat(limits::HEADS_MAX);
    assert!(most.len() <= limits::BEAT_BYTES_MAX, "{}", most.len());
    assert_eq!((verdict(&most), verdict(&beat(limits::HEADS_MAX + 1))), (None, Some(Malformed::Field)));
    for heads in [json!({"a b": 1}), json!({"a": -1}), json!({"a": null}), json!([]), json!(null), json!("a")] {
        assert_eq!(verdict(&altered(&beat(1), &["ringroad", "heads"], Some(heads))), Some(Malformed::Field));
    }
}

#[test]
fn node_ids() {
    for id in ["a", "Node_1.eu-west", &"x".repeat(64)] {
        assert!(is_node_id(id), "{id}");
    }
    for id in ["", " ", "a b", "a:b", "é", "a\n", &"x".repeat(65)] {
        assert!(!is_node_id(id), "{id}");
    }
}

#[test]
fn entries_as_gateways_write_them() {
    let entry = Entry { who: WHO, connected_ms: 8, node: Some("node-a"), last_seen: 9 };
    let mut out = vec![];
    write_entry(&mut out, &entry);
    let text = String::from_utf8(out).unwrap();
    let expected = json!({"driverName": WHO.driver_name, "vehicleInfo": {"licensePlate": "TX-1", "color": ""},
        "connectedAt": 8, "node": "node-a", "nodeKey": format!("{:016x}", crate::wire::state::key("node-a")),
        "status": "online", "lastSeen": 9});
    assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), expected);
    reading_entry(&text, |read| assert_eq!(read, Ok(entry)));
}

#[test]
fn entries_of_existing_servers() {
    let text = r#"{"connectedAt":1760000000000.75,"driverName":"Ana","socketId":"x","vehicleInfo":{"year":2020}}"#;
    let who = Who { driver_name: "Ana", ..Who::default() };
    let ms = 1_760_000_000_000;
    reading_entry(text, |entry| {
        assert_eq!(entry, Ok(Entry { who, connected_ms: ms, node: None, last_seen: ms }));
    });
    let text = r#"{"connectedAt":7,"driverName":"Ana","node":null,"lastSeen":null}"#;
    reading_entry(text, |entry| {
        assert_eq!(entry, Ok(Entry { who, connected_ms: 7, node: None, last_seen: 7 }));
    });
    let text = r#"{"connectedAt":1,"driverName":"Ana","vehicleInfo":null,"lastSeen":2e3}"#;
    reading_entry(text, |entry| {
        assert_eq!(entry, Ok(Entry { who, connected_ms: 1, node: None, last_seen: 2_000 }));
    });
    let good = r#"{"connectedAt":1,"driverName":"Ana","vehicleInfo":{},"node":"n","lastSeen":2}"#;
    for (name, wrong) in [
        ("connectedAt", None),
        ("connectedAt", Some(json!("2026-01-01T00:00:00Z"))),
        ("driverName", None),
        ("driverName", Some(json!(""))),
        ("vehicleInfo", Some(json!([]))),
        ("vehicleInfo", Some(json!({"model": 7}))),
        ("node", Some(json!("a b"))),
        ("node", Some(json!(7))),
        ("lastSeen", Some(json!(-1))),
    ] {
        let text = altered(good, &[name], wrong);
        assert_eq!(reading_entry(&text, |entry| entry.err()), Some(Malformed::Field), "{text}");
    }
    assert_eq!(reading_entry("[]", |entry| entry.err()), Some(Malformed::Json));
}

#[test]
fn a_record_of_a_message() {
    let mut out = vec![];
    write_message_record(&mut out, Uuid::from_u128(7), "veh-1", "veh-2", "l\u{0}ine\n", 5);
    let expected = json!({"id": "00000000-0000-0000-0000-000000000007", "senderId": "veh-1", "recipientId": "veh-2",
        "content": "l\u{0}ine\n", "messageType": "text", "ts": 5});
    assert_eq!(serde_json::from_slice::<Json>(&out).unwrap(), expected);
}

const WHOLE_MAX: u64 = 1 << 53;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn entries_come_back(
        driver_name in "\\PC{1,64}", info in vec(option::of("[\\PC\\n\"\\\\]{0,64}"), 3), connected_ms in 0..=WHOLE_MAX,
        node in option::of("[A-Za-z0-9._-]{1,64}"), last_seen in 0..=WHOLE_MAX,
    ) {
        let who = Who {
            driver_name: &driver_name,
            license_plate: info[0].as_deref(),
            model: info[1].as_deref(),
            color: info[2].as_deref(),
        };
        let entry = Entry { who, connected_ms, node: node.as_deref(), last_seen };
        let mut out = vec![];
        write_entry(&mut out, &entry);
        prop_assert!(serde_json::from_slice::<Json>(&out).is_ok());
        read_entry(&mut Parser::default(), &mut out, |read| {
            prop_assert_eq!(read, Ok(entry));
            Ok(())
        })?;
        // The same person comes in an envelope.
        let kind = Kind::Presence { connected_ms, identity: Some(who) };
        reading(&written(&kind, Some(ONLINE)), |read| {
            prop_assert_eq!(read.unwrap().ringroad.unwrap().3, kind);
            Ok(())
        })?;
    }

    #[test]
    fn no_bytes_are_a_panic(
        which in 0..every_kind().len(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in 0..600usize,
    ) {
        let (kind, obj) = every_kind().swap_remove(which);
        let mut bytes = written(&kind, obj).into_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.max(20));
        let is_json = serde_json::from_slice::<Json>(&bytes).is_ok();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let understood = read(&mut Parser::default(), &mut bytes.clone(), |envelope| {
            // What clients are to get is JSON whatever came.
            if let Some(obj) = envelope.as_ref().ok().and_then(|envelope| envelope.obj.as_ref()) {
                assert!(serde_json::from_slice::<Json>(&obj.text).is_ok(), "{text}");
            }
            envelope.is_ok()
        });
        prop_assert!(is_json || !understood, "{}", text);
        let is_entry = read_entry(&mut Parser::default(), &mut bytes, |entry| entry.is_ok());
        prop_assert!(is_json || !is_entry, "{}", text);
    }
}
