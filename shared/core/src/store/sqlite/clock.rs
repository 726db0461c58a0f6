//! The clock of the store.

use crate::{engine::Timestamp, store::Clock};

/// The clock of the machine, which all processes that can open the file share, or the fixed clock of a test.
pub(super) fn now(clock: &Clock) -> Timestamp {
    match clock {
        // Stored times are in microseconds. The time of a decision must not be finer than the times that it is
        // compared with.
        Clock::Own => {
            let now = Timestamp::now();
            Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
        }
        Clock::Fixed(clock) => clock.now(),
    }
}
