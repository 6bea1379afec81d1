//! The keys that tokens are signed with. Each is for one algorithm, and a token is only ever checked with the keys of
//! the algorithm that it names: a public key is never taken for a secret, and there is no key for `none`.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::fault::TokenFault;
use super::grant::Claims;
use crate::limits;

/// Keys that tokens are checked with. `Debug` shows none of them.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    /// `kid`
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    /// The same for the same key, whatever file it is from.
    mark: u64,
}

impl Key {
    /// `None`: the library does not take it for a key of its kind.
    fn new(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Option<Key> {
        let public = Jwk::from_decoding_key(&key, Some(algorithm)).ok()?.algorithm;
        let mark = xxh3_64(&serde_json::to_vec(&public).ok()?);
        Some(Key { id, algorithm, key, mark })
    }
}

/// Why a file of keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Neither PEM nor JSON.
    #[error("it is neither PEM (-----BEGIN PUBLIC KEY-----) nor a JSON Web Key Set")]
    Unknown,
    /// A key that only the signer should have.
    #[error("it holds a private key ({0}); the gateway needs the public one: openssl pkey -in FILE -pubout")]
    Private(String),
    /// Something that is not a public key.
    #[error("it holds a {0}; only PUBLIC KEY and RSA PUBLIC KEY are understood")]
    Label(String),
    /// A block without an end, or that is not base64.
    #[error("its PEM block number {0} is damaged")]
    Damaged(usize),
    /// A key that is none of the three kinds.
    #[error("key number {0} is not RSA, P-256 or Ed25519")]
    Kind(usize),
    /// RFC 7518, section 3.3: "A key of size 2048 bits or larger MUST be used".
    #[error("RSA key number {0} has less than 2048 bits, or more than 4096")]
    Size(usize),
    /// RFC 7518, section 3.2: an HS256 key is as long as the hash, or longer.
    #[error("secret key number {0} has less than 32 bytes")]
    Short(usize),
    /// JSON, and not a key set.
    #[error("it is not a JSON Web Key Set: {0}")]
    Set(String),
    /// Nothing in it is for signatures.
    #[error("it holds no key for RS256, ES256, EdDSA or HS256 signatures")]
    Nothing,
    /// More than anybody has.
    #[error("it holds more than {max} keys", max = limits::TOKEN_KEYS_MAX)]
    TooMany,
}

/// A key set (RFC 7517, section 5), its keys not yet looked at: "Implementations SHOULD ignore JWKs within a JWK Set
/// that use "kty" values that are not understood by them".
#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// The secret alone; an empty one is none.
    pub fn of_secret(secret: &str) -> Keys {
        let key = Key::new(None, Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes()));
        Keys(key.filter(|_| !secret.is_empty()).into_iter().collect())
    }

    /// The secret, if there is one, and the keys of a file: PEM with one or several public keys, or a key set.
    pub fn of_file(secret: &str, text: &str) -> Result<Keys, KeysError> {
        let found = match text.trim_start() {
            json if json.starts_with('{') => of_set(json)?,
            pem if pem.contains("-----BEGIN ") => of_pem(pem)?,
            _ => return Err(KeysError::Unknown),
        };
        if found.is_empty() {
            return Err(KeysError::Nothing);
        }
        if found.len() > limits::TOKEN_KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let mut keys = Keys::of_secret(secret);
        keys.0.extend(found);
        Ok(keys)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no token can be good.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is among them, by its mark.
    pub fn has(&self, mark: u64) -> bool {
        self.0.iter().any(|key| key.mark == mark)
    }

    /// The claims of a token that one of the keys has signed, and that key's mark.
    pub(super) fn verified(&self, token: &str) -> Result<(Claims, u64), TokenFault> {
        // Fails for `none` and for whatever else is no algorithm of the library's.
        let header = decode_header(token).map_err(|_| TokenFault::Invalid)?;
        // RFC 7515, section 4.1.11: what is critical and not understood makes the token invalid, and nothing is.
        if header.crit.is_some() {
            return Err(TokenFault::Invalid);
        }
        let mut validation = Validation::new(header.alg);
        // The signature is the library's business; what the claims mean is told by the shell's clock and `Rules`.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let fits = |key: &&Key| {
            let other = matches!((&key.id, &header.kid), (Some(of_key), Some(of_token)) if of_key != of_token);
            key.algorithm == header.alg && !other
        };
        let verified = |key: &Key| Some((decode::<Claims>(token, &key.key, &validation).ok()?.claims, key.mark));
        self.0.iter().filter(fits).find_map(verified).ok_or(TokenFault::Invalid)
    }
}

