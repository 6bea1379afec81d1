//! Tokens for tests, good ones and bad ones, and what each is good for: one table, tried on a shard and over sockets.
//!
//! The keys beside this file were made for it and are known to everybody: `openssl genpkey`, `openssl pkey -pubout`.

// Not every test needs all of it.
#![allow(dead_code)]

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

pub const SECRET: &str = "a secret of tests, which everybody knows";
pub const RSA: &str = include_str!("keys/rsa.pem");
pub const OTHER_RSA: &str = include_str!("keys/other-rsa.pem");
pub const RSA_PUBLIC: &str = include_str!("keys/rsa.pub.pem");
pub const RSA_PKCS1: &str = include_str!("keys/rsa.pkcs1.pem");
pub const SMALL_RSA_PUBLIC: &str = include_str!("keys/small-rsa.pub.pem");
pub const EC: &str = include_str!("keys/ec.pem");
pub const EC_PUBLIC: &str = include_str!("keys/ec.pub.pem");
pub const P384_PUBLIC: &str = include_str!("keys/p384.pub.pem");
pub const ED: &str = include_str!("keys/ed.pem");
pub const ED_PUBLIC: &str = include_str!("keys/ed.pub.pem");

/// Who has signed a token, and how.
#[derive(Clone, Copy, Debug)]
pub enum Signer {
    Secret,
    OtherSecret,
    /// The right secret, and another algorithm than that of the key.
    Hs384,
    Rsa,
    OtherRsa,
    /// The right key, and PSS.
    Ps256,
    Ec,
    Ed,
    /// RSA, with the name of the EC key.
    RsaNamedEc,
    /// `alg: none`, without a signature.
    None,
    /// The public key of RSA, taken for a secret.
    PublicKeyAsSecret,
    /// The right secret, and claims that were changed behind it.
    Tampered,
    /// The right secret, and a header field that nobody understands and everybody must.
    Critical,
}

/// The public keys of this file as a set; `kid` is `rsa`, `ec`, `ed`.
pub fn jwks() -> String {
    let jwk = |kid: &str, key: EncodingKey, algorithm| {
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).expect("a key");
        jwk.common.key_id = Some(kid.to_owned());
        serde_json::to_value(jwk).expect("JSON")
    };
    let pem =
        |pem: &str, make: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>| make(pem.as_bytes()).expect(pem);
    let keys = [
        jwk("rsa", pem(RSA, EncodingKey::from_rsa_pem), Algorithm::RS256),
        jwk("ec", pem(EC, EncodingKey::from_ec_pem), Algorithm::ES256),
        jwk("ed", pem(ED, EncodingKey::from_ed_pem), Algorithm::EdDSA),
    ];
    json!({ "keys": keys }).to_string()
}

