//! The live map in a real browser: the real binary serves it, `ringroad drive` fills it, and hands move it.

mod browser;
mod devtools;
mod drive;

// The tests of one gateway use more of them.
#[allow(dead_code)]
#[path = "../it/certificates.rs"]
mod certificates;
#[allow(dead_code)]
#[path = "../it/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../it/gateway.rs"]
mod gateway;
#[path = "../it/patience.rs"]
mod patience;

mod crowd;
mod encrypted;
mod map;

use std::sync::{Mutex, MutexGuard};

use patience::{PATIENCE, until};

/// One browser at a time: each is as busy as the machine lets it be.
fn alone() -> MutexGuard<'static, ()> {
    static BROWSER: Mutex<()> = Mutex::new(());
    // A test that failed has ended its browser, too.
    BROWSER.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
