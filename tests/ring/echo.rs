//! A core that sends back what it gets: the smallest one that is right about slow readers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringroad::io::counters::ShellCounters;
use ringroad::metrics::Counters;
use ringroad::turn::{ConnId, Core, Ended, Input, Now, Send, ShardId, Store, Turn};

/// What a test may look at while the core runs.
#[derive(Default)]
pub struct Seen {
    pub shell: ShellCounters,
    pub open: usize,
    pub open_max: usize,
    pub writables: u64,
    /// Times that it was told to drain, in ms.
    pub drains: Vec<u64>,
    /// Most turns that were taken, and most chunks of bytes handed over, at one and the same time: in one round.
    pub turns_at_once: u64,
    pub chunks_at_once: u64,
}

/// How an [`Echo`] deviates from a plain echo.
#[derive(Clone, Default)]
pub struct Habits {
    /// Bytes at which a connection is given up in the middle, counted per connection; 0: never.
    pub release_after_bytes: usize,
    /// Always has one more turn.
    pub restless: bool,
    /// Every byte comes back this many times; 0 is 1.
    pub times: usize,
    /// Does not say goodbye when it is told to stop.
    pub stubborn: bool,
    /// At this byte, waits for a lock.
    pub stuck_at: Option<(u8, Arc<Mutex<()>>)>,
    /// Panics at this byte.
    pub panic_at: Option<u8>,
    /// Echoes out of the shared store instead of the arena.
    pub from_log: bool,
    /// Every turn takes so long.
    pub turn_ms: u64,
    /// And so does every chunk of bytes.
    pub chunk_ms: u64,
}

fn be_busy(ms: u64) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(ms) {
        std::hint::spin_loop();
    }
}

#[derive(Default)]
struct Peer {
    generation: u32,
    open: bool,
    blocked: bool,
    ended: bool,
    /// We were told to stop.
    leaving: bool,
    noted: bool,
    received: usize,
    out: Vec<u8>,
}

#[derive(Default)]
pub struct Echo {
    habits: Habits,
    seen: Arc<Mutex<Seen>>,
    peers: Vec<Peer>,
    /// Connections with something to do, once each.
    active: Vec<u32>,
    /// Those of a turn that have something to do in the next.
    again: Vec<u32>,
    arena: Vec<u8>,
    sends: Vec<Send>,
    finished: Vec<ConnId>,
    released: Vec<ConnId>,
    mail: Vec<(ShardId, ())>,
    counters: Counters,
    open: usize,
    stopped: bool,
    /// The round under way: its time, its turns, its chunks.
    round: (Now, u64, u64),
}

impl Echo {
    pub fn new(habits: Habits, seen: Arc<Mutex<Seen>>) -> Echo {
        Echo { habits, seen, ..Echo::default() }
    }

    fn peer(&mut self, conn: ConnId) -> &mut Peer {
        let peer = &mut self.peers[conn.index as usize];
        assert!(peer.open && peer.generation == conn.generation, "{conn:?} is not open");
        peer
    }

    fn in_round(&mut self, now: Now, turns: u64, chunks: u64) {
        if self.round.0 != now {
            self.round = (now, 0, 0);
        }
        self.round.1 += turns;
        self.round.2 += chunks;
        let mut seen = self.seen.lock().unwrap();
        seen.turns_at_once = seen.turns_at_once.max(self.round.1);
        seen.chunks_at_once = seen.chunks_at_once.max(self.round.2);
    }

    fn note(&mut self, conn: ConnId) {
        let peer = &mut self.peers[conn.index as usize];
        if !peer.noted {
            peer.noted = true;
            self.active.push(conn.index);
        }
    }
}

impl Core for Echo {
    type Mail = ();