/// Signs claims as they are.
pub fn sign(signer: Signer, claims: &Value) -> String {
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let (algorithm, key) = match signer {
        Signer::Secret | Signer::Tampered | Signer::Critical => (Algorithm::HS256, secret),
        Signer::Hs384 => (Algorithm::HS384, secret),
        Signer::OtherSecret => {
            (Algorithm::HS256, EncodingKey::from_secret(b"another secret, as long as the right one"))
        }
        Signer::PublicKeyAsSecret => (Algorithm::HS256, EncodingKey::from_secret(RSA_PUBLIC.as_bytes())),
        Signer::Rsa | Signer::RsaNamedEc => (Algorithm::RS256, EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("RSA")),
        Signer::OtherRsa => (Algorithm::RS256, EncodingKey::from_rsa_pem(OTHER_RSA.as_bytes()).expect("RSA")),
        Signer::Ps256 => (Algorithm::PS256, EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("RSA")),
        Signer::Ec => (Algorithm::ES256, EncodingKey::from_ec_pem(EC.as_bytes()).expect("EC")),
        Signer::Ed => (Algorithm::EdDSA, EncodingKey::from_ed_pem(ED.as_bytes()).expect("Ed25519")),
        Signer::None => {
            let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
            return format!("{}.{}.", part(r#"{"alg":"none","typ":"JWT"}"#), part(&claims.to_string()));
        }
    };
    let mut header = Header::new(algorithm);
    match signer {
        Signer::Rsa | Signer::OtherRsa => header.kid = Some("rsa".to_owned()),
        Signer::RsaNamedEc => header.kid = Some("ec".to_owned()),
        Signer::Critical => header.crit = Some(vec!["b64".to_owned()]),
        _ => {}
    }
    let token = encode(&header, claims, &key).expect("a token");
    if matches!(signer, Signer::Tampered) {
        let mut claims = claims.clone();
        claims["tenant"] = json!("other");
        let parts: Vec<&str> = token.split('.').collect();
        return format!("{}.{}.{}", parts[0], BASE64URL_NOPAD.encode(claims.to_string().as_bytes()), parts[2]);
    }
    token
}

/// What every gateway of these tokens wants; with the key set as its file.
pub const SETTINGS: [&str; 5] = [
    "auth.required=true",
    "auth.secret='a secret of tests, which everybody knows'",
    "auth.issuer='https://issuer.example'",
    "auth.audience='ringroad'",
    "auth.tenants=['acme', 'other']",
];

/// And what [`CASES`] want besides.
pub const LEEWAY: &str = "auth.leeway_ms=300000";

/// A token and what it is good for.
pub struct Case {
    pub what: &'static str,
    pub signer: Signer,
    /// Over those of [`Case::token`]; `exp` and `nbf` in seconds from now.
    pub claims: &'static str,
    /// Why it does not let `veh-a` register; empty: it does.
    pub register: &'static str,
    /// Why it does not let a viewer look; empty: it does.
    pub view: &'static str,
    /// Status of `GET /vehicles`.
    pub list: u16,
}

const fn case(
    what: &'static str,
    (signer, claims): (Signer, &'static str),
    register: &'static str,
    view: &'static str,
    list: u16,
) -> Case {
    Case { what, signer, claims, register, view, list }
}

use Signer::*;

pub const CASES: &[Case] = &[
    // Roles.
    case("a vehicle", (Secret, r#"{"vehicleId":"veh-a","roles":["vehicle"]}"#), "", "role", 403),
    case("a viewer that registers", (Secret, r#"{"roles":["viewer"]}"#), "role", "", 403),
    case("a viewer with a vehicle's name", (Secret, r#"{"vehicleId":"veh-a","roles":"viewer"}"#), "role", "", 403),
    case("an operator", (Secret, r#"{"roles":["operator"]}"#), "role", "", 200),
    case("a vehicle that is an operator", (Secret, r#"{"roles":["vehicle","operator"]}"#), "", "", 200),
    case("roles of somebody else", (Secret, r#"{"roles":["admin"]}"#), "role", "role", 403),
    case("no role at all", (Secret, r#"{"roles":[]}"#), "role", "role", 403),
    case("a token of an existing server", (Secret, "{}"), "", "", 403),
    case("the same for one vehicle", (Secret, r#"{"vehicleId":"veh-a"}"#), "", "role", 403),
    // Vehicles.
    case("a vehicle mismatch", (Secret, r#"{"vehicleId":"veh-b","roles":["vehicle"]}"#), "vehicle", "role", 403),
    case("a pattern", (Secret, r#"{"vehicleId":"v*-a","roles":["vehicle"]}"#), "", "role", 403),
    case("another pattern", (Secret, r#"{"vehicleId":"bus-*","roles":["vehicle"]}"#), "vehicle", "role", 403),
    case("several", (Secret, r#"{"vehicleId":["bus-*","veh-a"],"roles":["vehicle"]}"#), "", "role", 403),
    case("none of them", (Secret, r#"{"vehicleId":[],"roles":["vehicle"]}"#), "vehicle", "role", 403),
    // Keys.
    case("RS256", (Rsa, "{}"), "", "", 403),
    case("ES256", (Ec, "{}"), "", "", 403),
    case("EdDSA", (Ed, "{}"), "", "", 403),
    case("alg none", (None, "{}"), "invalid", "invalid", 401),
    case("the wrong secret", (OtherSecret, "{}"), "invalid", "invalid", 401),
    case("the wrong RSA key", (OtherRsa, "{}"), "invalid", "invalid", 401),
    case("a public key as a secret", (PublicKeyAsSecret, "{}"), "invalid", "invalid", 401),
    case("the right secret by HS384", (Hs384, "{}"), "invalid", "invalid", 401),
    case("the right key by PS256", (Ps256, "{}"), "invalid", "invalid", 401),
    case("a key under another's name", (RsaNamedEc, "{}"), "invalid", "invalid", 401),
    case("changed claims", (Tampered, "{}"), "invalid", "invalid", 401),
    case("a critical header", (Critical, "{}"), "invalid", "invalid", 401),
    // Times; with a leeway of 300 s, so that a machine that stands still for a while changes nothing.
    case("expired", (Secret, r#"{"exp":-301}"#), "expired", "expired", 401),
    case("expired within the leeway", (Secret, r#"{"exp":-2}"#), "", "", 403),
    case("expired long ago", (Secret, r#"{"exp":-1000000000000}"#), "expired", "expired", 401),
    case("for ever", (Secret, r#"{"exp":null}"#), "", "", 403),
    case("for longer than there are years", (Secret, r#"{"exp":1e300}"#), "", "", 403),
    case("an end that is no time", (Secret, r#"{"exp":"tomorrow"}"#), "invalid", "invalid", 401),
    case("not yet valid", (Secret, r#"{"nbf":3600}"#), "not_yet_valid", "not_yet_valid", 401),
    case("nearly valid", (Secret, r#"{"nbf":2}"#), "", "", 403),
    // Issuer and audience.
    case("another issuer", (Secret, r#"{"iss":"https://evil.example"}"#), "issuer", "issuer", 401),
    case("no issuer", (Secret, r#"{"iss":null}"#), "issuer", "issuer", 401),
    case("the wrong audience", (Secret, r#"{"aud":"another"}"#), "audience", "audience", 401),
    case("no audience", (Secret, r#"{"aud":null}"#), "audience", "audience", 401),
    case("several audiences", (Secret, r#"{"aud":["another","ringroad"]}"#), "", "", 403),
    case("audiences of others", (Secret, r#"{"aud":["another","ringroad2"]}"#), "audience", "audience", 401),
    // Tenants.
    case("a tenant that nobody knows", (Secret, r#"{"tenant":"evil"}"#), "tenant", "tenant", 403),
    case("no tenant", (Secret, r#"{"tenant":null}"#), "tenant", "tenant", 403),
    case("an operator without a tenant", (Secret, r#"{"tenant":null,"roles":"operator"}"#), "role", "tenant", 400),
    case("another tenant", (Secret, r#"{"tenant":"other"}"#), "", "", 403),
];

impl Case {
    /// The token at a time, seconds since the Unix epoch.
    pub fn token(&self, now_s: u64) -> String {
        let changes: Value = serde_json::from_str(self.claims).expect(self.claims);
        token(self.signer, &changes, now_s)
    }

    /// Status of a handshake that shows it: it lets its bearer in if it lets it do anything there.
    pub fn knock(&self) -> u16 {
        match (self.register, self.view) {
            ("" | "vehicle", _) | (_, "") => 101,
            ("role" | "tenant", _) => 403,
            _ => 401,
        }
    }
}

/// A token that a gateway with [`SETTINGS`] accepts for ten minutes, but for these changes.
pub fn token(signer: Signer, changes: &Value, now_s: u64) -> String {
    let mut claims = json!({"iss": "https://issuer.example", "aud": "ringroad", "tenant": "acme", "exp": 600});
    for (name, value) in changes.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    for time in ["exp", "nbf"] {
        if let Some(from_now) = claims[time].as_i64() {
            claims[time] = json!(now_s as i64 + from_now);
        }
    }
    claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
    sign(signer, &claims)
}
