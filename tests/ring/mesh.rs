//! Mail between workers, and connections that a core asks for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringroad::io::{Options, start};
use ringroad::limits;
use ringroad::metrics::Counters;
use ringroad::turn::{ConnId, Core, Ended, Input, Now, Send, ShardId, Store, Turn};

use crate::echo::Habits;
use crate::{PATIENCE, Server, loopback, options, until};

/// What the cores of one test have noted.
#[derive(Default)]
struct Notes {
    arrived: Vec<(ShardId, u64)>,
    refused: usize,
}

/// Worker 0 posts numbers to worker 1, `batch` per turn, again if they are refused; worker 1 notes them.
struct Post {
    own: ShardId,
    notes: Arc<Mutex<Notes>>,
    waiting: VecDeque<u64>,
    batch: usize,
    /// How long the receiver dawdles over each number.
    pause: Duration,
    mail: Vec<(ShardId, u64)>,
    counters: Counters,
    retry_at: Option<u64>,
    stopped: bool,
}

impl Core for Post {
    type Mail = u64;

    fn handle(&mut self, now: Now, input: Input<'_, u64>) {
        match input {
            Input::Mail { from, mail } => {
                thread::sleep(self.pause);
                self.notes.lock().unwrap().arrived.push((from, mail));
            }
            Input::MailRefused { to, mail } => {
                assert_eq!(to, ShardId(1));
                self.notes.lock().unwrap().refused += 1;
                // Refused are the last ones of a turn, in their order: they go back in front of what waits, in theirs.
                let at = self.waiting.partition_point(|waiting| *waiting < mail);
                self.waiting.insert(at, mail);
                self.retry_at = Some(now.mono_ms + 1);
            }
            Input::Stop => self.stopped = true,
            Input::Load { .. } => {}
            _ => unreachable!(),
        }
    }

    fn poll_turn(&mut self, now: Now) -> Option<Turn<'_, u64>> {
        if self.own != ShardId(0) || self.waiting.is_empty() || self.retry_at.is_some_and(|at| now.mono_ms < at) {
            return None;
        }
        self.retry_at = None;
        let batch = self.batch.min(self.waiting.len());
        self.mail.extend(self.waiting.drain(..batch).map(|number| (ShardId(1), number)));
        Some(empty(&mut self.mail))
    }

    fn next_deadline(&self) -> Option<u64> {
        self.retry_at
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }
}

/// A turn in which nothing is wanted yet.
fn empty<M>(mail: &mut Vec<(ShardId, M)>) -> Turn<'_, M> {
    Turn {
        arena: &[],
        log: &[],
        sends: &[],
        finished: &[],
        released: &[],
        mail,
        radio: &[],
        connects: 0,
        links: &[],
        link_bytes: &[],
    }
}

fn posted(count: u64, batch: usize, pause: Duration) -> Notes {
    let notes = Arc::new(Mutex::new(Notes::default()));
    let view = notes.clone();
    let running = start(Options { listen: None, workers: 2, ..options() }, move |own| Post {
        own,
        notes: view.clone(),
        waiting: if own == ShardId(0) { (0..count).collect() } else { VecDeque::new() },
        batch,
        pause,
        mail: Vec::new(),
        counters: Counters::default(),
        retry_at: Some(1),
        stopped: false,
    });
    let running = running.unwrap();
    assert_eq!((running.addr(), running.workers()), (None, 2));
    until("all has arrived", || notes.lock().unwrap().arrived.len() as u64 >= count);
    running.stop();
    running.join().unwrap();
    let notes = std::mem::take(&mut *notes.lock().unwrap());
    assert!(notes.arrived.iter().copied().eq((0..count).map(|number| (ShardId(0), number))), "out of order or twice");
    notes
}

#[test]
fn mail_arrives_in_order() {
    posted(20_000, 7, Duration::ZERO);
}

#[test]
fn a_full_inbox_sends_mail_back_and_the_order_holds() {
    let count = 4 * limits::INBOX_BATCHES_MAX as u64;
    let notes = posted(count, count as usize, Duration::from_micros(50));
    assert!(notes.refused >= limits::INBOX_BATCHES_MAX, "{}", notes.refused);
}

/// Opens `wanted` connections, says hello on each, and lets go of those that were answered.
#[derive(Default)]
struct Caller {
    wanted: u32,
    /// How many were answered, and how many could not be made.
    outcome: Arc<Mutex<(u32, u32)>>,
    sends: Vec<Send>,
    released: Vec<ConnId>,
    turn_sends: Vec<Send>,
    turn_released: Vec<ConnId>,
    mail: Vec<(ShardId, ())>,
    counters: Counters,
    open: u32,
    stopped: bool,
}

const HELLO: &[u8] = b"hello";

impl Core for Caller {
    type Mail = ();

    fn handle(&mut self, _now: Now, input: Input<'_, ()>) {
        match input {
            Input::Opened { conn, .. } => {
                self.open += 1;
                self.sends.push(Send { conn, store: Store::Log, start: 0, len: HELLO.len() as u32 });
            }
            Input::Bytes { conn, bytes } => {
                assert_eq!(bytes, HELLO);
                self.outcome.lock().unwrap().0 += 1;
                self.open -= 1;
                self.released.push(conn);
            }
            Input::Ended { how, .. } => {
                assert_eq!(how, Ended::ConnectFailed);
                self.outcome.lock().unwrap().1 += 1;
            }
            Input::Stop => self.stopped = true,
            Input::Load { .. } => {}
            _ => unreachable!(),
        }
    }

    fn poll_turn(&mut self, _now: Now) -> Option<Turn<'_, ()>> {
        let connects = std::mem::take(&mut self.wanted);
        self.turn_sends.clear();
        self.turn_sends.append(&mut self.sends);
        self.turn_released.clear();
        self.turn_released.append(&mut self.released);
        let (sends, released) = (&self.turn_sends, &self.turn_released);
        if connects == 0 && sends.is_empty() && released.is_empty() {
            return None;
        }
        Some(Turn { log: HELLO, sends, released, connects, ..empty(&mut self.mail) })
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

fn called(target: std::net::SocketAddr, wanted: u32) -> (u32, u32) {
    let outcome = Arc::new(Mutex::new((0, 0)));
    let view = outcome.clone();
    let options = Options { listen: None, target: Some(target), ..options() };
    let running = start(options, move |_| Caller { wanted, outcome: view.clone(), ..Caller::default() }).unwrap();
    until("each has an outcome", || {
        let (answered, failed) = *outcome.lock().unwrap();
        answered + failed == wanted
    });
    running.stop();
    assert!(running.wait(PATIENCE));
    running.join().unwrap();
    *outcome.lock().unwrap()
}

#[test]
fn a_core_gets_the_connections_it_asks_for() {
    let server = Server::start(options(), Habits::default());
    assert_eq!(called(server.addr, 2_000), (2_000, 0));
    server.until("all were closed", |seen| seen.open == 0 && seen.shell.accepts == 2_000);
    server.stop();
}

#[test]
fn a_connection_that_cannot_be_made_is_reported() {
    let nobody = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    assert_eq!(called(nobody, 50), (0, 50));
}
