//! Servers that share the Redis and are not gateways.

use serde_json::{Value, json};

use crate::script::{Play, check};

#[test]
fn their_events_reach_every_client_once() {
    check(
        r#"shards 2
           hosts 2
           a@A registers; b@A1 connects; c@B connects
           forget
           server says {"origin":4711,"obj":{"event":"radio_text","data":{"from":"17","content":"hello"}}}
           a b c< radio 17: "hello"
           server says {"origin":4711,"obj":{"event":"presence_update","data":{"vehicleId":$z,"status":"online","lastSeen":1}}}
           a b c< online z
           all list a
           server says {"origin":4711,"obj":{"event":"emergency_alert","data":{"id":"00000000-0000-4000-8000-000000000001","senderId":$z}}}
           a b c< alert z
           server says {"origin":4711,"obj":{"event":"emergency_alert","data":{"id":"00000000-0000-4000-8000-000000000001","senderId":$z}}}
           a b c< nothing
           server says {"origin":4711,"obj":{"event":"emergency_alert","data":{"senderId":$z}}}
           server says {"origin":4711,"obj":{"event":"emergency_alert","data":{"senderId":$z}}}
           a b c< alert z, alert z
           count v2v_pubsub_replay_skipped = 2"#,
    );
}

#[test]
fn what_is_not_an_event_of_the_whitelist_is_dropped() {
    check(
        r#"hosts 1
           a@A registers
           forget
           server says {"origin":4711,"obj":{"event":"peer_location","data":{"vehicleId":$z}}}
           server says {"origin":4711,"obj":{"event":"error","data":{}}}
           a< nothing
           count ringroad_backplane_dropped_total{not_whitelisted} = 2
           server says {"origin":4711,"obj":{"event":"radio_text"}}
           server says {"origin":4711}
           server says {"obj":{"event":"radio_text","data":{"from":"1","content":"x"}}}
           server says [1]
           server says nonsense
           a< nothing
           count ringroad_backplane_dropped_total{malformed} = 5
           server says {"origin":"A","obj":{"event":"radio_text","data":{"from":"1","content":"my own"}}}
           a< nothing
           server says {"origin":"Z","obj":{"event":"radio_text","data":{"from":"1","content":"x"}},"ringroad":{"epoch":1,"worker":0,"at":1,"kind":"brand new"}}
           a< nothing
           count ringroad_backplane_dropped_total{version} = 1"#,
    );
    let mut play = Play::default();
    play.run("hosts 1\n a@A registers\n forget");
    let long = "x".repeat(4096);
    play.run(&format!(
        r#"server says {{"origin":4711,"obj":{{"event":"radio_text","data":{{"from":"1","content":"{long}"}}}}}}
           a< nothing
           count ringroad_backplane_dropped_total{{too_large}} = 1"#
    ));
}

#[test]
fn their_presence_is_told_where_everyones_is() {
    for (scope, told) in [("all", "online z"), ("nearby", "nothing"), ("none", "nothing")] {
        check(&format!(
            r#"set presence.scope = '{scope}'
               hosts 1
               a@A connects
               forget
               server says {{"origin":1,"obj":{{"event":"presence_update","data":{{"vehicleId":$z,"status":"online","lastSeen":1}}}}}}
               a< {told}"#
        ));
    }
}

#[test]
fn what_gateways_write_is_what_they_read() {
    let mut play = Play::default();
    play.run(
        "hosts 2
         a@A connects
         a sends register {\"vehicleId\":$a,\"driverName\":\"Ann\",\"vehicleInfo\":{\"licensePlate\":\"M-X 1\",\"color\":\"red\"}}
         a alerts",
    );
    let now = play.world().now().unix_ms;
    let told = play.world().redis().published("v2v:broadcast");
    let told: Vec<Value> = told.iter().map(|told| serde_json::from_slice(told).expect("JSON")).collect();
    let alert_id = told[1]["obj"]["data"]["id"].clone();
    assert!(alert_id.as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()));
    assert_eq!(
        told,
        [
            json!({
                "origin": "A",
                "obj": {"event": "presence_update", "data": {"vehicleId": "veh-a", "status": "online", "lastSeen": now}},
                "ringroad": {"epoch": now, "worker": 0, "at": now, "kind": "presence", "connectedAt": now,
                    "driverName": "Ann", "vehicleInfo": {"licensePlate": "M-X 1", "color": "red"}},
            }),
            json!({
                "origin": "A",
                "obj": {"event": "emergency_alert", "data": {"id": alert_id, "senderId": "veh-a", "vehicleInfo": null, "ts": now}},
                "ringroad": {"epoch": now, "worker": 0, "at": now, "kind": "alert", "seq": 1},
            }),
        ]
    );
    let entries = play.world().redis().hash("v2v:presence");
    let entry: Value = serde_json::from_str(&entries["veh-a"]).expect("JSON");
    let key = format!("{:016x}", ringroad::wire::state::key("A"));
    assert_eq!(
        entry,
        json!({"driverName": "Ann", "vehicleInfo": {"licensePlate": "M-X 1", "color": "red"}, "connectedAt": now,
            "node": "A", "nodeKey": key, "status": "online", "lastSeen": now})
    );
    let lease: Value = serde_json::from_str(&play.world().redis().text("v2v:node:A").expect("a lease")).expect("JSON");
    assert_eq!(lease, json!({"epoch": now, "workers": 1, "version": env!("CARGO_PKG_VERSION")}));
}

#[test]
fn entries_of_existing_servers_are_left_alone_until_their_vehicle_registers_here() {
    check(
        r#"hosts 2
           redis writes z {"driverName":"Zoe","connectedAt":5,"status":"online","lastSeen":5}
           redis writes y {"driverName":
           a@A registers
           +61s
           A lists nothing
           presence< y on ?, z on ?
           z@A registers
           presence< y on ?, z on A
           z hangs up
           presence< y on ?"#,
    );
}

#[test]
fn an_entry_that_vanishes_is_written_again_and_nobody_is_taken_for_gone() {
    check(
        "set vehicles.heartbeat_timeout_ms = 3600000
         set vehicles.ping_ms = 3600000
         shards 2
         hosts 2
         a@A1 registers; b@B registers; y@B connects
         forget
         redis writes a
         presence< b on B
         +60s
         presence< a on A, b on B
         all list a, b
         y< nothing",
    );
}
