//! What one sees and does: vehicles, panning, zooming, a chosen vehicle, an alert.

use std::fs;

use serde_json::{Value, json};

use crate::alone;
use crate::browser::Browser;
use crate::client::Client;
use crate::devtools::Page;
use crate::drive::Drive;
use crate::gateway::Gateway;
use crate::{PATIENCE, until};

const VEHICLES: usize = 300;
const WIDTH: f64 = 1280.0;
const HEIGHT: f64 = 800.0;

/// Colours of arrows by their speed, as in `src/page/fleet.js`: what a fleet at 3 to 20 m/s has.
const ARROWS: [[u8; 3]; 3] = [[255, 178, 74], [69, 214, 154], [82, 182, 255]];

/// How many vehicles the gateway lists with a place: the page begins where they are.
fn placed(gateway: &Gateway) -> usize {
    let listing = gateway.get("/vehicles").json();
    listing["vehicles"].as_array().expect("a list").iter().filter(|vehicle| vehicle["location"].is_object()).count()
}

/// A page that shows the map, and has shown it without a complaint when it is looked at again by [`silent`].
fn map(browser: &mut Browser, gateway: &Gateway, rest: &str) -> Page {
    let mut page = browser.page(WIDTH as u32, HEIGHT as u32);
    page.go(&format!("http://{}/{rest}", gateway.addr));
    page.wait("typeof window.ringroadMap === 'object'");
    page
}

fn silent(page: &mut Page) {
    assert_eq!(page.numbers()["errors"], 0, "{}", page.numbers());
    assert_eq!(page.complaints, Vec::<String>::new());
}

