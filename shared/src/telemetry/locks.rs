//! Metrics of distributed locks.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use crate::lock::LockKind;

pub(super) fn describe() {
    describe_counter!(
        "bespeak_lock_acquisitions_total",
        Unit::Count,
        "Commands that asked for distributed locks, by lock and result: acquired, timed_out (others held it) or failed (nobody \
         could say)."
    );
    describe_counter!(
        "bespeak_lock_waits_total",
        Unit::Count,
        "Of these, those that found a lock held by others, by lock."
    );
    describe_histogram!(
        "bespeak_lock_wait_seconds",
        Unit::Seconds,
        "How long those waited, whether or not they got it, by lock."
    );
    describe_counter!(
        "bespeak_lock_lost_total",
        Unit::Count,
        "Distributed locks that ended before their holder was done, by lock."
    );
}

/// Counts a command that asked for locks, and how long it took where it had to wait.
pub(crate) fn count_lock(kind: LockKind, result: &'static str, waited: Option<Duration>) {
    let lock = kind.as_str();
    counter!("bespeak_lock_acquisitions_total", "lock" => lock, "result" => result).increment(1);
    if let Some(waited) = waited {
        counter!("bespeak_lock_waits_total", "lock" => lock).increment(1);
        histogram!("bespeak_lock_wait_seconds", "lock" => lock).record(waited);
    }
}

/// Counts a lock that ended before its holder was done.
pub(crate) fn count_lost_lock(kind: LockKind) {
    counter!("bespeak_lock_lost_total", "lock" => kind.as_str()).increment(1);
}
