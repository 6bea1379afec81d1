//! Who may register: HS256 tokens, if the operator asks for them.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use crate::config;
use crate::turn::Now;

/// Checks `authToken`s.
pub struct Auth {
    key: Option<(DecodingKey, Validation)>,
}

/// The claims that matter. A token without `exp` does not expire; one without `vehicleId` is good for any.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    #[serde(rename = "vehicleId")]
    vehicle_id: Option<String>,
}

impl Auth {
    pub fn new(config: &config::Auth) -> Self {
        let key = config.required.then(|| {
            let mut validation = Validation::new(Algorithm::HS256);
            // Expiry is checked against the time that the shell gives, not against a clock of the library's.
            validation.validate_exp = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            (DecodingKey::from_secret(config.secret.as_bytes()), validation)
        });
        Auth { key }
    }

    /// Whether this vehicle may register with this token, or why not.
    pub fn check(&self, now: Now, vehicle_id: &str, token: Option<&str>) -> Result<(), &'static str> {
        let Some((key, validation)) = &self.key else { return Ok(()) };
        let token = token.ok_or("authToken is required")?;
        let claims = decode::<Claims>(token, key, validation).map_err(|_| "authToken is not valid")?.claims;
        if claims.exp.is_some_and(|exp| exp * 1_000.0 <= now.unix_ms as f64) {
            return Err("authToken has expired");
        }
        if claims.vehicle_id.is_some_and(|claimed| claimed != vehicle_id) {
            return Err("authToken is for another vehicle");
        }
        Ok(())
    }
}

impl Auth {
    /// Whether who drives nothing may watch with this token, or why not.
    pub fn check_viewer(&self, now: Now, token: Option<&str>) -> Result<(), &'static str> {
        // No vehicle has an empty id, so a vehicle's token is for another.
        self.check(now, "", token)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_must_be_signed_alive_and_for_this_vehicle() {
        let auth = Auth::new(&config::Auth { required: true, secret: "s3cret".into() });
        let now = Now { mono_ms: 0, unix_ms: 1_000_000 };
        let token = |claims: serde_json::Value, secret: &str| {
            encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
        };
        for (claims, secret, expected) in [
            (json!({}), "s3cret", Ok(())),
            (json!({"exp": 1_001}), "s3cret", Ok(())),
            (json!({"exp": 1_000}), "s3cret", Err("authToken has expired")),
            (json!({"vehicleId": "veh-1"}), "s3cret", Ok(())),
            (json!({"vehicleId": "veh-2"}), "s3cret", Err("authToken is for another vehicle")),
            (json!({}), "other", Err("authToken is not valid")),
        ] {
            let token = token(claims, secret);
            assert_eq!(auth.check(now, "veh-1", Some(&token)), expected);
        }
        assert_eq!(auth.check(now, "veh-1", None), Err("authToken is required"));
        assert_eq!(auth.check(now, "veh-1", Some("a.b.c")), Err("authToken is not valid"));
        // {"alg":"none"} with no signature.
        let unsigned = "eyJhbGciOiJub25lIn0.e30.";
        assert_eq!(auth.check(now, "veh-1", Some(unsigned)), Err("authToken is not valid"));
        assert_eq!(Auth::new(&config::Auth::default()).check(now, "veh-1", None), Ok(()));
    }
}
