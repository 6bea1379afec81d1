//! `view`, `near` and `follow`: what a connection is to be sent. `docs/PROTOCOL.md`, section 10.

use super::{Command, auth_token, is_vehicle_id, motion};
use crate::wire::tape::Value;

/// An area between two parallels and two meridians, 1e-7 degree.
///
/// The half turn keeps the sign that it came with: from −180° to 180° is all around, and from 180° to −180° is nothing
/// but the meridian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    /// −900000000 to `north_e7`.
    pub south_e7: i32,
    /// −1800000000 to 1800000000; beyond `east_e7` for an area across the antimeridian.
    pub west_e7: i32,
    /// `south_e7` to 900000000.
    pub north_e7: i32,
    /// −1800000000 to 1800000000.
    pub east_e7: i32,
}

/// What `view`, `near` and `follow` may say beside what is to be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms<'a> {
    /// Positions at most so often a second, 0.1 to 50.
    pub max_hz: Option<f64>,
    /// `authToken`
    pub auth_token: Option<&'a str>,
}

pub(super) fn view<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    let south_e7 = edge(data, "south", 90.0, "south must be a number from -90 to 90")?;
    let west_e7 = edge(data, "west", 180.0, "west must be a number from -180 to 180")?;
    let north_e7 = edge(data, "north", 90.0, "north must be a number from -90 to 90")?;
    let east_e7 = edge(data, "east", 180.0, "east must be a number from -180 to 180")?;
    let edges = match (south_e7, west_e7, north_e7, east_e7) {
        (Some(south_e7), Some(west_e7), Some(north_e7), Some(east_e7)) => {
            if south_e7 > north_e7 {
                return Err("south must not be beyond north");
            }
            Some(Edges { south_e7, west_e7, north_e7, east_e7 })
        }
        (None, None, None, None) => None,
        _ => return Err("south, west, north and east must all be there, or none"),
    };
    Ok(Command::View { edges, terms: terms(data)? })
}

/// Degrees as 1e-7 degree; `null` counts as absent.
fn edge(data: Value<'_, '_>, field: &str, most: f64, wrong: &'static str) -> Result<Option<i32>, &'static str> {
    let Some(value) = data.field(field) else { return Ok(None) };
    let degrees = motion(value, -most, wrong)?;
    // At most 1.8e9, so it fits.
    degrees.map(|degrees| if degrees <= most { Ok((degrees * 1e7).round() as i32) } else { Err(wrong) }).transpose()
}

pub(super) fn near<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    const WRONG: &str = "radiusM must be metres, more than 0";
    let radius_m = data.field("radiusM").map_or(Ok(None), |value| motion(value, 0.0, WRONG))?;
    if radius_m == Some(0.0) {
        return Err(WRONG);
    }
    Ok(Command::Near { radius_m, terms: terms(data)? })
}

pub(super) fn follow<'i>(data: Value<'_, 'i>) -> Result<Command<'i>, &'static str> {
    const WRONG: &str = "vehicleIds must be a list of vehicle ids";
    let items = data.field("vehicleIds").and_then(Value::items).ok_or(WRONG)?;
    let mut vehicle_ids = Vec::new();
    for item in items {
        if vehicle_ids.len() == FOLLOW_IDS_MAX {
            return Err("vehicleIds must be at most 10000");
        }
        vehicle_ids.push(item.as_str().filter(|id| is_vehicle_id(id)).ok_or(WRONG)?);
    }
    Ok(Command::Follow { vehicle_ids, terms: terms(data)? })
}

/// Most ids of one list that are read, whatever the configuration allows: about as many as fit a message of 64 KiB.
const FOLLOW_IDS_MAX: usize = 10_000;

