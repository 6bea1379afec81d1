//! Floors: what the kernel alone costs, without a gateway.
//!
//! Both take the same upgrade as Ringroad, on epoll with bare system calls, and then do next to nothing:
//!
//! - `floor-recv` receives whatever comes and forgets it: one edge of epoll and one recv(2) per message.
//! - `floor-send` answers each `emergency_alert` with one frame, byte for byte as long as Ringroad's, to every connection:
//!   one send(2) each. It hears no other message.
//!
//! A frame that a full socket does not take is lost, as a floor has nowhere to keep it. How many were is said on stderr
//! at the end.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ringroad::io::unix_ms;
use ringroad::wire::event::Event;
use ringroad::wire::frame::{Opcode, Role, encode_with};
use ringroad::wire::message::{Decoder, Message};
use ringroad::wire::upgrade::{self, Request};
use socket2::SockRef;
use uuid::Uuid;

use crate::paths::door::{self, Door};

/// Their names.
pub const NAMES: [&str; 2] = ["floor-recv", "floor-send"];

/// Events that one epoll_wait(2) brings.
const EVENTS: usize = 1024;

/// What one recv(2) takes.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Longer than any alert.
const MESSAGE_BYTES_MAX: usize = 4096;

const LISTENER: u64 = u64::MAX;
const GOODBYE: u64 = u64::MAX - 1;

/// Serves until the process is asked to end.
pub fn serve(name: &str, _args: &[String]) -> ExitCode {
    let served = door::goodbye().and_then(|goodbye| {
        door::raise_descriptor_limit()?;
        let door = Door::open(SocketAddr::from(([127, 0, 0, 1], 0)), 0)?;
        door.announce(name)?;
        run(name, door, goodbye)
    });
    match served {
        Ok(0) => ExitCode::SUCCESS,
        Ok(lost) => {
            eprintln!("{name}: {lost} frames did not fit into their sockets");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until `goodbye` is readable. How many frames were lost.
pub fn run(name: &str, door: Door, goodbye: impl AsFd) -> io::Result<u64> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&door.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    epoll.add(&goodbye, EpollEvent::new(EpollFlags::EPOLLIN, GOODBYE))?;
    let mut floor = Floor { epoll, sends: name == "floor-send", conns: Vec::new(), frames: Vec::new(), lost: 0 };
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut events = vec![EpollEvent::empty(); EVENTS];
    loop {
        let count = match floor.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            waited => waited?,
        };
        for event in &events[..count] {
            match event.data() {
                GOODBYE => return Ok(floor.lost),
                LISTENER => door.accept(|stream, _| floor.enter(stream))?,
                index => {
                    floor.readable(index as usize, event.events(), &mut scratch);
                    floor.tell_all();
                }
            }
        }
    }
}

/// A connection.
struct Conn {
    stream: TcpStream,
    /// What of its request has come; `None` once it was answered.
    head: Option<Vec<u8>>,
    decoder: Decoder,
}

struct Floor {
    epoll: Epoll,
    /// Which of the two.
    sends: bool,
    conns: Vec<Option<Conn>>,
    /// Alerts that have come and not been sent.
    frames: Vec<Vec<u8>>,
    lost: u64,
}

impl Floor {
    fn enter(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(&stream, EpollEvent::new(flags, self.conns.len() as u64))?;
        // An index is used once: a floor serves one trial.
        self.conns.push(Some(Conn { stream, head: Some(Vec::new()), decoder: Decoder::default() }));
        Ok(())
    }

    fn readable(&mut self, index: usize, flags: EpollFlags, scratch: &mut [u8]) {
        let ends = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let Some(conn) = &mut self.conns[index] else { return };
        loop {
            let len = match (&conn.stream).read(scratch) {
                Ok(0) => break self.conns[index] = None,
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break self.conns[index] = None,
            };
            let bytes = &mut scratch[..len];
            match &mut conn.head {
                Some(head) => {
                    head.extend_from_slice(bytes);
                    match answer(&conn.stream, head) {
                        Ok(None) => {}
                        Ok(Some(used)) => {
                            let mut rest = head.split_off(used);
                            conn.head = None;
                            if self.sends {
                                alerts(&mut conn.decoder, &mut rest, &mut self.frames);
                            }
                        }
                        Err(_) => break self.conns[index] = None,
                    }
                }
                None if self.sends => alerts(&mut conn.decoder, bytes, &mut self.frames),
                None => {}
            }
            // Less than there was room for: the next bytes are another edge.
            if len < scratch.len() && !ends {
                return;
            }
        }
    }

    /// Sends the alerts that have come to everyone.
    fn tell_all(&mut self) {
        for frame in self.frames.drain(..) {
            for conn in self.conns.iter().flatten().filter(|conn| conn.head.is_none()) {
                match SockRef::from(&conn.stream).send_with_flags(&frame, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
                    Ok(len) if len == frame.len() => {}
                    _ => self.lost += 1,
                }
            }
        }
    }
}

/// Answers the request once it is whole: how many bytes it had. An error: the connection is to be closed.
fn answer(stream: &TcpStream, head: &[u8]) -> io::Result<Option<usize>> {
    match upgrade::parse(head) {
        Ok(None) => Ok(None),
        Ok(Some((Request::Upgrade(upgrade), used))) => {
            let mut reply = Vec::new();
            upgrade::accept(&mut reply, &upgrade, None);
            let sent = SockRef::from(stream).send_with_flags(&reply, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)?;
            if sent == reply.len() { Ok(Some(used)) } else { Err(ErrorKind::WriteZero.into()) }
        }
        Ok(Some((Request::Plain(_), _))) | Err(_) => Err(ErrorKind::InvalidData.into()),
    }
}

/// Appends the frame of each `emergency_alert` among these bytes. Bytes that are not WebSocket cause none.
fn alerts(decoder: &mut Decoder, bytes: &mut [u8], frames: &mut Vec<Vec<u8>>) {
    let mut at = 0;
    while let Ok((used, Some(message))) = decoder.decode(Role::Server, MESSAGE_BYTES_MAX, &mut bytes[at..]) {
        at += used;
        if let Message::Text(text) = message {
            frames.extend(render(text));
        }
    }
}

/// What Ringroad would send.
fn render(text: &[u8]) -> Option<Vec<u8>> {
    let command: serde_json::Value = serde_json::from_slice(text).ok()?;
    if command["event"] != "emergency_alert" {
        return None;
    }
    let data = &command["data"];
    let info = data["vehicleInfo"].is_object().then(|| data["vehicleInfo"].to_string());
    let sender = data["senderId"].as_str()?;
    let (id, ts) = (Uuid::from_u128(u128::from(unix_ms())), unix_ms());
    let event =
        Event::EmergencyAlert { id, sender, info: info.as_ref().map(|info| info.as_bytes()), ts, via_radio: false };
    let mut frame = Vec::new();
    encode_with(&mut frame, Opcode::Text, |out| event.write(out));
    Some(frame)
}
