//! What is answered, and what is refused.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::quiet;
use crate::script::Play;

/// The data of the newest event of a kind that a client has heard.
fn newest(play: &mut Play, name: &str, event: &str) -> Value {
    let client = play.client(name);
    let heard = play.world().take(client);
    let events = heard.iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    events.rev().find(|heard| heard["event"] == event).map_or(Value::Null, |heard| heard["data"].clone())
}

#[test]
fn the_answer_says_what_is_watched() {
    let mut play = quiet("set viewers.area_km2_max = 600000000\n v registers; v at 0 0");
    let edges = |south, west, north, east| json!({ "south": south, "west": west, "north": north, "east": east });
    let mut epoch = 0;
    for (asks, view, near_m, follow) in [
        ("v views 47.1234567 170 48 -170", edges(47.1234567, 170.0, 48.0, -170.0), Value::Null, 0),
        ("v follows a b v", edges(47.1234567, 170.0, 48.0, -170.0), Value::Null, 3),
        ("v views -90 -180 90 180", edges(-90.0, -180.0, 90.0, 180.0), Value::Null, 3),
        ("v views 0 0 0 0", edges(0.0, 0.0, 0.0, 0.0), Value::Null, 3),
        ("v nears 4999.5", Value::Null, json!(4999.5), 3),
        ("v follows", Value::Null, json!(4999.5), 0),
        ("v nears", Value::Null, Value::Null, 0),
    ] {
        play.run(asks);
        epoch += 1;
        let mut answer = newest(&mut play, "v", "watching");
        for edge in ["south", "west", "north", "east"] {
            if let Some(number) = answer["view"][edge].as_f64() {
                answer["view"][edge] = json!(number);
            }
        }
        let expected = json!({
            "epoch": epoch, "vehicles": 0, "cut": false, "view": view, "nearM": near_m, "follow": follow
        });
        assert_eq!(answer, expected, "{asks}");
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_old_one_stays() {
    let mut play = quiet(
        "set vehicles.flush_ms = 20
         set viewers.area_km2_max = 1000
         set viewers.near_radius_m_max = 2000
         set viewers.follow_max = 2
         a registers; a at 48 11
         v connects slim; v registers; v reports 0 0; v views 47.9 10.9 48.1 11.1; v follows b
         v< connected, registered v, watching 1 of 1, named a, state a 48 11, complete 1, watching 1 of 2",
    );
    for (asks, details) in [
        ("v views 47 10 49 12", json!({"areaKm2": 33189, "areaKm2Max": 1000})),
        ("v nears 2000.1", json!({"radiusMMax": 2000})),
        ("v follows c d e", json!({"followMax": 2})),
    ] {
        play.run(asks);
        let error = newest(&mut play, "v", "error");
        assert_eq!(error["code"], "view_too_large", "{asks}");
        for (name, value) in details.as_object().expect("an object") {
            assert_eq!(error["details"][name].as_f64(), value.as_f64(), "{asks}: {error}");
        }
    }
    play.run(
        "+20ms
         forget
         a at 48.05 11; b registers; b at 10 10; +1s
         v< named b, state b 10 10 (-1000ms), state a 48.05 11 (-1000ms)
         v nears 2000
         v< watching 1 of 3, gone a, complete 3",
    );
}

#[test]
fn what_is_not_acceptable_is_refused() {
    quiet(
        "v connects
         v sends view {\"south\":2,\"west\":0,\"north\":1,\"east\":1}
         v sends view {\"south\":2}
         v sends follow {\"vehicleIds\":7}
         v sends view {\"maxHz\":51}
         v nears 500
         v< connected, error invalid_view, error invalid_view, error invalid_view, error invalid_view, error not_registered
         v registers; v sends near {\"radiusM\":-1}; v nears 500
         v< registered v, error invalid_view, watching 0 of 1"
            .replace("v registers; v sends near {\"radiusM\":-1}; v nears 500", "v registers\n v sends near {\"radiusM\":-1}\n v nears 500")
            .as_str(),
    );
}

#[test]
fn ten_in_a_second_are_answered() {
    let mut play = quiet("v connects slim");
    for _ in 0..5 {
        play.run("v views 47 10 49 12; v follows a");
    }
    play.run("+20ms\n forget\n v views; v follows\n v< error rate_limited retry 80, error rate_limited retry 80");
    play.run(
        "+80ms; v sends view {\"south\":5}; v views"
            .replace("; v sends", "\n v sends")
            .replace("; v views", "\n v views")
            .as_str(),
    );
    play.run("v< error invalid_view, error rate_limited retry 100\n v registers; v nears 500\n v< registered v, error rate_limited retry 100");
    assert_eq!(
        {
            play.run("v views");
            newest(&mut play, "v", "error")["details"]["event"].clone()
        },
        "view"
    );
}

#[test]
fn where_tokens_are_required_a_viewer_shows_one_once() {
    let token =
        |claims: Value| encode(&Header::default(), &claims, &EncodingKey::from_secret(b"s3cret")).expect("a token");
    let (any, of_a, old) = (token(json!({})), token(json!({"vehicleId": "veh-a"})), token(json!({"exp": 1})));
    let mut play = quiet("set auth.required = true\n set auth.secret = 's3cret'");
    for refused in ["{}".to_owned(), format!("{{\"authToken\":\"{of_a}\"}}"), format!("{{\"authToken\":\"{old}\"}}")] {
        play.run(
            &format!(
                "v connects; v sends view {refused}
             v< connected, error auth_failed, closed 1008 auth_failed"
            )
            .replace("v connects; ", "v connects\n "),
        );
    }
    play.run(&format!(
        "v connects
         v sends view {{\"south\":47,\"west\":10,\"north\":49,\"east\":12,\"authToken\":\"{any}\"}}
         v follows a
         v< connected, watching 0 of 1, watching 0 of 2
         a connects
         a sends register {{\"vehicleId\":\"veh-a\",\"driverName\":\"Ann\",\"authToken\":\"{of_a}\"}}
         a nears 500
         a views 47 10 49 12
         a< connected, registered a, watching 0 of 1, watching 0 of 2"
    ));
}
