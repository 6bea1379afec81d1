//! Who may do what on this shard, by their tokens, and for how long.
//!
//! Where tokens are required, a connection is in the *lobby* until it has shown one: a world in which nothing happens.
//! With a token it enters the world of its tenant, or the default one, and stays in it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::auth::{Grant, Keys, Rules, TokenFault};
use crate::config;
use crate::limits;
use crate::turn::{ConnId, Now, ShardId};
use crate::wire::error::ErrorCode;
use crate::wire::event::{Event, Status};
use crate::wire::upgrade::{self, Plain};

use super::close::CloseReason;
use super::conns::Phase;
use super::world::WorldId;
use super::{Shard, Timer};

/// This shard's doorkeeper.
pub struct Auth {
    required: bool,
    rules: Rules,
    keys: Arc<Keys>,
    /// What the connections that have shown a token may do.
    passports: FxHashMap<ConnId, Passport>,
}

/// What a connection may do, and what it has been told about that.
struct Passport {
    grant: Grant,
    /// It knows that its token ends soon.
    warned: bool,
    /// When (`mono_ms`) the token is to be looked at next. Timers of another time are of a former token.
    due_ms: u64,
}

/// What somebody wants to do who is connected.
#[derive(Clone, Copy, Debug)]
pub enum Wants<'a> {
    /// Be there and listen.
    Enter,
    /// Register as this vehicle.
    Register(&'a str),
    /// Change what it watches.
    Watch,
}

impl Auth {
    pub fn new(config: &config::Auth) -> Self {
        Auth {
            required: config.required,
            rules: Rules::new(config),
            keys: Arc::new(Keys::of_secret(&config.secret)),
            passports: FxHashMap::default(),
        }
    }

    /// What tokens must say from now on. Who is required to show one, and the tenants, are those of the start.
    pub fn configure(&mut self, config: &config::Auth) {
        self.rules = Rules::new(config);
    }

    /// Whether each tenant has a world.
    pub fn has_tenants(&self) -> bool {
        self.rules.has_tenants()
    }

    /// Where a connection begins.
    pub fn first_world(&self) -> WorldId {
        if self.required { WorldId::LOBBY } else { WorldId::default() }
    }

    /// The world that a token is for. A client belongs to a tenant where there are any.
    fn world_of(&self, grant: &Grant) -> Result<WorldId, TokenFault> {
        match grant.tenant {
            Some(tenant) => Ok(WorldId::of_tenant(tenant)),
            None if self.has_tenants() => Err(TokenFault::Tenant),
            None => Ok(WorldId::default()),
        }
    }

    /// A connection is gone.
    pub fn conn_ends(&mut self, id: ConnId) {
        self.passports.remove(&id);
    }
}

impl Shard {
    /// Tokens are checked with these from now on.
    pub fn with_keys(mut self, keys: Arc<Keys>) -> Self {
        self.auth.keys = keys;
        self
    }

    /// There are new keys, or there should be. Every worker hears of it, and one counts. Who is here by a key that is no
    /// longer among them has to show another token.
    pub(super) fn keys_changed(&mut self, now: Now, keys: Option<Arc<Keys>>) {
        let counts = u64::from(self.is_here(ShardId(0)));
        let Some(keys) = keys else {
            self.out.counters.key_reloads_failed += counts;
            return;
        };
        self.out.counters.key_reloads += counts;
        let passports = self.auth.passports.iter();
        let mut orphans: Vec<ConnId> =
            passports.filter(|(_, passport)| !keys.has(passport.grant.key)).map(|(id, _)| *id).collect();
        self.auth.keys = keys;
        // In an order that does not depend on a hash.
        orphans.sort_unstable();
        for id in orphans {
            self.close(now, id, CloseReason::TokenExpired, Status::Offline);
        }
    }

    fn read_token(&mut self, now: Now, token: &str) -> Result<Grant, TokenFault> {
        let grant = self.auth.rules.read(&self.auth.keys, now.unix_ms, token)?;
        self.out.counters.tokens_accepted += 1;
        Ok(grant)
    }

