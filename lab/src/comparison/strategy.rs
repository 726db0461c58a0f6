//! What is compared, of all the strategies that the configuration knows.

use std::time::Duration;

use bespeak::{dispatch::Strategy, lock::LockKind};

/// What the lab runs, in the order of its tables.
pub(super) const COMPARED: [Strategy; 7] = [
    Strategy::Lanes,
    Strategy::Conditional,
    Strategy::Pessimistic,
    Strategy::Optimistic,
    Strategy::Shedlock,
    Strategy::Redlock,
    Strategy::Unguarded,
];

/// The strategy of that name, of those that are compared.
pub(super) fn compared(name: &str) -> Result<Strategy, String> {
    Strategy::named(name)
        .filter(|strategy| COMPARED.contains(strategy))
        .ok_or_else(|| format!("must be one of {}", COMPARED.map(Strategy::as_str).join(", ")))
}

/// The same lock without the store's guard; none where there is no lock.
pub(super) fn alone(strategy: Strategy) -> Option<Strategy> {
    match strategy.lock()? {
        LockKind::Database => Some(Strategy::ShedlockAlone),
        LockKind::Redlock => Some(Strategy::RedlockAlone),
    }
}

/// The setting by which locks last so long.
pub(super) fn lease(lasts: Duration) -> (&'static str, String) {
    ("BESPEAK_LOCK_LEASE_MS", lasts.as_millis().to_string())
}
