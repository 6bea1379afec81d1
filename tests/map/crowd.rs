//! Ten thousand vehicles on one screen.

use std::time::Duration;

use crate::alone;
use crate::browser::Browser;
use crate::drive::Drive;
use crate::gateway::Gateway;

/// Ten thousand connections have to be made first, by an unoptimised build on a busy machine.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn ten_thousand_vehicles_are_all_shown() {
    let _alone = alone();
    let gateway = Gateway::start(&["presence.scope=none"]);
    // Two neighbours each: it is the page that is to be busy.
    let _drive = Drive::start(gateway.addr, &["--vehicles", "10000", "--hz", "0.2", "--side", "60000"]);
    let mut browser = Browser::start();
    let mut page = browser.page(1600, 1000);
    page.go(&format!("http://{}/#30.2672,-97.7431,10.20", gateway.addr));
    page.wait_for(
        LONG,
        "window.ringroadMap?.vehicles === 10000 && ringroadMap.watched === 10000 && ringroadMap.complete",
    );
    page.wait("ringroadMap.recordsPerSecond > 100 && ringroadMap.tiered && !ringroadMap.cut");
    let numbers = page.numbers();
    println!("10,000 vehicles: {numbers}");
    assert_eq!(numbers["errors"], 0);
    assert_eq!(page.complaints, Vec::<String>::new());
}
