//! What several hosts may change at once in Redis, as Lua scripts. Each touches one key, so it runs in a Cluster too.
//!
//! They use nothing that Redis 6.2 and Valkey do not know. Presence entries come from other programs as well: what is
//! not a JSON object with a `node` is nobody's here, and never an error.

use std::borrow::Cow;

use crate::config::Bucket;
use crate::wire::resp::Reply;

use super::client::Script;

/// Writes a vehicle's presence entry, unless one of a later registration stands there. 1: written.
///
/// Later is the larger `lastSeen`, then the larger `nodeKey`, as the gateways decide too. Keys are compared by bytes:
/// Lua's `<` follows the server's locale.
pub const ENTER: Script = Script(
    r#"
local vehicle, entry, last_seen, node_key = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local function is_after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local raw = redis.call('HGET', KEYS[1], vehicle)
if raw then
  local ok, there = pcall(cjson.decode, raw)
  if ok and type(there) == 'table' and type(there.node) == 'string' and type(there.lastSeen) == 'number' then
    local there_key = type(there.nodeKey) == 'string' and there.nodeKey or ''
    if there.lastSeen > last_seen or (there.lastSeen == last_seen and is_after(there_key, node_key)) then
      return 0
    end
  end
end
redis.call('HSET', KEYS[1], vehicle, entry)
return 1
"#,
);

/// Deletes a vehicle's presence entry if it is of this node, and not of a later registration. 1: deleted.
pub const LEAVE: Script = Script(
    r#"
local vehicle, node, connected_at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local raw = redis.call('HGET', KEYS[1], vehicle)
if not raw then return 0 end
local ok, there = pcall(cjson.decode, raw)
if not ok or type(there) ~= 'table' or there.node ~= node then return 0 end
if type(there.connectedAt) == 'number' and there.connectedAt > connected_at then return 0 end
return redis.call('HDEL', KEYS[1], vehicle)
"#,
);

/// Deletes a vehicle's presence entry if it is of a dead node. 1: deleted.
///
/// The same as [`LEAVE`]: a node that starts again under its name while it is being swept registers vehicles later than
/// those that it left behind.
pub const SWEEP_ONE: Script = LEAVE;

/// Takes a token from a shared bucket: the rule of `shard/rate.rs`, by the server's clock. `{1, 0}`, or `{0, retry}`
/// with the milliseconds until there is a token.
///
/// The bucket is the time at which it will be full again, in microseconds; then the key expires. One that claims to be
/// emptier than empty (the clock was set back, the period was longer) is empty, and fills from now on.
pub const BUCKET: Script = Script(
    r#"
local burst, period = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
if burst == 0 then return {1, 0} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local stored = tonumber(redis.call('HGET', KEYS[1], 'fullAt')) or now
local before = math.max(now, math.min(stored, now + period))
local full_at, retry = before + math.floor(period / burst), 0
if full_at > now + period then
  retry = math.ceil((full_at - now - period) / 1000)
  if before == stored then return {0, retry} end
  full_at = before
end
redis.call('HSET', KEYS[1], 'fullAt', string.format('%.0f', full_at))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(1, math.ceil((full_at - now) / 1000))))
return {retry == 0 and 1 or 0, retry}
"#,
);

/// The arguments of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args<'a, const N: usize>([Cow<'a, [u8]>; N]);

impl<const N: usize> Args<'_, N> {
    /// As [`super::client::Client::run`] takes them.
    pub fn slices(&self) -> [&[u8]; N] {
        self.0.each_ref().map(|arg| &**arg)
    }
}

/// For [`ENTER`]: the vehicle, its entry as JSON, and the entry's `lastSeen` and `nodeKey`.
pub fn enter<'a>(vehicle_id: &'a str, entry: &'a [u8], last_seen_ms: u64, node_key: &'a str) -> Args<'a, 4> {
    Args([vehicle_id.as_bytes().into(), entry.into(), decimal(last_seen_ms), node_key.as_bytes().into()])
}

/// For [`LEAVE`]: the vehicle, this node, and when the registration was made that ends.
pub fn leave<'a>(vehicle_id: &'a str, node: &'a str, connected_ms: u64) -> Args<'a, 3> {
    Args([vehicle_id.as_bytes().into(), node.as_bytes().into(), decimal(connected_ms)])
}

/// For [`SWEEP_ONE`]: the vehicle, the dead node, and `connectedAt` of the entry that the sweeper has read (0 if it has
/// none).
pub fn sweep_one<'a>(vehicle_id: &'a str, dead_node: &'a str, connected_ms: u64) -> Args<'a, 3> {
    leave(vehicle_id, dead_node, connected_ms)
}

/// For [`BUCKET`].
pub fn bucket(bucket: Bucket) -> Args<'static, 2> {
    Args([decimal(u64::from(bucket.burst)), decimal(bucket.per_ms)])
}

/// What [`ENTER`], [`LEAVE`] and [`SWEEP_ONE`] replied; `None`: nothing that they reply.
pub fn was_done(reply: &Reply) -> Option<bool> {
    match reply.as_integer()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// What [`BUCKET`] replied, as [`crate::shard`]'s own buckets do: a token, or the milliseconds until there is one.
/// `None`: nothing that it replies.
pub fn token(reply: &Reply) -> Option<Result<(), u64>> {
    let [allowed, retry_ms] = reply.as_list()? else { return None };
    match (allowed.as_integer()?, u64::try_from(retry_ms.as_integer()?).ok()?) {
        (1, 0) => Some(Ok(())),
        (0, retry_ms) => Some(Err(retry_ms)),
        _ => None,
    }
}

fn decimal(number: u64) -> Cow<'static, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_touches_one_key() {
        for Script(source) in [ENTER, LEAVE, SWEEP_ONE, BUCKET] {
            let calls: Vec<&str> = source.split("redis.call('").skip(1).collect();
            assert!(calls.len() >= 2);
            for call in calls {
                let (command, rest) = call.split_once('\'').unwrap();
                assert!(command == "TIME" || rest.starts_with(", KEYS[1], "), "{call}");
            }
        }
    }

    #[test]
    fn arguments_are_in_the_order_of_the_scripts() {
        let args = enter("car", b"{}", 17, "node");
        assert_eq!(args.slices(), [&b"car"[..], b"{}", b"17", b"node"]);
        assert_eq!(leave("car", "node", u64::MAX).slices(), [&b"car"[..], b"node", b"18446744073709551615"]);
        assert_eq!(bucket(Bucket { burst: 5, per_ms: 1_000 }).slices(), [&b"5"[..], b"1000"]);
    }

    #[test]
    fn replies_are_read_or_refused() {
        let list = |values: &[i64]| Reply::List(values.iter().map(|value| Reply::Integer(*value)).collect());
        assert_eq!(token(&list(&[1, 0])), Some(Ok(())));
        assert_eq!(token(&list(&[0, 250])), Some(Err(250)));
        for odd in [list(&[]), list(&[1]), list(&[1, 5]), list(&[2, 0]), list(&[0, -1]), list(&[0, 1, 2]), Reply::Null]
        {
            assert_eq!(token(&odd), None, "{odd:?}");
        }
        let done = [Reply::Integer(1), Reply::Integer(0), Reply::Integer(2), Reply::Null].map(|reply| was_done(&reply));
        assert_eq!(done, [Some(true), Some(false), None, None]);
    }
}