    /// Whether a connection may do this, with a token that it shows now or with the one that it has shown before. One
    /// that it shows takes the place of that, if it is for what the connection already is.
    pub(super) fn authorize(
        &mut self,
        now: Now,
        id: ConnId,
        token: Option<&str>,
        wants: Wants<'_>,
    ) -> Result<(), TokenFault> {
        if !self.auth.required {
            return Ok(());
        }
        let Some(conn) = self.out.conns.peek(id) else { return Err(TokenFault::Missing) };
        let (world, vehicle) = (conn.world, conn.vehicle);
        let vehicle = vehicle.and_then(|slot| self.worlds[world].vehicles.find(slot));
        let vehicle_id = vehicle.map(|vehicle| vehicle.identity.clone());
        let may = |grant: &Grant| match wants {
            Wants::Register(vehicle_id) => grant.check_vehicle(vehicle_id),
            // Who is a vehicle may watch as one.
            Wants::Watch if vehicle_id.is_none() && !grant.watches => Err(TokenFault::Role),
            Wants::Enter if !grant.watches && !grant.drives => Err(TokenFault::Role),
            Wants::Watch | Wants::Enter => Ok(()),
        };
        let Some(token) = token else {
            return self.auth.passports.get(&id).ok_or(TokenFault::Missing).and_then(|passport| may(&passport.grant));
        };
        let grant = self.read_token(now, token)?;
        may(&grant)?;
        if let Some(identity) = &vehicle_id {
            grant.check_vehicle(&identity.vehicle_id)?;
        }
        let own = self.auth.world_of(&grant)?;
        if world != own && world != WorldId::LOBBY {
            return Err(TokenFault::Tenant);
        }
        tracing::debug!(
            subject = grant.subject,
            drives = grant.drives,
            watches = grant.watches,
            "a token was accepted"
        );
        self.auth.passports.insert(id, Passport { grant, warned: false, due_ms: 0 });
        self.enter(id, own);
        self.await_expiry(now, id);
        Ok(())
    }

    /// A connection leaves the lobby.
    fn enter(&mut self, id: ConnId, own: WorldId) {
        let Some(conn) = self.out.conns.find(id) else { return };
        if conn.world == own {
            return;
        }
        let watched = conn.watcher.is_some();
        self.unwatch(id);
        let Some(conn) = self.out.conns.find(id) else { return };
        let world = &mut self.worlds[own];
        conn.world = own;
        conn.cursor = world.log.head();
        conn.watcher = watched.then(|| world.watchers.add(id));
    }

    /// Tells a connection why its token is not good enough, and closes it.
    pub(super) fn token_refused(&mut self, now: Now, id: ConnId, fault: TokenFault) {
        self.out.counters.tokens_refused.increment(fault);
        self.error(now, id, ErrorCode::AuthFailed, fault.message());
        self.close(now, id, CloseReason::AuthFailed, Status::Offline);
    }

    /// A connection that has become a WebSocket without a token has some time to show one.
    pub(super) fn await_token(&mut self, now: Now, id: ConnId) {
        if self.auth.required && !self.auth.passports.contains_key(&id) {
            self.out.timers.set(now.mono_ms + self.config.auth.wait_ms, Timer::Token(id));
        }
    }

    /// Sees to it that a token is looked at when there is something to say about it.
    fn await_expiry(&mut self, now: Now, id: ConnId) {
        let Some(passport) = self.auth.passports.get_mut(&id) else { return };
        let Some(expires_ms) = passport.grant.expires_ms else { return };
        let left_ms = expires_ms.saturating_sub(now.unix_ms);
        let warn_ms = if passport.warned { 0 } else { self.config.auth.warn_ms };
        let wait_ms = left_ms.saturating_sub(warn_ms).clamp(1, limits::TOKEN_LOOK_MS_MAX);
        passport.due_ms = now.mono_ms + wait_ms;
        self.out.timers.set(passport.due_ms, Timer::Token(id));
    }

