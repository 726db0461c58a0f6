//! Metrics of the store: retries, round trips, pools of connections, purged records.

#[cfg(feature = "mysql")]
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};

/// Sets which build runs, and the scheme of its database's URL.
pub(crate) fn set_build_info(database: &'static str) {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("database", database)];
    gauge!("bespeak_build_info", &labels).set(1.0);
}

/// Sets how many tasks of a name run.
pub(crate) fn set_running_tasks(task: &'static str, running: u32) {
    gauge!("bespeak_tasks_running", "task" => task).set(f64::from(running));
}

/// Sets how far the clock of the database is ahead of the clock that it is compared with, in seconds.
pub(crate) fn set_clock_skew(seconds: f64) {
    gauge!("bespeak_clock_skew_seconds").set(seconds);
}

/// Sets for how long the oldest hold has been overdue.
pub(crate) fn set_overdue_hold(overdue: Duration) {
    gauge!("bespeak_overdue_hold_seconds").set(overdue.as_secs_f64());
}

/// Sets the result of the last recorded audit, and its age.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; past 2^53 the last digits do not matter")]
pub(crate) fn set_verification(findings: u64, age: Duration) {
    gauge!("bespeak_verify_findings").set(findings as f64);
    gauge!("bespeak_verify_age_seconds").set(age.as_secs_f64());
}

/// Counts a batch that is retried, by cause.
pub(crate) fn count_retry(cause: &'static str) {
    counter!("bespeak_store_retries_total", "cause" => cause).increment(1);
}

/// Counts a round trip to a database outside this process.
#[cfg(feature = "mysql")]
pub(crate) fn count_round_trip() {
    static ROUND_TRIPS: OnceLock<Counter> = OnceLock::new();
    ROUND_TRIPS.get_or_init(|| counter!("bespeak_store_round_trips_total")).increment(1);
}

/// Counts records that were deleted because they were old.
pub(crate) fn count_purged(what: &'static str, records: u64) {
    if records > 0 {
        counter!("bespeak_purged_total", "what" => what).increment(records);
    }
}

/// The use of a pool of connections at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool: `writers`, `readers`, `background` or `metrics`.
    pub pool: &'static str,
    /// Connections that are lent or being opened.
    pub in_use: usize,
    /// Open connections that are free.
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
    /// The largest number of connections.
    pub max: usize,
}

/// Sets the gauges of a pool of connections.
#[expect(clippy::cast_precision_loss, reason = "there are a thousand connections at most")]
pub(crate) fn set_pool(PoolUse { pool, in_use, idle, waiting, max }: PoolUse) {
    gauge!("bespeak_pool_connections", "pool" => pool, "state" => "in_use").set(in_use as f64);
    gauge!("bespeak_pool_connections", "pool" => pool, "state" => "idle").set(idle as f64);
    gauge!("bespeak_pool_waiting_calls", "pool" => pool).set(waiting as f64);
    gauge!("bespeak_pool_max_connections", "pool" => pool).set(max as f64);
}

/// Records how long calls wait for a connection of a pool.
pub(crate) struct PoolWaits {
    waits: Histogram,
    timeouts: Counter,
}

impl PoolWaits {
    /// Creates the recorder of the pool of this name.
    pub(crate) fn of(pool: &'static str) -> Self {
        Self {
            waits: histogram!("bespeak_pool_wait_seconds", "pool" => pool),
            timeouts: counter!("bespeak_pool_timeouts_total", "pool" => pool),
        }
    }

    /// Records a wait that is over, whether or not it ended with a connection.
    pub(crate) fn observe(&self, waited: Duration, timed_out: bool) {
        self.waits.record(waited);
        if timed_out {
            self.timeouts.increment(1);
        }
    }
}
