//! The buckets of the rate limit that all processes share, in Redis.
//!
//! A bucket is stored as one number, the instant at which it will be full (the generic cell rate algorithm,
//! <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>). One script call counts every request that arrived
//! while the previous call was under way, so a crowd costs one round trip and not one per request.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::Script;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Rate, RedisNode};
use crate::{
    supervision::{Ends, Supervisor},
    telemetry::RedisCall,
};

/// Takes one token from each bucket of `KEYS`, in their order. Returns for each the microseconds until a token is
/// available, 0 if one was taken. `ARGV[1]` is the time in which one token comes back, `ARGV[2]` the time in which
/// all do, in microseconds. If the clock of Redis jumps back, a stored instant may lie too far ahead; it is capped,
/// so that no bucket is emptier than empty and no holder is locked out.
const TAKE: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local one, all = tonumber(ARGV[1]), tonumber(ARGV[2])
local waits = {}
for n, key in ipairs(KEYS) do
    local full = tonumber(redis.call('GET', key) or now)
    full = math.min(math.max(full, now), now + all) + one
    local wait = full - now - all
    if wait > 0 then
        waits[n] = math.ceil(wait)
    else
        redis.call('SET', key, string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
        waits[n] = 0
    end
end
return waits
";

/// Returns one token to the bucket of `KEYS[1]`.
const GIVE_BACK: &str = r"
local full, left = redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if full and left > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', tonumber(full) - tonumber(ARGV[1])), 'PX', left)
end
return 0
";

/// Requests that may wait for Redis to count them; further ones are counted by this process alone.
const QUEUE_MAX: usize = 4_096;
/// The most requests in one script call.
const CALL_MAX: usize = 256;

static TAKEN: LazyLock<Script> = LazyLock::new(|| Script::new(TAKE));
static GIVEN_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(GIVE_BACK));

/// A request that waits until Redis has counted it.
struct Waiting {
    key: String,
    reply: oneshot::Sender<Result<(), Duration>>,
}

/// Access to the shared buckets.
pub(crate) struct SharedBuckets {
    node: Arc<RedisNode>,
    prefix: String,
    queue: mpsc::Sender<Waiting>,
}

impl SharedBuckets {
    /// Starts the task that counts. It ends when this value, which has the only sender of its queue, is dropped.
    pub(crate) fn new(node: Arc<RedisNode>, rate: Rate, prefix: String, supervisor: &Supervisor) -> Self {
        node.connect_early();
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let counting = count_together(node.clone(), rate, waiting);
        tokio::spawn(supervisor.watch("rate_limit", Ends::WhenDone, counting));
        Self { node, prefix, queue }
    }

    /// Takes one token, or returns the time until there is one. `None` if Redis does not answer in time.
    pub(crate) async fn take(&self, holder: u128) -> Option<Result<(), Duration>> {
        let (reply, counted) = oneshot::channel();
        self.queue.try_send(Waiting { key: self.key(holder), reply }).ok()?;
        timeout(self.node.timeout(), counted).await.ok()?.ok()
    }

    /// Returns one token.
    pub(crate) async fn give_back(&self, rate: Rate, holder: u128) {
        let (key, one) = (self.key(holder), micros(rate.interval()));
        let give = async move |mut connection| {
            GIVEN_BACK.key(key).arg(one).invoke_async::<u64>(&mut connection).await
        };
        // If the call fails, the bucket refills by itself.
        let _ = self.node.call(RedisCall::GiveBack, give).await;
    }

    fn key(&self, holder: u128) -> String {
        // The braces put all keys into one slot: a Redis in cluster mode refuses a call whose keys are in several.
        format!("{}:{{limit}}:{holder:032x}", self.prefix)
    }
}

/// Counts waiting requests, one script call after the other, until the queue is closed.
async fn count_together(node: Arc<RedisNode>, rate: Rate, mut queue: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::with_capacity(CALL_MAX);
    while queue.recv_many(&mut waiting, CALL_MAX).await > 0 {
        // Requests that waited too long have been counted by their process meanwhile; they must not be counted twice.
        waiting.retain(|Waiting { reply, .. }| !reply.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let mut call = TAKEN.prepare_invoke();
        for Waiting { key, .. } in &waiting {
            call.key(key.as_str());
        }
        call.arg(micros(rate.interval())).arg(micros(rate.per));
        let take = async move |mut connection| call.invoke_async::<Vec<u64>>(&mut connection).await;
        let waits = node.call(RedisCall::Limit, take).await.unwrap_or_default();
        // If the call failed there are no waits: the senders are dropped with `drain`, and each receiver falls back
        // at once.
        for (Waiting { reply, .. }, wait) in waiting.drain(..).zip(waits) {
            let taken = if wait == 0 { Ok(()) } else { Err(Duration::from_micros(wait)) };
            // The receiver is gone if its request timed out in this moment.
            let _ = reply.send(taken);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
