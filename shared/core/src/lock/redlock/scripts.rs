//! The scripts that a node runs. A script is atomic, so no other call comes between its check and its action. An
//! answer of 0 means no.
//!
//! `KEYS[1]` is the lock, `KEYS[2]` its counter; `ARGV[1]` is the value that only the holder knows. The scripts read
//! the clock, which needs Redis 5 or Valkey: these replicate the effects of a script and not the script itself.

/// The time after the last grant in which a counter is kept, in ms: a day, which is far longer than clocks differ. A
/// node that has dropped a counter starts at its clock, which has passed the counter by then.
pub(super) const COUNTER_KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// Takes the lock for `ARGV[2]` ms unless another holder has it, and returns the number of this grant. `ARGV[3]` is
/// the time in which the counter is kept. The same holder may repeat the call if it does not know whether it arrived.
pub(super) const TAKE: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
local number = 0
if redis.call('EXISTS', KEYS[2]) == 1 then
    number = redis.call('INCR', KEYS[2])
else
    local now = redis.call('TIME')
    number = now[1] * 1000000 + now[2]
    redis.call('SET', KEYS[2], string.format('%.0f', number))
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return number
";

/// Raises the counter to `ARGV[2]`, if the caller still holds the lock.
pub(super) const RAISE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
return 1
";

/// Lets the lock expire in `ARGV[2]` ms, at once if that is 0, if the caller still holds it.
pub(super) const END: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
";
