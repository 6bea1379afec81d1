//! A core that opens links, sends over them and closes them as a test says, and writes down what it hears. To its own
//! clients it is an echo.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use ringroad::io::counters::ShellCounters;
use ringroad::io::{Options, Running, start};
use ringroad::metrics::Counters;
use ringroad::turn::{ConnId, Core, Endpoint, Input, LinkId, LinkWork, Now, Send, ShardId, Store, Turn};

use crate::{PATIENCE, raise_descriptor_limit, until};

/// What a core is to do with one of its links.
pub enum Order {
    Open(u32, Endpoint),
    Send(u32, Vec<u8>),
    Close(u32),
}

/// What a core has heard of one of its links.
#[derive(Clone, Default)]
pub struct Heard {
    pub up: bool,
    pub bytes: Vec<u8>,
    /// Also those that were not kept.
    pub received: u64,
    pub down: Option<String>,
}

/// Between a test and one core.
#[derive(Default)]
pub struct Board {
    orders: VecDeque<Order>,
    pub links: HashMap<u32, Heard>,
    pub shell: ShellCounters,
    /// Count what arrives, but keep none of it.
    pub forgetful: bool,
}

impl Board {
    pub fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// Bytes that have come over all links.
    pub fn received(&self) -> u64 {
        self.links.values().map(|heard| heard.received).sum()
    }
}

/// What clients are to get, and which are to go.
#[derive(Default)]
struct Echo {
    arena: Vec<u8>,
    sends: Vec<Send>,
    released: Vec<ConnId>,
}

#[derive(Default)]
struct Ferry {
    board: Arc<Mutex<Board>>,
    closed: HashSet<LinkId>,
    links: Vec<LinkWork>,
    link_bytes: Vec<u8>,
    conns: HashSet<ConnId>,
    echo: Echo,
    /// The echo of the turn under way.
    lent: Echo,
    mail: Vec<(ShardId, ())>,
    counters: Counters,
    now: Now,
    stopped: bool,
}

impl Ferry {
    fn note(&self, link: LinkId, what: impl FnOnce(&mut Heard)) {
        assert!(!self.closed.contains(&link), "{link:?} was closed");
        let mut board = self.board.lock().unwrap();
        let heard = board.links.get_mut(&link.0).expect("a link that was opened");
        assert!(heard.down.is_none(), "{link:?} has ended");
        what(heard);
    }
}

impl Core for Ferry {
    type Mail = ();

    fn handle(&mut self, _now: Now, input: Input<'_, ()>) {
        match input {
            Input::LinkUp { link } => self.note(link, |heard| {
                assert!(!heard.up, "up twice");
                heard.up = true;
            }),
            Input::LinkBytes { link, bytes } => {
                assert!(!bytes.is_empty());
                let forgetful = self.board.lock().unwrap().forgetful;
                self.note(link, |heard| {
                    assert!(heard.up, "bytes before it is up");
                    heard.received += bytes.len() as u64;
                    if !forgetful {
                        heard.bytes.extend_from_slice(bytes);
                    }
                });
            }
            Input::LinkDown { link, why } => self.note(link, |heard| heard.down = Some(why.to_owned())),
            Input::Opened { conn, .. } => {
                self.conns.insert(conn);
            }
            Input::Bytes { conn, bytes } => {
                let echo = &mut self.echo;
                assert!(echo.sends.iter().all(|send| send.conn != conn), "clients wait for their echo");
                let (start, len) = (echo.arena.len() as u32, bytes.len() as u32);
                echo.arena.extend_from_slice(bytes);
                echo.sends.push(Send { conn, store: Store::Arena, start, len });
            }
            Input::Ended { conn, .. } => {
                self.conns.remove(&conn);
                self.echo.released.push(conn);
            }
            Input::Stop => {
                self.stopped = true;
                self.echo.released.extend(self.conns.drain());
            }
            Input::Load { .. } => {}
            other => unreachable!("{other:?}"),
        }
    }

    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, ()>> {
        // What the last turn carried out.
        self.links.clear();
        self.link_bytes.clear();
        self.now = now;
        let mut board = self.board.lock().unwrap();
        board.shell.clone_from(&self.counters.shell);
        match board.orders.pop_front() {
            Some(Order::Open(number, to)) => {
                board.links.insert(number, Heard::default());
                self.links.push(LinkWork::Open { link: LinkId(number), to });
            }
            Some(Order::Send(number, bytes)) => {
                // Not at the start, so that offsets count.
                self.link_bytes.extend_from_slice(b"not this");
                let start = self.link_bytes.len() as u32;
                self.link_bytes.extend_from_slice(&bytes);
                self.links.push(LinkWork::Send { link: LinkId(number), start, len: bytes.len() as u32 });
                self.link_bytes.extend_from_slice(b"nor this");
            }
            Some(Order::Close(number)) => {
                self.closed.insert(LinkId(number));
                self.links.push(LinkWork::Close { link: LinkId(number) });
            }
            None if self.echo.sends.is_empty() && self.echo.released.is_empty() => return None,
            None => {}
        }
        drop(board);
        self.lent = std::mem::take(&mut self.echo);
        Some(Turn {
            arena: &self.lent.arena,
            log: &[],
            sends: &self.lent.sends,
            finished: &[],
            released: &self.lent.released,
            mail: &mut self.mail,
            radio: &[],
            connects: 0,
            links: &self.links,
            link_bytes: &self.link_bytes,
        })
    }

