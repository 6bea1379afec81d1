//! The live map that `GET /` gives a browser: one page of a few ES modules, in the binary, which needs nothing but the
//! gateway (and a host of tiles, if the operator names one).
//!
//! `map.js` puts it together. `feed.js` has the connection, through the client of `clients/js`; `fleet.js` what moves,
//! `raster.js` pixels, `ground.js` and `overlay.js` what lies below and above, `camera.js` and `gestures.js` where one
//! looks, `panel.js` the words beside it; `mercator.js` is their geography, `measure.js` their statistics.

use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::wire::text::write_string;

/// Content type of the page itself, which is the only one that brings a policy.
pub const HTML: &str = "text/html; charset=utf-8";

/// What the page asks for once: [`settings`].
pub const SETTINGS_PATH: &str = "/map.json";

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Path of the request.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// What it says.
    pub bytes: &'static [u8],
}

const fn file(path: &'static str, content_type: &'static str, bytes: &'static [u8]) -> File {
    File { path, content_type, bytes }
}

/// All of them.
pub const FILES: &[File] = &[
    file("/", HTML, include_bytes!("index.html")),
    file("/map.css", CSS, include_bytes!("map.css")),
    file("/map.js", JAVASCRIPT, include_bytes!("map.js")),
    file("/map/camera.js", JAVASCRIPT, include_bytes!("camera.js")),
    file("/map/feed.js", JAVASCRIPT, include_bytes!("feed.js")),
    file("/map/fleet.js", JAVASCRIPT, include_bytes!("fleet.js")),
    file("/map/gestures.js", JAVASCRIPT, include_bytes!("gestures.js")),
    file("/map/ground.js", JAVASCRIPT, include_bytes!("ground.js")),
    file("/map/measure.js", JAVASCRIPT, include_bytes!("measure.js")),
    file("/map/mercator.js", JAVASCRIPT, include_bytes!("mercator.js")),
    file("/map/overlay.js", JAVASCRIPT, include_bytes!("overlay.js")),
    file("/map/panel.js", JAVASCRIPT, include_bytes!("panel.js")),
    file("/map/raster.js", JAVASCRIPT, include_bytes!("raster.js")),
    file("/ringroad.js", JAVASCRIPT, include_bytes!("../../clients/js/ringroad.js")),
];

/// The file at a path.
pub fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// The entity tag of a file: the same bytes have the same one on every host and in every run.
pub fn tag(bytes: &[u8]) -> String {
    format!("\"{:016x}\"", xxh3_64(bytes))
}

/// What the page may load: its own files, its own gateway (`'self'` includes its WebSocket), and tiles.
pub fn policy(tile_url: &str) -> String {
    // A path of tiles is the gateway's own host, behind a proxy that has them.
    let tiles = tile_url.match_indices('/').nth(2).filter(|_| !tile_url.starts_with('/'));
    let tiles = tiles.and_then(|(end, _)| tile_url.get(..end)).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: {tiles}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
}

/// What the page has to know of the configuration, as JSON.
pub fn settings(config: &Config) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = |name: &str, value: &str| {
        out.extend_from_slice(if out.is_empty() { b"{" } else { b"," });
        write_string(&mut out, name);
        out.push(b':');
        write_string(&mut out, value);
    };
    text("version", env!("CARGO_PKG_VERSION"));
    text("path", &config.server.path);
    text("tileUrl", &config.map.tile_url);
    text("tileAttribution", &config.map.tile_attribution);
    let numbers = [
        ("radiusM", config.vehicles.nearby_radius_m),
        ("areaKm2Max", config.viewers.area_km2_max),
        ("vehiclesMax", config.viewers.vehicles_max.into()),
        ("nearest", config.viewers.nearest.into()),
        ("restMs", config.viewers.rest_ms as f64),
    ];
    for (name, value) in numbers {
        out.push(b',');
        write_string(&mut out, name);
        out.extend_from_slice(format!(":{value}").as_bytes());
    }
    out.push(b'}');
    out
}
