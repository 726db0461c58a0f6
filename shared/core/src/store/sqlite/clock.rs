//! The clock of the store.

use crate::{engine::Timestamp, store::Clock};

/// The clock of the machine, which all processes that can open the file share; unless a test stopped it.
pub(super) fn now(clock: &Clock) -> Timestamp {
    match clock {
        // Stored times have microseconds; what decides must not be finer than what is stored.
        Clock::Own => {
            let now = Timestamp::now();
            Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
        }
        Clock::Fixed(clock) => clock.now(),
    }
}
