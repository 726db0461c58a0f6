//! Distributed locks: the port [`DistributedLock`], and two widely used implementations, a lease in the database and
//! Redlock over Redis nodes.
//!
//! **A lock is an optimisation (I11).** It expires, so that a dead holder does not block others for ever. Hence a
//! holder that only paused (a stopped process, a swapped-out page, a slow network) may continue while another one
//! holds the lock. No lock that expires can prevent that (Martin Kleppmann, "How to do distributed locking",
//! <https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>): the locked resource itself must
//! refuse late writes, by the fencing number of a [`Grant`] or, as this store does, by the version that a write was
//! decided on.
//!
//! Never: correctness that rests on a lock. Next: `database.rs` and `redlock/` for the guarantees of each,
//! `waiting.rs` for how commands wait for locks, `conformance.rs` for the tests of both.

#[cfg(feature = "conformance")]
pub mod conformance;
mod database;
mod options;
#[cfg(feature = "redis")]
mod redlock;
#[cfg(not(feature = "redis"))]
#[path = "redlock_absent.rs"]
mod redlock;
mod waiting;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use uuid::Uuid;

pub use database::DatabaseLock;
pub use options::{LockOptions, RedlockOptions};
pub use redlock::Redlock;
pub use waiting::{HeldLocks, LockCounts, Locks};

use crate::{
    engine::{ResourceId, Violation},
    store::StoreError,
};

/// The implementations of [`DistributedLock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// A lease in the database: [`DatabaseLock`].
    Database,
    /// A majority of Redis nodes: [`Redlock`].
    Redlock,
}

impl LockKind {
    /// The label in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Redlock => "redlock",
        }
    }
}

/// The name of a lock: 1 to 150 characters of `A-Za-z0-9._:/-`, compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Arc<str>);

impl LockName {
    /// The longest name, in characters (all of them ASCII).
    pub const LENGTH_MAX: usize = 150;

    /// Parses a name.
    ///
    /// # Errors
    /// The name is empty, too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, Violation> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        if name.is_empty() || name.len() > Self::LENGTH_MAX || !name.chars().all(legal) {
            return Err(Violation::new("lock", "must have 1 to 150 characters of A-Za-z0-9._:/-"));
        }
        Ok(Self(name.into()))
    }

    /// The lock of a resource.
    pub fn of(resource: &ResourceId) -> Self {
        // Within the bounds: an id has at most 128 characters, all of them allowed here.
        Self(format!("resource/{}", resource.as_str()).into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A lock that was granted.
#[derive(Clone, Debug)]
pub struct Grant {
    name: LockName,
    /// Drawn for this grant alone, so that only its holder can extend or release it.
    holder: Uuid,
    fencing: u64,
    granted: Instant,
    valid_until: Instant,
}

impl Grant {
    /// The name that is locked.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// The fencing number: higher than that of every earlier grant of this name. A resource that holders write to can
    /// refuse a number lower than the highest it has seen. That, and not the lock, is what stops a late holder.
    pub fn fencing(&self) -> u64 {
        self.fencing
    }

    /// Whether the lock is still held, as far as this process can know: within the lease, less an allowance for
    /// clocks that run at different speeds. The answer may be out of date when the next statement runs.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }

    /// The time for which the lock must still be held, to have been held for `at_least`.
    fn owed(&self, at_least: Duration) -> Duration {
        at_least.saturating_sub(self.granted.elapsed())
    }
}

/// The instant until which a lease that was requested at `requested` certainly lasts. Clocks may differ in speed by
/// one per cent, and Redis expires keys on whole milliseconds (the allowance of the Redlock description).
fn valid_until(requested: Instant, lease: Duration) -> Instant {
    let drift = lease / 100 + Duration::from_millis(2);
    requested + lease.saturating_sub(drift)
}

/// The reason why a lock cannot be taken, extended or released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The database that keeps leases failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too few Redis nodes answered to know whether the lock is held.
    #[error("{answered} of {nodes} Redis nodes answered, {needed} are needed: {reason}")]
    NoQuorum {
        /// The nodes that answered.
        answered: usize,
        /// All nodes.
        nodes: usize,
        /// The size of a majority.
        needed: usize,
        /// The error of one of the other nodes.
        reason: String,
    },
    /// Other holders had the lock for longer than the time-out.
    #[error("{name} was locked by others for {} ms", waited.as_millis())]
    TimedOut {
        /// The name of the lock.
        name: LockName,
        /// The time that was spent waiting.
        waited: Duration,
    },
    /// The lock was taken, but its lease expired before it could be used.
    #[error("the lock on {name} expired before it could be used")]
    Lapsed {
        /// The name of the lock.
        name: LockName,
    },
}

/// A lock that one process at a time can hold, among all that use the same database or the same Redis nodes.
///
/// Every implementation promises (`conformance.rs`), while all clocks run at about the same speed and no state is
/// lost: no other holder is granted a name between a grant and its release or the end of its lease, whichever is
/// earlier; the fencing numbers of a name grow strictly; only the grant that holds a name can extend or release it; a
/// dead holder blocks others no longer than its lease. No implementation promises that a holder still holds the lock
/// when it acts. None is re-entrant or fair.
#[async_trait]
pub trait DistributedLock: Send + Sync + 'static {
    /// The kind of lock.
    fn kind(&self) -> LockKind;

    /// Takes a name for `lease` (ShedLock's lock-at-most-for), without waiting. `None` if another holder has it.
    /// Cancel-safe: a lock that was taken by a cancelled call expires with its lease.
    ///
    /// # Errors
    /// The state of the lock is unknown. The lock is not granted then.
    async fn try_acquire(&self, name: &LockName, lease: Duration) -> Result<Option<Grant>, LockError>;

    /// Extends a grant to `lease` from now, and returns whether it is still held. An expired grant is not revived.
    ///
    /// # Errors
    /// The state of the lock is unknown. It lasts at least as long as before.
    async fn extend(&self, grant: &mut Grant, lease: Duration) -> Result<bool, LockError>;

    /// Releases a grant, but no earlier than after it was held for `at_least` (ShedLock's lock-at-least-for, which
    /// keeps holders whose clocks differ from doing the same work one after the other). Returns whether it was still
    /// held.
    ///
    /// # Errors
    /// The state of the lock is unknown. It expires with its lease.
    async fn release(&self, grant: Grant, at_least: Duration) -> Result<bool, LockError>;
}