    /// How a connection's token stands: none was shown in time, it ends soon, or it has ended.
    pub(super) fn check_token(&mut self, now: Now, id: ConnId) {
        if self.out.conns.peek(id).is_none_or(|conn| !matches!(conn.phase, Phase::Open)) {
            return;
        }
        let Some(passport) = self.auth.passports.get_mut(&id) else {
            self.token_refused(now, id, TokenFault::Missing);
            return;
        };
        let Some(expires_ms) = passport.grant.expires_ms.filter(|_| passport.due_ms <= now.mono_ms) else { return };
        if expires_ms <= now.unix_ms {
            self.close(now, id, CloseReason::TokenExpired, Status::Offline);
            return;
        }
        let left_ms = expires_ms - now.unix_ms;
        if !passport.warned && left_ms <= self.config.auth.warn_ms {
            passport.warned = true;
            self.out.counters.tokens_expiring += 1;
            self.out.event(now, id, &Event::TokenExpiring { expires_at: expires_ms, expires_in_ms: left_ms });
        }
        self.await_expiry(now, id);
    }

    /// Whether a request may read this, and of which world; if not, it has been answered.
    pub(super) fn visit(&mut self, now: Now, id: ConnId, request: &Plain<'_>, asked: Asked) -> Option<WorldId> {
        let outcome = self.visitor(now, id, request, asked);
        let (status, body, headers): (u16, &[u8], &[(&str, &str)]) = match outcome {
            Ok(world) => return Some(world),
            Err(Denied::Private) => (403, br#"{"error":"private"}"#, &[]),
            Err(Denied::NoTenant) => (400, br#"{"error":"tenant_required"}"#, &[]),
            Err(Denied::Token(fault)) => {
                self.out.counters.tokens_refused.increment(fault);
                match fault {
                    fault if fault.is_forbidden() => (403, br#"{"error":"forbidden"}"#, &[]),
                    // RFC 6750, section 3: without credentials, no error code.
                    TokenFault::Missing => (401, br#"{"error":"token_required"}"#, &[("WWW-Authenticate", "Bearer")]),
                    _ => {
                        let challenge = ("WWW-Authenticate", r#"Bearer error="invalid_token""#);
                        (401, br#"{"error":"invalid_token"}"#, &[challenge])
                    }
                }
            }
        };
        let mut all = self.cors(id, request.origin);
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.send_reply(now, id, status, "application/json", &all, request.head_only, body);
        None
    }

    fn visitor(&mut self, now: Now, id: ConnId, request: &Plain<'_>, asked: Asked) -> Result<WorldId, Denied> {
        let private = self.out.conns.peek(id).is_some_and(|conn| conn.private);
        let of_host = |shard: &Shard| {
            if asked != Asked::Listing || !shard.auth.has_tenants() {
                return Ok(WorldId::default());
            }
            let name = upgrade::parameter(request.query, "tenant").ok_or(Denied::NoTenant)?;
            let tenant = shard.auth.rules.tenant(name).ok_or(Denied::NoTenant)?;
            Ok(WorldId::of_tenant(tenant))
        };
        if private {
            return of_host(self);
        }
        if !self.auth.required {
            let closed = asked != Asked::Page && !self.config.server.private_listen.is_empty();
            return if closed { Err(Denied::Private) } else { Ok(WorldId::default()) };
        }
        let token = upgrade::token(request.authorization, request.query).ok_or(Denied::Token(TokenFault::Missing))?;
        let grant = self.read_token(now, token).map_err(Denied::Token)?;
        let may = if asked == Asked::Page { grant.watches } else { grant.operates };
        if !may {
            return Err(Denied::Token(TokenFault::Role));
        }
        match grant.tenant {
            None => of_host(self),
            // The numbers of a worker are those of all its tenants.
            Some(_) if asked == Asked::Metrics => Err(Denied::Token(TokenFault::Tenant)),
            Some(tenant) => Ok(WorldId::of_tenant(tenant)),
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The live map's page and its settings.
    Page,
    /// Who is there.
    Listing,
    /// The counters of the host.
    Metrics,
}

/// Why it is not answered.
enum Denied {
    /// Only on the private address.
    Private,
    /// There are tenants, and it does not say which one.
    NoTenant,
    Token(TokenFault),
}
