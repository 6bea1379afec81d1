//! What one vehicle may tell another.

use serde_json::{Value, json};

use crate::client::Client;

/// What is relayed as it was sent, perhaps with more in it.
pub fn relayed(from: &str, to: &str) -> Vec<(&'static str, Value)> {
    let sdp = "v=0\r\no=- 46117 2 IN IP4 127.0.0.1\r\n\u{e9}\u{1F697}";
    vec![
        ("connect_request", json!({"requesterId": from, "targetId": to, "purpose": "convoy"})),
        ("call_initiate", json!({"callerId": from, "calleeId": to, "kind": "video", "nested": {"a": [1, null, true]}})),
        (
            "webrtc_offer",
            json!({"targetId": to, "callerId": from, "calleeId": to, "sdp": {"type": "offer", "sdp": sdp}}),
        ),
        ("webrtc_answer", json!({"targetId": to, "sdp": sdp})),
        (
            "ice_candidate",
            json!({"targetId": to, "candidate": {"candidate": "candidate:1 1 UDP 2", "sdpMLineIndex": 0}}),
        ),
        ("sync_disconnect", json!({"fromVehicleId": from, "toVehicleId": to, "reason": "tunnel", "timestamp": 17})),
        ("sync_end_call", json!({"fromVehicleId": from, "toVehicleId": to})),
    ]
}

/// Sends all of it, and checks that it arrives as promised.
pub fn relay(from: &mut Client, to: &mut Client) {
    for (event, data) in relayed(&from.id, &to.id) {
        from.send(event, data.clone());
        let mut got = to.expect(event);
        let more = got.as_object_mut().expect("an object");
        for (name, value) in data.as_object().expect("an object") {
            assert_eq!(more.remove(name).as_ref(), Some(value), "{event}: {name}");
        }
        match event {
            "connect_request" => assert!(more.remove("ts").is_some_and(|ts| ts.is_u64())),
            "sync_end_call" => {
                assert_eq!(more.remove("reason"), Some(json!("peer_ended")));
                assert!(more.remove("timestamp").is_some_and(|ts| ts.is_u64()));
            }
            _ => {}
        }
        assert!(more.is_empty(), "{event}: {more:?}");
    }

    // The request above waits for its answer, which is good for one.
    let answer = json!({"requesterId": from.id, "targetId": to.id, "approved": true});
    to.send("connect_response", answer.clone());
    let got = from.expect("connect_response");
    assert!(got["approved"] == true && got["ts"].is_u64(), "{got}");
    to.send("connect_response", answer);
    to.expect_error("no_pending_request");

    let content = "tab\tstays, bell\u{7} goes \u{1F697}";
    from.send(
        "send_message",
        json!({"senderId": from.id, "recipientId": to.id, "content": content, "messageType": "text"}),
    );
    let got = to.expect("receive_message");
    assert!(got["senderId"] == from.id.as_str() && got["recipientId"] == to.id.as_str(), "{got}");
    assert_eq!(got["content"], "tab\tstays, bell goes \u{1F697}");
    assert!(got["ts"].is_u64() && got["id"].is_string() && got.get("via").is_none(), "{got}");
}
