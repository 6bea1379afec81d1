//! An alert reaches everyone once.

use std::collections::HashSet;

use serde_json::json;

use crate::client::Client;
use crate::fleet::Fleet;
use crate::gateway::Gateway;

#[test]
fn an_alert_reaches_everyone_once_under_one_id() {
    let gateway = Gateway::start(&[]);
    let mut fleet = Fleet::register(&gateway, 12);
    let mut watchers: Vec<Client> = (0..4).map(|_| Client::connect(gateway.addr)).collect();
    let senders = [fleet.workers[0][0], fleet.workers[1][0]];
    let info = json!({"model": "Bus", "passengers": 31});
    for sender in senders {
        let id = fleet.vehicles[sender].id.clone();
        fleet.vehicles[sender].send("emergency_alert", json!({"senderId": id, "vehicleInfo": info}));
        let alerts = fleet.vehicles.iter_mut().chain(&mut watchers).map(|client| {
            let alert = client.expect("emergency_alert");
            assert!(
                alert["senderId"] == id.as_str() && alert["vehicleInfo"] == info && alert["ts"].is_u64(),
                "{alert}"
            );
            alert["id"].as_str().expect("a string").to_owned()
        });
        assert_eq!(alerts.collect::<HashSet<_>>().len(), 1);
    }
    for client in fleet.vehicles.iter_mut().chain(&mut watchers) {
        assert!(client.sync().iter().all(|event| event.name != "emergency_alert"), "{} got one twice", client.id);
    }
    assert_eq!(gateway.metric("v2v_emergencies_total"), 2);
}
