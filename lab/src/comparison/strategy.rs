//! The strategies that the lab compares.

use std::time::Duration;

use bespeak::{dispatch::Strategy, lock::LockKind};

/// The compared strategies, in the order of the report.
pub(super) const COMPARED: [Strategy; 7] = [
    Strategy::Lanes,
    Strategy::Conditional,
    Strategy::Pessimistic,
    Strategy::Optimistic,
    Strategy::Shedlock,
    Strategy::Redlock,
    Strategy::Unguarded,
];

/// Parses the name of a compared strategy.
pub(super) fn compared(name: &str) -> Result<Strategy, String> {
    Strategy::named(name)
        .filter(|strategy| COMPARED.contains(strategy))
        .ok_or_else(|| format!("must be one of {}", COMPARED.map(Strategy::as_str).join(", ")))
}

/// The strategy with the same lock but without the store's guard. `None` for a strategy without a lock.
pub(super) fn alone(strategy: Strategy) -> Option<Strategy> {
    match strategy.lock()? {
        LockKind::Database => Some(Strategy::ShedlockAlone),
        LockKind::Redlock => Some(Strategy::RedlockAlone),
    }
}

/// The setting for locks with this lease.
pub(super) fn lease(lasts: Duration) -> (&'static str, String) {
    ("BESPEAK_LOCK_LEASE_MS", lasts.as_millis().to_string())
}
