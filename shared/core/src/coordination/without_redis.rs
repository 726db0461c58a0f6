//! Stands in for the Redis client in builds without the feature `redis`.
//!
//! [`RedisNode::from_options`] finds no node, because `config` refuses `BESPEAK_REDIS_URLS` in such a build. A node
//! has no values, so the compiler proves that nothing that needs one can run.

use std::{sync::Arc, time::Duration};

use super::{CoordinationOptions, Rate};
use crate::{dispatch::SoldOutMemory, supervision::Supervisor};

/// A node that cannot exist.
pub(crate) enum RedisNode {}

impl RedisNode {
    /// No node.
    pub(crate) fn from_options(options: &CoordinationOptions) -> Option<Arc<Self>> {
        debug_assert!(options.redis_url.is_none(), "config refuses URLs of Redis in this build");
        None
    }
}

/// Buckets of a node that cannot exist.
pub(crate) struct SharedBuckets(Arc<RedisNode>);

impl SharedBuckets {
    pub(crate) fn new(node: Arc<RedisNode>, _: Rate, _: String, _: &Supervisor) -> Self {
        Self(node)
    }

    #[expect(clippy::unused_async, reason = "the same signature as with Redis")]
    pub(crate) async fn take(&self, _: u128) -> Option<Result<(), Duration>> {
        match *self.0 {}
    }

    #[expect(clippy::unused_async, reason = "the same signature as with Redis")]
    pub(crate) async fn give_back(&self, _: Rate, _: u128) {
        match *self.0 {}
    }
}

/// A channel of a node that cannot exist.
pub(crate) struct SoldOutChannel(Arc<RedisNode>);

impl SoldOutChannel {
    pub(crate) fn new(node: Arc<RedisNode>, _: String, _: Arc<SoldOutMemory>) -> Self {
        Self(node)
    }

    pub(crate) fn start(self, _: &Supervisor) {
        match *self.0 {}
    }
}
