//! What the claims of a token grant its bearer (RFC 7519, section 4, and Ringroad's own).

use serde::Deserialize;

use super::fault::TokenFault;
use super::keys::Keys;
use super::pattern::Pattern;
use crate::config;
use crate::limits;

/// The claims that matter, as the token has them. Others are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    sub: Option<String>,
    #[serde(rename = "vehicleId")]
    vehicle_id: Option<OneOrMany>,
    roles: Option<OneOrMany>,
    tenant: Option<String>,
}

/// RFC 7519, section 4.1.3: an array, or "in the special case when the JWT has one audience", a string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let list = match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        };
        list.iter().map(String::as_str)
    }
}

/// What must hold for every token.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
    leeway_ms: u64,
    tenants: Vec<String>,
}

impl Rules {
    /// Those of a configuration.
    pub fn new(config: &config::Auth) -> Rules {
        let given = |text: &str| (!text.is_empty()).then(|| text.into());
        Rules {
            issuer: given(&config.issuer),
            audience: given(&config.audience),
            leeway_ms: config.leeway_ms,
            tenants: config.tenants.clone(),
        }
    }

    /// What a token grants at a time, or why nothing. `unix_ms`: the shell's clock, never one of the library's.
    pub fn read(&self, keys: &Keys, unix_ms: u64, token: &str) -> Result<Grant, TokenFault> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(TokenFault::Invalid);
        }
        let (claims, key) = keys.verified(token)?;
        // A negative time is 0, and one beyond all years is the last.
        let to_ms = |seconds: f64| (seconds * 1_000.0) as u64;
        let expires_ms = claims.exp.map(|exp| to_ms(exp).saturating_add(self.leeway_ms));
        if expires_ms.is_some_and(|expires_ms| expires_ms <= unix_ms) {
            return Err(TokenFault::Expired);
        }
        if claims.nbf.is_some_and(|nbf| to_ms(nbf) > unix_ms.saturating_add(self.leeway_ms)) {
            return Err(TokenFault::NotYet);
        }
        if self.issuer.is_some() && claims.iss.as_deref() != self.issuer.as_deref() {
            return Err(TokenFault::Issuer);
        }
        if let Some(wanted) = &self.audience
            && !claims.aud.as_ref().is_some_and(|aud| aud.iter().any(|one| *one == **wanted))
        {
            return Err(TokenFault::Audience);
        }
        let tenant = match &claims.tenant {
            None => None,
            Some(name) => {
                let at = self.tenants.iter().position(|tenant| tenant == name);
                Some(at.ok_or(TokenFault::Tenant)?)
            }
        };
        let vehicles = claims.vehicle_id.as_ref().map(|ids| ids.iter().map(Pattern::new).collect::<Box<[_]>>());
        let role = |name: &str| claims.roles.as_ref().is_some_and(|roles| roles.iter().any(|role| role == name));
        // Existing servers know no roles: their tokens are for vehicles, and for viewers if they name none.
        let unnamed = claims.roles.is_none();
        Ok(Grant {
            subject: claims.sub.map(Into::into),
            drives: role("vehicle") || unnamed,
            watches: role("viewer") || role("operator") || (unnamed && vehicles.is_none()),
            operates: role("operator"),
            vehicles,
            tenant,
            expires_ms,
            key,
        })
    }

    /// Which of `auth.tenants` has this name.
    pub fn tenant(&self, name: &str) -> Option<usize> {
        self.tenants.iter().position(|tenant| tenant == name)
    }

    /// Whether there are tenants.
    pub fn has_tenants(&self) -> bool {
        !self.tenants.is_empty()
    }
}

/// What the bearer of a token may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// `sub`
    pub subject: Option<Box<str>>,
    /// May register.
    pub drives: bool,
    /// May watch without being a vehicle.
    pub watches: bool,
    /// May read what the gateway says of itself.
    pub operates: bool,
    /// As which vehicles it may register; `None`: as any.
    pub vehicles: Option<Box<[Pattern]>>,
    /// Position in `auth.tenants`.
    pub tenant: Option<usize>,
    /// When it ends, ms since the Unix epoch, `auth.leeway_ms` included; `None`: never.
    pub expires_ms: Option<u64>,
    /// Mark of the key that has signed it.
    pub key: u64,
}

impl Grant {
    /// Whether it lets a vehicle register, or why not.
    pub fn check_vehicle(&self, vehicle_id: &str) -> Result<(), TokenFault> {
        if !self.drives {
            return Err(TokenFault::Role);
        }
        match &self.vehicles {
            Some(patterns) if !patterns.iter().any(|pattern| pattern.names(vehicle_id)) => Err(TokenFault::Vehicle),
            _ => Ok(()),
        }
    }
}
