//! How distributed locks are taken.

use std::time::Duration;

use crate::secret_url::SecretUrl;

/// How distributed locks are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// Redis nodes, each independent of the others.
    pub redis_urls: Vec<SecretUrl>,
    /// For how long a command waits for its locks.
    pub timeout: Duration,
    /// For how long a lock is held at the most, unless it is extended.
    pub lease: Duration,
    /// For how long one Redis node is waited for.
    pub node_timeout: Duration,
}