fn terms<'i>(data: Value<'_, 'i>) -> Result<Terms<'i>, &'static str> {
    const WRONG: &str = "maxHz must be a number from 0.1 to 50";
    let max_hz = data.field("maxHz").map_or(Ok(None), |value| motion(value, 0.1, WRONG))?;
    if max_hz.is_some_and(|hz| hz > 50.0) {
        return Err(WRONG);
    }
    Ok(Terms { max_hz, auth_token: auth_token(data)? })
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, decode};
    use super::*;
    use crate::wire::tape::Parser;

    /// What a message asks for as it is debugged, or the code and words of its rejection.
    fn asked(event: &str, data: &str) -> String {
        let mut text = format!(r#"{{"event":"{event}","data":{data}}}"#).into_bytes();
        decode(&mut Parser::default(), &mut text, 7, |decoded| match decoded {
            Ok(Decoded { command: Ok(command), kind }) => {
                assert_eq!(kind.name(), event);
                format!("{command:?}")
            }
            Ok(Decoded { command: Err(rejected), .. }) | Err(rejected) => {
                format!("{}: {}", rejected.code.as_str(), rejected.message)
            }
        })
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let unlimited = Terms::default();
        let edges = |south_e7, west_e7, north_e7, east_e7| Some(Edges { south_e7, west_e7, north_e7, east_e7 });
        let view = |edges| format!("{:?}", Command::View { edges, terms: unlimited });
        for (data, edges) in [
            (r#"{}"#, None),
            (r#"{"south":null,"west":null,"north":null,"east":null}"#, None),
            (r#"{"south":30.2,"west":-97.8,"north":30.3,"east":-97.7}"#, {
                edges(302_000_000, -978_000_000, 303_000_000, -977_000_000)
            }),
            (r#"{"south":-90,"west":-180,"north":90,"east":180}"#, {
                edges(-900_000_000, -1_800_000_000, 900_000_000, 1_800_000_000)
            }),
            (r#"{"south":-17,"west":179.5,"north":-16,"east":-179.5,"zoom":7}"#, {
                edges(-170_000_000, 1_795_000_000, -160_000_000, -1_795_000_000)
            }),
            (r#"{"south":0.00000004,"west":0.00000006,"north":0.00000004,"east":0.00000006}"#, edges(0, 1, 0, 1)),
        ] {
            assert_eq!(asked("view", data), view(edges), "{data}");
        }

        let near = |radius_m| format!("{:?}", Command::Near { radius_m, terms: unlimited });
        assert_eq!(asked("near", r#"{"radiusM":1500}"#), near(Some(1500.0)));
        assert_eq!(asked("near", r#"{"radiusM":null}"#), near(None));
        assert_eq!(asked("near", "{}"), near(None));

        let follow = |vehicle_ids| format!("{:?}", Command::Follow { vehicle_ids, terms: unlimited });
        assert_eq!(
            asked("follow", r#"{"vehicleIds":["bus-9","bus-7","bus-9"]}"#),
            follow(vec!["bus-9", "bus-7", "bus-9"])
        );
        assert_eq!(asked("follow", r#"{"vehicleIds":[]}"#), follow(vec![]));

        let terms = Terms { max_hz: Some(0.1), auth_token: Some("abc") };
        for (event, expected) in [
            ("view", Command::View { edges: None, terms }),
            ("near", Command::Near { radius_m: None, terms }),
            ("follow", Command::Follow { vehicle_ids: vec![], terms }),
        ] {
            let data = r#"{"vehicleIds":[],"maxHz":0.1,"authToken":"abc"}"#;
            assert_eq!(asked(event, data), format!("{expected:?}"));
        }
        assert!(asked("view", r#"{"maxHz":50,"authToken":null}"#).contains("Some(50.0), auth_token: None"));
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        for (event, data, field) in [
            ("view", "[]", "data"),
            ("view", r#"{"south":"0","west":0,"north":1,"east":1}"#, "south"),
            ("view", r#"{"south":-90.0000001,"west":0,"north":1,"east":1}"#, "south"),
            ("view", r#"{"south":0,"west":-180.0000001,"north":1,"east":1}"#, "west"),
            ("view", r#"{"south":0,"west":0,"north":91,"east":1}"#, "north"),
            ("view", r#"{"south":0,"west":0,"north":1,"east":1e9}"#, "east"),
            ("view", r#"{"south":2,"west":0,"north":1,"east":1}"#, "south must not be beyond north"),
            ("view", r#"{"south":0,"west":0,"north":1}"#, "south, west, north and east must all be there"),
            ("view", r#"{"east":1}"#, "south, west, north and east must all be there"),
            ("near", r#"{"radiusM":0}"#, "radiusM"),
            ("near", r#"{"radiusM":-1}"#, "radiusM"),
            ("near", r#"{"radiusM":"500"}"#, "radiusM"),
            ("follow", "{}", "vehicleIds"),
            ("follow", r#"{"vehicleIds":null}"#, "vehicleIds"),
            ("follow", r#"{"vehicleIds":"bus-9"}"#, "vehicleIds"),
            ("follow", r#"{"vehicleIds":["bus-9","b"]}"#, "vehicleIds"),
            ("follow", r#"{"vehicleIds":["bus-9",["bus-7"]]}"#, "vehicleIds"),
            ("follow", r#"{"vehicleIds":{"0":"bus-9"}}"#, "vehicleIds"),
            ("view", r#"{"maxHz":0.09}"#, "maxHz"),
            ("near", r#"{"maxHz":50.1}"#, "maxHz"),
            ("follow", r#"{"vehicleIds":[],"maxHz":"1"}"#, "maxHz"),
            ("view", r#"{"authToken":7}"#, "authToken"),
        ] {
            let expected = format!("invalid_view: {field}");
            assert!(asked(event, data).starts_with(&expected), "{event} {data}: {}", asked(event, data));
        }
    }

    #[test]
    fn a_list_has_a_bound() {
        let list = |count: usize| format!(r#"{{"vehicleIds":[{}]}}"#, vec![r#""abc""#; count].join(","));
        assert!(asked("follow", &list(FOLLOW_IDS_MAX)).starts_with("Follow"));
        assert_eq!(asked("follow", &list(FOLLOW_IDS_MAX + 1)), "invalid_view: vehicleIds must be at most 10000");
    }
}
