//! The clock that a store reads: its own or, in tests, one that stands still.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use crate::engine::Timestamp;

/// The one clock by which holds end (I6).
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The clock of the database.
    #[default]
    Own,
    /// A clock that moves only when a test advances it.
    Fixed(FixedClock),
}

/// A clock that moves only when it is advanced, in microseconds. Clones share it.
#[derive(Clone, Debug)]
pub struct FixedClock(Arc<AtomicI64>);

impl FixedClock {
    /// Creates a clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.as_microsecond())))
    }

    /// Returns its time.
    pub fn now(&self) -> Timestamp {
        // Only timestamps go in, and `advance` saturates, so the conversion fails only past the last timestamp.
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}