/// An edge of what is watched, degrees.
fn edge(numbers: &Value, name: &str) -> f64 {
    numbers["view"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {numbers}"))
}

#[test]
fn the_map_shows_the_fleet_and_follows_hands() {
    let _alone = alone();
    let gateway = Gateway::start(&[]);
    let _drive = Drive::start(gateway.addr, &["--vehicles", "300", "--hz", "2", "--side", "4000"]);
    until("every vehicle has said where it is", || placed(&gateway) == VEHICLES);
    let mut browser = Browser::start();
    let mut page = map(&mut browser, &gateway, "");

    page.wait("ringroadMap.vehicles === 300 && ringroadMap.watched === 300 && ringroadMap.complete");
    page.wait(
        "ringroadMap.recordsPerSecond > 100 && ringroadMap.latencyP50 !== null && ringroadMap.framesPerSecond > 0",
    );
    page.wait("document.getElementById('count').textContent === '300'");
    page.wait("document.getElementById('link').dataset.state === 'open'");
    let numbers = page.numbers();
    let (p50, p99) = (numbers["latencyP50"].as_f64().expect("p50"), numbers["latencyP99"].as_f64().expect("p99"));
    assert!(p50 <= p99 && p99 < 60_000.0, "{numbers}");

    // The arrows are drawn, not only counted.
    let colours = {
        let png = page.photograph();
        page.count_colours(&png, &ARROWS)
    };
    assert!(colours.iter().all(|count| *count > 300), "{colours:?}");

    // A drag moves the map, and the view with it; some vehicles are out of sight then, and all of them after another.
    let before = page.numbers();
    page.drag((900.0, 400.0), (400.0, 400.0));
    page.wait("ringroadMap.vehicles > 0 && ringroadMap.vehicles < 300");
    let width = edge(&before, "east") - edge(&before, "west");
    // The view is wider than the screen by 15 % on both sides.
    let west = edge(&before, "west") + width / 1.3 * 500.0 / WIDTH;
    page.wait(&format!("Math.abs(ringroadMap.view.west - {west}) < {}", width * 0.01));
    let after = page.numbers();
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{after}");
    assert_eq!(edge(&after, "north"), edge(&before, "north"));
    page.drag((1200.0, 400.0), (100.0, 400.0));
    page.wait("ringroadMap.vehicles === 0 && ringroadMap.watched < 300");
    page.drag((100.0, 400.0), (1200.0, 400.0));
    page.drag((400.0, 400.0), (900.0, 400.0));
    page.wait("ringroadMap.vehicles === 300 && ringroadMap.watched === 300");

    // The wheel zooms in to what is under it, and out until there is too much to be shown.
    page.wheel(640.0, 400.0, -600.0);
    page.wait(&format!("Math.abs(ringroadMap.view.east - ringroadMap.view.west - {}) < 1e-6", width / 4.0));
    page.wait("ringroadMap.vehicles > 0 && ringroadMap.vehicles < 150");
    page.wheel(640.0, 400.0, 3_000.0);
    page.wait("ringroadMap.vehicles === null && ringroadMap.view === null && ringroadMap.watched === 0");
    page.wait("document.getElementById('notice').textContent === 'Zoom in to see vehicles'");
    page.wait("!document.getElementById('notice').hidden");
    page.click_on("#fit");
    page.wait("ringroadMap.vehicles === 300 && document.getElementById('notice').hidden");

    // The address is a link to this place.
    let zoom = format!("Math.log2(360 * {WIDTH} * 1.3 / 256 / (ringroadMap.view.east - ringroadMap.view.west))");
    page.wait(&format!("Math.abs(location.hash.split(',')[2] - {zoom}) < 0.01"));
    let link = page.value("location.hash");
    let mut again = map(&mut browser, &gateway, link.as_str().expect("text"));
    again.wait("ringroadMap.vehicles === 300");
    silent(&mut again);
    silent(&mut page);
}

/// A bus that stands, says that it drives, and calls for help.
fn bus(gateway: &Gateway) -> Client {
    let mut bus = Client::connect(gateway.addr);
    bus.id = "bus-7".into();
    let info = json!({"model": "Citaro", "color": "white", "licensePlate": "M 7"});
    bus.send("register", json!({"vehicleId": "bus-7", "driverName": "Ada", "vehicleInfo": info}));
    bus.expect("registered");
    drive_on(&mut bus, 48.137154);
    bus
}

fn drive_on(bus: &mut Client, lat: f64) {
    let place =
        json!({"vehicleId": "bus-7", "lat": lat, "lon": 11.576124, "speed": 12.5, "heading": 91.0, "accuracy": 3});
    bus.send("location_update", place);
}

#[test]
fn a_chosen_vehicle_has_a_card_and_can_be_followed() {
    let _alone = alone();
    let gateway = Gateway::start(&[]);
    let mut bus = bus(&gateway);
    let mut browser = Browser::start();
    let mut page = map(&mut browser, &gateway, "#48.13715,11.57612,16.00");
    page.wait("ringroadMap.vehicles === 1 && ringroadMap.complete");

    page.click(WIDTH / 2.0, HEIGHT / 2.0);
    let card = |page: &mut Page, id: &str, expected: &str| {
        page.wait(&format!("document.getElementById('vehicle-{id}').textContent === '{expected}'"));
    };
    for (id, expected) in [
        ("id", "bus-7"),
        ("driver", "Ada"),
        ("speed", "45"),
        ("heading", "91° E"),
        ("accuracy", "3.0 m"),
        ("near", "0"),
        ("position", "48.13715° N, 11.57612° E"),
        ("info", "Citaro · white · M 7"),
    ] {
        card(&mut page, id, expected);
    }

    // Somebody comes near.
    let mut other = Client::connect(gateway.addr).register("bus-8");
    other.locate(48.1373, 11.5765);
    card(&mut page, "near", "1");
    other.goodbye();
    card(&mut page, "near", "0");
    page.wait("ringroadMap.watched === 1");

    // It is kept in the middle, far beyond the first view.
    page.click_on("#vehicle-follow");
    page.wait("document.getElementById('vehicle-follow').getAttribute('aria-pressed') === 'true'");
    let before = page.numbers();
    drive_on(&mut bus, 48.5);
    page.wait(&format!("ringroadMap.view.south > {}", edge(&before, "north")));
    page.wait("ringroadMap.vehicles === 1 && location.hash.startsWith('#48.50000,11.57612')");
    card(&mut page, "position", "48.50000° N, 11.57612° E");

    // An alert is listed once, with its sender ringed and in red.
    bus.send("emergency_alert", json!({"senderId": "bus-7"}));
    bus.expect("emergency_alert");
    page.wait("document.querySelectorAll('#alerts li').length === 1 && !document.getElementById('alerts').hidden");
    let listed = page.value("document.querySelector('#alerts li').textContent");
    assert!(listed.as_str().is_some_and(|text| text.starts_with("bus-7") && text.ends_with("Ada")), "{listed}");
    drive_on(&mut bus, 48.50001);
    until("the arrow is red", || {
        let png = page.photograph();
        page.count_colours(&png, &[[255, 77, 94]])[0] > 60
    });

    // Gone, its card says so; and one can look away.
    bus.goodbye();
    card(&mut page, "updated", "gone");
    page.wait("ringroadMap.watched === 0");
    page.click_on("#vehicle-close");
    page.wait("document.getElementById('vehicle').hidden");
    silent(&mut page);
}

#[test]
fn the_antimeridian_is_no_border() {
    let _alone = alone();
    let gateway = Gateway::start(&[]);
    let mut vehicles = [("west", 179.998), ("east", -179.998)].map(|(id, lon)| {
        let mut vehicle = Client::connect(gateway.addr).register(id);
        vehicle.locate(-17.0, lon);
        vehicle
    });
    let mut browser = Browser::start();
    // Without a link the page finds them: the short way around.
    let mut page = map(&mut browser, &gateway, "");
    page.wait("ringroadMap.vehicles === 2 && ringroadMap.view.west > 179 && ringroadMap.view.east < -179");
    // A drag over it, and back; they drive on meanwhile.
    page.drag((300.0, 600.0), (900.0, 600.0));
    page.wait("ringroadMap.vehicles === 1");
    page.drag((900.0, 600.0), (300.0, 600.0));
    vehicles[0].locate(-17.0, -179.9985);
    page.wait("ringroadMap.vehicles === 2");
    silent(&mut page);
}

#[test]
fn the_page_comes_back_when_the_gateway_does() {
    let _alone = alone();
    let first = Gateway::start(&[]);
    let addr = first.addr;
    let bus_before = bus(&first);
    let mut browser = Browser::start();
    let mut page = map(&mut browser, &first, "#48.13715,11.57612,16.00");
    page.wait("ringroadMap.vehicles === 1");
    first.crash();
    drop(bus_before);
    page.wait("ringroadMap.watched === 0 && document.getElementById('link').dataset.state !== 'open'");
    let second = Gateway::listen(&addr.to_string(), &[]);
    let _bus = bus(&second);
    page.wait("ringroadMap.vehicles === 1 && document.getElementById('link').dataset.state === 'open'");
    // The browser itself logs the attempts that failed; nothing else.
    let other = page.complaints.iter().filter(|complaint| !complaint.contains("ERR_CONNECTION_REFUSED"));
    assert_eq!(other.count(), 0, "{:?}", page.complaints);
}

#[test]
fn a_view_that_needs_a_token_takes_it_from_the_address() {
    let _alone = alone();
    let settings = ["auth.required=true", "auth.secret=a secret of thirty-two bytes or so", "auth.leeway_ms=0"];
    let gateway = Gateway::start(&settings);
    for target in ["/", "/?token=nonsense", "/map.json"] {
        assert_eq!(gateway.get(target).status, 401, "{target}");
    }
    let mut browser = Browser::start();
    let token = |exp: u64| {
        let key = jsonwebtoken::EncodingKey::from_secret(b"a secret of thirty-two bytes or so");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &json!({ "exp": exp }), &key).expect("a token")
    };
    let rest = |exp: u64| format!("?token={}#48.13715,11.57612,16.00", token(exp));
    // Long enough for the page to load; then the connection ends, and the next one is refused.
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let mut page = map(&mut browser, &gateway, &rest(now_s + 8));
    page.wait("document.getElementById('link').textContent === 'Needs a valid token'");
    assert!(page.numbers()["lastError"].as_str().is_some_and(|error| error.starts_with("auth_failed")));

    let mut page = map(&mut browser, &gateway, &rest(4_102_444_800));
    page.wait("ringroadMap.complete && document.getElementById('link').dataset.state === 'open'");
    silent(&mut page);
}

