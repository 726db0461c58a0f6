//! Readiness: whether requests can be served, however often that is asked.
//!
//! A check takes the write path of the store, which with SQLite every reservation needs too. So one check is in flight
//! at a time, those that ask meanwhile share its result, and the result serves for a while.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::dispatch::DispatchError;

/// How long the result of a check serves.
const SERVES_FOR: Duration = Duration::from_secs(1);

/// The last check.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    draining: AtomicBool,
    last: Mutex<Option<Checked>>,
}

#[derive(Debug)]
struct Checked {
    at: Instant,
    result: Result<(), DispatchError>,
}

impl Readiness {
    /// Returns the result of the last check, or of a new one if that is too old. Cancel-safe: if the caller that checks
    /// goes away, the next one checks.
    pub(super) async fn check<C>(&self, check: impl FnOnce() -> C) -> Result<(), DispatchError>
    where
        C: Future<Output = Result<(), DispatchError>>,
    {
        if self.draining.load(Ordering::Relaxed) {
            return Err(DispatchError::Stopping);
        }
        // The lock is held during the check: whoever waits for it finds a fresh result.
        let mut last = self.last.lock().await;
        if let Some(checked) = &*last
            && checked.at.elapsed() < SERVES_FOR
        {
            return checked.result.clone();
        }
        let result = check().await;
        *last = Some(Checked { at: Instant::now(), result: result.clone() });
        result
    }

    /// Answers from now on that the process is not ready.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    #[tokio::test]
    async fn any_number_of_callers_share_one_check() {
        let (readiness, checks) = (Arc::new(Readiness::default()), Arc::new(AtomicUsize::new(0)));
        let mut callers = Vec::new();
        for _ in 0..100 {
            let (readiness, checks) = (readiness.clone(), checks.clone());
            callers.push(tokio::spawn(async move {
                let check = || async {
                    checks.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Err(DispatchError::Full)
                };
                readiness.check(check).await
            }));
        }
        for caller in callers {
            assert!(matches!(caller.await.unwrap(), Err(DispatchError::Full)));
        }
        assert_eq!(checks.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_the_check_to_the_next() {
        let readiness = Readiness::default();
        let mut abandoned = Box::pin(readiness.check(std::future::pending));
        assert!(futures_util::poll!(&mut abandoned).is_pending());
        drop(abandoned);
        assert!(readiness.check(|| async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_process_that_drains_is_not_ready() {
        let readiness = Readiness::default();
        assert!(readiness.check(|| async { Ok(()) }).await.is_ok());
        readiness.drain();
        let checked = readiness.check(|| async { Ok(()) }).await;
        assert!(matches!(checked, Err(DispatchError::Stopping)));
    }
}
