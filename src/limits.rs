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
