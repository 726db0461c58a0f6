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

/// The nodes of a Redlock, and how long each is waited for.
#[derive(Clone)]
pub struct RedlockOptions {
    /// Independent nodes: none is a replica of another. Use an odd number, since a fourth node tolerates no more failures than
    /// three do.
    pub urls: Vec<String>,
    /// The time-out of a call to a node, including the connection. Much shorter than any lease.
    pub node_timeout: Duration,
}