/// Trails can be seen, and switched off. With `RINGROAD_SCREENSHOT` set it drives on for a while and draws
/// `docs/map.png`.
#[test]
fn trails_lie_behind_a_citys_buses() {
    let _alone = alone();
    let gateway = Gateway::start(&[]);
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/data/austin-hour.csv.gz");
    let _drive = Drive::start(gateway.addr, &["--trace", trace, "--speedup", "10", "--hz", "2"]);
    until("a hundred buses have said where they are", || placed(&gateway) > 100);
    let mut browser = Browser::start();
    let mut page = map(&mut browser, &gateway, "#30.26720,-97.74310,13.40");
    let is_drawn = std::env::var_os("RINGROAD_SCREENSHOT").is_some();
    if is_drawn {
        draw(&gateway, &mut page);
    }
    page.wait("ringroadMap.vehicles > 50");

    // Pixels of the layer of vehicles that are neither empty nor as strong as an arrow, per vehicle: an arrow's edge has
    // some 25.
    let faint = "(() => {
        const canvas = document.getElementById('vehicles');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let at = 3; at < pixels.length; at += 4) if (pixels[at] > 0 && pixels[at] <= 150) count += 1;
        return count / ringroadMap.vehicles;
    })()";
    until("trails are drawn", || page.value(faint).as_f64().is_some_and(|pixels| pixels > 45.0));
    page.click_on("#trails");
    until("trails are gone", || page.value(faint).as_f64().is_some_and(|pixels| pixels < 35.0));
    page.click_on("#trails");
    until("trails are back", || page.value(faint).as_f64().is_some_and(|pixels| pixels > 45.0));
    silent(&mut page);
}

