//! A log of store failures that an operator can read: an outage makes two lines, not one for each request.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::StoreError;
use crate::telemetry::chain;

/// Logs failures of the store: an outage once when it begins and once when it ends, any other failure each time, with
/// its cause.
#[derive(Debug)]
pub struct FailureLog {
    /// The effect of an outage while it lasts, for the log line.
    meanwhile: &'static str,
    away: AtomicBool,
    contended: Mutex<Option<Contended>>,
}

/// Batches that gave up since the last log line about them.
#[derive(Debug)]
struct Contended {
    logged_at: Instant,
    unlogged: u64,
}

/// Under overload, batches give up by the hundred; one log line in this time is enough.
const CONTENTION_LOGGED_EVERY: Duration = Duration::from_secs(10);

impl Default for FailureLog {
    fn default() -> Self {
        Self::of("requests are answered 503")
    }
}

impl FailureLog {
    /// Creates a log whose line about an outage says what happens meanwhile.
    pub fn of(meanwhile: &'static str) -> Self {
        Self { meanwhile, away: AtomicBool::default(), contended: Mutex::default() }
    }

    /// Observes the result of a call to the store.
    pub fn observe<T>(&self, ended: &Result<T, StoreError>) {
        match ended {
            Ok(_) => {
                if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the database is available again");
                }
            }
            Err(error) if error.is_outage() => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    let meanwhile = self.meanwhile;
                    tracing::error!(
                        error = chain(error),
                        "the database is unavailable; {meanwhile} until it is back"
                    );
                }
            }
            Err(error @ StoreError::Contended { .. }) => self.observe_contended(error),
            Err(error) => {
                tracing::error!(error = chain(error), "the store failed");
            }
        }
    }

    fn observe_contended(&self, error: &StoreError) {
        let mut contended = self.contended.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *contended {
            Some(earlier) if earlier.logged_at.elapsed() < CONTENTION_LOGGED_EVERY => earlier.unlogged += 1,
            earlier => {
                let others = earlier.as_ref().map_or(0, |earlier| earlier.unlogged);
                let error = chain(error);
                tracing::warn!(
                    error,
                    others,
                    "a batch lost to other writers until its retries were exhausted"
                );
                *earlier = Some(Contended { logged_at: Instant::now(), unlogged: 0 });
            }
        }
    }
}
