//! Vehicles outside of the gateways: plain WebSocket clients on blocking sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringroad::wire::frame::{Opcode, encode_masked};
use serde_json::Value;
use tungstenite::{Error, Message, WebSocket};

use crate::PATIENCE;
use crate::machine::{self, Seat};

/// How long a reader that hears nothing goes on after it was told to stop.
const ATTENTION: Duration = Duration::from_millis(50);

pub struct Client {
    socket: WebSocket<TcpStream>,
    sender: Sender,
}

/// The sending half, for a thread that does nothing else.
pub struct Sender {
    stream: TcpStream,
    frame: Vec<u8>,
}

impl Sender {
    /// Sends a text message.
    pub fn send(&mut self, text: &str) {
        self.frame.clear();
        encode_masked(&mut self.frame, Opcode::Text, [7, 11, 13, 17], text.as_bytes());
        self.stream.write_all(&self.frame).expect("the gateway reads");
    }

    /// Reports a position, 1e-7 degree.
    pub fn locate(&mut self, id: &str, lat_e7: i32, lon_e7: i32) {
        self.send(&location(id, lat_e7, lon_e7));
    }
}

/// A `location_update`.
pub fn location(id: &str, lat_e7: i32, lon_e7: i32) -> String {
    let (lat, lon) = (f64::from(lat_e7) / 1e7, f64::from(lon_e7) / 1e7);
    format!(
        r#"{{"event":"location_update","data":{{"vehicleId":"{id}","lat":{lat:.7},"lon":{lon:.7},"speed":8.2,"heading":91.5}}}}"#
    )
}

/// A `register`.
pub fn registration(id: &str) -> String {
    format!(r#"{{"event":"register","data":{{"vehicleId":"{id}","driverName":"Ada"}}}}"#)
}

impl Client {
    /// A registered vehicle.
    pub fn register(addr: SocketAddr, id: &str) -> Client {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let sender = Sender { stream: stream.try_clone().expect("a second descriptor"), frame: Vec::new() };
        let (socket, _) = tungstenite::client(format!("ws://{addr}/v2v"), stream).expect("an upgrade");
        let mut client = Client { socket, sender };
        client.sender.send(&registration(id));
        client.expect("registered");
        client
    }

    /// A registered vehicle at a place, 1e-7 degree.
    pub fn place(addr: SocketAddr, id: &str, (lat_e7, lon_e7): (i32, i32)) -> Client {
        let mut client = Client::register(addr, id);
        client.sender.locate(id, lat_e7, lon_e7);
        client
    }

    fn expect(&mut self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.socket.get_ref().set_read_timeout(Some(PATIENCE)).is_ok() {
            assert!(Instant::now() < deadline, "waited in vain for {name}");
            if let Message::Text(text) = self.socket.read().expect("an event")
                && serde_json::from_str::<Value>(&text).expect("events are JSON")["event"] == name
            {
                return;
            }
        }
    }

    /// Hands everything that it hears to `heard`, with the time, until `stop`.
    pub fn listen(
        self,
        stop: Arc<AtomicBool>,
        mut heard: impl FnMut(&Value, Instant) + Send + 'static,
    ) -> (Sender, JoinHandle<()>) {
        self.socket.get_ref().set_read_timeout(Some(ATTENTION)).expect("a timeout");
        let Client { mut socket, sender } = self;
        let read = move || {
            while !stop.load(Ordering::Relaxed) {
                match socket.read() {
                    Ok(Message::Text(text)) => {
                        let at = Instant::now();
                        heard(&serde_json::from_str(&text).expect("events are JSON"), at);
                    }
                    Ok(Message::Close(frame)) => panic!("closed by the gateway: {frame:?}"),
                    Ok(_) => {}
                    Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        (sender, machine::seated(Seat::Beside, || thread::spawn(read)))
    }
}

/// Clients that only listen, and are given all the time they want: one thread reads what has come, once a second.
pub fn crowd(addr: SocketAddr, clients: usize, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let connect = || {
        let stream = TcpStream::connect(addr).expect("it listens");
        let (socket, _) = tungstenite::client(format!("ws://{addr}/v2v"), stream).expect("an upgrade");
        socket.get_ref().set_nonblocking(true).expect("settable");
        socket
    };
    let mut sockets: Vec<WebSocket<TcpStream>> = (0..clients).map(|_| connect()).collect();
    let read = move || {
        let mut buffer = [0; 16 * 1024];
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_secs(1));
            for socket in &mut sockets {
                // Nobody looks at it; what is left over is read the next time.
                match socket.get_mut().read(&mut buffer) {
                    Ok(len) => assert!(len > 0, "closed by the gateway"),
                    Err(error) => assert!(error.kind() == ErrorKind::WouldBlock, "{error}"),
                }
            }
        }
    };
    machine::seated(Seat::Beside, || thread::spawn(read))
}
