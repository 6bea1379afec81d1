//! What a gateway says on stdout when it has started.

use std::fmt::Write;
use std::net::SocketAddr;

use ringroad::config::{self, Config};

/// What `serve` says on stdout once it listens: where, on how many workers, and what differs from the defaults.
pub fn announcement(config: &Config, listening_on: SocketAddr, workers: usize) -> String {
    let mut text = format!("ringroad {} listening on {listening_on}\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "workers: {workers}");
    if let Ok(Some(servers)) = config.redis.servers() {
        let _ = writeln!(text, "node: {}\nredis: {servers}", config.redis.node_id);
    }
    let mut differences = config::differences(config);
    // It has been told, and may be nobody's choice.
    differences.retain(|(key, _)| key != "redis.node_id");
    if !differences.is_empty() {
        text.push_str("different from the defaults:\n");
    }
    for (key, value) in differences {
        let _ = writeln!(text, "  {key} = {value}");
    }
    text
}

/// What `demo` says before it begins.
pub fn demo_announcement(config: &Config, listening_on: SocketAddr, workers: usize) -> String {
    let (port, path) = (listening_on.port(), &config.server.path);
    let mut text = announcement(config, listening_on, workers);
    let _ = writeln!(text, "a morning of Austin's buses drives against it; meanwhile:");
    let _ = writeln!(text, "  clients            ws://localhost:{port}{path}");
    if config.map.enabled {
        let _ = writeln!(text, "  the map            http://localhost:{port}/");
    }
    let _ = writeln!(text, "  who is there       http://localhost:{port}/vehicles");
    let _ = writeln!(text, "  what it counts     http://localhost:{port}/metrics");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_has_what_differs() {
        let mut config = Config::default();
        let address = "127.0.0.1:3002".parse().expect("an address");
        let plain = announcement(&config, address, 2);
        assert!(plain.ends_with("listening on 127.0.0.1:3002\nworkers: 2\n"), "{plain}");
        config.vehicles.nearby_radius_m = 300.0;
        config.auth.secret = "hunter2".to_owned();
        let text = announcement(&config, address, 2);
        assert!(text.contains("  vehicles.nearby_radius_m = 300.0\n") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_demo_says_where_its_map_is() {
        let mut config = Config::default();
        let address = "127.0.0.1:3002".parse().expect("an address");
        assert!(demo_announcement(&config, address, 2).contains("  the map            http://localhost:3002/\n"));
        config.map.enabled = false;
        assert!(!demo_announcement(&config, address, 2).contains("the map"));
    }

    #[test]
    fn a_backplane_is_announced_after_the_first_two_lines() {
        let mut config = Config::default();
        config.redis.url = "rediss://:hunter2@cache/1".to_owned();
        config.redis.node_id = "edge-1".to_owned();
        let text = announcement(&config, "127.0.0.1:3002".parse().expect("an address"), 2);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "workers: 2",
            "node: edge-1",
            "redis: cache:6379, database 1, TLS",
            "different from the defaults:",
            "  redis.url = \"rediss://:********@cache/1\"",
        ];
        assert_eq!(lines, expected);
    }
}
