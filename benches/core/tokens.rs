//! What it costs to check a token: its signature, and what it says. A worker does it once for each connection, in its turn.

use criterion::{Criterion, Throughput};
use serde_json::json;

use ringroad::auth::{Keys, Rules};
use ringroad::config;

#[path = "../../tests/tokens/mod.rs"]
mod signed;

use signed::{SECRET, Signer};

const NOW_S: u64 = 1_767_268_800;

pub fn auth(c: &mut Criterion) {
    let keys = Keys::of_file(SECRET, &signed::jwks()).expect("keys");
    let mut rules = config::Auth::default();
    (rules.issuer, rules.audience) = ("https://issuer.example".into(), "ringroad".into());
    let rules = Rules::new(&rules);
    let claims = json!({
        "iss": "https://issuer.example", "aud": "ringroad", "exp": NOW_S + 3_600, "sub": "fleet-7",
        "vehicleId": "bus-4711", "roles": ["vehicle"],
    });
    let mut group = c.benchmark_group("auth");
    group.throughput(Throughput::Elements(1));
    for (name, signer) in
        [("HS256", Signer::Secret), ("RS256, 2,048 bits", Signer::Rsa), ("ES256", Signer::Ec), ("EdDSA", Signer::Ed)]
    {
        let token = signed::sign(signer, &claims);
        group.bench_function(name, |b| b.iter(|| rules.read(&keys, NOW_S * 1_000, &token).expect("a good token")));
    }
    group.finish();
}
