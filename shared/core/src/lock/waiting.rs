//! Waits for the locks that a command needs: in the order of their names, with a time-out, and counted.
//!
//! Never: a command that runs without its locks. The command fails instead, and the client retries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{DistributedLock, Grant, LockError, LockKind, LockName};
use crate::telemetry;

/// The first pause before a lock that others hold is tried again. It doubles with each further attempt.
const WAIT_FIRST: Duration = Duration::from_millis(2);
/// The longest pause.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// The locks of commands, with their time-out and lease.
pub struct Locks {
    lock: Arc<dyn DistributedLock>,
    timeout: Duration,
    lease: Duration,
    counted: LockCounters,
    away: AtomicBool,
}

#[derive(Default)]
struct LockCounters {
    attempts: AtomicU64,
    waited: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

/// The counts of attempts to take locks, since the start of the process. One attempt is for all locks of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockCounts {
    /// All attempts.
    pub attempts: u64,
    /// Attempts that found a lock held by others.
    pub waited: u64,
    /// Attempts that timed out because others held a lock.
    pub timed_out: u64,
    /// Attempts that failed because the state of a lock was unknown.
    pub failed: u64,
    /// Locks that expired before their holder released them.
    pub lost: u64,
}

/// Locks that are held. If this is dropped without [`HeldLocks::release`], they expire with their leases.
pub struct HeldLocks<'a> {
    locks: &'a Locks,
    grants: Vec<Grant>,
}

impl Locks {
    /// Locks that are taken for `lease` each, and waited for no longer than `timeout`.
    pub fn new(lock: Arc<dyn DistributedLock>, timeout: Duration, lease: Duration) -> Self {
        Self { lock, timeout, lease, counted: LockCounters::default(), away: AtomicBool::new(false) }
    }

    /// The kind of the locks.
    pub fn kind(&self) -> LockKind {
        self.lock.kind()
    }

    /// The counts until now.
    pub fn counts(&self) -> LockCounts {
        let LockCounters { attempts, waited, timed_out, failed, lost } = &self.counted;
        let [attempts, waited, timed_out, failed, lost] =
            [attempts, waited, timed_out, failed, lost].map(|count| count.load(Ordering::Relaxed));
        LockCounts { attempts, waited, timed_out, failed, lost }
    }

    /// Takes all of these locks, or none. They are taken in the order of their names, so that no two commands wait
    /// for each other. Cancel-safe: locks that a cancelled call has taken expire with their leases.
    ///
    /// # Errors
    /// A lock cannot be taken in time, or its state is unknown. No lock is held then.
    pub async fn acquire(&self, mut names: Vec<LockName>) -> Result<HeldLocks<'_>, LockError> {
        names.sort_unstable();
        names.dedup();
        let (began, mut waited) = (Instant::now(), false);
        let mut held = HeldLocks { locks: self, grants: Vec::with_capacity(names.len()) };
        let mut taken = Ok(());
        for name in names {
            match self.wait_for(&name, began, &mut waited).await {
                Ok(grant) => held.grants.push(grant),
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            }
        }
        // The first lock may have expired while the last one was waited for.
        let lapsed = held.grants.iter().find(|grant| !grant.is_valid());
        if let (Ok(()), Some(grant)) = (&taken, lapsed) {
            taken = Err(LockError::Lapsed { name: grant.name().clone() });
        }
        self.count(&taken, waited, began.elapsed());
        match taken {
            Ok(()) => Ok(held),
            Err(error) => {
                held.release().await;
                Err(error)
            }
        }
    }

    async fn wait_for(&self, name: &LockName, began: Instant, waited: &mut bool) -> Result<Grant, LockError> {
        let mut wait = WAIT_FIRST;
        loop {
            if let Some(grant) = self.lock.try_acquire(name, self.lease).await? {
                return Ok(grant);
            }
            *waited = true;
            let left = self.timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(LockError::TimedOut { name: name.clone(), waited: began.elapsed() });
            }
            // Jitter, so that commands that were refused together do not retry together.
            let random = wait.mul_f64(0.5 + fastrand::f64());
            sleep(random.min(left)).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    fn count(&self, taken: &Result<(), LockError>, waited: bool, took: Duration) {
        let result = match taken {
            Ok(()) => "acquired",
            Err(LockError::TimedOut { .. } | LockError::Lapsed { .. }) => "timed_out",
            Err(LockError::Store(_) | LockError::NoQuorum { .. }) => "failed",
        };
        telemetry::count_lock(self.kind().as_str(), result, waited.then_some(took));
        let add = |count: &AtomicU64, much: bool| count.fetch_add(u64::from(much), Ordering::Relaxed);
        add(&self.counted.attempts, true);
        add(&self.counted.waited, waited);
        add(&self.counted.timed_out, result == "timed_out");
        add(&self.counted.failed, result == "failed");
        self.log_outage(taken);
    }

    /// Logs an outage once when it begins and once when it ends.
    fn log_outage(&self, taken: &Result<(), LockError>) {
        let lock = self.kind().as_str();
        match taken {
            Err(error @ (LockError::Store(_) | LockError::NoQuorum { .. })) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    let error = telemetry::chain(error);
                    tracing::error!(lock, error, "locks cannot be taken; requests get 503 until they can");
                }
            }
            _ => {
                if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(lock, "locks can be taken again");
                }
            }
        }
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locks").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl HeldLocks<'_> {
    /// The grants, in the order of their names.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Runs `work`, and extends the locks whenever a third of their lease has passed. The work is not stopped when a
    /// lock is lost, since it may be half done; the store must refuse its late writes.
    pub async fn kept_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let pause = self.locks.lease / 3;
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(pause) => {}
            }
            tokio::select! {
                done = &mut work => return done,
                () = self.extend() => {}
            }
        }
    }

    async fn extend(&mut self) {
        for grant in &mut self.grants {
            // If the state is unknown, the next extension may succeed.
            let _ = self.locks.lock.extend(grant, self.locks.lease).await;
        }
    }

    /// Releases all locks.
    pub async fn release(self) {
        for grant in self.grants {
            // A lock that cannot be released expires with its lease.
            if let Ok(false) = self.locks.lock.release(grant, Duration::ZERO).await {
                self.locks.counted.lost.fetch_add(1, Ordering::Relaxed);
                telemetry::count_lost_lock(self.locks.kind().as_str());
            }
        }
    }
}