    /// Looks at the board every 2 ms.
    fn next_deadline(&self) -> Option<u64> {
        Some(self.now.mono_ms + 2)
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }
}

/// Workers with a [`Ferry`] each.
pub struct Harbour {
    running: Option<Running>,
    boards: Vec<Arc<Mutex<Board>>>,
    pub addr: SocketAddr,
}

impl Harbour {
    pub fn start(options: Options) -> Harbour {
        raise_descriptor_limit();
        let boards: Vec<Arc<Mutex<Board>>> = (0..options.workers).map(|_| Arc::default()).collect();
        let shared = boards.clone();
        let make = move |own: ShardId| Ferry { board: shared[usize::from(own.0)].clone(), ..Ferry::default() };
        let running = start(options, make).unwrap();
        let addr = running.addr().unwrap();
        Harbour { running: Some(running), boards, addr }
    }

    pub fn board(&self, worker: usize) -> MutexGuard<'_, Board> {
        self.boards[worker].lock().unwrap()
    }

    /// Of worker 0, as all below.
    pub fn order(&self, order: Order) {
        self.board(0).order(order);
    }

    pub fn open(&self, number: u32, to: Endpoint) {
        self.order(Order::Open(number, to));
    }

    pub fn send(&self, number: u32, bytes: &[u8]) {
        self.order(Order::Send(number, bytes.to_vec()));
    }

    pub fn close(&self, number: u32) {
        self.order(Order::Close(number));
    }

    pub fn until(&self, what: &str, is: impl Fn(&Board) -> bool) {
        until(what, || is(&self.board(0)));
    }

    /// Waits until a link is as expected.
    pub fn until_link(&self, number: u32, what: &str, is: impl Fn(&Heard) -> bool) -> Heard {
        self.until(what, |board| board.links.get(&number).is_some_and(&is));
        self.board(0).links[&number].clone()
    }

    pub fn until_up(&self, number: u32) {
        let heard = self.until_link(number, "it is up or down", |heard| heard.up || heard.down.is_some());
        assert_eq!(heard.down, None);
    }

    pub fn until_down(&self, number: u32) -> String {
        self.until_link(number, "it is down", |heard| heard.down.is_some()).down.unwrap()
    }

    /// All orders have been carried out, and the worker has slept since.
    pub fn until_done(&self) {
        self.until("nothing is left to do", |board| board.orders.is_empty());
        let pumps = self.board(0).shell.pumps;
        self.until("it goes on", |board| board.shell.pumps > pumps + 1);
    }

    /// Stops at once and in good order, whatever the links are doing.
    pub fn stop(mut self) -> Vec<Board> {
        let running = self.running.take().unwrap();
        let begun = Instant::now();
        running.stop();
        assert!(running.wait(PATIENCE));
        running.join().unwrap();
        assert!(begun.elapsed().as_millis() < 1_900, "something was left over: {:?}", begun.elapsed());
        self.boards.iter().map(|board| std::mem::take(&mut *board.lock().unwrap())).collect()
    }
}
