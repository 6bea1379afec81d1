//! A thousand vehicles at once.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringroad::wire::frame::{Opcode, encode_masked};

use crate::client::dial;
use crate::gateway::Gateway;
use crate::until;

const VEHICLES: usize = 1_000;

#[test]
fn a_thousand_come_at_once_and_go_at_once() {
    // Before the gateway starts: it inherits the limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let gateway = Gateway::start(&[]);
    let mut streams: Vec<TcpStream> = (0..VEHICLES).map(|_| dial(gateway.addr)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        // The first message may come with the handshake.
        let mut bytes = ringroad::sim::HANDSHAKE.as_bytes().to_vec();
        let register = format!(r#"{{"event":"register","data":{{"vehicleId":"car-{n}","driverName":"driver {n}"}}}}"#);
        encode_masked(&mut bytes, Opcode::Text, [1, 2, 3, 4], register.as_bytes());
        stream.write_all(&bytes).expect("sent");
    }
    // All presence of all is between them, which a JSON reader in a debug build would take long for.
    for (n, stream) in streams.iter_mut().enumerate() {
        let wanted = format!(r#"{{"event":"registered","data":{{"vehicleId":"car-{n}"}}}}"#);
        read_until(stream, wanted.as_bytes());
    }
    until("all are counted", || gateway.vehicles() == VEHICLES as u64);
    assert_eq!(gateway.metric("v2v_active_vehicles"), VEHICLES as u64);
    assert_eq!(gateway.metric("ringroad_registrations_total"), VEHICLES as u64);

    let mut goodbye = Vec::new();
    encode_masked(&mut goodbye, Opcode::Close, [1, 2, 3, 4], &1000u16.to_be_bytes());
    for stream in &mut streams {
        stream.write_all(&goodbye).expect("sent");
    }
    for stream in &mut streams {
        // Whatever is on its way, the answer to the goodbye, and the end.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an end without a reset");
        assert!(rest.ends_with(&[0x88, 2, 0x03, 0xe8]), "{:?}", &rest[rest.len().saturating_sub(16)..]);
    }
    until("all are gone", || gateway.vehicles() == 0);
    drop(streams);
    until("all connections are closed", || gateway.metric("ringroad_connections_open") == 1);
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"client_closed\"}"), VEHICLES as u64);
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"reset\"}"), 0);
    for family in ["ringroad_errors_total", "ringroad_shed_total"] {
        assert_eq!(gateway.metric_sum(family), 0, "{family}");
    }
    for counter in ["ringroad_accept_errors_total", "ringroad_sends_failed_total", "ringroad_mesh_refused_total"] {
        assert_eq!(gateway.metric(counter), 0, "{counter}");
    }
}

fn read_until(stream: &mut TcpStream, wanted: &[u8]) {
    let mut seen = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let len = stream.read(&mut bytes).expect("more");
        assert!(len > 0, "it was closed");
        let from = seen.len().saturating_sub(wanted.len());
        seen.extend_from_slice(&bytes[..len]);
        if seen[from..].windows(wanted.len()).any(|window| window == wanted) {
            return;
        }
    }
}
