//! Who is silent for too long is closed and announced; who only answers pings is not.

use crate::client::{Client, expect_all};
use crate::fleet::Fleet;
use crate::gateway::Gateway;

#[test]
fn a_vehicle_that_answers_no_ping_times_out() {
    let gateway = Gateway::start(&["vehicles.ping_ms=300", "vehicles.heartbeat_timeout_ms=1500"]);
    let mut fleet = Fleet::register(&gateway, 4);
    // tungstenite answers pings when it is read, and these are not.
    let mut silent: Vec<Client> =
        (0..4).map(|n| Client::connect(gateway.addr).register(&format!("silent-{n}"))).collect();
    for vehicle in &mut silent {
        let is = |data: &serde_json::Value| data["vehicleId"] == vehicle.id.as_str() && data["status"] == "timeout";
        expect_all(&mut fleet.vehicles, "presence_update", is);
    }
    for vehicle in &mut silent {
        assert_eq!(vehicle.closed(), (4002, "timeout".to_owned()));
        assert!(vehicle.pings >= 1);
    }
    for vehicle in &mut fleet.vehicles {
        assert!(vehicle.pings >= 1, "{} said nothing and was not asked", vehicle.id);
        vehicle.sync();
    }
    assert_eq!(gateway.metric("ringroad_connections_closed_total{reason=\"timeout\"}"), 4);
}
