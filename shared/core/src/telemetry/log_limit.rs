//! Limits how often one log line is written, so that a stranger or an outage cannot fill the log.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The shortest time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// The limit of one log line: the first is written, and then at most one in ten seconds.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Option<Written>>);

#[derive(Debug)]
struct Written {
    at: Instant,
    unwritten: u64,
}

impl LogLimit {
    /// Creates a limit.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether to write the line now: the number of lines that were left out since the last one, or `None` if this one
    /// is left out too.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *written {
            Some(written) if now.duration_since(written.at) < EVERY => {
                written.unwritten += 1;
                None
            }
            earlier => {
                let unwritten = earlier.as_ref().map_or(0, |earlier| earlier.unwritten);
                *earlier = Some(Written { at: now, unwritten: 0 });
                Some(unwritten)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_in_the_next_one() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        assert_eq!(limit.pass_at(start), Some(0));
        for n in 0..1_000 {
            assert_eq!(limit.pass_at(start + Duration::from_millis(9 * n)), None);
        }
        assert_eq!(limit.pass_at(start + EVERY), Some(1_000));
        assert_eq!(limit.pass_at(start + EVERY + EVERY), Some(0));
    }
}
