//! What both paths do alike: tell the shard what has come, and carry out its turns with one send(2) per send.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Instant;

use ringroad::config::Config;
use ringroad::io::counters::ShellCounters;
use ringroad::io::load::Load;
use ringroad::io::rests::{Rests, Unsent};
use ringroad::io::unix_ms;
use ringroad::limits;
use ringroad::shard::{Batch, Shard};
use ringroad::turn::{ConnId, Core, Ended, Input, Now, ShardId, Turn};

use super::table::{BLOCKED, ENDED, FINISHING, Line, Table};

/// What the shard is told once its turn does not borrow from it any more.
enum Aftermath {
    Blocked(ConnId, Unsent),
    Broken(ConnId),
}

/// A shard and its sockets. How their bytes come, and when there is room again, a path knows.
pub struct Shell<L> {
    core: Shard,
    pub table: Table<L>,
    pub counts: ShellCounters,
    /// Connections that have become blocked, for a path that sends their rests, and these.
    pub blocked: Vec<(ConnId, Vec<u8>)>,
    /// The path has a task for each socket, which sends what is left of a send, and has to be told who is given up.
    pub has_tasks: bool,
    origin: Instant,
    aftermath: Vec<Aftermath>,
    rests: Rests,
    load: Load,
    /// Connections with [`FINISHING`].
    finishing: usize,
    /// When (`mono_ms`) a shard that was told to stop has had its time.
    stop_by: Option<u64>,
}

impl<L: Line> Shell<L> {
    pub fn new(config: Config) -> Shell<L> {
        let seed = RandomState::new().hash_one(ShardId(0));
        Shell {
            core: Shard::new(Arc::new(config), ShardId(0), 1, seed),
            table: Table::default(),
            counts: ShellCounters::default(),
            blocked: Vec::new(),
            has_tasks: false,
            origin: Instant::now(),
            aftermath: Vec::new(),
            rests: Rests::default(),
            load: Load::default(),
            finishing: 0,
            stop_by: None,
        }
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.origin.elapsed().as_millis() as u64, unix_ms: unix_ms() }
    }

    /// Microseconds since it was made.
    pub fn micros(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// When (`mono_ms`) there is something to do although nothing happens.
    pub fn next_deadline(&self) -> Option<u64> {
        [self.core.next_deadline(), self.stop_by].into_iter().flatten().min()
    }

    /// There is something to do; the shard may hear how busy it was. Until [`Shell::sleeps`].
    pub fn wakes(&mut self) {
        if let Some(percent) = self.load.began(self.micros()) {
            self.core.handle(self.now(), Input::Load { percent });
        }
    }

    /// There is nothing left to do.
    pub fn sleeps(&mut self) {
        self.load.over(self.micros());
    }

    // ---- What has come.

    pub fn opened(&mut self, now: Now, line: L, peer: IpAddr) -> ConnId {
        self.counts.accepts += 1;
        let conn = self.table.insert(line);
        self.core.handle(now, Input::Opened { conn, peer });
        conn
    }

    /// Bytes, or none at the end, or an error: what a receive has said. False: nothing more is wanted.
    pub fn received(&mut self, now: Now, conn: ConnId, result: io::Result<&mut [u8]>) -> bool {
        if self.table.line_without(conn, ENDED).is_none() {
            return false;
        }
        match result {
            Ok([]) => self.end(now, conn, Ended::Eof),
            Ok(bytes) => {
                self.counts.recvs += 1;
                self.counts.recv_bytes += bytes.len() as u64;
                self.core.handle(now, Input::Bytes { conn, bytes });
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::OutOfMemory) => return true,
            Err(_) => self.end(now, conn, Ended::Reset),
        }
        false
    }

    /// Tells the shard, once, that no more bytes will come.
    fn end(&mut self, now: Now, conn: ConnId, how: Ended) {
        if let Some(socket) = self.table.find(conn).filter(|socket| !socket.has(ENDED)) {
            socket.set(ENDED);
            self.core.handle(now, Input::Ended { conn, how });
        }
    }

    /// There is room again, or nobody to need it: the next send tells.
    pub fn writable(&mut self, now: Now, conn: ConnId) {
        if let Some(socket) = self.table.find(conn).filter(|socket| socket.has(BLOCKED)) {
            socket.clear(BLOCKED);
            self.core.handle(now, Input::Writable { conn });
        }
    }

    /// Says goodbye to everyone.
    pub fn stop(&mut self, now: Now) {
        if self.stop_by.is_none() {
            self.stop_by = Some(now.mono_ms + limits::STOP_MS_MAX);
            self.core.handle(now, Input::Stop);
        }
    }

    /// A shell that was stopped has nothing left to do, or no time.
    pub fn is_done(&self) -> bool {
        let Some(stop_by) = self.stop_by else { return false };
        (self.table.is_empty() && self.core.is_stopped()) || self.now().mono_ms >= stop_by
    }

    // ---- What is to be done.

    /// Carries out the shard's turns, at least one. True: it may have more than fit into a round that began then.
    pub fn turns(&mut self, now: Now, round_us: u64) -> io::Result<bool> {
        self.counts.pumps += 1;
        self.core.counters().shell.clone_from(&self.counts);
        let mut begun_us = self.micros();
        let mut more = true;
        for _ in 0..limits::ROUND_TURNS_MAX {
            if !self.turn(now) {
                more = false;
                break;
            }
            self.tell(now);
            let over_us = self.micros();
            self.counts.turn_ms.observe(over_us - begun_us);
            begun_us = over_us;
            if over_us - round_us >= limits::ROUND_MS_MAX * 1_000 {
                break;
            }
        }
        self.counts.rounds_cut += u64::from(more);
        self.counts.round_ms.observe(self.micros() - round_us);
        Ok(more)
    }

    /// One turn. False: there is none.
    fn turn(&mut self, now: Now) -> bool {
        let Shell { core, table, counts, aftermath, rests, .. } = self;
        let Some(turn) = core.poll_turn(now) else { return false };
        // One worker without links, and nothing to connect to: the shard has no reason to ask for these.
        assert!(turn.mail.is_empty() && turn.links.is_empty() && turn.connects == 0, "a path has client sockets only");
        counts.turns += 1;
        // As in a gateway without a modem.
        counts.radio_bytes_shed += turn.radio.len() as u64;
        rests.clear();
        send(&turn, table, counts, (aftermath, rests));
        rests.keep(turn.arena, turn.log);
        if self.finishing > 0 {
            for send in turn.sends {
                if let Some(socket) = table.find(send.conn).filter(|it| it.has(FINISHING) && !it.has(BLOCKED)) {
                    socket.clear(FINISHING);
                    self.finishing -= 1;
                    shut(table, send.conn, Shutdown::Write);
                }
            }
        }
        for &conn in turn.finished {
            match table.find(conn) {
                // The shard still has bytes to send; the shut comes behind them.
                Some(socket) if socket.has(BLOCKED) => {
                    self.finishing += usize::from(!socket.has(FINISHING));
                    socket.set(FINISHING);
                }
                Some(_) => shut(table, conn, Shutdown::Write),
                None => {}
            }
        }
        for &conn in turn.released {
            let finishing = table.find(conn).is_some_and(|socket| socket.has(FINISHING));
            self.finishing -= usize::from(finishing);
            if self.has_tasks {
                shut(table, conn, Shutdown::Both);
            }
            // Closes it. epoll forgets it then, and who still reads it hears that its id is stale.
            counts.closes += u64::from(table.remove(conn).is_some());
        }
        true
    }

    /// Tells the shard what became of its turn.
    fn tell(&mut self, now: Now) {
        let mut aftermath = std::mem::take(&mut self.aftermath);
        for what in aftermath.drain(..) {
            match what {
                Aftermath::Blocked(conn, unsent) => {
                    if self.table.find(conn).is_some() {
                        let mut rest = self.rests.of(unsent);
                        if self.has_tasks {
                            self.blocked.push((conn, rest.to_vec()));
                            rest = &[];
                        }
                        self.core.handle(now, Input::Blocked { conn, rest });
                    }
                }
                Aftermath::Broken(conn) => self.end(now, conn, Ended::Reset),
            }
        }
        self.aftermath = aftermath;
    }
}

