//! Unique ids, from a seed that the shell draws: a core has no randomness of its own.

use uuid::Uuid;

/// A stream of version 4 UUIDs (SplitMix64). They are unique, not secret.
pub struct Ids {
    state: u64,
}

impl Ids {
    /// The same seed gives the same ids.
    pub fn new(seed: u64) -> Self {
        Ids { state: seed }
    }

    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next one.
    pub fn next_uuid(&mut self) -> Uuid {
        let (high, low) = (self.next_u64(), self.next_u64());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
