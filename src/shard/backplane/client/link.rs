//! One link: its handshake, what waits for an answer on it, and whether the other end is still there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::Spread;
use crate::limits;
use crate::turn::LinkId;
use crate::wire::resp::command;
use crate::wire::resp::read::Reader;
use crate::wire::resp::{Frame, Reply};

/// Who we are to a server.
pub(super) struct Login {
    pub(super) name: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u16,
}

impl fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a server answered: a reply or an error.
pub(super) type Answer = Result<Reply, Box<str>>;

/// A command that somebody waits for.
#[derive(Debug)]
pub(super) struct Command<T> {
    pub(super) token: T,
    /// Its length on the wire.
    pub(super) bytes: usize,
    /// What it takes to send it again.
    pub(super) kept: Option<Box<Kept>>,
}

/// What is kept of a command that may have to be sent again.
#[derive(Debug)]
pub(super) struct Kept {
    /// As it was sent.
    pub(super) bytes: Vec<u8>,
    /// The script that it names by its hash.
    pub(super) script: Option<&'static str>,
    /// How often a Cluster pointed elsewhere.
    pub(super) redirects: u32,
    /// Whether it needs ASKING before it.
    pub(super) asking: bool,
}

/// What the client itself asks a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// How many channels this link is subscribed to.
    Subscribed,
    /// Whether it is a master.
    Role,
    /// Where a Sentinel thinks that the master is.
    Master,
    /// Which other Sentinels it knows.
    Sentinels,
    /// Which Sentinel it is itself.
    MyId,
    /// Which slot is where in a Cluster.
    Slots,
}

/// What is at the other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A server with data.
    Data,
    /// A Sentinel, which has passwords of its own, or none.
    Sentinel { with_password: bool },
}

/// What waits for an answer.
#[derive(Debug)]
pub(super) enum Waiting<T> {
    Hello,
    Select,
    /// The last step of the handshake: a server that is loading its data has refused everything but the steps before.
    FirstPing,
    Ping,
    /// Said before a command that a Cluster answers only then.
    Asking,
    Command(Command<T>),
    Question(Question),
    /// Answered by one push for each channel, or by one error for all of them.
    Subscribe {
        spread: Spread,
        channels: Vec<Arc<[u8]>>,
        confirmed: usize,
    },
    /// Likewise.
    Unsubscribe {
        spread: Spread,
        channel: Arc<[u8]>,
    },
}

#[derive(Debug)]
struct Pending<T> {
    what: Waiting<T>,
    sent_ms: u64,
}

/// What a link has heard.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// The handshake is over.
    Ready,
    /// What was asked is answered.
    Answer(Waiting<T>, Answer),
    Message {
        spread: Spread,
        channel: Vec<u8>,
        payload: Vec<u8>,
    },
    Confirmed {
        spread: Spread,
        channel: Vec<u8>,
    },
    /// A subscription has ended, and nobody had asked for that.
    Dropped {
        spread: Spread,
        channel: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Greeting,
    Ready,
}

/// What a look at a link's silence led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Fine,
    Silent,
}

/// One link. See the module's documentation.
#[derive(Debug)]
pub(super) struct Link<T> {
    pub(super) id: LinkId,
    pub(super) kind: Kind,
    stage: Stage,
    reader: Reader,
    /// Bytes that have not been handed to the shell.
    pub(super) out: Vec<u8>,
    /// In the order of their commands.
    pending: VecDeque<Pending<T>>,
    /// What was asked before the handshake was over.
    early_out: Vec<u8>,
    early: VecDeque<Pending<T>>,
    opened_ms: u64,
    heard_ms: u64,
    /// Asked whether it is still there since it was heard last.
    is_pinged: bool,
    /// Bytes of commands that wait for their replies.
    pub(super) in_flight_bytes: usize,
}

impl<T> Link<T> {
    pub(super) fn new(id: LinkId, kind: Kind, now_ms: u64) -> Link<T> {
        Link {
            id,
            kind,
            stage: Stage::Connecting,
            reader: Reader::new(limits::REPLY_BYTES_MAX, limits::PUSH_BYTES_MAX),
            out: Vec::new(),
            pending: VecDeque::new(),
            early_out: Vec::new(),
            early: VecDeque::new(),
            opened_ms: now_ms,
            heard_ms: now_ms,
            is_pinged: false,
            in_flight_bytes: 0,
        }
    }

