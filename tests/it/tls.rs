//! TLS on the listener: against OpenSSL, against rustls, and against those who speak something else.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringroad::sim::HANDSHAKE;
use ringroad::wire::frame::{Opcode, encode_masked};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tungstenite::{Error, Message, WebSocket};

use crate::certificates::Authority;
use crate::client::{Client, dial};
use crate::gateway::{Gateway, ringroad};
use crate::{Numbers, PATIENCE, until};

impl Authority {
    /// A gateway that shows a certificate of ours.
    pub fn serve(&self, settings: &[&str]) -> Gateway {
        self.issue(1, |_| {});
        let tls = self.settings();
        let settings: Vec<&str> = tls.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        Gateway::start(&settings)
    }

    /// Where TLS is required, an operator looks at the private address.
    pub fn serve_only(&self, settings: &[&str]) -> (Gateway, SocketAddr) {
        let settings: Vec<&str> = ["server.private_listen=127.0.0.1:0"].iter().chain(settings).copied().collect();
        let gateway = self.serve(&settings);
        let private = gateway.private_addr();
        (gateway, private)
    }

    pub fn client(&self) -> ClientConnection {
        let mut trusted = RootCertStore::empty();
        trusted.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(trusted)
            .with_no_client_auth();
        ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").expect("a name")).expect("a client")
    }

    pub fn over(&self, stream: TcpStream) -> Encrypted {
        StreamOwned::new(self.client(), stream)
    }

    pub fn vehicle(&self, stream: TcpStream, id: &str) -> Vehicle {
        let url = format!("wss://{}/v2v", stream.peer_addr().expect("connected"));
        let (socket, _) = tungstenite::client(url, self.over(stream)).expect("an upgrade");
        let mut vehicle = Vehicle { socket };
        vehicle.expect("connected", |_| true);
        vehicle.send("register", json!({"vehicleId": id, "driverName": "a driver"}));
        vehicle.expect("registered", |_| true);
        vehicle
    }
}

pub type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A vehicle over TLS.
pub struct Vehicle {
    pub socket: WebSocket<Encrypted>,
}

impl Vehicle {
    pub fn send(&mut self, event: &str, data: Value) {
        self.socket.send(Message::text(json!({"event": event, "data": data}).to_string())).expect("sent");
    }

    /// The next event of this name whose data is as wanted; others are skipped.
    pub fn expect(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("no {name}: {error}"));
            let Message::Text(text) = message else { continue };
            let mut event: Value = serde_json::from_str(&text).expect("JSON");
            if event["event"] == name && is(&event["data"]) {
                return event["data"].take();
            }
        }
    }
}

/// The code of the close frame, behind which come the end of the WebSocket, and that of TLS (close_notify).
fn last_words(socket: &mut WebSocket<Encrypted>) -> Option<u16> {
    let close = std::iter::repeat_with(|| socket.read().expect("a close frame"))
        .find_map(|message| if let Message::Close(frame) = message { Some(frame) } else { None });
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
    assert_eq!(socket.get_mut().read(&mut [0]).expect("close_notify"), 0);
    close.flatten().map(|frame| frame.code.into())
}

/// What comes until the end, which has to be one that TLS announces (close_notify).
fn to_the_end(stream: &mut Encrypted) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("close_notify at the end");
    text
}

pub fn get(stream: &mut Encrypted, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
    to_the_end(stream)
}

