//! SIGTERM lets go of everybody in time, and refuses nobody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Event, dial};
use crate::fleet::Fleet;
use crate::gateway::{Gateway, Reply};
use crate::until;
use nix::sys::signal::Signal;

fn leave_in_ms(client: &mut Client) -> u64 {
    client.expect("server_shutdown")["reconnectInMs"].as_u64().expect("a time")
}

#[test]
fn each_vehicle_goes_when_it_was_told_and_the_process_ends_well() {
    const OVER_MS: u64 = 3_000;
    let mut gateway = Gateway::start(&[&format!("server.drain_ms={OVER_MS}")]);
    let mut fleet = Fleet::register(&gateway, 20);
    // A request that has begun is answered, though not as if nothing were going on.
    let mut asking = dial(gateway.addr);
    asking.write_all(b"GET /health HTTP/1.1\r\n").expect("sent");
    let begun = Instant::now();
    gateway.signal(Signal::SIGTERM);
    let mut leaving: Vec<(u64, &mut Client)> = fleet.vehicles.iter_mut().map(|v| (leave_in_ms(v), v)).collect();
    asking.write_all(b"Host: x\r\n\r\n").expect("sent");
    let reply = Reply::read(&mut asking);
    assert_eq!((reply.status, reply.json()["status"].as_str()), (503, Some("draining")));
    leaving.sort_by_key(|(leaves_ms, _)| *leaves_ms);
    assert!(leaving.iter().all(|(leaves_ms, _)| *leaves_ms <= OVER_MS), "within the time");
    assert!(leaving[0].0 + 1_000 < leaving.last().expect("20").0, "not all at once");
    // The last one raises an alert once the first have gone: it is accepted, and whoever is there hears it, or is closed
    // while it is on its way.
    let (gone, there) = leaving.split_at_mut(5);
    for (_, client) in gone {
        assert_eq!(client.closed(), (1012, "shutdown".to_owned()));
    }
    let (_, last) = there.last_mut().expect("20");
    let id = last.id.clone();
    last.send("emergency_alert", serde_json::json!({ "senderId": id }));
    let mut heard = 0;
    for (_, client) in there.iter_mut() {
        assert_eq!(client.closed(), (1012, "shutdown".to_owned()));
        let is_alert = |event: &Event| event.name == "emergency_alert" && event.data["senderId"] == *id;
        heard += client.backlog.iter().filter(|event| is_alert(event)).count();
    }
    assert!(heard >= 5, "{heard} of {}", there.len());
    // The gateway's clock and ours tick at different moments of a millisecond.
    let told = Duration::from_millis(there.last().expect("20").0 - 1);
    assert!(begun.elapsed() >= told, "{:?}", begun.elapsed());
    drop(fleet);
    assert_eq!(gateway.wait().code(), Some(0));
    TcpStream::connect(gateway.addr).expect_err("nobody listens");
}

#[test]
fn who_does_not_leave_is_left_and_an_empty_gateway_does_not_wait() {
    let mut gateway = Gateway::start(&["server.drain_ms=1000"]);
    let mut client = Client::connect(gateway.addr);
    let mut half = dial(gateway.addr);
    half.write_all(b"GET /v2v HTTP/1.1\r\n").expect("sent");
    gateway.signal(Signal::SIGTERM);
    leave_in_ms(&mut client);
    // It reads nothing more, and the other one's head is never complete.
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);

    let mut gateway = Gateway::start(&["server.drain_ms=600000"]);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut gateway = Gateway::start(&["server.drain_ms=600000"]);
    let mut client = Client::connect(gateway.addr);
    gateway.signal(Signal::SIGTERM);
    leave_in_ms(&mut client);
    gateway.signal(Signal::SIGTERM);
    let ended = gateway.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(Signal::SIGTERM as i32));
    gateway.crash();
}

#[test]
fn at_a_terminal_all_go_at_once() {
    let mut gateway = Gateway::start(&["server.drain_ms=600000"]);
    let mut client = Client::connect(gateway.addr);
    gateway.signal(Signal::SIGINT);
    assert_eq!(client.closed(), (1012, "shutdown".to_owned()));
    drop(client);
    until("it has ended", || gateway.has_ended());
    assert_eq!(gateway.wait().code(), Some(0));
}