    /// It is connected: says who we are, in one go.
    pub(super) fn greet(&mut self, login: &Login, now_ms: u64) {
        if self.stage != Stage::Connecting {
            return;
        }
        self.stage = Stage::Greeting;
        self.heard_ms = now_ms;
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &login.password
            && self.kind != (Kind::Sentinel { with_password: false })
        {
            let username = login.username.as_deref().unwrap_or("default");
            hello.extend([&b"AUTH"[..], username.as_bytes(), password.as_bytes()]);
        }
        if !login.name.is_empty() {
            hello.extend([&b"SETNAME"[..], login.name.as_bytes()]);
        }
        let database = login.database.to_string();
        let mut say = |what, args: &[&[u8]]| {
            command::write(&mut self.out, args);
            self.pending.push_back(Pending { what, sent_ms: now_ms });
        };
        say(Waiting::Hello, &hello);
        if login.database != 0 && self.kind == Kind::Data {
            say(Waiting::Select, &[b"SELECT", database.as_bytes()]);
        }
        say(Waiting::FirstPing, &[b"PING"]);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Where to write, and what waits for an answer there.
    fn lane(&mut self) -> (&mut Vec<u8>, &mut VecDeque<Pending<T>>) {
        match self.stage {
            Stage::Ready => (&mut self.out, &mut self.pending),
            _ => (&mut self.early_out, &mut self.early),
        }
    }

    /// Sends what `write` writes, once the handshake is over.
    pub(super) fn send(&mut self, what: Waiting<T>, now_ms: u64, write: impl FnOnce(&mut Vec<u8>)) {
        if let Waiting::Command(command) = &what {
            self.in_flight_bytes += command.bytes;
        }
        let (out, pending) = self.lane();
        write(out);
        pending.push_back(Pending { what, sent_ms: now_ms });
    }

    /// Sends a command of which the bytes are kept.
    pub(super) fn send_kept(&mut self, token: T, kept: Box<Kept>, now_ms: u64) {
        if kept.asking {
            self.send(Waiting::Asking, now_ms, |out| command::write(out, &[b"ASKING"]));
        }
        let bytes = kept.bytes.len();
        let (out, pending) = self.lane();
        out.extend_from_slice(&kept.bytes);
        pending
            .push_back(Pending { what: Waiting::Command(Command { token, bytes, kept: Some(kept) }), sent_ms: now_ms });
        self.in_flight_bytes += bytes;
    }

    /// Asks for subscriptions in one command.
    pub(super) fn subscribe(&mut self, name: &[u8], spread: Spread, channels: Vec<Arc<[u8]>>, now_ms: u64) {
        let names = channels.clone();
        self.send(Waiting::Subscribe { spread, channels, confirmed: 0 }, now_ms, |out| {
            command::begin(out, names.len() + 1);
            command::argument(out, name);
            names.iter().for_each(|channel| command::argument(out, channel));
        });
    }

    /// The next thing that happened in `bytes`, of whose front it takes its part. An error: the link is of no use.
    pub(super) fn hear(
        &mut self,
        bytes: &mut &[u8],
        now_ms: u64,
        oversized: &mut u64,
    ) -> Result<Option<Heard<T>>, Box<str>> {
        self.heard_ms = now_ms;
        self.is_pinged = false;
        while let Some(frame) = self.reader.take(bytes).map_err(|malformed| format!("no RESP3: {malformed}"))? {
            let heard = match frame {
                Frame::Push(values) => self.pushed(values),
                Frame::Skipped { is_push: true } => {
                    *oversized += 1;
                    None
                }
                Frame::Skipped { is_push: false } => {
                    *oversized += 1;
                    let error = format!("reply of more than {} bytes", limits::REPLY_BYTES_MAX);
                    self.answered(Err(error.into()), now_ms)?
                }
                Frame::Reply(reply) => self.answered(Ok(reply), now_ms)?,
                Frame::Error(error) => self.answered(Err(error), now_ms)?,
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
        Ok(None)
    }

    fn answered(&mut self, answer: Answer, now_ms: u64) -> Result<Option<Heard<T>>, Box<str>> {
        let what = loop {
            let Some(pending) = self.pending.pop_front() else {
                return Err(answer.err().unwrap_or_else(|| "a reply to nothing".into()));
            };
            match pending.what {
                // Only an error answers these, and only before the first confirmation: it is for all channels or none.
                // Any other reply belongs to what was asked behind them.
                Waiting::Subscribe { confirmed: 1.., .. } => {}
                Waiting::Subscribe { .. } | Waiting::Unsubscribe { .. } if answer.is_ok() => {}
                what => break what,
            }
        };
        match (&what, &answer) {
            (Waiting::Hello, Err(error)) if error.starts_with("ERR unknown command") => {
                // Its words are not repeated: an old server quotes the command, and the password with it.
                return Err("the server is older than Redis 6, it does not know HELLO".into());
            }
            // A user who may not ask for a PING can be ready all the same.
            (Waiting::FirstPing, Err(error)) if !error.starts_with("NOPERM") => return Err(error.clone()),
            (Waiting::Hello | Waiting::Select, Err(error)) => return Err(error.clone()),
            (Waiting::FirstPing, _) => {
                self.begin(now_ms);
                return Ok(Some(Heard::Ready));
            }
            (Waiting::Command(command), _) => self.in_flight_bytes -= command.bytes,
            (Waiting::Hello | Waiting::Select | Waiting::Ping | Waiting::Asking, _) => return Ok(None),
            _ => {}
        }
        Ok(Some(Heard::Answer(what, answer)))
    }

    fn begin(&mut self, now_ms: u64) {
        self.stage = Stage::Ready;
        self.out.append(&mut self.early_out);
        self.pending.append(&mut self.early);
        self.pending.iter_mut().for_each(|pending| pending.sent_ms = now_ms);
    }

    fn pushed(&mut self, values: Vec<Reply>) -> Option<Heard<T>> {
        let mut values = values.into_iter();
        let (Some(Reply::Text(kind)), Some(Reply::Text(channel))) = (values.next(), values.next()) else {
            return None;
        };
        let spread =
            if kind.first() == Some(&b's') && kind != b"subscribe" { Spread::Sharded } else { Spread::Everywhere };
        match &kind[..] {
            b"message" | b"smessage" => match values.next() {
                Some(Reply::Text(payload)) => Some(Heard::Message { spread, channel, payload }),
                _ => None,
            },
            b"subscribe" | b"ssubscribe" => {
                // Everything before it has been answered, so its command is the first that waits.
                if let Some(Pending { what: Waiting::Subscribe { spread: asked, channels, confirmed }, .. }) =
                    self.pending.front_mut()
                    && *asked == spread
                {
                    *confirmed += 1;
                    if *confirmed == channels.len() {
                        self.pending.pop_front();
                    }
                }
                Some(Heard::Confirmed { spread, channel })
            }
            b"unsubscribe" | b"sunsubscribe" => match self.pending.front().map(|pending| &pending.what) {
                Some(Waiting::Unsubscribe { spread: asked, channel: left })
                    if *asked == spread && **left == channel =>
                {
                    self.pending.pop_front();
                    None
                }
                _ => Some(Heard::Dropped { spread, channel }),
            },
            _ => None,
        }
    }

    /// When (`mono_ms`) its silence has to be looked at.
    pub(super) fn deadline(&self) -> u64 {
        match (self.stage, self.pending.front()) {
            // What was asked after a long rest is given some time of its own.
            (Stage::Ready, Some(first)) if self.is_pinged => {
                (self.heard_ms + limits::LINK_SILENT_MS_MAX).max(first.sent_ms + limits::LINK_PING_MS)
            }
            (Stage::Ready, _) => self.heard_ms + limits::LINK_PING_MS,
            _ => self.opened_ms + limits::LINK_READY_MS_MAX,
        }
    }

    /// Looks at its silence.
    pub(super) fn feel(&mut self, now_ms: u64) -> Pulse {
        if now_ms < self.deadline() {
            return Pulse::Fine;
        }
        if self.stage != Stage::Ready || self.is_pinged {
            return Pulse::Silent;
        }
        // Also behind what waits for an answer: pushes may be all that a subscription is answered with.
        self.is_pinged = true;
        self.send(Waiting::Ping, now_ms, |out| command::write(out, &[b"PING"]));
        Pulse::Fine
    }

    /// The worker stood still: nobody was there to hear anything.
    pub(super) fn excuse(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.opened_ms = now_ms;
    }

    /// Whether nothing waits for an answer, and nothing is to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.early.is_empty()
    }

    /// When the oldest thing that waits for an answer was sent.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.sent_ms)
    }

    /// What has had no answer and will have none.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = Waiting<T>> {
        self.pending.into_iter().chain(self.early).map(|pending| pending.what)
    }
}
