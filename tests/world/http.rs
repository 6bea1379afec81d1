//! Plain HTTP on the same port, answering for all shards.

use serde_json::{Value, json};

use crate::script::{Play, check};

/// Status, headers in lower case, and body of a request to a shard.
fn ask(play: &mut Play, shard: usize, request: &str) -> (u16, Vec<(String, String)>, String) {
    let client = play.world().open(shard);
    let request = format!("{}\r\nHost: sim\r\n\r\n", request.replace('\n', "\r\n"));
    play.world().send_bytes(client, request.as_bytes());
    let reply = play.world().reply(client);
    let (head, body) = reply.split_once("\r\n\r\n").expect("a reply");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status").parse().expect("a number");
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    assert!(play.world().closed(client).is_some(), "one request per connection");
    (status, headers, body.to_owned())
}

fn get(play: &mut Play, shard: usize, path: &str) -> (u16, Value) {
    let (status, headers, body) = ask(play, shard, &format!("GET {path} HTTP/1.1"));
    assert!(headers.contains(&("content-type".into(), "application/json".into())), "{headers:?}");
    assert!(headers.contains(&("content-length".into(), body.len().to_string())), "{headers:?}");
    assert!(headers.contains(&("connection".into(), "close".into())), "{headers:?}");
    (status, serde_json::from_str(&body).expect("JSON"))
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn town() -> Play {
    let mut play = Play::default();
    play.run(
        r#"shards 3
           a@0 connects; b@1 connects; c@2 connects
           a sends register {"vehicleId":$a,"driverName":"Ann","vehicleInfo":{"licensePlate":"M 1","model":"ID.3","color":"red"}}
           b sends register {"vehicleId":$b,"driverName":"Bob \"B\""}
           a at 48.137154 11.576124
           +3s
           a heartbeats"#,
    );
    play
}

#[test]
fn health_counts_the_vehicles_of_all_shards() {
    let mut play = town();
    let t = play.world().now().unix_ms;
    for shard in 0..3 {
        let expected = json!({"status": "ok", "vehicles": 2, "redis": "disabled", "version": env!("CARGO_PKG_VERSION"), "timestamp": t});
        assert_eq!(get(&mut play, shard, "/health"), (200, expected));
    }
}

#[test]
fn vehicles_are_listed_from_all_shards() {
    let mut play = town();
    let (connected, now) = (play.world().now().unix_ms - 3000, play.world().now().unix_ms);
    let a = json!({
        "vehicleId": "veh-a", "driverName": "Ann",
        "vehicleInfo": {"licensePlate": "M 1", "model": "ID.3", "color": "red"},
        "location": {"lat": 48.137154, "lon": 11.576124, "updatedAt": connected}, "connectedAt": connected,
    });
    let b = json!({
        "vehicleId": "veh-b", "driverName": "Bob \"B\"", "vehicleInfo": {}, "location": null, "connectedAt": connected,
    });
    for shard in 0..3 {
        let (status, mut body) = get(&mut play, shard, "/vehicles");
        let list = body["vehicles"].as_array_mut().expect("a list");
        list.sort_by_key(|vehicle| vehicle["vehicleId"].to_string());
        assert_eq!((status, &*list), (200, &vec![a.clone(), b.clone()]));
        assert_eq!(get(&mut play, shard, "/vehicles/veh-a"), (200, a.clone()));
        assert_eq!(get(&mut play, shard, "/vehicles/veh-b"), (200, b.clone()));
        for path in ["/vehicles/veh-c", "/vehicles/", "/nothing", "/map", "/vehicles/veh-a/x", "/HEALTH"] {
            assert_eq!(get(&mut play, shard, path), (404, json!({"error": "not_found"})), "{path}");
        }

        let (status, mut body) = get(&mut play, shard, "/presence");
        let list = body["vehicles"].as_array_mut().expect("a list");
        list.sort_by_key(|vehicle| vehicle["vehicleId"].to_string());
        let expected = json!({"count": 2, "vehicles": [
            {"vehicleId": "veh-a", "lastHeartbeat": now, "lastSeenMsAgo": 0, "geohash": "u281z7j"},
            {"vehicleId": "veh-b", "lastHeartbeat": connected, "lastSeenMsAgo": 3000, "geohash": null},
        ]});
        assert_eq!((status, body), (200, expected));
    }
}

#[test]
fn empty_listings_are_listings() {
    check(
        "shards 2
         a@0 gets /vehicles
         a< 200 {\"vehicles\":[]}, closed
         b@1 gets /presence
         b< 200 {\"count\":0,\"vehicles\":[]}, closed",
    );
}

#[test]
fn a_query_is_no_part_of_the_path() {
    let mut play = town();
    assert_eq!(get(&mut play, 0, "/health?verbose=1").0, 200);
    assert_eq!(get(&mut play, 1, "/vehicles/veh-b?x").0, 200);
}

#[test]
fn metrics_are_summed_over_the_shards() {
    let mut play = town();
    for shard in 0..3 {
        let (status, headers, body) = ask(&mut play, shard, "GET /metrics HTTP/1.1");
        assert_eq!((status, header(&headers, "content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
        let value = |name: &str| {
            let line = body.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
            line.unwrap_or_else(|| panic!("no {name} in\n{body}")).rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(value("v2v_active_vehicles"), "2");
        assert_eq!(value("ringroad_registrations_total"), "2");
        assert_eq!(value("ringroad_connections_open"), (4 + shard).to_string(), "three cars and the requests so far");
        assert_eq!(value("v2v_uptime_seconds"), "1003", "since the shell started, 1,000 s before");
        for name in [
            "v2v_messages_total",
            "v2v_emergencies_total",
            "v2v_call_sessions_total",
            "v2v_spatial_candidates_examined",
            "v2v_spatial_candidates_within_radius",
            "v2v_location_updates_received",
            "v2v_location_updates_processed",
            "v2v_location_updates_coalesced",
            "v2v_message_delivery_latency_ms_count",
        ] {
            value(name);
        }
        for bound in ["0", "10", "50", "100", "250", "500", "1000", "2000", "5000", "+Inf"] {
            assert!(body.contains(&format!("v2v_message_delivery_latency_ms_bucket{{le=\"{bound}\"}}")), "{bound}");
        }
    }
}

#[test]
fn head_is_get_without_the_body() {
    let mut play = town();
    for path in ["/health", "/metrics", "/vehicles", "/presence", "/vehicles/veh-a", "/nothing"] {
        let (status, headers, body) = ask(&mut play, 1, &format!("GET {path} HTTP/1.1"));
        let (head_status, head_headers, nothing) = ask(&mut play, 1, &format!("HEAD {path} HTTP/1.1"));
        assert_eq!((status, nothing.as_str()), (head_status, ""), "{path}");
        if path != "/metrics" {
            assert_eq!(headers, head_headers, "{path}");
            assert_eq!(header(&headers, "content-length"), Some(body.len().to_string().as_str()));
        }
    }
}

#[test]
fn other_methods_are_not_allowed() {
    let mut play = town();
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        let (status, headers, body) = ask(&mut play, 0, &format!("{method} /vehicles HTTP/1.1"));
        assert_eq!((status, body.as_str()), (405, r#"{"error":"method_not_allowed"}"#), "{method}");
        assert_eq!(header(&headers, "allow"), Some("GET, HEAD, OPTIONS"));
    }
    assert_eq!(ask(&mut play, 0, "POST /vehicles HTTP/1.1\nContent-Length: 2").0, 413);
}

#[test]
fn a_plain_request_to_the_endpoint_is_told_to_upgrade() {
    let (status, headers, body) = ask(&mut Play::default(), 0, "GET /v2v HTTP/1.1");
    assert_eq!((status, body.as_str()), (426, r#"{"error":"upgrade_required"}"#));
    assert_eq!(header(&headers, "upgrade"), Some("websocket"));
    let options: Vec<&str> = headers.iter().filter(|(name, _)| name == "connection").map(|(_, v)| v.as_str()).collect();
    assert_eq!(options, ["close", "Upgrade"]);
}

#[test]
fn any_origin_is_welcome_unless_some_are_named() {
    let mut play = town();
    let (_, headers, _) = ask(&mut play, 0, "GET /vehicles HTTP/1.1\nOrigin: https://any.example");
    assert_eq!(header(&headers, "access-control-allow-origin"), Some("*"));

    let mut play = Play::default();
    play.run("set server.allowed_origins = ['https://map.example', 'https://other.example']\n shards 2");
    for path in ["/health", "/vehicles", "/metrics", "/presence", "/nothing"] {
        for (origin, allowed) in [("https://map.example", true), ("https://evil.example", false)] {
            let (_, headers, _) = ask(&mut play, 1, &format!("GET {path} HTTP/1.1\nOrigin: {origin}"));
            assert_eq!(header(&headers, "access-control-allow-origin"), allowed.then_some(origin), "{path}");
            assert_eq!(header(&headers, "vary"), Some("Origin"), "{path}");
        }
    }
    let (status, headers, body) = ask(
        &mut play,
        0,
        "OPTIONS /vehicles HTTP/1.1\nOrigin: https://map.example\nAccess-Control-Request-Method: GET",
    );
    assert_eq!((status, body.as_str()), (204, ""));
    assert_eq!(header(&headers, "content-length"), None);
    assert_eq!(header(&headers, "access-control-allow-origin"), Some("https://map.example"));
    assert_eq!(header(&headers, "access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_page_from_elsewhere_may_not_open_a_websocket() {
    let upgrade = |origin: &str| {
        format!(
            "GET /v2v HTTP/1.1\n{origin}Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        )
    };
    let mut play = Play::default();
    play.run("set server.allowed_origins = ['https://map.example']");
    let (status, _, body) = ask(&mut play, 0, &upgrade("Origin: https://evil.example\n"));
    assert_eq!((status, body.as_str()), (403, r#"{"error":"origin_not_allowed"}"#));
    for origin in ["Origin: https://MAP.example\n", ""] {
        let client = play.world().open(0);
        let request = format!("{}\r\nHost: sim\r\n\r\n", upgrade(origin).replace('\n', "\r\n"));
        play.world().send_bytes(client, request.as_bytes());
        assert_eq!(play.world().take(client).len(), 1, "connected");
    }
}

#[test]
fn a_listing_that_the_client_half_closed_for_is_still_answered() {
    let mut play = town();
    let client = play.world().open(0);
    play.world().send_bytes(client, b"GET /presence HTTP/1.1\r\nHost: sim\r\n\r\n");
    play.world().hang_up(client, ringroad::turn::Ended::Eof);
    assert!(play.world().reply(client).starts_with("HTTP/1.1 200 OK"));
    assert!(!play.world().is_held(client));
}

#[test]
fn a_listing_whose_client_has_gone_is_dropped() {
    let mut play = town();
    for _ in 0..40 {
        let client = play.world().open(0);
        play.world().send_bytes(client, b"GET /presence HTTP/1.1\r\nHost: sim\r\n\r\n");
        play.world().hang_up(client, ringroad::turn::Ended::Reset);
    }
    assert_eq!(get(&mut play, 0, "/presence").0, 200);
}

#[test]
fn too_many_listings_at_a_time_are_told_to_come_back() {
    let mut play = town();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = play.world().open(0);
        play.world().stall(client, 0);
        play.world().send_bytes(client, b"GET /vehicles HTTP/1.1\r\nHost: sim\r\n\r\n");
        clients.push(client);
    }
    for client in &clients {
        play.world().resume(*client);
    }
    let replies: Vec<String> = clients.iter().map(|client| play.world().reply(*client)).collect();
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("HTTP/1.1 200")).count(), 16);
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("HTTP/1.1 503")).count(), 4);
    assert_eq!(play.counted("ringroad_shed_total{listing}"), 4);
    for client in clients {
        play.world().hang_up(client, ringroad::turn::Ended::Eof);
    }
    assert_eq!(get(&mut play, 0, "/vehicles").0, 200);
}

#[test]
fn a_long_listing_may_take_its_time_while_it_is_being_read() {
    let mut play = Play::default();
    play.run("set presence.scope = 'none'");
    for n in 0..2_000 {
        play.run(&format!("a{n} registers"));
    }
    for (bytes, arrives) in [(70_000, true), (1_000, false)] {
        let client = play.world().open(0);
        play.world().stall(client, bytes);
        play.world().send_bytes(client, b"GET /vehicles HTTP/1.1\r\nHost: sim\r\n\r\n");
        for _ in 0..8 {
            play.world().advance(1_000);
            play.world().trickle(client, bytes);
        }
        let reply = play.world().reply(client);
        assert_eq!(reply.ends_with("]}"), arrives, "{} bytes of it by {bytes} a second", reply.len());
        assert!(reply.len() > 200_000 || !arrives, "{} bytes are no long listing", reply.len());
        assert!(!play.world().is_held(client), "who has all of it, or does not read, is let go");
    }
}

#[test]
fn a_gateway_that_stops_is_draining() {
    // Whoever had connected before may still ask.
    let mut play = town();
    play.world().stop();
    let client = play.world().open(0);
    assert!(play.world().reply(client).starts_with("HTTP/1.1 503"));
}
