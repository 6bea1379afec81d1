//! What a client watches, what it has been told of it, and what that must be.

use std::collections::{BTreeMap, BTreeSet};

use ringroad::geo::Place;
use ringroad::geo::distance::metres;
use ringroad::wire::slim;
use ringroad::wire::state::{FLAG_GONE, key};
use serde_json::Value;

use super::plan::VEHICLES;

/// South, west, north and east, 1e-7 degree.
pub type Edges = (i32, i32, i32, i32);

/// How much further than its edge a view reaches for those that are in it, metres.
const MARGIN_M: f64 = 20.0;

/// Of a circle, beyond its radius.
fn exit_m(radius_m: f64) -> f64 {
    (radius_m * 1.1).max(radius_m + MARGIN_M)
}

/// A client's eyes.
#[derive(Default)]
pub struct Eyes {
    pub view: Option<Edges>,
    /// Around its own vehicle, metres.
    pub near_m: Option<f64>,
    pub follows: BTreeSet<usize>,
    /// Vehicles that it has been told of, and where they are.
    held: BTreeMap<usize, (i32, i32)>,
}

impl Eyes {
    /// Takes note of an event, if it is about what is watched.
    pub fn hear(&mut self, event: &Value) -> Result<(), String> {
        let data = &event["data"];
        let vehicle = || data["vehicleId"].as_str()?.strip_prefix("veh-")?.parse::<usize>().ok();
        let e7 = |name: &str| (data[name].as_f64().unwrap_or(f64::NAN) * 1e7).round() as i32;
        match event["event"].as_str() {
            Some("peer_location") => {
                self.held.insert(vehicle().ok_or("who?")?, (e7("lat"), e7("lon")));
                Ok(())
            }
            Some("peer_gone") => self.gone(vehicle().ok_or("who?")?),
            _ => Ok(()),
        }
    }

    /// Likewise of a state frame.
    pub fn hear_frame(&mut self, frame: &[u8]) -> Result<(), String> {
        let keys: BTreeMap<u64, usize> =
            (0..VEHICLES).map(|vehicle| (key(&format!("veh-{vehicle}")), vehicle)).collect();
        let read = slim::states(frame).map_err(|error| format!("{error:?}"))?;
        for state in read.into_iter().flat_map(|(_, states)| states) {
            let vehicle = *keys.get(&state.key).ok_or("who?")?;
            if state.flags & FLAG_GONE != 0 {
                self.gone(vehicle)?;
            } else {
                self.held.insert(vehicle, (state.lat_e7, state.lon_e7));
            }
        }
        Ok(())
    }

    fn gone(&mut self, vehicle: usize) -> Result<(), String> {
        let held = self.held.remove(&vehicle);
        held.map(drop).ok_or_else(|| format!("vehicle {vehicle} has gone, and was not there"))
    }

    /// Whether a place must be seen, and whether it may be.
    fn sees(&self, vehicle: usize, place: Place, own: Option<Place>) -> (bool, bool) {
        let (mut must, mut may) = (self.follows.contains(&vehicle), self.follows.contains(&vehicle));
        if let Some((south, west, north, east)) = self.view {
            let box_of = |(south, west, north, east)| ringroad::geo::Bounds::from_e7(south, west, north, east);
            let bounds = box_of((south, west, north, east)).expect("a view is a box");
            must |= bounds.contains(place);
            may |= bounds.widened(MARGIN_M).contains(place);
        }
        if let (Some(radius_m), Some(own)) = (self.near_m, own) {
            must |= metres(own, place) <= radius_m;
            may |= metres(own, place) <= exit_m(radius_m);
        }
        (must, may)
    }

    /// Compares what is held with where everyone is. `own`: its vehicle, and where that is.
    pub fn check(&self, vehicles: &BTreeMap<usize, Option<Place>>, own: Option<(usize, Place)>) -> Result<(), String> {
        for (vehicle, place) in vehicles.iter().filter(|(vehicle, _)| own.is_none_or(|(own, _)| own != **vehicle)) {
            let held = self.held.get(vehicle).map(|(lat, lon)| Place::from_e7(*lat, *lon));
            let Some(place) = *place else { continue };
            let (must, may) = self.sees(*vehicle, place, own.map(|(_, place)| place));
            match held {
                None if must => return Err(format!("does not see vehicle {vehicle}")),
                Some(_) if !may => return Err(format!("still sees vehicle {vehicle}")),
                Some(held) if held != place => return Err(format!("sees vehicle {vehicle} where it is not")),
                _ => {}
            }
        }
        let ghost = self.held.keys().find(|vehicle| !vehicles.contains_key(vehicle));
        ghost.map_or(Ok(()), |vehicle| Err(format!("sees vehicle {vehicle}, which is not there")))
    }
}
