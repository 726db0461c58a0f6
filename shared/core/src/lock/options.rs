//! The options of distributed locks.

use std::time::Duration;

use crate::secret_url::SecretUrl;

/// The options of distributed locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// The Redis nodes, each independent of the others.
    pub redis_urls: Vec<SecretUrl>,
    /// The longest time that a command waits for its locks.
    pub timeout: Duration,
    /// The time after which a lock expires unless it is extended.
    pub lease: Duration,
    /// The time-out of a call to one Redis node.
    pub node_timeout: Duration,
}

/// The nodes of a Redlock, and how long each is waited for.
#[derive(Clone)]
pub struct RedlockOptions {
    /// Independent nodes: none is a replica of another. Use an odd number, since a fourth node tolerates no more
    /// failures than three do.
    pub urls: Vec<String>,
    /// The time-out of a call to a node, including the connection. Much shorter than any lease.
    pub node_timeout: Duration,
}
