//! Plain HTTP on the same port: health, metrics, who is there, and the live map.

use crate::page;
use crate::turn::{ConnId, Now, ShardId};
use crate::wire::host;
use crate::wire::text::{write_decimal, write_string, write_u64};
use crate::wire::upgrade::{self, Plain};

use super::Shard;
use super::auth::Asked;
use super::close::{CloseReason, Refused};
use super::conns::Phase;
use super::gather::Listing;
use super::vehicles::Vehicle;
use super::world::WorldId;

const NOT_FOUND: &[u8] = br#"{"error":"not_found"}"#;

impl Shard {
    /// Answers a request for all shards of this host.
    pub(super) fn answer(&mut self, now: Now, id: ConnId, request: &Plain<'_>) {
        let (origin, head_only) = (request.origin, request.head_only);
        match request.method {
            "GET" | "HEAD" => {}
            "OPTIONS" => {
                let mut headers = self.cors(id, origin);
                headers.push(("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS".into()));
                headers.push(("Access-Control-Allow-Headers", "Authorization, Content-Type".into()));
                self.send_reply(now, id, 204, "text/plain", &headers, false, b"");
                return;
            }
            _ => {
                let headers = [("Allow", "GET, HEAD, OPTIONS".to_owned())];
                let body = br#"{"error":"method_not_allowed"}"#;
                self.send_reply(now, id, 405, "application/json", &headers, false, body);
                return;
            }
        }
        if self.config.map.enabled && self.page(now, id, request) {
            return;
        }
        match request.path {
            "/health" => self.health(now, id, origin, head_only),
            "/metrics" => self.list(now, id, request, Listing::Metrics),
            "/presence" => self.list(now, id, request, Listing::Presence),
            "/vehicles" => self.list(now, id, request, Listing::Vehicles),
            path => {
                if let Some(vehicle_id) = path.strip_prefix("/vehicles/") {
                    let Some(world) = self.visit(now, id, request, Asked::Listing) else { return };
                    let vehicles = &self.worlds[world].vehicles;
                    let mut body = Vec::new();
                    match vehicles.by_id(vehicle_id).map(|index| write_vehicle(&mut body, vehicles.at(index))) {
                        Some(()) => self.reply(now, id, 200, origin, head_only, &body),
                        None => self.reply(now, id, 404, origin, head_only, NOT_FOUND),
                    }
                } else if path == self.config.server.path {
                    // RFC 9110, section 7.8: who sends Upgrade "MUST also send an "Upgrade" connection option".
                    let headers = [("Connection", "Upgrade".to_owned()), ("Upgrade", "websocket".to_owned())];
                    let body = br#"{"error":"upgrade_required"}"#;
                    self.send_reply(now, id, 426, "application/json", &headers, head_only, body);
                } else {
                    self.reply(now, id, 404, origin, head_only, NOT_FOUND);
                }
            }
        }
    }

    /// Begins a listing for whoever may have it.
    fn list(&mut self, now: Now, id: ConnId, request: &Plain<'_>, listing: Listing) {
        let asked = if listing == Listing::Metrics { Asked::Metrics } else { Asked::Listing };
        if let Some(world) = self.visit(now, id, request, asked) {
            self.gather(now, id, (world, listing), request.head_only, self.cors(id, request.origin));
        }
    }

