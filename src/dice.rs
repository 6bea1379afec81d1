//! Chance from a seed: SplitMix64 (Steele, Lea and Flood, 2014). Good enough for vehicles, and the same on every host.

/// A sequence of numbers that only looks random.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The sequence of one seed and one purpose.
    pub fn new(seed: u64, purpose: u64) -> Dice {
        let mut dice = Dice { state: seed };
        dice.state ^= purpose.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        dice.bits();
        dice
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// At least `from`, less than `to`.
    pub fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}
