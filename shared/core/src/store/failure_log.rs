//! A log of store failures that an operator can read: an outage makes two lines, not one for each request.

use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;
use crate::telemetry::{LogLimit, chain};

/// Logs failures of the store: an outage once when it begins and once when it ends, any other failure each time, with
/// its cause.
#[derive(Debug)]
pub struct FailureLog {
    /// The effect of an outage while it lasts, for the log line.
    meanwhile: &'static str,
    away: AtomicBool,
    /// Under overload, batches give up by the hundred.
    contended: LogLimit,
}

impl Default for FailureLog {
    fn default() -> Self {
        Self::of("requests are answered 503")
    }
}

impl FailureLog {
    /// Creates a log whose line about an outage says what happens meanwhile.
    pub fn of(meanwhile: &'static str) -> Self {
        Self { meanwhile, away: AtomicBool::default(), contended: LogLimit::new() }
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
            Err(error @ StoreError::Contended { .. }) => {
                if let Some(others) = self.contended.pass() {
                    let error = chain(error);
                    tracing::warn!(
                        error,
                        others,
                        "a batch lost to other writers until its retries were exhausted"
                    );
                }
            }
            Err(error) => {
                tracing::error!(error = chain(error), "the store failed");
            }
        }
    }
}