    fn handle(&mut self, now: Now, input: Input<'_, ()>) {
        match input {
            Input::Opened { conn, peer } => {
                assert!(peer.is_loopback());
                let index = conn.index as usize;
                if self.peers.len() <= index {
                    self.peers.resize_with(index + 1, Peer::default);
                }
                assert!(!self.peers[index].open, "an index was given out while it was in use");
                self.peers[index] = Peer { generation: conn.generation, open: true, ..Peer::default() };
                self.open += 1;
                if self.stopped {
                    self.peer(conn).leaving = true;
                    self.note(conn);
                }
            }
            Input::Bytes { conn, bytes } => {
                assert!(!bytes.is_empty());
                be_busy(self.habits.chunk_ms);
                self.in_round(now, 0, 1);
                assert!(self.habits.panic_at.is_none_or(|byte| !bytes.contains(&byte)), "asked to panic");
                if let Some((byte, gate)) = self.habits.stuck_at.clone()
                    && bytes.contains(&byte)
                {
                    drop(gate.lock().unwrap());
                }
                let times = self.habits.times.max(1);
                let peer = self.peer(conn);
                assert!(!peer.ended, "bytes after the end");
                peer.received += bytes.len();
                for _ in 0..times {
                    peer.out.extend_from_slice(bytes);
                }
                self.note(conn);
            }
            Input::Ended { conn, how } => {
                let peer = self.peer(conn);
                assert!(!peer.ended, "ended twice");
                peer.ended = true;
                if how == Ended::Reset {
                    peer.out.clear();
                }
                self.note(conn);
            }
            Input::Blocked { conn, rest } => {
                assert!(!rest.is_empty());
                let peer = self.peer(conn);
                assert!(!peer.blocked, "blocked twice");
                peer.blocked = true;
                peer.out.splice(..0, rest.iter().copied());
            }
            Input::Writable { conn } => {
                self.seen.lock().unwrap().writables += 1;
                let peer = self.peer(conn);
                assert!(peer.blocked);
                peer.blocked = false;
                self.note(conn);
            }
            Input::Stop => {
                self.stopped = !self.habits.stubborn;
                for index in 0..self.peers.len() as u32 {
                    let peer = &mut self.peers[index as usize];
                    if peer.open && self.stopped {
                        peer.leaving = true;
                        let generation = peer.generation;
                        self.note(ConnId { index, generation });
                    }
                }
            }
            Input::Drain { over_ms } => self.seen.lock().unwrap().drains.push(over_ms),
            Input::Load { .. } => {}
            Input::Configure { .. } | Input::Mail { .. } | Input::MailRefused { .. } | Input::Radio { .. } => {
                unreachable!()
            }
            Input::LinkUp { .. } | Input::LinkBytes { .. } | Input::LinkDown { .. } => unreachable!(),
            Input::OpenedPrivately { .. } | Input::Keys(_) => unreachable!(),
        }
    }

    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, ()>> {
        {
            let mut seen = self.seen.lock().unwrap();
            seen.shell.clone_from(&self.counters.shell);
            seen.open = self.open;
            seen.open_max = seen.open_max.max(self.open);
        }
        if self.active.is_empty() && !self.habits.restless {
            return None;
        }
        be_busy(self.habits.turn_ms);
        self.in_round(now, 1, 0);
        self.arena.clear();
        self.sends.clear();
        self.finished.clear();
        self.released.clear();
        for index in self.active.drain(..) {
            let peer = &mut self.peers[index as usize];
            let conn = ConnId { index, generation: peer.generation };
            peer.noted = false;
            let given_up = self.habits.release_after_bytes > 0 && peer.received >= self.habits.release_after_bytes;
            if !peer.blocked && !peer.out.is_empty() {
                let store = if self.habits.from_log { Store::Log } else { Store::Arena };
                let start = self.arena.len() as u32;
                self.sends.push(Send { conn, store, start, len: peer.out.len() as u32 });
                self.arena.append(&mut peer.out);
                // If the send is short there is a rest, and a turn after it.
                if peer.ended && !given_up && !peer.leaving {
                    peer.noted = true;
                    self.again.push(index);
                }
            }
            let said_all = peer.out.is_empty() && !peer.blocked && !peer.noted;
            if given_up || peer.leaving || (peer.ended && said_all) {
                peer.open = false;
                self.open -= 1;
                // One that is given up gets no farewell: its peer learns of it only if the shell really closes.
                if !given_up {
                    self.finished.push(conn);
                }
                self.released.push(conn);
            }
        }
        self.active.append(&mut self.again);
        let (arena, log) = if self.habits.from_log { (&[][..], &self.arena[..]) } else { (&self.arena[..], &[][..]) };
        Some(Turn {
            arena,
            log,
            sends: &self.sends,
            finished: &self.finished,
            released: &self.released,
            mail: &mut self.mail,
            radio: &[],
            connects: 0,
            links: &[],
            link_bytes: &[],
        })
    }

    fn next_deadline(&self) -> Option<u64> {
        None
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn is_stopped(&self) -> bool {
        self.stopped && self.open == 0
    }
}
