//! How a command waits for the locks that it needs: in the order of their names, with a deadline, counted.
//!
//! Never: a command that runs without its locks. What a command gets instead is an error, and the client comes again.

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

/// How long a lock that others hold is left alone at first; then twice as long, and so on.
const WAIT_FIRST: Duration = Duration::from_millis(2);
/// How long at the most.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// Takes locks for commands.
pub struct Locks {
    lock: Arc<dyn DistributedLock>,
    timeout: Duration,
    lease: Duration,
    counted: Counted,
    away: AtomicBool,
}

#[derive(Default)]
struct Counted {
    attempts: AtomicU64,
    waited: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

/// What became of attempts to take locks, since the start. An attempt is for all locks that one command needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockCounts {
    /// All of them.
    pub attempts: u64,
    /// Those that found a lock held by others.
    pub waited: u64,
    /// Those that gave up because others held it for too long.
    pub timed_out: u64,
    /// Those that gave up because nobody could say whether it was free.
    pub failed: u64,
    /// Locks that ended before their holder was done.
    pub lost: u64,
}

/// Locks that are held. Whoever drops it without [`Held::release`] leaves them to the end of their leases.
pub struct Held<'a> {
    locks: &'a Locks,
    grants: Vec<Grant>,
}

impl Locks {
    /// Takes locks for `lease` each, and waits for them no longer than `timeout`.
    pub fn new(lock: Arc<dyn DistributedLock>, timeout: Duration, lease: Duration) -> Self {
        Self { lock, timeout, lease, counted: Counted::default(), away: AtomicBool::new(false) }
    }

    /// Which locks these are.
    pub fn kind(&self) -> LockKind {
        self.lock.kind()
    }

    /// What became of attempts until now.
    pub fn counts(&self) -> LockCounts {
        let Counted { attempts, waited, timed_out, failed, lost } = &self.counted;
        let [attempts, waited, timed_out, failed, lost] =
            [attempts, waited, timed_out, failed, lost].map(|count| count.load(Ordering::Relaxed));
        LockCounts { attempts, waited, timed_out, failed, lost }
    }

    /// Takes all of these, or none. In the order of their names, whatever order they come in, so that no two wait for each
    /// other. Cancel-safe: what was taken for nobody ends with its lease.
    ///
    /// # Errors
    /// One of them cannot be had in time, or nobody can say whether it is free. Then none is held.
    pub async fn acquire(&self, mut names: Vec<LockName>) -> Result<Held<'_>, LockError> {
        names.sort_unstable();
        names.dedup();
        let (began, mut waited) = (Instant::now(), false);
        let mut held = Held { locks: self, grants: Vec::with_capacity(names.len()) };
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
            // At random, so that those who were refused together do not come again together.
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
        self.note(taken);
    }

    /// Logs an outage once when it begins and once when it is over.
    fn note(&self, taken: &Result<(), LockError>) {
        let lock = self.kind().as_str();
        match taken {
            Err(error @ (LockError::Store(_) | LockError::NoQuorum { .. })) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    let error = telemetry::chain(error);
                    tracing::error!(
                        lock,
                        error,
                        "locks cannot be taken; requests are answered 503 until they can"
                    );
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

impl Held<'_> {
    /// What is held.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Does something, and extends the locks meanwhile, each time a third of their lease has passed. What is done is not
    /// stopped when one of them is lost: it may be half done, and whoever it is done to must refuse it.
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
            // Where nobody can say, the next time may tell.
            let _ = self.locks.lock.extend(grant, self.locks.lease).await;
        }
    }

    /// Gives all of them back.
    pub async fn release(self) {
        for grant in self.grants {
            // What cannot be given back ends with its lease.
            if let Ok(false) = self.locks.lock.release(grant, Duration::ZERO).await {
                self.locks.counted.lost.fetch_add(1, Ordering::Relaxed);
                telemetry::count_lost_lock(self.locks.kind().as_str());
            }
        }
    }
}
