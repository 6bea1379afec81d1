//! The gateway from outside: the real binary with two workers, real sockets, and a WebSocket client that we did not
//! write. One file per property.
//!
//! The kernel spreads connections over the workers by a hash that nobody chooses, so [`fleet::Fleet`] opens vehicles
//! until both workers have some, and knows which is where. Ports are the kernel's choice too. Nothing waits by sleeping
//! for a fixed time; what must come true is polled until a deadline, and a gateway that logs an error, or does not end
//! cleanly when its test is over, fails that test.

mod certificates;
mod client;
mod drain;
mod fleet;
// The tests of several hosts use more of it.
#[allow(dead_code)]
mod gateway;
mod patience;
mod relayed;
#[path = "../tokens/mod.rs"]
mod token_table;

mod admission;
mod alert;
mod garbage;
mod hello;
mod http;
mod limits;
mod logs;
mod metrics;
mod manager;
mod notify;
mod presence;
mod proximity;
mod radio;
mod relay;
mod reload;
mod replace;
mod slow;
mod start;
mod stop;
mod storm;
mod takeover;
mod timeout;
mod tls;
mod tls_files;
mod tokens;
mod upgrade;
mod vanish;
mod watch;

use patience::{PATIENCE, until};

/// Numbers that look random and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}
