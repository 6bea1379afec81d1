//! Tokens on a shard: what each is good for, where it may be, how long it lasts, and which world it opens.

use std::sync::Arc;

use ringroad::auth::Keys;
use ringroad::sim::ClientId;
use serde_json::{Value, json};

use crate::script::Play;
use crate::tokens::{CASES, ED_PUBLIC, LEEWAY, RSA_PKCS1, RSA_PUBLIC, SECRET, SETTINGS, Signer, jwks, token};

/// Nothing that a connection hears without having asked for it.
const QUIET: &str = "set vehicles.heartbeat_timeout_ms = 86400000\n set vehicles.ping_ms = 86399999\n \
                     set vehicles.nearby_list_ms = 0";

/// A world that wants tokens, with more settings.
fn guarded(more: &str) -> Play {
    let mut play = Play::default();
    for setting in SETTINGS {
        play.run(&format!("set {setting}"));
    }
    play.run(more);
    let keys = Keys::of_file(SECRET, &jwks()).expect("keys");
    play.world().give_keys(Some(Arc::new(keys)));
    play
}

/// The same without tenants.
fn guarded_alone(more: &str) -> Play {
    let mut play = Play::default();
    play.run(&format!("set auth.required = true\n set auth.secret = '{SECRET}'\n{more}"));
    play
}

fn now_s(play: &mut Play) -> u64 {
    play.world().now().unix_ms / 1_000
}

/// A token of the secret's, with these claims besides.
fn signed(play: &mut Play, claims: Value) -> String {
    let now_s = now_s(play);
    token(Signer::Secret, &claims, now_s)
}

/// A token for a world without tenants.
fn plain(play: &mut Play, mut claims: Value) -> String {
    claims["tenant"] = Value::Null;
    signed(play, claims)
}

