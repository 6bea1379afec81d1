//! A shell for one client, as small as can be: sockets, an epoll, a clock.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ringroad::config::Servers;
use ringroad::shard::backplane::client::{Client, News, Outcome};
use ringroad::turn::{Endpoint, LinkId, LinkWork, Now};
use ringroad::wire::resp::Reply;

/// Far beyond what anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Driver {
    pub client: Client<u64>,
    /// What the client told and no test has taken yet.
    pub news: VecDeque<News<u64>>,
    sockets: HashMap<LinkId, (TcpStream, Vec<u8>)>,
    epoll: Epoll,
    began: Instant,
    /// Calls of `advance`: a client that is busy with nothing shows here.
    pub advances: u64,
}

impl Driver {
    pub fn new(servers: Servers) -> Driver {
        Driver::with_seed(servers, 1)
    }

    pub fn with_seed(servers: Servers, seed: u64) -> Driver {
        let client = Client::new(servers, "ringroad test", seed);
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
        Driver { client, news: VecDeque::new(), sockets: HashMap::new(), epoll, began: Instant::now(), advances: 0 }
    }

    pub fn now(&self) -> Now {
        let mono_ms = self.began.elapsed().as_millis() as u64;
        Now { mono_ms, unix_ms: 1_700_000_000_000 + mono_ms }
    }

    /// One turn, at most a few milliseconds long.
    pub fn turn(&mut self) {
        if self.client.next_deadline().is_some_and(|due_ms| self.now().mono_ms >= due_ms) {
            self.advances += 1;
            self.client.advance(self.now());
            let due_ms = self.client.next_deadline().unwrap_or(u64::MAX);
            assert!(due_ms > self.now().mono_ms.saturating_sub(50), "a deadline stays in the past");
        }
        self.carry_out();
        let mut events = [EpollEvent::empty(); 16];
        let ready = self.epoll.wait(&mut events, EpollTimeout::from(2u8)).expect("epoll");
        for event in &events[..ready] {
            self.read(LinkId(event.data() as u32));
        }
        while let Some(news) = self.client.next_news() {
            self.news.push_back(news);
        }
    }

    fn carry_out(&mut self) {
        let (work, bytes) = self.client.work();
        let (work, bytes) = (work.to_vec(), bytes.to_vec());
        self.client.sent();
        for item in work {
            match item {
                LinkWork::Open { link, to } => self.open(link, &to),
                LinkWork::Send { link, start, len } => {
                    let (_, out) = self.sockets.get_mut(&link).expect("a send to a link that is up");
                    out.extend_from_slice(&bytes[start as usize..][..len as usize]);
                }
                LinkWork::Close { link } => drop(self.sockets.remove(&link)),
            }
        }
        for (socket, out) in self.sockets.values_mut() {
            while let Ok(taken @ 1..) = socket.write(out) {
                out.drain(..taken);
            }
        }
    }

    fn open(&mut self, link: LinkId, to: &Endpoint) {
        let Endpoint::Tcp { host, port } = to else { panic!("no other kind is used here") };
        match TcpStream::connect((&**host, *port)) {
            Ok(socket) => {
                socket.set_nonblocking(true).expect("nonblocking");
                socket.set_nodelay(true).expect("no delay");
                let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(link.0));
                self.epoll.add(&socket, event).expect("epoll");
                self.sockets.insert(link, (socket, Vec::new()));
                self.client.link_up(self.now(), link);
            }
            Err(error) => self.client.link_down(self.now(), link, &error.to_string()),
        }
    }

    fn read(&mut self, link: LinkId) {
        let mut buffer = [0; 16 * 1024];
        let Some((socket, _)) = self.sockets.get_mut(&link) else { return };
        let why = match socket.read(&mut buffer) {
            Ok(0) => "the server closed the connection".to_string(),
            Ok(len) => return self.client.link_bytes(self.now(), link, &buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => error.to_string(),
        };
        self.sockets.remove(&link);
        self.client.link_down(self.now(), link, &why);
    }

    /// Turns until `found` finds something.
    pub fn until<R>(&mut self, what: &str, mut found: impl FnMut(&mut Driver) -> Option<R>) -> R {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; {:?}", self.client.counts());
            self.turn();
        }
    }

    /// Turns until one of the news satisfies `is`; those before it are dropped.
    pub fn news(&mut self, what: &str, is: impl Fn(&News<u64>) -> bool) -> News<u64> {
        self.until(what, |driver| {
            loop {
                match driver.news.pop_front() {
                    Some(news) if is(&news) => return Some(news),
                    Some(_) => {}
                    None => return None,
                }
            }
        })
    }

    pub fn ready(&mut self) {
        self.news("ready", |news| *news == News::Ready);
    }

    pub fn subscribed(&mut self, channel: &[u8]) {
        self.news("subscribed", |news| matches!(news, News::Subscribed { channel: name } if **name == *channel));
    }

    pub fn outcome(&mut self, token: u64) -> Outcome {
        match self.news("an outcome", |news| matches!(news, News::Outcome { token: its, .. } if *its == token)) {
            News::Outcome { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a command and waits for its outcome.
    pub fn ask(&mut self, key: Option<&[u8]>, args: &[&[u8]]) -> Outcome {
        self.client.send(self.now(), key, args, u64::MAX).expect("ready");
        self.outcome(u64::MAX)
    }
}

/// A reply that is a text.
pub fn text(text: &str) -> Outcome {
    Outcome::Reply(Reply::Text(text.into()))
}
