//! Slowloris: thousands of connections whose request never ends, beside vehicles that drive. What these notice.
//!
//! Each of the others has said a byte more of its request every [`DRIP`]; when its time is over it is ended, and comes again at
//! once. They are kept by a thread of their own on the client's processor, so what they cost the client is in the figures too.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::bench::Extent;
use crate::contender::RINGROAD;
use crate::places::ring_road;
use crate::stage::{Stage, Trial, grouped, percent, table};

const VEHICLES: usize = 1_000;
const SLOW: usize = 5_000;

/// Updates per second and vehicle.
const HZ: f64 = 1.0;

/// More than this, and vehicles would notice.
const P99_MS_MAX: f64 = 50.0;

/// From one byte of a request to the next.
const DRIP: Duration = Duration::from_secs(2);

/// How often some of them are looked at.
const TICK: Duration = Duration::from_millis(10);

/// They come from so many addresses.
const ADDRESSES: u8 = 8;

/// What they begin with; it goes on for ever.
const HEAD: &[u8] = b"GET /v2v HTTP/1.1\r\nHost: slow\r\nX: ";

pub fn run(stage: &mut Stage) {
    let extent = stage.extent;
    let places = ring_road(extent.pick(60, VEHICLES));
    let vehicles = places.at.len();
    // In a smoke run they are to be ended too.
    let time = extent.pick("limits.handshake_ms_max=300", "limits.handshake_ms_max=10000");
    for slow in [0, extent.pick(100, SLOW)] {
        stage.say(format!("slowloris: {vehicles} vehicles at {HZ} Hz beside {} half-open", grouped(slow as f64)));
        let rows = stage.rounds(&[&RINGROAD], |contender, _| {
            let mut trial = Trial::place(contender, &[time], &places)?;
            let crowd = Crowd::gather(trial.server.addr, slow)?;
            let began = Instant::now();
            while crowd.opened() < slow as u64 {
                trial.fleet.poll(5);
                if began.elapsed() > crate::bench::PATIENCE {
                    return Err(format!("{} of {slow} came", crowd.opened()));
                }
            }
            let mut measured = trial.drive(vehicles as f64 * HZ, extent.pick(2.0, 15.0));
            let (opened, ended) = crowd.leave();
            let metrics = trial.server.metrics();
            let timed_out = metrics.get("ringroad_connections_closed_total{reason=\"handshake_timeout\"}");
            let is_refused = |(name, count): &(&str, f64)| name.starts_with("ringroad_refused_total") && *count > 0.0;
            let refused = metrics.series().filter(is_refused).count();
            trial.close();
            if let Some(flaw) = measured.flaw() {
                return Err(flaw);
            }
            // All of them were held until their time was over, and no longer; none was taken for somebody else.
            if refused > 0 || !(ended..=opened).contains(&timed_out) || (slow > 0 && ended == 0) {
                return Err(format!("{opened} opened, {ended} ended, {timed_out} timed out, {refused} kinds refused"));
            }
            let heard = &mut measured.driven.heard;
            let [p50, p99] = [0.5, 0.99].map(|share| heard.quantile_ms(share));
            let costs = measured.costs;
            Ok([p50, p99, timed_out as f64, costs.server, costs.client, costs.others])
        });
        for row in &rows {
            let outcome = row.figures.as_ref().map(|figures| figures[1]);
            let holds = matches!(outcome, Ok(p99) if p99 < P99_MS_MAX) || extent == Extent::Smoke;
            stage.verdict.demand(holds, || format!("slowloris beside {slow}: p99 of {P99_MS_MAX} ms, had {outcome:?}"));
        }
        let head = ["p50 ms", "p99 ms", "timed out", "server %", "client %", "others %"];
        let table = table(&head, &rows, |[p50, p99, timed_out, shares @ ..]| {
            let mut cells = vec![format!("{p50:.2}"), format!("{p99:.2}"), grouped(*timed_out)];
            cells.extend(shares.map(percent));
            cells
        });
        stage.say(table);
    }
}

/// Those whose requests never end.
struct Crowd {
    opened: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    /// How many were ended by the server.
    thread: JoinHandle<io::Result<u64>>,
}

impl Crowd {
    /// So many connections, as soon as they can be made.
    fn gather(server: SocketAddr, slow: usize) -> Result<Crowd, String> {
        let (opened, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stops) = (opened.clone(), is_over.clone());
        let thread = thread::Builder::new()
            .name("slowloris".to_owned())
            .spawn(move || drip(server, slow, &counted, &stops))
            .map_err(|error| error.to_string())?;
        Ok(Crowd { opened, is_over, thread })
    }

    fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many connections there were, and how many of them the server has ended.
    fn leave(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.join().expect("no panic").expect("connections can be made");
        (self.opened.load(Ordering::Relaxed), ended)
    }
}

/// Keeps so many connections half-open until it is over.
fn drip(server: SocketAddr, slow: usize, opened: &AtomicU64, is_over: &AtomicBool) -> io::Result<u64> {
    let mut slots: Vec<Option<Half>> = (0..slow).map(|_| None).collect();
    let (began, mut looked, mut ended) = (Instant::now(), 0, 0);
    while !is_over.load(Ordering::Relaxed) {
        // Evenly over the time of a drip.
        let due = (began.elapsed().as_secs_f64() / DRIP.as_secs_f64() * slow as f64) as usize;
        for turn in looked..due {
            let slot = &mut slots[turn % slow];
            if slot.as_mut().is_some_and(|half| !half.say_more()) {
                *slot = None;
                ended += 1;
            }
            if slot.is_none() {
                *slot = Some(Half::open(server, [127, 0, 0, 2 + (turn % usize::from(ADDRESSES)) as u8])?);
                opened.fetch_add(1, Ordering::Relaxed);
            }
        }
        looked = due;
        thread::sleep(TICK);
    }
    Ok(ended)
}

/// A request that is never whole.
struct Half {
    stream: TcpStream,
    said: usize,
}

impl Half {
    fn open(server: SocketAddr, from: [u8; 4]) -> io::Result<Half> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Half { stream: socket.into(), said: 0 }),
        }
    }

    /// One byte more. Whether the server still waits for the rest.
    fn say_more(&mut self) -> bool {
        let waits = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
        let byte = HEAD.get(self.said).copied().unwrap_or(b'x');
        self.said += 1;
        // Whatever it is told is why it is ended.
        let is_heard = self.stream.read(&mut [0; 512]).is_err_and(waits);
        is_heard && self.stream.write(&[byte]).map_or_else(waits, |_| true)
    }
}
