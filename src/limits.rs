//! Every bound that an operator cannot set, unit in its name, and the reasons for the numbers.
//!
//! What an operator can set is in [`crate::config`]; every queue in Ringroad is bounded by one or the other.

/// HTTP request head, request line included. Browsers stay under 8 KiB with cookies.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header lines in one request.
pub const REQUEST_HEADERS_MAX: usize = 64;

/// RFC 6455, section 5.5: "All control frames MUST have a payload length of 125 bytes or less".
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Payload of one radio frame: a message of 512 characters, each of at most four bytes.
pub const RADIO_PAYLOAD_BYTES_MAX: usize = 512 * 4;

/// Completions that one run of the pump hands to the core before monoio gets its turn (timers, other I/O).
pub const PUMP_COMPLETIONS_MAX: usize = 4096;

/// Times one run of the pump looks for more completions before monoio gets its turn.
pub const PUMP_ROUNDS_MAX: usize = 16;

/// Turns of the core that one round carries out; a core that always has more continues in the next round.
pub const ROUND_TURNS_MAX: usize = 64;

/// Batches that wait in one worker's mesh inbox; what does not fit goes back to its sender.
pub const INBOX_BATCHES_MAX: usize = 1024;

/// Bytes that wait for the serial line; at 57,600 baud a little more than a second.
pub const RADIO_PENDING_BYTES_MAX: usize = 8 * 1024;

/// Time until a lost radio device is tried again.
pub const RADIO_REOPEN_MS: u64 = 5_000;

/// Time until a listener that ran out of descriptors tries again, if none of ours was closed meanwhile.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Least time between two equal warnings of one worker.
pub const WARN_MS: u64 = 10_000;

/// Connections that wait in one listener's queue. The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG_CONNS: i32 = 4096;

/// Time that a core has to say goodbye after it was told to stop.
pub const STOP_MS_MAX: u64 = 2_000;

/// Time that requests of the data ring have to end once the worker itself ends.
pub const QUIESCE_MS_MAX: u64 = 200;

/// The scratch that carries the rests of short sends keeps at most this much between turns.
pub const REST_BYTES_KEPT_MAX: usize = 1024 * 1024;

const _: () = assert!(ACCEPT_RETRY_MS < STOP_MS_MAX && QUIESCE_MS_MAX < STOP_MS_MAX);