    /// Answers with a file of the live map; false if the path is none.
    fn page(&mut self, now: Now, id: ConnId, request: &Plain<'_>) -> bool {
        // The rest of it is the same for everybody, and a browser asks for it without a token.
        let guarded = request.path == "/" || request.path == page::SETTINGS_PATH;
        if guarded && self.visit(now, id, request, Asked::Page).is_none() {
            return true;
        }
        let settings;
        let (content_type, body) = match page::find(request.path) {
            Some(file) => (file.content_type, file.bytes),
            None if request.path == page::SETTINGS_PATH => {
                settings = page::settings(&self.config);
                ("application/json", settings.as_slice())
            }
            None => return false,
        };
        let tag = page::tag(body);
        let status = if request.has(&tag) { 304 } else { 200 };
        let mut headers = self.cors(id, request.origin);
        headers.push(("ETag", tag));
        // A newer gateway has a newer page: ask each time, and be told mostly that nothing has changed.
        headers.push(("Cache-Control", "no-cache".to_owned()));
        headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
        if content_type == page::HTML {
            headers.push(("Content-Security-Policy", page::policy(&self.config.map.tile_url)));
            // The page's own address may have a token in it, which no host of tiles should see.
            headers.push(("Referrer-Policy", "strict-origin".to_owned()));
        }
        let head_only = request.head_only || status == 304;
        self.send_reply(now, id, status, content_type, &headers, head_only, body);
        true
    }

    fn health(&mut self, now: Now, id: ConnId, origin: Option<&str>, head_only: bool) {
        let mut body = Vec::new();
        let status = if self.is_leaving() { "draining" } else { "ok" };
        body.extend_from_slice(b"{\"status\":");
        write_string(&mut body, status);
        // How many the others have is none of a tenant's business.
        if !self.auth.has_tenants() {
            body.extend_from_slice(b",\"vehicles\":");
            write_u64(&mut body, self.worlds[WorldId::default()].vehicles.len() as u64);
        }
        body.extend_from_slice(b",\"redis\":");
        let redis = self.bus.as_ref().map_or("disabled", |bus| if bus.is_up() { "up" } else { "down" });
        write_string(&mut body, redis);
        body.extend_from_slice(b",\"version\":");
        write_string(&mut body, env!("CARGO_PKG_VERSION"));
        body.extend_from_slice(b",\"timestamp\":");
        write_u64(&mut body, now.unix_ms);
        body.push(b'}');
        let code = if self.is_leaving() { 503 } else { 200 };
        self.reply(now, id, code, origin, head_only, &body);
    }

    /// The vehicles that this shard lists: its own, and worker 0 those of other hosts too.
    pub(super) fn listed(&self, world: WorldId) -> impl Iterator<Item = &Vehicle> {
        let (steward, node) = (self.is_here(ShardId(0)), self.node.key);
        let vehicles = self.worlds[world].vehicles.iter().map(|(_, vehicle)| vehicle);
        vehicles.filter(move |vehicle| vehicle.driving().is_some() || (steward && vehicle.epoch.node != node))
    }

    /// The vehicles that this shard lists, as the members of a JSON array.
    pub(super) fn vehicles_part(&self, world: WorldId) -> Vec<u8> {
        let mut out = Vec::new();
        for vehicle in self.listed(world) {
            separate(&mut out);
            write_vehicle(&mut out, vehicle);
        }
        out
    }

    /// When the vehicles that this shard lists last said something, as the members of a JSON array.
    pub(super) fn presence_part(&self, now: Now, world: WorldId) -> Vec<u8> {
        let mut out = Vec::new();
        for vehicle in self.listed(world) {
            let ago_ms = match vehicle.driving().and_then(|driving| self.out.conns.peek(driving.conn)) {
                Some(conn) => now.mono_ms - conn.heard_ms.min(now.mono_ms),
                // On another host: what was heard of it here.
                None => {
                    let moved_ms = vehicle.position.map_or(0, |position| position.updated_unix_ms);
                    now.unix_ms.saturating_sub(moved_ms.max(vehicle.identity.connected_ms))
                }
            };
            separate(&mut out);
            out.extend_from_slice(b"{\"vehicleId\":");
            write_string(&mut out, &vehicle.identity.vehicle_id);
            out.extend_from_slice(b",\"lastHeartbeat\":");
            write_u64(&mut out, now.unix_ms.saturating_sub(ago_ms));
            out.extend_from_slice(b",\"lastSeenMsAgo\":");
            write_u64(&mut out, ago_ms);
            out.extend_from_slice(b",\"geohash\":");
            match vehicle.position {
                Some(position) => write_string(&mut out, &crate::geo::cells::geohash(position.place, 7)),
                None => out.extend_from_slice(b"null"),
            }
            out.push(b'}');
        }
        out
    }

