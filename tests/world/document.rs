//! The conversation in `docs/PROTOCOL.md`, section 1, is one that takes place, to the letter.

use ringroad::config::Config;
use ringroad::sim::{ClientId, World};

const PROTOCOL: &str = include_str!("../../docs/PROTOCOL.md");

#[test]
fn the_example_is_what_is_said() {
    let example = PROTOCOL.split("```\n").nth(1).expect("the first block of the document");
    let mut world = World::new(1, Config::default());
    let noon = world.now().unix_ms;

    // Another bus is there already, and moves at the end.
    let other = world.connect(0);
    let moved = |world: &mut World, lat: &str| {
        let data = format!(r#"{{"vehicleId":"bus-9","lat":{lat},"lon":-97.7425,"speed":6.7}}"#);
        world.send(other, &format!(r#"{{"event":"location_update","data":{data}}}"#));
    };
    let info = r#"{"model":"eCitaro","color":"red"}"#;
    let data = format!(r#"{{"vehicleId":"bus-9","driverName":"Grace","vehicleInfo":{info}}}"#);
    world.send(other, &format!(r#"{{"event":"register","data":{data}}}"#));
    moved(&mut world, "30.2688");

    let bus = world.connect(0);
    let mut said = hear(&mut world, bus);
    for line in example.lines().filter_map(|line| line.strip_prefix("> ")) {
        if line.contains("location_update") {
            world.advance(noon + 120 - world.now().unix_ms);
        }
        world.send(bus, line);
        said += &format!("> {line}\n{}", hear(&mut world, bus));
    }
    world.advance(noon + 318 - world.now().unix_ms);
    said += &hear(&mut world, bus);
    moved(&mut world, "30.2689");
    said += &hear(&mut world, bus);
    assert!(said == example, "what is said is\n{said}");
}

fn hear(world: &mut World, client: ClientId) -> String {
    world.take(client).iter().map(|text| format!("< {text}\n")).collect()
}
