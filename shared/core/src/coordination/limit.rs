//! The rate limit: how many reservations a holder may request per period, counted over all processes.
//!
//! Each holder has a bucket that a request takes one token from and that refills evenly. Redis keeps the buckets that
//! all processes share (`shared_buckets.rs`); while Redis does not answer, this process counts in buckets of its own
//! (`local_buckets.rs`), so an outage makes the limit looser by up to the number of processes and fails no request.
//! Never: the name of a holder in Redis.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Limited, Rate, RedisNode, SharedBuckets, local_buckets::LocalBuckets};
use crate::{engine::Holder, supervision::Supervisor, telemetry};

/// A request that was counted and allowed, and which buckets counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    holder: u128,
    by_redis: bool,
}

/// The rate limit as this process applies it.
pub(crate) struct RateLimiter {
    rate: Rate,
    shared: Option<SharedBuckets>,
    local: LocalBuckets,
}

impl RateLimiter {
    /// Counts in the buckets of `node`, if there is one, under keys that begin with `prefix`.
    pub(crate) fn new(
        rate: Rate,
        prefix: String,
        node: Option<Arc<RedisNode>>,
        supervisor: &Supervisor,
    ) -> Self {
        let shared = node.map(|node| SharedBuckets::new(node, rate, prefix, supervisor));
        Self { rate, shared, local: LocalBuckets::default() }
    }

    /// Counts a request. A request without a holder is not limited. Cancel-safe: a cancelled request may have been
    /// counted.
    pub(crate) async fn take(&self, holder: Option<&Holder>) -> Result<Option<Allowed>, Limited> {
        let Some(holder) = holder else {
            telemetry::count_rate_limit("unnamed");
            return Ok(None);
        };
        let holder = digest(holder);
        let (by_redis, taken) = match self.take_from_redis(holder).await {
            Some(taken) => (true, taken),
            None => (false, self.local.take(self.rate, holder, Instant::now())),
        };
        telemetry::count_rate_limit(if taken.is_ok() { "allowed" } else { "limited" });
        if !by_redis {
            telemetry::count_rate_limited_locally();
        }
        match taken {
            Ok(()) => Ok(Some(Allowed { holder, by_redis })),
            Err(retry_after) => Err(Limited { rate: self.rate, retry_after }),
        }
    }

    /// Returns the token of a request that turned out to be a retry. Cancel-safe: if cancelled, the token may stay
    /// taken.
    pub(crate) async fn give_back(&self, Allowed { holder, by_redis }: Allowed) {
        match &self.shared {
            Some(shared) if by_redis => shared.give_back(self.rate, holder).await,
            _ => self.local.give_back(self.rate, holder),
        }
    }

    /// `None` if Redis does not answer in time.
    async fn take_from_redis(&self, holder: u128) -> Option<Result<(), Duration>> {
        self.shared.as_ref()?.take(holder).await
    }
}

/// Identifies a holder without its name, which may be personal data that Redis does not need.
fn digest(holder: &Holder) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(holder.as_str().as_bytes()).as_bytes()[..16]);
    u128::from_be_bytes(first)
}