    /// Whether the private address is asked under a name that is its own; if not, that has been answered. Without a
    /// `Host` it is no browser that asks.
    pub(super) fn host_is_known(&mut self, now: Now, id: ConnId, host: Option<&str>, head_only: bool) -> bool {
        let private = self.out.conns.peek(id).is_some_and(|conn| conn.private);
        if !private || host.is_none_or(|host| host::is_known(host, &self.config.server.private_hosts)) {
            return true;
        }
        self.out.counters.refused.increment(Refused::Host);
        let body = br#"{"error":"unknown_host","message":"ask by address, or name this host in server.private_hosts"}"#;
        // RFC 9110, section 15.5.20: "unwilling or unable to produce an authoritative response for the target URI".
        self.send_reply(now, id, 421, "application/json", &[], head_only, body);
        false
    }

    /// Which pages may read the answer.
    pub(super) fn cors(&self, id: ConnId, origin: Option<&str>) -> Vec<(&'static str, String)> {
        // A page that an operator has open elsewhere must not read what only needs to be asked from here.
        if self.out.conns.peek(id).is_some_and(|conn| conn.private) {
            return Vec::new();
        }
        if self.config.server.allowed_origins.is_empty() {
            return vec![("Access-Control-Allow-Origin", "*".into())];
        }
        let mut headers = vec![("Vary", "Origin".to_owned())];
        if let Some(origin) = origin
            && self.origin_is_allowed(Some(origin))
        {
            headers.push(("Access-Control-Allow-Origin", origin.into()));
        }
        headers
    }

    /// Sends a JSON reply and ends the connection.
    pub(super) fn reply(
        &mut self,
        now: Now,
        id: ConnId,
        status: u16,
        origin: Option<&str>,
        head_only: bool,
        body: &[u8],
    ) {
        let headers = self.cors(id, origin);
        self.send_reply(now, id, status, "application/json", &headers, head_only, body);
    }

    #[expect(clippy::too_many_arguments, reason = "an HTTP reply has this many parts")]
    pub(super) fn send_reply(
        &mut self,
        now: Now,
        id: ConnId,
        status: u16,
        content_type: &str,
        headers: &[(&str, String)],
        head_only: bool,
        body: &[u8],
    ) {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.out.bytes(id, |out| upgrade::reply(out, status, content_type, &headers, head_only, body));
        if let Some(conn) = self.out.conns.find(id)
            && !matches!(conn.phase, Phase::Closing)
        {
            self.out.finish(now, id, CloseReason::Http);
        }
    }
}

/// Puts a comma behind what is there.
pub(super) fn separate(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
}

fn write_vehicle(out: &mut Vec<u8>, vehicle: &Vehicle) {
    let identity = &vehicle.identity;
    out.extend_from_slice(b"{\"vehicleId\":");
    write_string(out, &identity.vehicle_id);
    out.extend_from_slice(b",\"driverName\":");
    write_string(out, &identity.driver_name);
    out.extend_from_slice(b",\"vehicleInfo\":");
    identity.write_info(out);
    out.extend_from_slice(b",\"location\":");
    match &vehicle.position {
        Some(position) => {
            let state = position.sample.state();
            out.extend_from_slice(b"{\"lat\":");
            write_decimal(out, state.lat_e7.into(), 7);
            out.extend_from_slice(b",\"lon\":");
            write_decimal(out, state.lon_e7.into(), 7);
            out.extend_from_slice(b",\"updatedAt\":");
            write_u64(out, position.updated_unix_ms);
            out.push(b'}');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"connectedAt\":");
    write_u64(out, identity.connected_ms);
    out.push(b'}');
}
