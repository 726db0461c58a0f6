//! Distributed locks: a port, and two that many teams use, a lease in the database and Redlock over Redis nodes.
//!
//! **A lock is an optimisation (I11).** It ends by itself, so that a holder that died blocks nobody for ever; hence a holder
//! that merely stopped (a pause, a swapped-out page, a slow network) may go on when another holds it already. No lock that
//! ends by itself can prevent that (Martin Kleppmann, "How to do distributed locking",
//! <https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>): what is locked must itself refuse whoever
//! comes too late, by the fencing number of a [`Grant`] or, as the books do, by the version that a write was decided on.
//!
//! Never: correctness that rests on a lock. Next: `database.rs` and `redlock/` for what each is worth, `waiting.rs` for
//! how commands wait for them, `conformance.rs` for what both must do.

#[cfg(feature = "conformance")]
pub mod conformance;
mod database;
mod options;
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
pub use options::LockOptions;
pub use redlock::{Redlock, RedlockOptions};
pub use waiting::{Held, LockCounts, Locks};

use crate::{
    engine::{ResourceId, Violation},
    store::StoreError,
};

/// Which lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// A lease in the database: [`DatabaseLock`].
    Database,
    /// A majority of Redis nodes: [`Redlock`].
    Redlock,
}

impl LockKind {
    /// The word for it: the metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Redlock => "redlock",
        }
    }
}

/// What a lock is called: 1 to 150 characters of `A-Za-z0-9._:/-`, compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Arc<str>);

impl LockName {
    /// The longest name, in characters (all of them ASCII).
    pub const LENGTH_MAX: usize = 150;

    /// Parses a name.
    ///
    /// # Errors
    /// It is empty, too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, Violation> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        if name.is_empty() || name.len() > Self::LENGTH_MAX || !name.chars().all(legal) {
            return Err(Violation::new("lock", "must have 1 to 150 characters of A-Za-z0-9._:/-"));
        }
        Ok(Self(name.into()))
    }

    /// The lock of a resource.
    pub fn of(resource: &ResourceId) -> Self {
        // In its bounds: an id has 128 characters at the most, and no others.
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

/// A lock that was taken.
#[derive(Clone, Debug)]
pub struct Grant {
    name: LockName,
    /// Drawn for this grant alone: only who knows it extends or releases it.
    holder: Uuid,
    fencing: u64,
    granted: Instant,
    valid_until: Instant,
}

impl Grant {
    /// What is locked.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// A number that is higher than that of every earlier grant of this name. Whoever is written to by holders can refuse a
    /// lower one than it has seen: that, and not the lock, is what keeps a late holder out.
    pub fn fencing(&self) -> u64 {
        self.fencing
    }

    /// Whether it still holds, as far as this process can know: its lease, less an allowance for clocks that run at different
    /// speeds. What is true now may be false when the next statement runs.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }

    /// How much longer it must be held to have been held for `at_least`.
    fn owed(&self, at_least: Duration) -> Duration {
        at_least.saturating_sub(self.granted.elapsed())
    }
}

/// RunUntil when a lease of this length surely lasts that was asked for at `asked`: clocks may differ in speed by a hundredth,
/// and Redis ends keys on whole milliseconds (the allowance of the Redlock description).
fn valid_until(asked: Instant, lease: Duration) -> Instant {
    let drift = lease / 100 + Duration::from_millis(2);
    asked + lease.saturating_sub(drift)
}

/// Why a lock cannot be had, extended or released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The database that keeps leases fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too few Redis nodes answer: nobody can hold a majority.
    #[error("{answered} of {nodes} Redis nodes answered, {needed} are needed: {reason}")]
    NoQuorum {
        /// How many answered.
        answered: usize,
        /// How many there are.
        nodes: usize,
        /// How many are a majority.
        needed: usize,
        /// What one of the others said.
        reason: String,
    },
    /// Others held it for as long as anyone should wait.
    #[error("{name} was locked by others for {} ms", waited.as_millis())]
    TimedOut {
        /// What is locked.
        name: LockName,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It was taken, and its lease was over before it could be used.
    #[error("the lock on {name} ended before it could be used")]
    Lapsed {
        /// What was locked.
        name: LockName,
    },
}

/// Something that one process at a time can hold, of all that ask the same database or the same Redis nodes.
///
/// What every implementation promises (`conformance.rs`): while every clock runs at about the same speed and no state is lost,
/// nobody else is granted a name between a grant and the earliest of its release and the end of its lease; fencing numbers of a
/// name grow strictly; only the grant that holds a name extends or releases it; a holder that is gone blocks nobody for
/// longer than its lease. What none promises: that its holder still holds it when it acts. None is re-entrant or fair.
#[async_trait]
pub trait DistributedLock: Send + Sync + 'static {
    /// Which it is.
    fn kind(&self) -> LockKind;

    /// Takes a name for `lease` (ShedLock's lock-at-most-for), if nobody holds it; does not wait. Cancel-safe: what was taken
    /// for nobody ends with its lease.
    ///
    /// # Errors
    /// Nobody can say whether it is free; it is not held then.
    async fn try_acquire(&self, name: &LockName, lease: Duration) -> Result<Option<Grant>, LockError>;

    /// Lets a grant last for `lease` from now on, and says whether it is still held; one that ended is not revived.
    ///
    /// # Errors
    /// Nobody can say; it lasts as long as it did before, at least.
    async fn extend(&self, grant: &mut Grant, lease: Duration) -> Result<bool, LockError>;

    /// Gives a name back, not before it was held for `at_least` (ShedLock's lock-at-least-for, which keeps holders whose clocks
    /// differ from doing the same work one after the other). Says whether it was still held.
    ///
    /// # Errors
    /// Nobody can say; it ends with its lease.
    async fn release(&self, grant: Grant, at_least: Duration) -> Result<bool, LockError>;
}