fn draw(gateway: &Gateway, page: &mut Page) {
    let drive = |client: &mut Client, lat: f64, lon: f64, heading: f64| {
        let place = json!({"vehicleId": client.id, "lat": lat, "lon": lon, "heading": heading, "speed": 8.6});
        client.send("location_update", place);
    };
    let mut seven = Client::connect(gateway.addr);
    seven.id = "bus-7".into();
    let info = json!({"model": "Citaro", "color": "white"});
    seven.send("register", json!({"vehicleId": "bus-7", "driverName": "Ada", "vehicleInfo": info}));
    let mut nine = Client::connect(gateway.addr);
    nine.id = "bus-9".into();
    nine.send("register", json!({"vehicleId": "bus-9", "driverName": "Grace"}));
    drive(&mut seven, 30.267, -97.7432, 18.0);
    drive(&mut nine, 30.2542, -97.7213, 205.0);
    page.wait_for(PATIENCE * 3, "performance.now() > 40_000");
    nine.send("emergency_alert", json!({"senderId": "bus-9"}));
    drive(&mut nine, 30.2541, -97.72134, 205.0);
    drive(&mut seven, 30.2672, -97.7431, 18.0);
    page.click(WIDTH / 2.0, HEIGHT / 2.0);
    page.wait("!document.getElementById('vehicle').hidden && !document.getElementById('alerts').hidden");
    page.wait("document.getElementById('vehicle-updated').textContent === 'now'");
    let png = page.photograph();
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/map.png"), png).expect("written");
}
