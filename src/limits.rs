//! Every bound that an operator cannot set, unit in its name, and the reasons for the numbers.
//!
//! What an operator can set is in [`crate::config`]; every queue in Ringroad is bounded by one or the other.

/// HTTP request head, request line included. Browsers stay under 8 KiB with cookies.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header lines in one request.
pub const REQUEST_HEADERS_MAX: usize = 64;

/// RFC 6455, section 5.5: "All control frames MUST have a payload length of 125 bytes or less".
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Rendered position events that a shard keeps for connections whose flush is still to come. One that is older is
/// rendered again.
pub const RENDERED_BYTES_MAX: usize = 1024 * 1024;

/// Bytes composed for one submission. Larger turns go out in several.
pub const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Broadcasts and positions are copied behind a connection's own events up to this; beyond, they get a send of their
/// own. Copying 16 KiB costs about as much as a system call.
pub const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Lines of one `nearby_vehicles` list, nearest first.
pub const NEARBY_LIST_MAX: usize = 256;

/// Beyond `outbox_bytes_max`, what pings, pongs and a close may still take of an outbox.
pub const CONTROL_RESERVE_BYTES: usize = 4 * 1024;

/// How long a closing connection may take to take its last bytes and to close its own side.
pub const CLOSE_MS_MAX: u64 = 2_000;

/// A closing connection that has taken this much of its last bytes in that time is given it again: the listing of a
/// large fleet over a thin line.
pub const CLOSE_BYTES_MIN: usize = 64 * 1024;

/// `connect_request`s of one shard that wait for their answer.
pub const PENDING_REQUESTS_MAX: usize = 100_000;

/// Notes kept for another shard of this host whose inbox is full. Comings and goings are kept beyond.
pub const MESH_NOTES_MAX: usize = 65_536;

/// Time between two attempts to reach a shard whose inbox was full.
pub const MESH_RETRY_MS: u64 = 1;

/// How long a shard remembers that a vehicle left, and how far it had emptied its buckets. News between shards is much
/// younger than this, and no bucket takes longer to fill unless an operator says so.
pub const DEPARTED_MS: u64 = 10_000;

/// Bytes of event text in them. Events of one client are bounded by its rate limits; these are everyone's together.
pub const MESH_NOTES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// HTTP listings that one shard gathers at a time; twice as many if they are metrics.
pub const LISTINGS_MAX: usize = 16;

/// How long a listing waits for the other shards.
pub const LISTING_MS_MAX: u64 = 1_000;

/// A fix that is older than the newest one is late, unless the newest one arrived longer ago than this: then the
/// sender's clock was set back.
pub const LATE_FIX_MS: u64 = 10_000;

/// A timestamp further in the future than this is the sender's mistake; the gateway's clock is used instead.
pub const FUTURE_FIX_MS: u64 = 60_000;

/// Payload of one radio frame: a message of 512 characters, each of at most four bytes.
pub const RADIO_PAYLOAD_BYTES_MAX: usize = 512 * 4;

/// Longer than any pause within a radio frame: at the slowest speed a byte takes 8 ms, and an adapter's buffer some
/// tens. What has begun by then is given up.
pub const RADIO_QUIET_MS: u64 = 500;

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

/// Connections that wait in one listener's queue. The kernel caps it at `net.core.somaxconn`, so the host decides.
pub const BACKLOG_CONNS: i32 = 65_535;

/// Time that a core has to say goodbye after it was told to stop.
pub const STOP_MS_MAX: u64 = 2_000;

/// Time that requests of the data ring have to end once the worker itself ends.
pub const QUIESCE_MS_MAX: u64 = 200;

/// The scratch that carries the rests of short sends keeps at most this much between turns.
pub const REST_BYTES_KEPT_MAX: usize = 1024 * 1024;

const _: () = assert!(ACCEPT_RETRY_MS < STOP_MS_MAX && QUIESCE_MS_MAX < STOP_MS_MAX);

const _: () = assert!(CONTROL_PAYLOAD_BYTES_MAX < REQUEST_HEAD_BYTES_MAX);
const _: () = assert!(RENDERED_BYTES_MAX < TURN_BYTES_MAX && TURN_BYTES_MAX < u32::MAX as usize / 2);