fn register(play: &mut Play, name: &str, token: &str) {
    play.run(&format!(r#"{name} sends register {{"vehicleId":${name},"driverName":"D","authToken":"{token}"}}"#));
}

/// A handshake with more headers, its target with a query.
fn handshake(query: &str, headers: &str) -> String {
    let handshake = ringroad::sim::HANDSHAKE.replacen("/v2v", &format!("/v2v{query}"), 1);
    handshake.replacen("\r\n", &format!("\r\n{headers}"), 1)
}

/// Status and body of a request.
fn ask(play: &mut Play, client: ClientId, target: &str, headers: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: sim\r\n{headers}\r\n");
    play.world().send_bytes(client, request.as_bytes());
    let reply = play.world().reply(client);
    let (head, body) = reply.split_once("\r\n\r\n").expect("a reply");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

fn status(play: &mut Play, target: &str, headers: &str) -> u16 {
    let client = play.world().open(0);
    ask(play, client, target, headers).0
}

#[test]
fn each_token_is_good_for_what_it_says_and_for_nothing_else() {
    let leeway = format!("set {LEEWAY}");
    for case in CASES {
        let mut play = guarded(&leeway);
        let now_s = now_s(&mut play);
        let token = case.token(now_s);
        let expect = |play: &mut Play, outcome: &str, fault: &str, what: &str| {
            let heard = play.heard("a").join(", ");
            let refused = format!("connected, error auth_failed, closed 1008 {}", "auth_failed");
            let expected = if fault.is_empty() { format!("connected, {outcome}") } else { refused };
            assert!(heard.starts_with(&expected), "{}, {what}: heard {heard}, not {expected}", case.what);
            let counted = if fault.is_empty() { 0 } else { 1 };
            if !fault.is_empty() {
                let name = format!("ringroad_tokens_refused_total{{{fault}}}");
                assert_eq!(play.counted(&name), counted, "{}, {what}", case.what);
            }
        };
        play.run("a connects");
        register(&mut play, "a", &token);
        expect(&mut play, "registered a", case.register, "registering");

        let mut play = guarded(&format!("{leeway}\n a connects"));
        play.run(&format!(r#"a sends view {{"south":1,"west":1,"north":2,"east":2,"authToken":"{token}"}}"#));
        expect(&mut play, "watching 0 of 1", case.view, "watching");

        for (query, headers) in
            [(format!("?token={token}"), String::new()), (String::new(), format!("Authorization: Bearer {token}\r\n"))]
        {
            let mut play = guarded(&leeway);
            let client = play.world().open(0);
            play.world().send_bytes(client, handshake(&query, &headers).as_bytes());
            let reply = play.world().reply(client);
            let expected = format!("HTTP/1.1 {} ", case.knock());
            assert!(reply.starts_with(&expected), "{}, {query}: {reply}", case.what);
            assert!(!reply.contains(&token), "a token is not said back");
            assert_eq!(status(&mut play, &format!("/vehicles{query}"), &headers), case.list, "{}", case.what);
        }
    }
}

#[test]
fn a_token_of_the_request_is_as_good_as_one_of_the_first_message() {
    let mut play = guarded("a opens");
    let token = signed(&mut play, json!({"vehicleId": "veh-a", "roles": ["vehicle", "viewer"]}));
    let client = play.client("a");
    let request = handshake("", &format!("Authorization: Bearer {token}\r\n"));
    play.world().send_bytes(client, request.as_bytes());
    play.run(
        r#"a views 1 1 2 2
           a registers
           a< connected, watching 0 of 1, registered a, online a
           a2 opens"#,
    );
    let client = play.client("a2");
    play.world().send_bytes(client, handshake(&format!("?x=y&token={token}"), "").as_bytes());
    play.run(
        r#"a2 sends register {"vehicleId":"veh-b","driverName":"B"}
           a2< connected, error auth_failed, closed 1008 auth_failed
           a< nothing"#,
    );
}

#[test]
fn who_has_shown_no_token_hears_nothing_and_is_not_waited_for() {
    let mut play = guarded_alone("shards 2\n set auth.wait_ms = 5000\n stranger@0 connects; slim@1 connects slim");
    let token = plain(&mut play, json!({}));
    play.run("a@0 connects; b@1 connects");
    register(&mut play, "a", &token);
    register(&mut play, "b", &token);
    play.run(
        r#"a at 48 11; b at 48 11.001
           +200ms
           a at 48 11
           a alerts
           +20ms
           stranger slim< connected
           stranger heartbeats
           stranger< heartbeat_ack
           stranger at 48 11
           stranger< error not_registered
           +4779ms
           stranger slim< nothing
           +1ms
           stranger slim< error auth_failed, closed 1008 auth_failed
           count ringroad_tokens_refused_total{missing} = 2"#,
    );
    let heard = play.heard("b").join(", ");
    assert!(heard.contains("alert a") && heard.contains("peer a"), "{heard}");
}

#[test]
fn in_slim_one_enters_as_in_json() {
    let mut play = guarded("v connects slim\n a connects");
    let token = signed(&mut play, json!({}));
    register(&mut play, "a", &token);
    play.run("a at 48.0 11.0\n forget");
    play.run(&format!(
        r#"v sends view {{"south":47,"west":10,"north":49,"east":12,"authToken":"{token}"}}
           +20ms"#
    ));
    let heard = play.heard("v").join("\n");
    assert!(heard.contains("watching 1 of 1") && heard.contains("named a"), "{heard}");
}

#[test]
fn a_token_that_ends_is_warned_of_and_then_ends_the_connection() {
    let mut play = guarded_alone(&format!("{QUIET}\n set auth.leeway_ms = 1000\n a connects; b connects"));
    let ends = plain(&mut play, json!({"exp": 90}));
    let lasts = plain(&mut play, json!({}));
    register(&mut play, "a", &ends);
    register(&mut play, "b", &lasts);
    play.run("forget\n +30999ms");
    play.run("a< nothing\n +1ms");
    let expires = play.world().now().unix_ms + 60_000;
    play.run(&format!(
        r#"a< token_expiring {{"expiresAt":{expires},"expiresInMs":60000}}
           b heartbeats
           b< heartbeat_ack
           a heartbeats
           a< heartbeat_ack
           count ringroad_tokens_expiring_total = 1
           +30s
           a heartbeats; b heartbeats
           a b< heartbeat_ack
           +29999ms
           a< nothing
           +1ms
           a< closed 4003 token_expired
           b< offline a (-30000ms)
           count ringroad_connections_closed_total{{token_expired}} = 1"#
    ));
}

#[test]
fn a_newer_token_lets_a_connection_live_on() {
    let mut play = guarded(&format!("{QUIET}\n a connects; v connects"));
    let (short, view) = (signed(&mut play, json!({"exp": 30})), r#""south":1,"west":1,"north":2,"east":2"#);
    register(&mut play, "a", &short);
    play.run(&format!("v sends view {{{view},\"authToken\":\"{short}\"}}\n forget\n +1ms"));
    // It ends within the minute before which one is warned.
    for name in ["a", "v"] {
        let heard = play.heard(name);
        assert!(heard.len() == 1 && heard[0].starts_with("token_expiring "), "{heard:?}");
    }
    let longer = signed(&mut play, json!({"exp": 3_600}));
    register(&mut play, "a", &longer);
    play.run(&format!("v sends view {{{view},\"authToken\":\"{longer}\"}}"));
    play.run("a< registered a\n v< watching 0 of 2");
    for _ in 0..58 {
        play.run("+60s\n a heartbeats; v heartbeats\n a v< heartbeat_ack");
    }
    play.run("+70s");
    let heard = play.heard("a");
    assert!(heard.iter().any(|one| one.starts_with("token_expiring ")), "{heard:?}");
}

#[test]
fn a_clock_that_is_set_ends_what_has_ended() {
    let mut play = guarded_alone(&format!("{QUIET}\n a connects"));
    let token = plain(&mut play, json!({"exp": 1_000_000}));
    register(&mut play, "a", &token);
    play.run("forget\n clock 1005000000\n a< nothing\n +3600s\n a< closed 4003 token_expired");
}

#[test]
fn a_newer_token_must_be_for_what_the_connection_is() {
    for (claims, fault) in [
        (json!({"tenant": "other"}), "tenant"),
        (json!({"vehicleId": "veh-b"}), "vehicle"),
        (json!({"exp": -60}), "expired"),
    ] {
        let mut play = guarded("a connects");
        let (good, other) = (signed(&mut play, json!({"exp": 30})), signed(&mut play, claims));
        register(&mut play, "a", &good);
        play.run("forget");
        register(&mut play, "a", &other);
        play.run(&format!(
            "a< error auth_failed, closed 1008 auth_failed\n count ringroad_tokens_refused_total{{{fault}}} = 1"
        ));
    }
    // Nor does one that lets its bearer watch let it be somebody else.
    let mut play = guarded("a connects");
    let (good, other) = (
        signed(&mut play, json!({})),
        signed(&mut play, json!({"vehicleId": "veh-b", "roles": ["vehicle", "viewer"]})),
    );
    register(&mut play, "a", &good);
    play.run(&format!("forget\n a sends follow {{\"vehicleIds\":[],\"authToken\":\"{other}\"}}"));
    play.run("a< error auth_failed, closed 1008 auth_failed");
}

#[test]
fn tenants_do_not_see_each_other_at_all() {
    let mut play = guarded("shards 2\n set vehicles.coalesce_ms = 0");
    let acme = signed(&mut play, json!({"tenant": "acme"}));
    let other = signed(&mut play, json!({"tenant": "other"}));
    // The same places and the same names, on the same shards and across.
    play.run("a@0 connects; b@1 connects; x@0 connects; y@1 connects; va@0 connects slim; vo@1 connects slim");
    for (name, vehicle, token) in [("a", "a", &acme), ("b", "b", &acme), ("x", "a", &other), ("y", "z", &other)] {
        play.run(&format!(
            r#"{name} sends register {{"vehicleId":"veh-{vehicle}","driverName":"D","authToken":"{token}"}}"#
        ));
    }
    for (name, token) in [("va", &acme), ("vo", &other)] {
        play.run(&format!(r#"{name} sends view {{"south":47,"west":10,"north":49,"east":12,"authToken":"{token}"}}"#));
    }
    play.run("forget");
    let at = |lon: &str, id: &str| format!(r#"location_update {{"vehicleId":"veh-{id}","lat":48.0,"lon":{lon}}}"#);
    play.run(&format!("a sends {}", at("11.0", "a")));
    play.run(&format!("x sends {}", at("11.0", "a")));
    play.run(&format!("b sends {}", at("11.001", "b")));
    play.run(&format!("y sends {}", at("11.001", "z")));
    play.run(&format!("a sends {}", at("11.0", "a")));
    play.run(&format!("x sends {}", at("11.0", "a")));
    play.run("+20ms\n a alerts");
    play.run(r#"x sends send_message {"senderId":"veh-a","recipientId":"veh-b","content":"hello"}"#);
    play.run(r#"a sends send_message {"senderId":"veh-a","recipientId":"veh-z","content":"hello"}"#);
    play.run(r#"a sends send_message {"senderId":"veh-a","recipientId":"veh-b","content":"hello"}"#);
    play.run(r#"x sends connect_request {"requesterId":"veh-a","targetId":"veh-z"}"#);
    play.run(r#"b sends connect_response {"requesterId":"veh-a","targetId":"veh-b","approved":true}"#);
    play.run(r#"vo sends follow {"vehicleIds":["veh-b"]}"#);
    play.run("+20ms\n x hangs; y leaves 1000");
    let heard: Vec<(&str, String)> =
        ["a", "b", "x", "y", "va", "vo"].map(|name| (name, play.heard(name).join(", "))).to_vec();
    let of = |name: &str| heard.iter().find(|(one, _)| *one == name).map(|(_, heard)| heard.clone()).expect("heard");
    // What each hears of its own.
    assert!(of("a").contains("enter b") && of("a").contains("alert a"), "{}", of("a"));
    assert!(of("b").contains("peer a 48 11") && of("b").contains("a: \"hello\""), "{}", of("b"));
    assert!(of("b").contains("error no_pending_request"), "the request was for another tenant's: {}", of("b"));
    assert!(of("x").contains("enter z") && of("x").contains("error target_offline"), "{}", of("x"));
    assert!(of("y").contains("connect_request"), "{}", of("y"));
    assert!(of("va").contains("named b") && of("vo").contains("named z"), "{} {}", of("va"), of("vo"));
    // And nothing of the others.
    for name in ["a", "b", "va"] {
        assert!(!of(name).contains(" z") && !of(name).contains("offline a"), "{name}: {}", of(name));
    }
    for name in ["x", "y", "vo"] {
        assert!(!of(name).contains("alert") && !of(name).contains(" b"), "{name}: {}", of(name));
    }
    assert!(of("a").contains("error target_offline"), "{}", of("a"));

    let operator = |play: &mut Play, tenant: Value| signed(play, json!({"roles": ["operator"], "tenant": tenant}));
    for (tenant, expected) in [("acme", 2), ("other", 0)] {
        let token = operator(&mut play, json!(tenant));
        let client = play.world().open(1);
        let (status, body) = ask(&mut play, client, &format!("/presence?token={token}"), "");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &body["count"]), (200, &json!(expected)), "{body}");
        let client = play.world().open(1);
        let (status, _) = ask(&mut play, client, &format!("/vehicles/veh-b?token={token}"), "");
        assert_eq!(status, if tenant == "acme" { 200 } else { 404 });
        assert_eq!(self::status(&mut play, &format!("/metrics?token={token}"), ""), 403, "they are of all tenants");
    }
    let host = operator(&mut play, Value::Null);
    assert_eq!(status(&mut play, &format!("/metrics?token={host}"), ""), 200);
    for (query, expected) in [("", 400), ("&tenant=evil", 400), ("&tenant=acme", 200)] {
        assert_eq!(status(&mut play, &format!("/vehicles?token={host}{query}"), ""), expected, "{query}");
    }
    let client = play.world().open(0);
    let (_, health) = ask(&mut play, client, "/health", "");
    assert!(health.contains("\"ok\"") && !health.contains("vehicles"), "{health}");
}

#[test]
fn a_tenants_laggards_hear_everything_in_order_or_are_closed() {
    let mut play = guarded(
        "set rate_limits.emergency_alert = {burst=0, per_ms=1}\n set limits.broadcast_log_bytes = 65536\n a connects; b connects",
    );
    let token = signed(&mut play, json!({}));
    register(&mut play, "a", &token);
    register(&mut play, "b", &token);
    play.run("forget\n b stalls 300");
    for n in 0..20 {
        play.run(&format!(r#"a sends emergency_alert {{"senderId":$a,"vehicleInfo":{{"n":{n}}}}}"#));
    }
    play.run("b trickles 333\n b trickles 7\n b resumes");
    let expected: Vec<String> = (0..20).map(|n| format!("alert a {{\"n\":{n}}}")).collect();
    assert_eq!(play.heard("b"), expected);
    play.run("b stalls");
    let long = "x".repeat(1_900);
    for _ in 0..200 {
        play.run(&format!(r#"a sends emergency_alert {{"senderId":$a,"vehicleInfo":{{"n":"{long}"}}}}"#));
    }
    play.run("count ringroad_connections_closed_total{slow} = 1\n a heartbeats");
    assert_eq!(play.heard("a").last().map(String::as_str), Some("heartbeat_ack"));
}

#[test]
fn what_goes_to_all_of_a_tenant_finds_its_way_between_a_long_outbox() {
    let unlimited =
        ["emergency_alert", "send_message"].map(|event| format!("set rate_limits.{event} = {{burst=0, per_ms=1}}"));
    let mut play = guarded(&format!("{QUIET}\n {}\n a connects; b connects", unlimited.join("\n")));
    let token = signed(&mut play, json!({}));
    register(&mut play, "a", &token);
    register(&mut play, "b", &token);
    play.run("a at 48 11; b at 48 11.001\n +1s\n forget");
    for bytes in [1_000, 40_000, 70_001] {
        play.run("b stalls 0");
        let text = "x".repeat(500);
        for n in 0..300 {
            let data = format!(r#"{{"senderId":$a,"recipientId":$b,"content":"{n} {text}"}}"#);
            play.run(&format!("a sends send_message {data}"));
            if n % 20 == 0 {
                play.run(&format!(r#"a sends emergency_alert {{"senderId":$a,"vehicleInfo":{{"n":{n}}}}}"#));
                play.run("+200ms\n a at 48 11");
            }
        }
        // Everything comes, each class in its order, wherever it was cut.
        let mut heard = Vec::new();
        while heard.iter().filter(|one: &&String| one.starts_with("a: ")).count() < 300 {
            play.run(&format!("b trickles {bytes}\n +10ms"));
            play.run(&format!(
                r#"a sends emergency_alert {{"senderId":$a,"vehicleInfo":{{"n":{}}}}}"#,
                1_000 + heard.len()
            ));
            heard.extend(play.heard("b"));
            assert!(!heard.iter().any(|one| one.starts_with("closed")), "{:?}", heard.last());
        }
        play.run("b resumes\n +1s");
        heard.extend(play.heard("b"));
        let number =
            |one: &String, before: &str| one.strip_prefix(before)?.split([' ', '}']).next()?.parse::<u64>().ok();
        let messages: Vec<u64> = heard.iter().filter_map(|one| number(one, "a: \"")).collect();
        assert_eq!(messages, (0..300).collect::<Vec<_>>());
        let alerts: Vec<u64> = heard.iter().filter_map(|one| number(one, "alert a {\"n\":")).collect();
        assert_eq!(alerts[..15], (0..15).map(|n| n * 20).collect::<Vec<_>>()[..]);
        assert!(alerts.len() > 15 && alerts.is_sorted(), "{alerts:?}");
        assert!(heard.iter().any(|one| one.starts_with("peer a 48 11")), "and where it is");
        play.run("a heartbeats\n forget");
    }
}

#[test]
fn listings_need_an_operator_or_the_private_address() {
    let mut play = guarded_alone("set server.private_listen = '127.0.0.1:1'\n set server.private_hosts = ['sim']");
    let vehicle = plain(&mut play, json!({"roles": ["vehicle"]}));
    let viewer = plain(&mut play, json!({"roles": ["viewer"]}));
    let operator = plain(&mut play, json!({"roles": ["operator"]}));
    // Path, and what it answers to nobody, a vehicle, a viewer and an operator, and on the private address.
    let cases = [
        ("/health", [200; 5]),
        ("/vehicles", [401, 403, 403, 200, 200]),
        ("/vehicles/veh-a", [401, 403, 403, 404, 404]),
        ("/presence", [401, 403, 403, 200, 200]),
        ("/metrics", [401, 403, 403, 200, 200]),
        ("/", [401, 403, 200, 200, 200]),
        ("/map.json", [401, 403, 200, 200, 200]),
        ("/map.js", [200; 5]),
        ("/v2v", [426; 5]),
        ("/nothing", [404; 5]),
    ];
    for (path, expected) in cases {
        let bearers = ["".to_owned(), vehicle.clone(), viewer.clone(), operator.clone()];
        for (token, expected) in bearers.iter().zip(expected) {
            let header = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
            assert_eq!(status(&mut play, path, &header), expected, "{path} {token}");
            if !token.is_empty() {
                assert_eq!(status(&mut play, &format!("{path}?token={token}"), ""), expected, "{path}?token={token}");
            }
        }
        let client = play.world().open_privately(0);
        assert_eq!(ask(&mut play, client, path, "").0, expected[4], "{path} on the private address");
    }
    // A page that an operator has open elsewhere does not get at the private address through the browser.
    let client = play.world().open_privately(0);
    ask(&mut play, client, "/vehicles", "Origin: https://evil.example\r\n");
    assert!(!play.world().reply(client).contains("Access-Control-Allow-Origin"));
    // A token is needed there for whatever is not a question.
    let client = play.world().open_privately(0);
    play.world().send_bytes(client, ringroad::sim::HANDSHAKE.as_bytes());
    play.world().send(client, r#"{"event":"register","data":{"vehicleId":"veh-a","driverName":"A"}}"#);
    assert_eq!(play.world().closed(client), Some((Some(1008), "auth_failed")));
}

#[test]
fn with_a_private_address_listings_are_there_alone_even_without_tokens() {
    let mut play = Play::default();
    play.run("set server.private_listen = '127.0.0.1:1'\n set server.private_hosts = ['sim']");
    for (path, expected) in [("/vehicles", 403), ("/metrics", 403), ("/presence", 403), ("/health", 200), ("/", 200)] {
        assert_eq!(status(&mut play, path, ""), expected, "{path}");
        let client = play.world().open_privately(0);
        assert_eq!(ask(&mut play, client, path, "").0, 200, "{path} on the private address");
    }
}

/// A page in an operator's browser can make its own name lead to the private address (DNS rebinding). It is then of the
/// same origin, and CORS does not keep it from reading.
#[test]
fn a_page_whose_name_leads_to_the_private_address_is_refused() {
    let mut play =
        guarded_alone("set server.private_listen = '127.0.0.1:1'\n set server.private_hosts = ['gateway-1']");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    let cases = [
        ("Host: 127.0.0.1:3003\r\n", true),
        ("Host: [::1]:3003\r\n", true),
        ("Host: localhost:3003\r\n", true),
        ("Host: gateway-1:3003\r\n", true),
        ("Host: evil.example:3003\r\n", false),
        ("Host: gateway-1.evil.example\r\n", false),
        ("Host:\r\n", false),
    ];
    let mut refused = 0;
    for (host, is_known) in cases {
        for (target, more, known) in [
            ("/vehicles", "", 200),
            ("/metrics", "", 200),
            ("/health", "", 200),
            ("/", "Origin: http://evil.example:3003\r\n", 200),
            ("/v2v", upgrade, 101),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\n{host}{more}\r\n");
            let client = play.world().open_privately(0);
            play.world().send_bytes(client, request.as_bytes());
            let status = if is_known { known } else { 421 };
            let reply = play.world().reply(client);
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {reply}");
            refused += u64::from(!is_known);
            // The public address may have any name: there, a token is needed.
            let client = play.world().open(0);
            play.world().send_bytes(client, request.as_bytes());
            assert!(!play.world().reply(client).starts_with("HTTP/1.1 421 "), "{request}");
        }
    }
    assert_eq!(play.counted("ringroad_refused_total{host}"), refused);
    // A health check of 1.0 has no Host; browsers do.
    let client = play.world().open_privately(0);
    play.world().send_bytes(client, b"GET /health HTTP/1.0\r\n\r\n");
    assert!(play.world().reply(client).starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_is_here_by_a_key_that_is_taken_away_has_to_go() {
    let mut play = guarded("shards 2\n a@0 connects; b@1 connects; c@1 connects; stranger connects");
    let now_s = now_s(&mut play);
    for (name, signer) in [("a", Signer::Rsa), ("b", Signer::Ed), ("c", Signer::Secret)] {
        register(&mut play, name, &token(signer, &json!({}), now_s));
    }
    play.run("forget");
    // The same key is the same in another file and under another name.
    for text in [RSA_PUBLIC, RSA_PKCS1, &jwks()] {
        let keys = Keys::of_file(SECRET, &[text, if text.starts_with('{') { "" } else { ED_PUBLIC }].concat());
        play.world().give_keys(Some(Arc::new(keys.expect("keys"))));
        play.run("a b c stranger< nothing");
    }
    let keys = Keys::of_file(SECRET, ED_PUBLIC).expect("keys");
    play.world().give_keys(Some(Arc::new(keys)));
    play.run("a< closed 4003 token_expired\n b c< offline a\n stranger< nothing");
    play.world().give_keys(Some(Arc::new(Keys::of_secret(SECRET))));
    play.run("b< closed 4003 token_expired\n c< offline b");
}

#[test]
fn new_keys_count_from_then_on_and_bad_ones_change_nothing() {
    let mut play = guarded("shards 2");
    let register_by = |play: &mut Play, signer: Signer| {
        let now_s = now_s(play);
        let token = token(signer, &json!({}), now_s);
        play.run("a@1 connects");
        register(play, "a", &token);
        let is_registered = play.heard("a").iter().any(|one| one == "registered a");
        play.run("a leaves 1000");
        is_registered
    };
    assert!(register_by(&mut play, Signer::Rsa) && register_by(&mut play, Signer::Ed));
    play.world().give_keys(None);
    assert!(register_by(&mut play, Signer::Rsa));
    let keys = Keys::of_file(SECRET, ED_PUBLIC).expect("keys");
    play.world().give_keys(Some(Arc::new(keys)));
    assert!(!register_by(&mut play, Signer::Rsa) && register_by(&mut play, Signer::Ed));
    assert!(register_by(&mut play, Signer::Secret));
    play.run("count ringroad_key_reloads_total = 2\n count ringroad_key_reloads_failed_total = 1");
}
