//! Vehicles that go without a word.

use std::time::Duration;

use socket2::SockRef;

use crate::client::{Client, expect_all};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

#[test]
fn a_connection_that_breaks_is_announced_and_leaves_its_neighbours() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 4);
    for vehicle in &mut fleet.vehicles {
        vehicle.locate(-33.9, 18.4);
    }
    for round in 0..6 {
        let mut ghost = Client::connect(gateway.addr).register(&format!("ghost-{round}"));
        ghost.locate(-33.9, 18.4);
        let id = ghost.id.clone();
        expect_all(&mut fleet.vehicles, "proximity_event", |data| data["peerVehicleId"] == id.as_str());
        // The kernel sends a reset instead of a goodbye.
        SockRef::from(ghost.socket.get_ref()).set_linger(Some(Duration::ZERO)).expect("settable");
        drop(ghost);
        expect_all(&mut fleet.vehicles, "presence_update", |data| {
            data["vehicleId"] == id.as_str() && data["status"] == "offline"
        });
        expect_all(&mut fleet.vehicles, "proximity_event", |data| {
            data["peerVehicleId"] == id.as_str() && data["eventType"] == "exit"
        });
    }
    assert_eq!(gateway.vehicles(), fleet.vehicles.len() as u64);
}