/// `openssl s_client`, which sends a request and reads to the end.
fn openssl(addr: SocketAddr, args: &[&str]) -> String {
    let mut child = Command::new("timeout")
        .args(["30", "openssl", "s_client", "-ign_eof", "-connect", &addr.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    child.stdin.take().expect("piped").write_all(request).expect("it reads");
    let Output { stdout, stderr, .. } = child.wait_with_output().expect("it ends");
    [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

fn handshakes(private: SocketAddr, outcome: &str) -> u64 {
    Gateway::metric_at(private, &format!("ringroad_tls_handshakes_total{{outcome=\"{outcome}\"}}"))
}

#[test]
fn openssl_speaks_both_versions_and_comes_back_with_a_ticket() {
    let authority = Authority::new();
    let (gateway, private) = authority.serve_only(&[]);
    let ca = authority.text("ca.pem");
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let session = authority.text(name);
        let trust = [version, "-CAfile", &ca, "-verify_return_error", "-alpn", "http/1.1"];
        let full = openssl(gateway.addr, &[&trust[..], &["-sess_out", &session]].concat());
        for said in
            ["HTTP/1.1 200 OK", "\"status\":\"ok\"", "Verify return code: 0 (ok)", "ALPN protocol: http/1.1", name]
        {
            assert!(full.contains(said), "no {said:?} in\n{full}");
        }
        assert!(full.contains("New, TLSv1."), "{full}");
        // Whichever of the two workers gets it.
        for _ in 0..4 {
            let resumed = openssl(gateway.addr, &[&trust[..], &["-sess_in", &session]].concat());
            assert!(resumed.contains("Reused, TLSv1.") && resumed.contains("HTTP/1.1 200 OK"), "{name}: {resumed}");
        }
    }
    assert_eq!((handshakes(private, "full"), handshakes(private, "resumed")), (2, 8));
    for (args, outcome) in
        [(&["-tls1_3", "-groups", "ffdhe2048"][..], "incompatible"), (&["-alpn", "h2"], "incompatible")]
    {
        let before = handshakes(private, outcome);
        let refused = openssl(gateway.addr, args);
        assert!(refused.contains("alert") && !refused.contains("HTTP/1.1"), "{refused}");
        assert_eq!(handshakes(private, outcome), before + 1, "{args:?}");
    }
    let untrusting = openssl(gateway.addr, &["-verify_return_error"]);
    assert!(!untrusting.contains("HTTP/1.1"), "{untrusting}");
    until("its alert is counted", || handshakes(private, "declined") == 1);
    until("all are gone", || Gateway::metric_at(private, "ringroad_tls_sessions") == 0);
    assert!(Gateway::metric_at(private, "ringroad_tls_certificate_expiry_seconds") > 4_000_000_000 / 2);
}

#[test]
fn vehicles_see_each_other_whichever_way_they_come() {
    let authority = Authority::new();
    let gateway = authority.serve(&["tls.required=false"]);
    let mut clear = Client::connect(gateway.addr).register("clear");
    let mut encrypted = [0, 1].map(|n| authority.vehicle(dial(gateway.addr), &format!("encrypted-{n}")));
    let locate = |vehicle: &mut Vehicle, n: usize, lon: f64| {
        vehicle.send("location_update", json!({"vehicleId": format!("encrypted-{n}"), "lat": 50.0, "lon": lon}));
    };
    // All of them are there before anybody moves.
    for (n, vehicle) in encrypted.iter_mut().enumerate() {
        locate(vehicle, n, 8.0);
        clear.locate(50.0, 8.0005);
        clear.expect_that("proximity_event", |data| data["peerVehicleId"] == format!("encrypted-{n}"));
        vehicle.expect("proximity_event", |data| data["peerVehicleId"] == "clear");
    }
    for (n, vehicle) in encrypted.iter_mut().enumerate() {
        locate(vehicle, n, 8.0001);
        clear.expect_that("peer_location", |data| {
            data["vehicleId"] == format!("encrypted-{n}") && data["lon"] == 8.0001
        });
        clear.locate(50.0, 8.001 + n as f64 / 10_000.0);
        vehicle
            .expect("peer_location", |data| data["vehicleId"] == "clear" && data["lon"] == 8.001 + n as f64 / 10_000.0);
        vehicle.send("call_initiate", json!({"callerId": format!("encrypted-{n}"), "calleeId": "clear"}));
        clear.expect_that("call_initiate", |data| data["callerId"] == format!("encrypted-{n}"));
    }
    clear.send("call_initiate", json!({"callerId": "clear", "calleeId": "encrypted-1"}));
    encrypted[1].expect("call_initiate", |data| data["callerId"] == "clear");
    assert_eq!(gateway.metric("ringroad_tls_sessions"), 2);
    // Those whose first byte has not come cost no handshake, and say nothing of one.
    drop(dial(gateway.addr));
    let [first, second] = encrypted;
    // A goodbye, and an end without one: both are gone for the others.
    let mut first = first.socket;
    first.close(None).expect("sent");
    last_words(&mut first);
    drop(second.socket.into_inner().sock);
    for n in 0..2 {
        clear.expect_that("presence_update", |data| {
            data["vehicleId"] == format!("encrypted-{n}") && data["status"] == "offline"
        });
    }
    until("nobody speaks TLS", || gateway.metric("ringroad_tls_sessions") == 0);
    assert_eq!(gateway.metric("ringroad_tls_broken_total"), 0);
    assert_eq!(gateway.metric("ringroad_tls_handshakes_total{outcome=\"full\"}"), 2);
    assert_eq!(gateway.metric_sum("ringroad_tls_handshakes_total"), 2);
}

/// A socket for which the kernel keeps as little as it can.
fn narrow(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("settable");
    socket.connect(&addr.into()).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

#[test]
fn who_reads_slowly_gets_everything_in_order() {
    const CALLS: u64 = 200;
    let authority = Authority::new();
    let mut gateway = authority.serve(&["tls.required=false", "limits.outbox_bytes_max=16000000"]);
    let mut sender = Client::connect(gateway.addr).register("sender");
    // One that reads slowly while nothing is said any more, and one to whom the gateway says goodbye meanwhile.
    let mut slow = ["slow-0", "slow-1"].map(|id| {
        let vehicle = authority.vehicle(narrow(gateway.addr), id);
        // The sender's worker knows of it.
        sender.expect_that("presence_update", |data| data["vehicleId"] == id && data["status"] == "online");
        vehicle
    });
    for call in 0..CALLS {
        for id in ["slow-0", "slow-1"] {
            // Lengths of all kinds: some fill a record, or several, and some end in the middle.
            let filling = "x".repeat((call * 997 % 30_000) as usize);
            sender
                .send("call_initiate", json!({"callerId": "sender", "calleeId": id, "call": call, "filling": filling}));
        }
        // Everybody hears of it, out of the log that all share.
        sender.send("emergency_alert", json!({"senderId": "sender", "call": call}));
        let told = sender.sync();
        assert!(told.iter().all(|event| event.name != "error"), "{told:?}");
    }
    until("both are blocked", || gateway.metric("ringroad_connections_blocked") == 2);
    let heard_in_order = |vehicle: &mut Vehicle| {
        let (mut calls, mut alerts) = (0, 0);
        while calls < CALLS || alerts < CALLS {
            let message =
                vehicle.socket.read().unwrap_or_else(|error| panic!("{calls} calls, {alerts} alerts: {error}"));
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            match event["event"].as_str() {
                Some("call_initiate") => {
                    assert_eq!(event["data"]["call"], calls);
                    assert_eq!(event["data"]["filling"].as_str().map(str::len), Some((calls * 997 % 30_000) as usize));
                    calls += 1;
                }
                Some("emergency_alert") => alerts += 1,
                _ => {}
            }
        }
        assert_eq!((calls, alerts), (CALLS, CALLS));
    };
    heard_in_order(&mut slow[0]);
    slow[0].send("heartbeat", json!({}));
    slow[0].expect("heartbeat_ack", |_| true);
    assert_eq!(gateway.metric("ringroad_connections_blocked"), 1);
    assert_eq!(gateway.metric_sum("ringroad_slow_readers_total"), 0);
    gateway.signal(Signal::SIGTERM);
    heard_in_order(&mut slow[1]);
    for vehicle in &mut slow {
        assert_eq!(last_words(&mut vehicle.socket), Some(1012));
    }
    assert!(gateway.wait().success());
}

/// What goes to everyone is encrypted for each: more at a time than one turn may hold.
#[test]
fn a_flood_for_everyone_comes_whole() {
    const READERS: usize = 120;
    const ALERTS: usize = 500;
    let authority = Authority::new();
    let settings = ["tls.required=false", "limits.broadcast_log_bytes=16777216", "presence.scope=none"];
    let gateway = authority.serve(&settings);
    let mut readers: Vec<Vehicle> =
        (0..READERS).map(|n| authority.vehicle(dial(gateway.addr), &format!("reader-{n}"))).collect();
    let mut sender = Client::connect(gateway.addr).register("sender");
    // At once, so that a turn has as many of them as can be.
    let mut flood = Vec::new();
    encode_masked(
        &mut flood,
        Opcode::Text,
        [1, 2, 3, 4],
        br#"{"event":"emergency_alert","data":{"senderId":"sender"}}"#,
    );
    sender.raw(&flood.repeat(ALERTS));
    let mut heard = readers.iter_mut().map(|reader| {
        let ids =
            (0..ALERTS).map(|_| reader.expect("emergency_alert", |_| true)["id"].as_str().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    });
    let first = heard.next().expect("many");
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), ALERTS);
    assert!(heard.all(|ids| ids == first), "in another order");
    drop(heard);
    until("nobody is blocked", || gateway.metric("ringroad_connections_blocked") == 0);
    assert_eq!(gateway.metric_sum("ringroad_slow_readers_total"), 0);
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let authority = Authority::new();
    let (gateway, _) = authority.serve_only(&[]);
    let mut stream = dial(gateway.addr);
    let mut client = authority.client();
    client.writer().write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("buffered");
    let mut answer = String::new();
    while !answer.ends_with('}') {
        while client.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("written");
            for byte in bytes {
                stream.write_all(&[byte]).expect("sent");
            }
        }
        assert!(client.read_tls(&mut stream).expect("an answer") > 0, "it ended: {answer}");
        client.process_new_packets().expect("TLS");
        match client.reader().read_to_string(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => _ = read.expect("readable"),
        }
    }
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn who_speaks_something_else_is_told_so() {
    let authority = Authority::new();
    let (gateway, private) = authority.serve_only(&[]);
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], HANDSHAKE.as_bytes(), b"\0\x01\x02", b"\r\n\r\n\0\r\nQUID\n"]
    {
        let mut stream = dial(gateway.addr);
        stream.write_all(bytes).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and an end");
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS"), "{answer}");
        // It may go on speaking; nobody listens.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert_eq!(handshakes(private, "plain"), 4);
    let broken: [&[u8]; 3] = [b"\x16\x03\x01\0\x05\x01\0\0\x01\0", &[0x16; 600], b"\x16\x03\x01\xff\xff and so on"];
    for bytes in broken {
        let mut stream = dial(gateway.addr);
        stream.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an alert and an end");
        // RFC 8446, section 5.1 and appendix B.2: content type 21, and level 2 is fatal.
        assert!(answer[0] == 21 && answer[5] == 2, "{answer:?}");
    }
    assert_eq!(handshakes(private, "malformed"), 3);
    // A session that was good, and then what nobody can have encrypted.
    let mut stream = authority.over(dial(gateway.addr));
    stream.write_all(b"GET /hea").expect("sent");
    stream.flush().expect("sent");
    until("it is there", || Gateway::metric_at(private, "ringroad_tls_sessions") == 1);
    stream.sock.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).expect("sent");
    let error = stream.read(&mut [0; 100]).expect_err("an alert").to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
    until("it is gone", || Gateway::metric_at(private, "ringroad_tls_sessions") == 0);
    assert_eq!(Gateway::metric_at(private, "ringroad_tls_broken_total"), 1);
    assert_eq!(get(&mut authority.over(dial(gateway.addr)), "/health").split_once(' ').expect("HTTP").1[..3], *"200");
}

#[test]
fn a_balancers_header_comes_in_clear_before_tls() {
    let authority = Authority::new();
    for required in ["tls.required=true", "tls.required=false"] {
        let (gateway, private) = authority.serve_only(&[
            required,
            "admission.trusted_proxies=['127.0.0.0/8']",
            "admission.proxy_protocol=true",
            "admission.conns_per_address_max=1",
        ]);
        let through = |client: u8| {
            let mut stream = dial(gateway.addr);
            let header =
                [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[192, 0, 2, client, 127, 0, 0, 1, 0xc3, 0x50, 0, 1][..]];
            // In pieces, one of which ends in the signature.
            for piece in header.concat().chunks(11) {
                stream.write_all(piece).expect("sent");
            }
            authority.over(stream)
        };
        // Of one address each worker takes one connection, of another as many: what the header says is believed.
        let mut taken = Vec::new();
        for client in [1, 2] {
            let mut of_client = 0;
            for _ in 0..40 {
                let mut stream = through(client);
                let mut status = [0; 12];
                // Who is not let in is let go before the handshake: it costs nothing to refuse.
                let answered = stream.write_all(HANDSHAKE.as_bytes()).and_then(|()| stream.read_exact(&mut status));
                if answered.is_ok() {
                    assert_eq!(&status, b"HTTP/1.1 101");
                    of_client += 1;
                    taken.push(stream);
                }
            }
            assert_eq!(of_client, 2, "{required}, client {client}");
        }
        // Who says less than that is no balancer.
        let mut bare = authority.over(dial(gateway.addr));
        let error = bare.write_all(HANDSHAKE.as_bytes()).and_then(|()| bare.read_exact(&mut [0; 12]));
        assert!(error.is_err(), "it is let go without a word");
        assert_eq!(Gateway::metric_at(private, "ringroad_refused_total{reason=\"proxy_header\"}"), 1);
    }
}

#[test]
fn handshakes_that_never_end_end_with_their_time() {
    let authority = Authority::new();
    let (gateway, private) = authority.serve_only(&["limits.handshake_ms_max=2000"]);
    let mut hello = Vec::new();
    authority.client().write_tls(&mut hello).expect("written");
    // Nothing, one byte, most of a hello, all of it, and a session without a request.
    let mut streams: Vec<TcpStream> = [0, 1, hello.len() - 1, hello.len()]
        .map(|len| {
            let mut stream = dial(gateway.addr);
            stream.write_all(&hello[..len]).expect("sent");
            stream
        })
        .into();
    let mut greeted = authority.over(dial(gateway.addr));
    greeted.write_all(b"GET /").expect("sent");
    greeted.flush().expect("sent");
    let said = to_the_end(&mut greeted);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    for (stream, speaks) in streams.iter_mut().zip([false, false, false, true]) {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an end");
        // To whom nothing can be encrypted nothing is said.
        assert_eq!(!answer.is_empty(), speaks, "{answer:?}");
    }
    drop((streams, greeted));
    until("all are closed", || Gateway::metric_at(private, "ringroad_connections_open") == 1);
    assert_eq!(Gateway::metric_at(private, "ringroad_connections_closed_total{reason=\"handshake_timeout\"}"), 5);
    assert_eq!(Gateway::metric_at(private, "ringroad_tls_unread_total"), 4);
    assert_eq!((handshakes(private, "abandoned"), handshakes(private, "full")), (3, 1));
}

/// Connections that end anywhere: in the hello, behind it, in a request, in a WebSocket, with a goodbye, an end or a reset.
#[test]
fn whoever_comes_and_goes_leaves_nothing() {
    let authority = Authority::new();
    let (gateway, private) = authority.serve_only(&[]);
    let mut numbers = Numbers(7);
    let mut begun = 0;
    for _ in 0..300 {
        let mut stream = dial(gateway.addr);
        let mut client = authority.client();
        client.writer().write_all(HANDSHAKE.as_bytes()).expect("buffered");
        let mut left = numbers.below(1_200);
        begun += u64::from(left > 0);
        // As far as its bytes go; answers are read as long as there are some to be had.
        while left > 0 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("written");
            }
            if bytes.is_empty() {
                break;
            }
            bytes.truncate(left);
            left -= bytes.len();
            stream.write_all(&bytes).expect("sent");
            if left == 0 || (!client.is_handshaking() && numbers.below(2) == 0) {
                break;
            }
            if client.read_tls(&mut stream).expect("an answer") == 0 || client.process_new_packets().is_err() {
                break;
            }
        }
        match numbers.below(3) {
            0 => drop(stream),
            1 => {
                client.send_close_notify();
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).expect("written");
                // In the middle of a record it is no goodbye.
                stream.write_all(&bytes).expect("sent");
            }
            _ => Socket::from(stream).set_linger(Some(Duration::ZERO)).expect("settable"),
        }
    }
    until("all are gone", || Gateway::metric_at(private, "ringroad_connections_open") == 1);
    assert_eq!(Gateway::metric_at(private, "ringroad_tls_sessions"), 0);
    let outcomes = ["full", "abandoned", "malformed", "declined"].map(|outcome| handshakes(private, outcome));
    // A reset may overtake what was sent before it.
    assert!(outcomes[0] > 30 && outcomes[1] > 30 && outcomes.iter().sum::<u64>() <= begun, "{outcomes:?} of {begun}");
    assert!(get(&mut authority.over(dial(gateway.addr)), "/health").starts_with("HTTP/1.1 200 "));
}