fn of_pem(text: &str) -> Result<Vec<Key>, KeysError> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let number = keys.len() + 1;
        let (label, body) = block.split_once("-----").ok_or(KeysError::Damaged(number))?;
        if label.contains("PRIVATE") {
            return Err(KeysError::Private(label.to_owned()));
        }
        if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err(KeysError::Label(label.chars().take(40).collect()));
        }
        let end = format!("-----END {label}-----");
        let (body, after) = body.split_once(&end).ok_or(KeysError::Damaged(number))?;
        rest = after;
        let pem = format!("-----BEGIN {label}-----{body}{end}\n");
        if body.contains("-----") {
            return Err(KeysError::Damaged(number));
        }
        keys.push(of_pem_block(pem.as_bytes(), number)?);
    }
    Ok(keys)
}

fn of_pem_block(pem: &[u8], number: usize) -> Result<Key, KeysError> {
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        // PKCS #1: a sequence of the modulus and an exponent of one byte or three.
        let der = key.try_get_as_bytes().map_err(|_| KeysError::Kind(number))?;
        return match der.len() {
            268..=530 => Key::new(None, Algorithm::RS256, key).ok_or(KeysError::Kind(number)),
            _ => Err(KeysError::Size(number)),
        };
    }
    let ec = DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key));
    let found = ec.or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)));
    match found {
        Ok((algorithm, key)) if is_usable(&key, algorithm) => {
            Key::new(None, algorithm, key).ok_or(KeysError::Kind(number))
        }
        _ => Err(KeysError::Kind(number)),
    }
}

fn of_set(text: &str) -> Result<Vec<Key>, KeysError> {
    let set: Set = serde_json::from_str(text).map_err(|error| KeysError::Set(error.to_string()))?;
    let mut keys = Vec::new();
    for (number, value) in (1..).zip(set.keys) {
        // A private member gives the key away, whatever else it is.
        if value.get("kty").is_some_and(|kty| kty != "oct") && value.get("d").is_some() {
            return Err(KeysError::Private(format!("key number {number}")));
        }
        if let Ok(jwk) = serde_json::from_value::<Jwk>(value) {
            keys.extend(of_jwk(jwk, number)?);
        }
    }
    Ok(keys)
}

/// `None` if the key is for something else.
fn of_jwk(jwk: Jwk, number: usize) -> Result<Option<Key>, KeysError> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Ok(None);
    }
    let bytes = |text: &str| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).unwrap_or_default();
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = bytes(&rsa.n);
            let bits = modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
            if !(2048..=4096).contains(&bits) {
                return Err(KeysError::Size(number));
            }
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(secret) => {
            if bytes(&secret.value).len() < 32 {
                return Err(KeysError::Short(number));
            }
            (Algorithm::HS256, KeyAlgorithm::HS256)
        }
        _ => return Ok(None),
    };
    // An RSA key for PS256, say: taken for another algorithm, it would be two keys in one.
    if jwk.common.key_algorithm.is_some_and(|given| given != named) {
        return Ok(None);
    }
    match DecodingKey::from_jwk(&jwk) {
        Ok(key) if is_usable(&key, algorithm) => {
            Key::new(jwk.common.key_id, algorithm, key).map(Some).ok_or(KeysError::Kind(number))
        }
        _ => Err(KeysError::Kind(number)),
    }
}

/// Whether the library takes the key for what it should be: a signature of zeros is wrong, and not the key.
fn is_usable(key: &DecodingKey, algorithm: Algorithm) -> bool {
    // RFC 8032, section 5.1.5: 32 bytes. The library takes the first 32 without looking whether they are there.
    if algorithm == Algorithm::EdDSA && key.try_get_as_bytes().map_or(0, <[u8]>::len) != 32 {
        return false;
    }
    let header = BASE64URL_NOPAD.encode(format!("{{\"alg\":\"{algorithm:?}\"}}").as_bytes());
    let token = format!("{header}.e30.{}", BASE64URL_NOPAD.encode(&[0; 64]));
    let tried = decode::<serde_json::Value>(token, key, &Validation::new(algorithm));
    tried.is_err_and(|error| *error.kind() == ErrorKind::InvalidSignature)
}
