//! Asked to stop, the gateway says goodbye to everyone and ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::client::{Client, dial};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

#[test]
fn every_client_is_told_and_the_process_ends_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut gateway = Gateway::start(&[]);
        let mut fleet = Fleet::register(&gateway, 6);
        let mut watcher = Client::connect(gateway.addr);
        // A handshake that has begun does not hold it up.
        let mut half = dial(gateway.addr);
        half.write_all(b"GET /v2v HTTP/1.1\r\n").expect("sent");
        let begun = Instant::now();
        gateway.signal(signal);
        for client in fleet.vehicles.iter_mut().chain([&mut watcher]) {
            assert_eq!(client.closed(), (1012, "shutdown".to_owned()));
        }
        assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);
        drop((fleet, watcher, half));
        assert_eq!(gateway.wait().code(), Some(0), "{signal}");
        assert!(begun.elapsed() < Duration::from_millis(1_900), "{:?}", begun.elapsed());
        TcpStream::connect(gateway.addr).expect_err("nobody listens");
    }
}

#[test]
fn clients_that_do_not_leave_are_left() {
    let mut gateway = Gateway::start(&[]);
    let fleet = Fleet::register(&gateway, 3);
    gateway.signal(Signal::SIGTERM);
    let begun = Instant::now();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    drop(fleet);
}
