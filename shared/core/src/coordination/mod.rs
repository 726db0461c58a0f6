//! Hints that processes share through Redis.
//!
//! The sold-out channel passes on which resources a process knows to be sold out; the rate limit counts the requests
//! of a holder over all processes. **Correctness never depends on Redis (I11)**: if Redis is missing, slow, emptied
//! or replaced, each process does the same work alone, only less efficiently. Never: an error to a customer because
//! of Redis, a wait for Redis that exceeds its time-out, a decision that could contradict the database.
//!
//! Next: `node.rs` for the circuit breaker around every call, `sold_out_channel.rs`, `limit.rs`. Distributed locks
//! are in [`crate::lock`].

mod limit;
mod local_buckets;
mod options;
mod rate;

#[cfg(feature = "redis")]
mod message;
#[cfg(feature = "redis")]
mod node;
#[cfg(feature = "redis")]
mod shared_buckets;
#[cfg(feature = "redis")]
mod sold_out_channel;
#[cfg(not(feature = "redis"))]
mod without_redis;

#[cfg(feature = "redis")]
pub(crate) use self::{node::RedisNode, shared_buckets::SharedBuckets, sold_out_channel::SoldOutChannel};
pub(crate) use limit::RateLimiter;
pub use options::CoordinationOptions;
pub use rate::{Limited, Rate};
#[cfg(not(feature = "redis"))]
pub(crate) use without_redis::{RedisNode, SharedBuckets, SoldOutChannel};
