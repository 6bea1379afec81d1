//! A vehicle's side of a connection: tungstenite, blocking, with deadlines.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringroad::wire::slim;
use ringroad::wire::state::FLAG_GONE;
use serde_json::{Value, json};
use tungstenite::protocol::Role;
use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};

use crate::PATIENCE;

/// What the gateway said.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

pub struct Client {
    pub id: String,
    pub socket: WebSocket<TcpStream>,
    /// What arrived and nobody has asked for yet.
    pub backlog: VecDeque<Event>,
    pub pings: usize,
    pub pongs: usize,
    close: Option<(u16, String)>,
    ended: bool,
}

/// A connected socket that waits for nothing longer than it has to.
pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

impl Client {
    /// A WebSocket on which `connected` has arrived.
    pub fn connect(addr: SocketAddr) -> Client {
        Client::over(dial(addr))
    }

    /// One that speaks `ringroad.v1`: each record of a state frame is a `state`, or a `gone`, of a vehicle's key.
    pub fn connect_slim(addr: SocketAddr) -> Client {
        let uri = format!("ws://{addr}/v2v").parse().expect("an address");
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(slim::SUBPROTOCOL);
        let (socket, _) = tungstenite::client(request, dial(addr)).expect("an upgrade");
        Client::upgraded(socket)
    }

    /// The same over a socket that the test has prepared.
    pub fn over(stream: TcpStream) -> Client {
        let url = format!("ws://{}/v2v", stream.peer_addr().expect("connected"));
        let (socket, _) = tungstenite::client(url, stream).expect("an upgrade");
        Client::upgraded(socket)
    }

    /// A client whose handshake the test has made.
    pub fn of_stream(stream: TcpStream) -> Client {
        Client::upgraded(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    fn upgraded(socket: WebSocket<TcpStream>) -> Client {
        let mut client = Client {
            id: String::new(),
            socket,
            backlog: VecDeque::new(),
            pings: 0,
            pongs: 0,
            close: None,
            ended: false,
        };
        client.wait("the first event", |client| !client.backlog.is_empty());
        let first = client.backlog.pop_front().expect("just waited for");
        assert_eq!(first.name, "connected", "{first:?}");
        assert!(uuid::Uuid::parse_str(first.data["sessionId"].as_str().expect("a string")).is_ok(), "{first:?}");
        client
    }

    /// Registers, and waits for the answer.
    pub fn register(mut self, id: &str) -> Client {
        self.ask_to_register(id);
        assert_eq!(self.expect("registered"), json!({"vehicleId": id}));
        self
    }

    pub fn ask_to_register(&mut self, id: &str) {
        self.id = id.to_owned();
        self.send("register", json!({"vehicleId": id, "driverName": format!("driver of {id}")}));
    }

    pub fn send(&mut self, event: &str, data: Value) {
        self.text(json!({"event": event, "data": data}).to_string());
    }

    pub fn text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).expect("sent");
    }