/// Sends, one system call each.
fn send<L: Line>(
    turn: &Turn<'_, Batch>,
    table: &mut Table<L>,
    counts: &mut ShellCounters,
    (aftermath, rests): (&mut Vec<Aftermath>, &mut Rests),
) {
    for send in turn.sends {
        let line = table.line_without(send.conn, BLOCKED);
        debug_assert!(line.is_some(), "a send to {:?}, which is gone or blocked", send.conn);
        let Some(line) = line else { continue };
        counts.sends += 1;
        let taken = match line.send(turn.bytes(send)) {
            Ok(taken) if taken as u32 == send.len => {
                counts.sent_bytes += u64::from(send.len);
                continue;
            }
            Ok(taken) => taken as u32,
            Err(error) if is_full(&error) => 0,
            Err(_) => {
                counts.sends_failed += 1;
                aftermath.push(Aftermath::Broken(send.conn));
                continue;
            }
        };
        counts.sent_bytes += u64::from(taken);
        counts.sends_blocked += 1;
        if let Some(socket) = table.find(send.conn) {
            socket.set(BLOCKED);
        }
        aftermath.push(Aftermath::Blocked(send.conn, rests.note(send, taken)));
    }
}

/// No room, or no memory for it: not the connection's end.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM))
}

fn shut<L: Line>(table: &Table<L>, conn: ConnId, how: Shutdown) {
    if let Some(line) = table.line_without(conn, 0) {
        line.shut(how);
    }
}
