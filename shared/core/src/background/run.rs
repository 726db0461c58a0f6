//! How long a background task goes on: for ever in a server, until its work is done in a function that is frozen between its
//! invocations. Every task that is a step in a loop takes it.

use std::time::{Duration, SystemTime};

/// When a task returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunUntil {
    /// When it is told to stop. Failures are retried meanwhile.
    Stopped,
    /// When there is nothing left to do, or it failed, or it is told to stop.
    Idle,
}

/// What a background task did until it returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport<T> {
    /// The sum of all steps.
    pub total: T,
    /// Why its last step failed, where it did.
    pub failure: Option<String>,
}

/// How much time there is until the deadline of an invocation.
///
/// The Runtime API tells an instant. The emulator of `cargo lambda watch` tells a span instead (600,000 ms), which read as an
/// instant lies in 1970.
pub fn time_until(deadline: SystemTime) -> Duration {
    const DECADE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
    match deadline.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(span) if span < DECADE => span,
        _ => deadline.duration_since(SystemTime::now()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_an_instant_or_from_the_emulator_a_span() {
        let minute = Duration::from_secs(60);
        let left = time_until(SystemTime::now() + minute);
        assert!(left <= minute && left > minute / 2, "{left:?}");
        assert_eq!(time_until(SystemTime::now() - minute), Duration::ZERO);
        assert_eq!(time_until(SystemTime::UNIX_EPOCH + 10 * minute), 10 * minute);
    }
}
