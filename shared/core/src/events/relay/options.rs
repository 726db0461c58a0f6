//! The limits and intervals of a relay.

use std::time::Duration;

/// The limits and intervals of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    /// The time after which a lease expires unless it is renewed.
    pub lease_for: Duration,
    /// The most events of one step.
    pub batch: u32,
    /// The most events of one key in a step. They are sent one after the other, so a key with many must not make the
    /// whole step wait.
    pub of_one_key: usize,
    /// The most bytes of payloads in a step, unless a single event is larger.
    pub bytes: u64,
    /// The number of consecutive refusals of an event after which its key is parked.
    pub attempts_max: u32,
    /// The back-off of a key after its first failure. It doubles with each further failure, with jitter.
    pub back_off_first: Duration,
    /// The longest back-off of a key.
    pub back_off_max: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            lease_for: Duration::from_secs(10),
            batch: 4_096,
            of_one_key: 128,
            bytes: 16 << 20,
            attempts_max: 8,
            back_off_first: Duration::from_secs(1),
            back_off_max: Duration::from_secs(300),
        }
    }
}
