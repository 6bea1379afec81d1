//! The opening handshake: what is declined, what is refused, and over which protocols.

use std::net::SocketAddr;

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message};

use crate::client::{Client, dial};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

/// What a handshake with these headers is answered, and whether a heartbeat is afterwards.
fn handshake(addr: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Response {
    let mut request = format!("ws://{addr}{path}").into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
    }
    match tungstenite::client(request, dial(addr)) {
        Ok((mut socket, response)) => {
            assert!(socket.read().expect("an event").to_text().expect("text").contains("\"connected\""));
            socket.send(Message::text(r#"{"event":"heartbeat"}"#)).expect("sent");
            assert!(socket.read().expect("an event").to_text().expect("text").contains("\"heartbeat_ack\""));
            response
        }
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => *response,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_the_gateway_does_not_speak_is_declined_by_silence() {
    let gateway = Gateway::start(&[]);
    let deflate = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame";
    let response = handshake(gateway.addr, "/v2v", &[("Sec-WebSocket-Extensions", deflate)]);
    assert_eq!(response.status(), 101);
    assert!(response.headers().get("Sec-WebSocket-Extensions").is_none(), "{response:?}");

    // tungstenite would refuse the answer, as a browser would.
    let mut stream = dial(gateway.addr);
    let offer = ringroad::sim::HANDSHAKE.replacen("\r\n", "\r\nSec-WebSocket-Protocol: soap, chat\r\n", 1);
    std::io::Write::write_all(&mut stream, offer.as_bytes()).expect("sent");
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut stream, &mut byte).expect("a reply");
        reply.push(byte[0]);
    }
    let reply = String::from_utf8(reply).expect("ASCII").to_ascii_lowercase();
    assert!(reply.starts_with("http/1.1 101") && !reply.contains("sec-websocket-protocol"), "{reply}");
    Client::of_stream(stream).register("soap-1");
}

#[test]
fn what_is_wrong_with_a_handshake_decides_the_status() {
    let gateway = Gateway::start(&["server.allowed_origins=['https://map.example']"]);
    let addr = gateway.addr;
    for (path, headers, status) in [
        ("/v2v", &[("Sec-WebSocket-Version", "8")][..], 426),
        ("/v2v", &[("Sec-WebSocket-Key", "short")], 400),
        ("/v2v", &[("Connection", "keep-alive")], 400),
        ("/v2v", &[("Upgrade", "h2c")], 400),
        ("/v3v", &[], 404),
        ("/health", &[], 404),
        ("/v2v", &[("Origin", "https://evil.example")], 403),
        ("/v2v", &[("Origin", "https://map.example.evil.example")], 403),
        ("/v2v", &[("Origin", "null")], 403),
        ("/v2v", &[("Origin", "https://map.example")], 101),
        ("/v2v?token=1", &[], 101),
    ] {
        let response = handshake(addr, path, headers);
        assert_eq!(response.status(), status, "{path} {headers:?}");
        if status == 426 {
            assert_eq!(response.headers().get("Sec-WebSocket-Version").map(HeaderValue::as_bytes), Some(&b"13"[..]));
        }
    }
}

#[test]
fn another_path_is_served_when_it_is_configured() {
    let gateway = Gateway::start(&["server.path=/fleet/ws"]);
    assert_eq!(handshake(gateway.addr, "/fleet/ws", &[]).status(), 101);
    assert_eq!(handshake(gateway.addr, "/v2v", &[]).status(), 404);
}

#[test]
fn ipv6_is_served_like_ipv4() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this host has no IPv6 loopback");
        return;
    }
    let gateway = Gateway::listen("[::1]:0", &[]);
    assert!(gateway.addr.is_ipv6());
    let mut fleet = Fleet::register(&gateway, 4);
    for vehicle in &mut fleet.vehicles {
        vehicle.sync();
    }

    // Both families on one port, as `[::]` has it by default.
    let both = Gateway::listen("[::]:0", &[]);
    let port = both.addr.port();
    for addr in [SocketAddr::from(([127, 0, 0, 1], port)), format!("[::1]:{port}").parse().expect("an address")] {
        Client::connect(addr).register("car-1").goodbye();
    }
}
