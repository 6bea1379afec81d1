//! What any existing server would use: a Redis client that knows nothing of Ringroad.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::PATIENCE;

/// What a server answers (RESP2).
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Reply>),
}

impl Reply {
    /// Text, or a number as text.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) => text.clone(),
            Reply::Number(number) => number.to_string(),
            Reply::Bytes(bytes) => String::from_utf8(bytes.clone()).expect("UTF-8"),
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn number(&self) -> i64 {
        self.text().parse().unwrap_or_else(|_| panic!("no number: {self:?}"))
    }

    pub fn list(&self) -> &[Reply] {
        let Reply::List(list) = self else { panic!("no list: {self:?}") };
        list
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }
}

pub struct Plain {
    stream: BufReader<TcpStream>,
}

impl Plain {
    pub fn connect(addr: SocketAddr) -> Plain {
        Plain::try_connect(addr).unwrap_or_else(|error| panic!("{addr}: {error}"))
    }

    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Plain> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Plain { stream: BufReader::new(stream) })
    }

    /// A command and its answer, which is no error.
    pub fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        let reply = self.try_ask(args).expect("an answer");
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        reply
    }

    pub fn try_ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> std::io::Result<Reply> {
        self.say(args)?;
        self.read()
    }

    /// A command whose answer is read later.
    pub fn say<A: AsRef<[u8]>>(&mut self, args: &[A]) -> std::io::Result<()> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
            bytes.extend_from_slice(arg.as_ref());
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)
    }

    pub fn read(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let len = || rest.parse::<i64>().map_err(|_| ErrorKind::InvalidData);
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(len()?),
            "$" | "*" if len()? < 0 => Reply::Nothing,
            "$" => {
                let mut bytes = vec![0; len()? as usize + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            "*" => Reply::List((0..len()?).map(|_| self.read()).collect::<Result<_, _>>()?),
            _ => return Err(ErrorKind::InvalidData.into()),
        })
    }

    /// All of a hash, its values as JSON.
    pub fn hash(&mut self, key: &str) -> Vec<(String, Value)> {
        let all = self.ask(&["HGETALL", key]);
        all.list().chunks(2).map(|pair| (pair[0].text(), pair[1].json())).collect()
    }

    /// Publishes, and says how many clients heard it.
    pub fn publish(&mut self, channel: &str, payload: impl AsRef<[u8]>) -> i64 {
        self.ask(&["PUBLISH".as_bytes(), channel.as_bytes(), payload.as_ref()]).number()
    }

    /// Listens to a channel from now on.
    pub fn listen(mut self, channel: &str) -> Listener {
        self.ask(&["SUBSCRIBE", channel]);
        Listener { plain: self, heard: Vec::new() }
    }
}

/// A subscription, and all that it has heard so far.
pub struct Listener {
    plain: Plain,
    pub heard: Vec<Value>,
}

impl Listener {
    /// Takes in what has arrived within this time.
    pub fn hear(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
            let stream = &mut self.plain.stream;
            stream.get_ref().set_read_timeout(Some(left)).expect("a timeout");
            match stream.fill_buf() {
                Ok(_) => {
                    stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
                    let push = self.plain.read().expect("a message");
                    self.heard.push(push.list()[2].json());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The first message, of those heard and those to come, that is as wanted.
    pub fn expect(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.heard.iter().find(|message| is(message)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "no {what} in {:#?}", self.heard);
            self.hear(Duration::from_millis(20));
        }
    }

    /// Envelopes with this event about this vehicle in this status.
    pub fn presence(&self, id: &str, status: &str) -> usize {
        let is = |message: &&Value| {
            let obj = &message["obj"];
            obj["event"] == "presence_update" && obj["data"]["vehicleId"] == id && obj["data"]["status"] == status
        };
        self.heard.iter().filter(is).count()
    }
}