/// A fleet over TLS, that loses nothing; and one that does not trust the gateway, or finds none that speaks TLS.
#[test]
fn a_fleet_comes_over_tls() {
    let authority = Authority::new();
    let (gateway, private) = authority.serve_only(&[]);
    let drive = |addr: SocketAddr, ca: &str, options: &[&str]| {
        let url = format!("wss://{addr}/v2v");
        let output = ringroad(&[&["drive", &url, "--tls-ca", ca, "--seconds", "3"], options].concat()).output();
        let output = output.expect("it runs");
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
        (output.status.code(), out, err)
    };
    let ca = authority.text("ca.pem");
    for protocol in ["json", "binary"] {
        let options = ["--vehicles", "60", "--side", "1500", "--protocol", protocol, "--viewers", "2"];
        let (code, out, err) = drive(gateway.addr, &ca, &options);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains("ratio 1.0000"), "{out}");
    }
    // 62 twice, and one each time that only tries.
    assert_eq!(handshakes(private, "full") + handshakes(private, "resumed"), 126);
    assert_eq!(handshakes(private, "abandoned"), 0);
    let other = Authority::new();
    let (code, _, err) = drive(gateway.addr, &other.text("ca.pem"), &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("cannot speak TLS with {}: ", gateway.addr)), "{err}");
    let (code, _, err) = drive(private, &ca, &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("does not speak TLS"), "{err}");
}
