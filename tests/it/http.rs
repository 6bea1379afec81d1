//! Plain HTTP on the port of the WebSocket, answered for both workers.

use serde_json::json;

use crate::client::Client;
use crate::fleet::Fleet;
use crate::gateway::Gateway;

#[test]
fn health_and_listings_answer_for_both_workers() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 6);
    let mut bus = Client::connect(gateway.addr);
    bus.send(
        "register",
        json!({"vehicleId": "bus-7", "driverName": "Ada", "vehicleInfo": {"licensePlate": "B 7", "model": "Citaro"}}),
    );
    bus.expect("registered");
    bus.id = "bus-7".to_owned();
    bus.locate(48.1234567, 11.7654321);
    bus.sync();
    fleet.vehicles[0].expect_that("presence_update", |data| data["vehicleId"] == "bus-7");
    let count = fleet.vehicles.len() as u64 + 1;

    // Whichever worker is asked: 16 times the same one has p = 2^-15.
    for _ in 0..16 {
        let health = gateway.get("/health");
        let body = health.json();
        assert_eq!((health.status, &body["status"], &body["redis"]), (200, &json!("ok"), &json!("disabled")));
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
        assert!(body["vehicles"] == count && body["timestamp"].is_u64(), "{body}");

        let listing = gateway.get("/vehicles").json();
        let vehicles = listing["vehicles"].as_array().expect("a list");
        assert_eq!(vehicles.len() as u64, count);
        let listed = vehicles.iter().find(|vehicle| vehicle["vehicleId"] == "bus-7").expect("listed");
        assert_eq!(listed["driverName"], "Ada");
        assert_eq!(listed["vehicleInfo"], json!({"licensePlate": "B 7", "model": "Citaro"}));
        let location = &listed["location"];
        assert_eq!((&location["lat"], &location["lon"]), (&json!(48.1234567), &json!(11.7654321)));
        assert!(location["updatedAt"].is_u64() && listed["connectedAt"].is_u64(), "{listed}");
        assert!(vehicles.iter().filter(|vehicle| vehicle["location"].is_null()).count() as u64 == count - 1);

        let one = gateway.get("/vehicles/bus-7");
        assert_eq!((one.status, &one.json()["driverName"]), (200, &json!("Ada")));
        let nobody = gateway.get("/vehicles/bus-8");
        assert_eq!((nobody.status, nobody.json()), (404, json!({"error": "not_found"})));

        let presence = gateway.get("/presence").json();
        assert_eq!(presence["count"], count);
        let lines = presence["vehicles"].as_array().expect("a list");
        let line = lines.iter().find(|line| line["vehicleId"] == "bus-7").expect("listed");
        assert!(line["lastHeartbeat"].is_u64() && line["lastSeenMsAgo"].as_u64().is_some_and(|ago| ago < 20_000));
        assert!(line["geohash"].as_str().is_some_and(|hash| hash.starts_with("u283")), "{line}");
    }
}

#[test]
fn metrics_are_summed_over_both_workers() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 8);
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(0.0, 0.0);
        vehicle.text("nonsense");
        vehicle.expect_error("invalid_json");
    }
    let count = fleet.vehicles.len() as u64;
    for _ in 0..16 {
        assert_eq!(gateway.metric("v2v_active_vehicles"), count);
        assert_eq!(gateway.metric("v2v_location_updates_received"), count);
        assert_eq!(gateway.metric("ringroad_registrations_total"), count);
        assert_eq!(gateway.metric("ringroad_errors_total{code=\"invalid_json\"}"), count);
        assert_eq!(gateway.metric("ringroad_upgrades_total{dialect=\"json\"}"), count);
        assert_eq!(gateway.metric("ringroad_workers"), 2);
    }
    let reply = gateway.get("/metrics");
    assert_eq!(reply.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let buckets = reply.body.lines().filter(|line| line.starts_with("v2v_message_delivery_latency_ms_bucket{"));
    assert_eq!(buckets.count(), 10);
    assert!(reply.body.contains("# TYPE v2v_uptime_seconds gauge\n"));
}

#[test]
fn methods_and_paths_that_are_not_there_are_refused() {
    let gateway = Gateway::start(&[]);
    let head = gateway.ask("HEAD /health", &[]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("Content-Length").is_some_and(|length| length != "0"));
    for (request, status) in [
        ("GET /nowhere", 404),
        ("GET /v2v", 426),
        ("POST /health", 405),
        ("DELETE /vehicles/car-1", 405),
        ("GET /health?verbose=1", 200),
        ("OPTIONS /vehicles", 204),
    ] {
        assert_eq!(gateway.ask(request, &[]).status, status, "{request}");
    }
    assert_eq!(gateway.ask("POST /health", &[("Content-Length", "2")]).status, 413);
    assert_eq!(gateway.ask(&format!("GET /{}", "x".repeat(9_000)), &[]).status, 414);
    assert_eq!(gateway.ask("GET /health", &[("X-Long", &"x".repeat(9_000))]).status, 431);
}

#[test]
fn pages_of_allowed_origins_may_read_and_connect_and_others_may_not() {
    let gateway = Gateway::start(&["server.allowed_origins=['https://map.example', 'http://localhost:5173']"]);
    let allowed = |reply: &crate::gateway::Reply| reply.header("Access-Control-Allow-Origin").map(str::to_owned);
    let health = gateway.ask("GET /health", &[("Origin", "https://map.example")]);
    assert_eq!((health.status, allowed(&health).as_deref()), (200, Some("https://map.example")));
    assert_eq!(health.header("Vary"), Some("Origin"));
    let stranger = gateway.ask("GET /metrics", &[("Origin", "https://evil.example")]);
    assert_eq!((stranger.status, allowed(&stranger)), (200, None));
    let preflight = gateway.ask("OPTIONS /presence", &[("Origin", "http://localhost:5173")]);
    assert_eq!(allowed(&preflight).as_deref(), Some("http://localhost:5173"));
    assert!(preflight.header("Access-Control-Allow-Methods").is_some_and(|methods| methods.contains("GET")));

    let open = Gateway::start(&[]);
    assert_eq!(allowed(&open.ask("GET /health", &[("Origin", "https://any.example")])).as_deref(), Some("*"));
}
