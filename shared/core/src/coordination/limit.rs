//! The rate limit: how often a holder may ask for units, all processes together.
//!
//! A bucket per holder, emptied by one with each request and filled evenly, kept as the instant at which it will be full
//! (the generic cell rate algorithm, <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>): one number, one script,
//! one round trip for all requests that came while the last was under way. While Redis does not answer, each process has
//! buckets of its own. Never: a holder's name in Redis, nor an error because of Redis.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use redis::Script;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{RedisNode, bucket::Buckets};
use crate::{
    engine::Holder,
    telemetry::{self, RedisCall},
};

/// So many requests in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many: as many at once, and as many on average. 1 to 1,000,000.
    pub requests: u32,
    /// In how long: 1 s to 24 h.
    pub per: Duration,
}

impl Rate {
    /// How long it takes until one more is allowed; not zero.
    pub(super) fn interval(self) -> Duration {
        (self.per / self.requests.max(1)).max(Duration::from_micros(1))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.requests, self.per.as_secs())
    }
}

/// A holder asks too often. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this holder asks more often than {rate}")]
pub struct Limited {
    /// What is allowed.
    pub rate: Rate,
    /// How long until one more request is.
    pub retry_after: Duration,
}

/// Takes one of each bucket of `KEYS`, in their order, and says of each in how many microseconds there is one, 0 where one was
/// taken. `ARGV[1]`: how long one takes to come back, `ARGV[2]`: how long all do, in microseconds. A clock that jumps back must
/// not shut anyone out, so no bucket is emptier than empty.
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

/// Gives one back.
const GIVE_BACK: &str = r"
local full, left = redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if full and left > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', tonumber(full) - tonumber(ARGV[1])), 'PX', left)
end
return 0
";

/// Requests that may wait to be counted by Redis; whoever comes then is counted by the process.
const QUEUE_MAX: usize = 4_096;
/// Requests that are counted in one call at the most.
const CALL_MAX: usize = 256;

static TAKEN: LazyLock<Script> = LazyLock::new(|| Script::new(TAKE));
static GIVEN_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(GIVE_BACK));

/// A request that was allowed, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    holder: u128,
    by_redis: bool,
}

/// A request that waits to be counted by Redis.
struct Waiting {
    key: String,
    answer: oneshot::Sender<Result<(), Duration>>,
}

/// The limit of this process.
pub(crate) struct RateLimiter {
    rate: Rate,
    prefix: String,
    shared: Option<Shared>,
    buckets: Buckets,
}

/// The way to the buckets that all processes share.
struct Shared {
    node: Arc<RedisNode>,
    queue: mpsc::Sender<Waiting>,
}

impl RateLimiter {
    /// Through this node, if there is one; keys begin with `prefix`.
    pub(crate) fn new(rate: Rate, prefix: String, node: Option<Arc<RedisNode>>) -> Self {
        let shared = node.map(|node| {
            node.look();
            let (queue, waiting) = mpsc::channel(QUEUE_MAX);
            // Ends with this limiter, which has the only other end.
            tokio::spawn(count_together(node.clone(), rate, waiting));
            Shared { node, queue }
        });
        Self { rate, prefix, shared, buckets: Buckets::default() }
    }

    /// Counts a request. One without a holder is nobody's, so it is not limited. Cancel-safe: it may have been counted.
    pub(crate) async fn take(&self, holder: Option<&Holder>) -> Result<Option<Allowed>, Limited> {
        let Some(holder) = holder else {
            telemetry::count_limited("unnamed");
            return Ok(None);
        };
        let holder = digest(holder);
        let (by_redis, taken) = match self.take_of_redis(holder).await {
            Some(taken) => (true, taken),
            None => (false, self.buckets.take(self.rate, holder, Instant::now())),
        };
        telemetry::count_limited(if taken.is_ok() { "allowed" } else { "limited" });
        if !by_redis {
            telemetry::count_limited_locally();
        }
        match taken {
            Ok(()) => Ok(Some(Allowed { holder, by_redis })),
            Err(retry_after) => Err(Limited { rate: self.rate, retry_after }),
        }
    }

    /// Gives back what a request was counted for that was a retry. Cancel-safe: it may stay counted.
    pub(crate) async fn give_back(&self, Allowed { holder, by_redis }: Allowed) {
        if !by_redis {
            return self.buckets.give_back(self.rate, holder);
        }
        if let Some(Shared { node, .. }) = &self.shared {
            let (key, one) = (self.key(holder), micros(self.rate.interval()));
            let give = async move |mut connection| {
                GIVEN_BACK.key(key).arg(one).invoke_async::<u64>(&mut connection).await
            };
            // If that fails, the bucket fills by itself.
            let _ = node.ask(RedisCall::GiveBack, give).await;
        }
    }

    /// `None` where Redis does not say in time.
    async fn take_of_redis(&self, holder: u128) -> Option<Result<(), Duration>> {
        let Shared { node, queue } = self.shared.as_ref()?;
        let (answer, told) = oneshot::channel();
        queue.try_send(Waiting { key: self.key(holder), answer }).ok()?;
        timeout(node.patience(), told).await.ok()?.ok()
    }

    fn key(&self, holder: u128) -> String {
        // In one slot, since one call has several: a Redis in cluster mode refuses it otherwise.
        format!("{}:{{limit}}:{holder:032x}", self.prefix)
    }
}

/// Counts what waits, one call after the other, until nobody can come any more.
async fn count_together(node: Arc<RedisNode>, rate: Rate, mut queue: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::with_capacity(CALL_MAX);
    while queue.recv_many(&mut waiting, CALL_MAX).await > 0 {
        // Whoever waited for too long was counted by the process meanwhile.
        waiting.retain(|Waiting { answer, .. }| !answer.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let mut call = TAKEN.prepare_invoke();
        for Waiting { key, .. } in &waiting {
            call.key(key.as_str());
        }
        call.arg(micros(rate.interval())).arg(micros(rate.per));
        let take = async move |mut connection| call.invoke_async::<Vec<u64>>(&mut connection).await;
        let waits = node.ask(RedisCall::Limit, take).await.unwrap_or_default();
        // Who is not told learns it by that.
        for (Waiting { answer, .. }, wait) in waiting.drain(..).zip(waits) {
            let taken = if wait == 0 { Ok(()) } else { Err(Duration::from_micros(wait)) };
            // Nobody may wait for it any more.
            let _ = answer.send(taken);
        }
    }
}

/// Who it is, without their name: that may be an address of theirs, and Redis need not know it.
fn digest(holder: &Holder) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(holder.as_str().as_bytes()).as_bytes()[..16]);
    u128::from_be_bytes(first)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