    /// Bytes that no library would send.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("sent");
    }

    pub fn locate(&mut self, lat: f64, lon: f64) {
        self.send("location_update", json!({"vehicleId": self.id, "lat": lat, "lon": lon}));
    }

    /// The next event of this name; others wait in the backlog.
    pub fn expect(&mut self, name: &str) -> Value {
        self.expect_that(name, |_| true)
    }

    /// The next event of any of these names; others wait in the backlog.
    pub fn next_of(&mut self, names: &[&str]) -> Event {
        let wanted = |event: &Event| names.contains(&event.name.as_str());
        self.wait(&names.join(" or "), |client| client.backlog.iter().any(wanted));
        let found = self.backlog.iter().position(wanted).expect("just waited for");
        self.backlog.remove(found).expect("still there")
    }

    /// The next event of this name whose data is as wanted.
    pub fn expect_that(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut at = 0;
        let mut found = None;
        self.wait(name, |client| {
            let wanted = |event: &Event| event.name == name && is(&event.data);
            found = client.backlog.iter().skip(at).position(wanted).map(|position| at + position);
            at = client.backlog.len();
            found.is_some()
        });
        self.backlog.remove(found.expect("just waited for")).expect("still there").data
    }

    pub fn expect_error(&mut self, code: &str) -> Value {
        let error = self.expect("error");
        assert_eq!(error["code"], code, "{error}");
        error
    }

    /// Everything that the gateway said before it answered a heartbeat.
    pub fn sync(&mut self) -> Vec<Event> {
        self.send("heartbeat", json!({}));
        self.wait("heartbeat_ack", |client| client.backlog.iter().any(|event| event.name == "heartbeat_ack"));
        let ack = self.backlog.iter().position(|event| event.name == "heartbeat_ack").expect("just waited for");
        let mut before: Vec<Event> = self.backlog.drain(..=ack).collect();
        before.pop();
        before
    }

    /// Code and reason of the close frame that ends this connection.
    pub fn closed(&mut self) -> (u16, String) {
        self.wait("a close frame", |client| client.close.is_some());
        self.close.clone().expect("just waited for")
    }

    /// Whether a close frame has arrived by now.
    pub fn is_closed(&mut self) -> bool {
        self.take_in();
        self.close.is_some()
    }

    /// Says goodbye and waits for the answer.
    pub fn goodbye(mut self) {
        self.socket.close(None).expect("sent");
        self.wait("the end of the connection", |client| client.ended);
    }

    /// Reads what has arrived, and answers pings, without waiting.
    pub fn take_in(&mut self) {
        self.socket.get_ref().set_nonblocking(true).expect("settable");
        while !self.ended && self.read() {}
        self.socket.get_ref().set_nonblocking(false).expect("settable");
    }

    fn wait(&mut self, what: &str, mut is: impl FnMut(&mut Client) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let arrived = !self.ended && !left.is_zero() && self.receive(left);
            if !arrived && !is(self) {
                let seen: Vec<String> = self.backlog.iter().map(|event| format!("{event:?}")).collect();
                let (id, close, seen) = (&self.id, &self.close, seen.join("\n"));
                panic!("{id} waited in vain for {what}; closed: {close:?}; it has seen\n{seen}");
            }
        }
    }

    /// Whether something arrived within this time.
    fn receive(&mut self, within: Duration) -> bool {
        self.socket.get_ref().set_read_timeout(Some(within)).expect("a timeout");
        self.read()
    }

    fn read(&mut self) -> bool {
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                let mut event: Value = serde_json::from_str(&text).expect("events are JSON");
                let data = event["data"].take();
                self.backlog.push_back(Event { name: event["event"].as_str().expect("a name").to_owned(), data });
            }
            Ok(Message::Binary(frame)) => {
                let (_, states) = slim::states(&frame).expect("a state frame").expect("of a known kind");
                for state in states {
                    let name = if state.flags & FLAG_GONE == 0 { "state" } else { "gone" };
                    let (lat, lon) = (f64::from(state.lat_e7) / 1e7, f64::from(state.lon_e7) / 1e7);
                    let data = json!({"key": format!("{:016x}", state.key), "lat": lat, "lon": lon});
                    self.backlog.push_back(Event { name: name.to_owned(), data });
                }
            }
            Ok(Message::Close(frame)) => {
                let (code, reason) =
                    frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                self.close = Some((code, reason));
            }
            Ok(Message::Ping(_)) => self.pings += 1,
            Ok(Message::Pong(_)) => self.pongs += 1,
            Ok(other) => panic!("the gateway sends no {other:?}"),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => self.ended = true,
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => self.ended = true,
            Err(error) => panic!("{}: {error}", self.id),
        }
        true
    }
}

/// Waits for an event on every client; all of them are read meanwhile, so none falls silent.
pub fn expect_all<'a>(clients: impl IntoIterator<Item = &'a mut Client>, name: &str, is: impl Fn(&Value) -> bool) {
    let mut clients: Vec<&mut Client> = clients.into_iter().collect();
    let mut missing: Vec<usize> = (0..clients.len()).collect();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        for client in &mut clients {
            client.take_in();
        }
        missing.retain(|&at| {
            let client = &mut clients[at];
            let found = client.backlog.iter().position(|event| event.name == name && is(&event.data));
            found.is_none_or(|found| client.backlog.remove(found).is_none())
        });
        let waiting = || missing.iter().map(|&at| clients[at].id.clone()).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "{:?} wait in vain for {name}", waiting());
    }
}
