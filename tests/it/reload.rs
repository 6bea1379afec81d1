//! SIGHUP: what can be changed takes effect, what cannot is named, and what is not valid changes nothing.

use std::fs;

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::gateway::Gateway;
use crate::manager::Manager;

const UPGRADE: [(&str, &str); 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Whether a page of this origin may read what it is answered: the same rule as for its connections.
fn is_allowed(gateway: &Gateway, origin: &str) -> bool {
    let reply = gateway.ask("GET /health", &[("Origin", origin)]);
    reply.header("Access-Control-Allow-Origin").is_some_and(|allowed| allowed == "*" || allowed == origin)
}

#[test]
fn what_has_changed_takes_effect_or_is_named_and_connections_stay() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("ringroad.toml");
    let path_text = path.display().to_string();
    let write = |text: &str| fs::write(&path, text).expect("written");
    write("[server]\nallowed_origins = ['https://a.example']\n");
    let manager = Manager::new();
    let env = [("NOTIFY_SOCKET", &*manager.address())];
    let gateway = Gateway::start_with(&["--listen", "127.0.0.1:0", "--config", &path_text], &[], &env);
    manager.expect("READY=1");
    let mut client = Client::connect(gateway.addr).register("car-1");
    assert!(is_allowed(&gateway, "https://a.example") && !is_allowed(&gateway, "https://b.example"));

    let reload = |text: &str, outcome: &str| {
        write(text);
        gateway.signal(Signal::SIGHUP);
        let reloading = manager.expect("RELOADING=1");
        assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
        let ready = manager.expect("READY=1");
        assert!(ready.contains(outcome), "{ready}");
    };
    reload(
        "[server]\nallowed_origins = ['https://b.example']\npath = '/other'\n[vehicles]\nnearby_radius_m = 300.0\n",
        "2 keys need a restart",
    );
    crate::until("both workers have it", || {
        (0..8).all(|_| is_allowed(&gateway, "https://b.example") && !is_allowed(&gateway, "https://a.example"))
    });
    let refused: Vec<_> = UPGRADE.iter().copied().chain([("Origin", "https://a.example")]).collect();
    assert_eq!(gateway.ask("GET /v2v", &refused).status, 403);
    reload("[server]\nallowed_origin = []\n", "it is not valid");
    reload("[vehicles]\nnearby_radius_m = -1\n", "it is not valid");
    assert!(is_allowed(&gateway, "https://b.example"), "as it was");
    reload("[log]\nlevel = 'warn'\n[limits]\nmessage_bytes_max = 2048\n", "configuration read again");
    crate::until("both workers have it", || (0..8).all(|_| is_allowed(&gateway, "https://a.example")));
    client.text(format!(r#"{{"event":"heartbeat","data":{{"x":"{}"}}}}"#, "x".repeat(3_000)));
    assert_eq!(client.closed().0, 1009);
    drop(client);
    let log = gateway.stop_with_errors();
    let of_level = |level: &str| log.lines().filter(|line| line.contains(level)).collect::<Vec<_>>().join("\n");
    for (level, text) in [
        ("INFO", "has changed, and takes effect key=\"server.allowed_origins\""),
        ("WARN", "has changed, and takes effect with the next start only key=\"server.path\""),
        ("WARN", "has changed, and takes effect with the next start only key=\"vehicles.nearby_radius_m\""),
        ("ERROR", "the configuration stays as it was: "),
        ("ERROR", "unknown key `server.allowed_origin`"),
        ("ERROR", "`vehicles.nearby_radius_m` is -1"),
    ] {
        assert!(of_level(level).contains(text), "no {text:?} at {level} in\n{log}");
    }
    assert!(!log.contains("configuration read again\n"), "at `warn` it is not told:\n{log}");
}
