//! The live map's files, as HTTP answers.

use std::collections::HashMap;

use serde_json::json;

use crate::script::Play;

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A request to a shard: its line, and lines of headers.
fn ask(play: &mut Play, request: &str) -> Answer {
    let client = play.world().open(0);
    let request = format!("{}\r\nHost: sim\r\n\r\n", request.replace('\n', "\r\n"));
    play.world().send_bytes(client, request.as_bytes());
    let reply = play.world().reply(client);
    assert!(play.world().closed(client).is_some(), "one request per connection");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a reply");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status").parse().expect("a number");
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.into())).collect();
    Answer { status, headers, body: body.to_owned() }
}

fn get(play: &mut Play, path: &str) -> Answer {
    ask(play, &format!("GET {path} HTTP/1.1"))
}

fn with(settings: &str) -> Play {
    let mut play = Play::default();
    play.run(settings);
    play
}

/// Every address in quotes that the page's files name, as the path that a browser would ask for.
fn named_by(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let quoted = text.split(['\'', '"']).skip(1).step_by(2);
    let files = quoted.filter(|name| name.ends_with(".js") || name.ends_with(".css") || *name == "map.json");
    files
        .map(|name| match name.strip_prefix("../") {
            Some(name) => format!("/{name}"),
            None => format!("{folder}/{}", name.trim_start_matches("./")),
        })
        .collect()
}

#[test]
fn the_page_brings_everything_that_it_names() {
    let mut play = Play::default();
    let mut seen = vec!["/".to_owned()];
    let mut at = 0;
    while at < seen.len() {
        let path = seen[at].clone();
        let answer = get(&mut play, &path);
        assert_eq!(answer.status, 200, "{path}");
        let kind = match path.rsplit_once('.').map(|(_, kind)| kind) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("json") => "application/json",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), kind, "{path}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        for named in named_by(&path, &answer.body) {
            if !seen.contains(&named) {
                seen.push(named);
            }
        }
        at += 1;
    }
    for path in ["/map.js", "/map.css", "/map.json", "/ringroad.js", "/map/fleet.js"] {
        assert!(seen.iter().any(|seen| seen == path), "nobody names {path}: {seen:?}");
    }
}

#[test]
fn the_page_is_told_what_it_must_know() {
    let mut play = with(
        "set server.path = '/live'
         set vehicles.nearby_radius_m = 250.5
         set viewers.area_km2_max = 90
         set map.tile_url = 'https://tiles.example:8443/{z}/{x}/{y}.png?key=a'
         set map.tile_attribution = '© \"us\"'",
    );
    let settings: serde_json::Value = serde_json::from_str(&get(&mut play, "/map.json").body).expect("JSON");
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"), "path": "/live", "radiusM": 250.5,
        "areaKm2Max": 90, "vehiclesMax": 20_000, "nearest": 4_096, "restMs": 1_000,
        "tileUrl": "https://tiles.example:8443/{z}/{x}/{y}.png?key=a", "tileAttribution": "© \"us\"",
    });
    assert_eq!(settings, expected);
}

#[test]
fn the_policy_allows_the_gateway_and_the_host_of_tiles() {
    for (tile_url, images) in [
        ("", "img-src 'self' data: ;"),
        ("/tiles/{z}/{x}/{y}", "img-src 'self' data: ;"),
        ("https://tiles.example:8443/{z}/{x}/{y}.png", "img-src 'self' data: https://tiles.example:8443;"),
    ] {
        let mut play = with(&format!("set map.tile_url = '{tile_url}'"));
        let page = get(&mut play, "/");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && policy.contains(images), "{policy}");
        assert_eq!(page.header("referrer-policy"), "strict-origin");
        // What the policy forbids would not work.
        assert!(!page.body.contains("<style") && !page.body.contains("style=") && !page.body.contains("onclick"));
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let mut play = Play::default();
    for path in ["/", "/map.js", "/map.json", "/ringroad.js"] {
        let whole = get(&mut play, path);
        let (tag, bytes) = (whole.header("etag"), whole.header("content-length"));
        assert_eq!(whole.header("cache-control"), "no-cache", "{path}");
        for request in [
            format!("GET {path} HTTP/1.1\nIf-None-Match: \"0\", {tag}"),
            format!("HEAD {path} HTTP/1.1\nIf-None-Match: W/{tag}"),
        ] {
            let same = ask(&mut play, &request);
            assert_eq!((same.status, same.body.as_str()), (304, ""), "{request}");
            assert_eq!((same.header("etag"), same.header("content-length")), (tag, bytes), "{request}");
        }
        let changed = ask(&mut play, &format!("GET {path} HTTP/1.1\nIf-None-Match: \"0\""));
        assert_eq!((changed.status, changed.body), (200, whole.body.clone()), "{path}");

        let head = ask(&mut play, &format!("HEAD {path} HTTP/1.1"));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(
            (head.headers.get("etag"), head.headers.get("content-length")),
            (whole.headers.get("etag"), whole.headers.get("content-length"))
        );
    }
    let settings = get(&mut play, "/map.json").header("etag").to_owned();
    let others = get(&mut with("set vehicles.nearby_radius_m = 100"), "/map.json").header("etag").to_owned();
    assert_ne!(settings, others);
}

#[test]
fn a_map_that_is_switched_off_is_not_there() {
    let mut play = with("set map.enabled = false");
    for path in ["/", "/map.js", "/map.css", "/map.json", "/ringroad.js", "/map/fleet.js"] {
        let answer = get(&mut play, path);
        assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"error":"not_found"}"#), "{path}");
    }
    assert_eq!(get(&mut play, "/health").status, 200);
}

#[test]
fn the_map_and_the_endpoint_may_share_the_root() {
    for (enabled, status) in [(true, 200), (false, 426)] {
        let mut play = with(&format!("set server.path = '/'\n set map.enabled = {enabled}"));
        assert_eq!(get(&mut play, "/").status, status);
        let client = play.world().open(0);
        play.world().send_bytes(
            client,
            b"GET /?token=a HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert_eq!(play.world().take(client).len(), 1, "connected");
    }
}
