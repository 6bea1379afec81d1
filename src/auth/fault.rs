//! Why a token is refused. The same value is the counter's label and the text that its bearer reads.

use crate::metrics::labels;

labels! {
    /// Why somebody is not let in.
    pub enum TokenFault for "reason" {
        /// None was shown, or not in time.
        Missing = "missing",
        /// Not a token, not signed by a key that is known, or with claims of another shape.
        Invalid = "invalid",
        /// `exp` has passed.
        Expired = "expired",
        /// `nbf` has not come.
        NotYet = "not_yet_valid",
        /// `iss` is not `auth.issuer`.
        Issuer = "issuer",
        /// `aud` does not name `auth.audience`.
        Audience = "audience",
        /// `tenant` is not one of `auth.tenants`, or not that of the connection.
        Tenant = "tenant",
        /// `vehicleId` does not name this vehicle.
        Vehicle = "vehicle",
        /// No role in `roles` allows it.
        Role = "role",
    }
}

impl TokenFault {
    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            TokenFault::Missing => "authToken is required",
            TokenFault::Invalid => "authToken is not valid",
            TokenFault::Expired => "authToken has expired",
            TokenFault::NotYet => "authToken is not valid yet",
            TokenFault::Issuer => "authToken is from another issuer",
            TokenFault::Audience => "authToken is for another audience",
            TokenFault::Tenant => "authToken is for another tenant",
            TokenFault::Vehicle => "authToken is for another vehicle",
            TokenFault::Role => "authToken has no role that allows this",
        }
    }

    /// The bearer is who it claims to be, and may not do this.
    pub const fn is_forbidden(self) -> bool {
        matches!(self, TokenFault::Tenant | TokenFault::Vehicle | TokenFault::Role)
    }
}
