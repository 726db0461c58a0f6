//! Metrics of distributed locks.

use std::time::Duration;

use metrics::{counter, histogram};

/// Counts a command that tried to acquire locks, and records how long it waited, if it had to.
pub(crate) fn count_lock(lock: &'static str, result: &'static str, waited: Option<Duration>) {
    counter!("bespeak_lock_acquisitions_total", "lock" => lock, "result" => result).increment(1);
    if let Some(waited) = waited {
        counter!("bespeak_lock_waits_total", "lock" => lock).increment(1);
        histogram!("bespeak_lock_wait_seconds", "lock" => lock).record(waited);
    }
}

/// Counts a lock that expired before its holder was done.
pub(crate) fn count_lost_lock(lock: &'static str) {
    counter!("bespeak_lock_lost_total", "lock" => lock).increment(1);
}
