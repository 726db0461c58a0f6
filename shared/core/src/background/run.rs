//! How long a background task runs: until shutdown in a server, until its work is done in a function that is frozen
//! between invocations. Every task that repeats a step takes a [`RunUntil`] and returns a [`RunReport`].

use std::time::{Duration, SystemTime};

/// The condition on which a background task returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunUntil {
    /// It is cancelled. Failures are retried until then.
    Stopped,
    /// There is nothing left to do, a step failed, or it is cancelled.
    Idle,
}

/// The result of a background task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport<T> {
    /// The sum of all steps.
    pub total: T,
    /// The reason if the last step failed.
    pub failure: Option<String>,
}

/// The time until the deadline of a Lambda invocation.
///
/// The Runtime API sends the deadline as an instant. The emulator of `cargo lambda watch` sends a time span instead
/// (600,000 ms), which, read as an instant, lies in 1970.
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
    fn a_deadline_is_an_instant_or_a_span_from_the_emulator() {
        let minute = Duration::from_secs(60);
        let left = time_until(SystemTime::now() + minute);
        assert!(left <= minute && left > minute / 2, "{left:?}");
        assert_eq!(time_until(SystemTime::now() - minute), Duration::ZERO);
        assert_eq!(time_until(SystemTime::UNIX_EPOCH + 10 * minute), 10 * minute);
    }
}
