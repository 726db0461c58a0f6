//! How commands share transactions.

/// How commands share transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Waiting commands share a transaction.
    Lanes {
        /// The number of lanes.
        lanes: usize,
        /// The largest number of commands in one transaction.
        batch: usize,
    },
    /// Each command has its own transaction.
    Unbatched {
        /// How many transactions run at the same time.
        at_once: usize,
    },
}
