//! The clock watch: compares the clock by which holds end with another one, and holds back what cannot be undone while
//! the two differ by far.
//!
//! One clock decides (I6), and it is believed without question, so a jump of it by a day would expire every hold and
//! purge what is a day too young. Nothing here decides when a hold ends: on demand, holds expire by the clock of the
//! database as always, so stock is never kept from customers. But the timer and the purge, on which correctness does
//! not rest, wait until the clocks agree again or an operator has looked.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{engine::Timestamp, store::DatabaseUrl, telemetry};

/// The difference up to which the clocks count as equal.
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// Compares the clock of a database with another one.
#[derive(Debug)]
pub struct ClockWatch {
    reference: Reference,
    /// Whether the last comparison found the clocks apart, so that the change is logged once.
    apart: AtomicBool,
    /// Comparisons come from several tasks; a log line and the gauge follow the same one.
    comparing: Mutex<()>,
}

/// The clock that the database's clock is compared with.
#[derive(Debug)]
enum Reference {
    /// The clock of this process's machine, which is another one than the database's.
    ThisMachine,
    /// The database uses the clock of this machine, so the time that has passed since the start is compared.
    SinceStart { started: Timestamp, uptime: Uptime },
}

/// The clocks differ by more than five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clock of the database is {seconds} s ahead of the clock that it is compared with")]
pub struct ClocksDiffer {
    /// How far the database's clock is ahead; negative if it is behind.
    pub seconds: i64,
}

impl ClockWatch {
    /// A watch for the clock of a database.
    pub fn of(database: &DatabaseUrl) -> Self {
        let reference = match database {
            DatabaseUrl::Sqlite(_) => {
                Reference::SinceStart { started: Timestamp::now(), uptime: Uptime::now() }
            }
            DatabaseUrl::Mysql(_) => Reference::ThisMachine,
        };
        Self { reference, apart: AtomicBool::new(false), comparing: Mutex::default() }
    }

    /// Compares the time `database` that the database returned to a call which took `took` until now. Sets the gauge,
    /// and logs when the clocks begin and cease to differ.
    ///
    /// # Errors
    /// The clocks differ by more than five minutes, so what cannot be undone must wait.
    pub fn compare(&self, database: Timestamp, took: Duration) -> Result<(), ClocksDiffer> {
        let _one = self.comparing.lock().unwrap_or_else(PoisonError::into_inner);
        let reference = match &self.reference {
            Reference::ThisMachine => Timestamp::now(),
            Reference::SinceStart { started, uptime } => {
                started.checked_add(uptime.elapsed()).unwrap_or(*started)
            }
        };
        let ahead = database.duration_since(reference).as_secs_f64() + took.as_secs_f64() / 2.0;
        telemetry::set_clock_skew(ahead);
        let apart = ahead.abs() > SKEW_MAX.as_secs_f64();
        let was_apart = self.apart.swap(apart, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "both are timestamps, so seconds fit by far")]
        let seconds = ahead as i64;
        self.log_change(was_apart, apart, seconds);
        if apart { Err(ClocksDiffer { seconds }) } else { Ok(()) }
    }

    fn log_change(&self, was_apart: bool, apart: bool, seconds: i64) {
        match (was_apart, apart, &self.reference) {
            (false, true, Reference::ThisMachine) => tracing::error!(
                seconds,
                "the clock of the database is ahead of this machine's by that much: this process purges nothing, and \
                 expires holds only on demand, until they agree"
            ),
            (false, true, Reference::SinceStart { .. }) => tracing::error!(
                seconds,
                "the clock of this machine jumped by that much: nothing is purged, and holds expire only on demand, \
                 until it jumps back; if it is right now, restart this process"
            ),
            (true, false, _) => tracing::info!("the clocks agree again; purging and expiring go on"),
            _ => {}
        }
    }
}

/// A moment by a clock that is never set and that counts also while the machine sleeps.
#[derive(Clone, Copy, Debug)]
struct Uptime {
    /// The time since the machine started, where the system tells.
    of_machine: Option<Duration>,
    /// The other clock that is never set. It may stand still while the machine sleeps.
    monotonic: Instant,
}

impl Uptime {
    fn now() -> Self {
        Self { of_machine: uptime_of_machine(), monotonic: Instant::now() }
    }

    fn elapsed(&self) -> Duration {
        match (self.of_machine, uptime_of_machine()) {
            (Some(then), Some(now)) => now.saturating_sub(then),
            _ => self.monotonic.elapsed(),
        }
    }
}

/// The time since the machine started, with the time that it slept (`proc_uptime(5)`); `None` on other systems.
fn uptime_of_machine() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(seconds: i64) -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(seconds)
    }

    #[test]
    fn clocks_may_differ_by_five_minutes_in_either_direction() {
        for url in ["sqlite://books.db", "mysql://u:p@127.0.0.1/books"] {
            let watch = ClockWatch::of(&DatabaseUrl::parse(url).unwrap());
            for allowed in [0, 290, -290] {
                assert_eq!(watch.compare(ahead(allowed), Duration::ZERO), Ok(()), "{url} {allowed}");
            }
            for refused in [310, -310, 86_400] {
                let differ = watch.compare(ahead(refused), Duration::ZERO).unwrap_err();
                assert!((differ.seconds - refused).abs() <= 2, "{url} {refused}: {differ}");
            }
            assert_eq!(watch.compare(ahead(1), Duration::ZERO), Ok(()), "they agree again");
        }
    }

    #[test]
    fn a_jump_of_this_machine_s_clock_is_seen_by_the_time_since_the_start() {
        let uptime = Uptime::now();
        let reference = Reference::SinceStart { started: ahead(-7_200), uptime };
        let watch = ClockWatch { reference, apart: AtomicBool::new(false), comparing: Mutex::default() };
        let differ = watch.compare(Timestamp::now(), Duration::ZERO).unwrap_err();
        assert!((differ.seconds - 7_200).abs() <= 2, "{differ}");
    }

    #[test]
    fn a_slow_answer_is_no_skew() {
        let watch = ClockWatch::of(&DatabaseUrl::parse("mysql://u:p@127.0.0.1/books").unwrap());
        // The clock was read in the middle of a call that took ten minutes.
        assert_eq!(watch.compare(ahead(-300), Duration::from_secs(600)), Ok(()));
    }
}
