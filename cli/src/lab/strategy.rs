//! What is compared: how concurrent reservations are kept apart.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Strategy {
    /// Waiting commands share a transaction; row locks
    Lanes,
    /// One transaction each; the update is the guard
    Conditional,
    /// One transaction each; row locks
    Pessimistic,
    /// One transaction each; version check, and again where it failed
    Optimistic,
    /// A lock in a table of the database around each, and the store's guard
    Shedlock,
    /// A lock on a majority of Redis nodes around each, and the store's guard
    Redlock,
    /// Nothing: what was read is overwritten. Oversells
    Unguarded,
}

impl Strategy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lanes => "lanes",
            Self::Conditional => "conditional",
            Self::Pessimistic => "pessimistic",
            Self::Optimistic => "optimistic",
            Self::Shedlock => "shedlock",
            Self::Redlock => "redlock",
            Self::Unguarded => "unguarded",
        }
    }

    /// What `BESPEAK_STRATEGY` says for it. There is no such setting as unguarded: the lab takes the guard away from one of
    /// those that have a transaction for each command.
    pub(super) fn setting(self) -> &'static str {
        if self.is_guarded() { self.name() } else { Self::Optimistic.name() }
    }

    /// Whether the books must come out right.
    pub(super) fn is_guarded(self) -> bool {
        self != Self::Unguarded
    }

    /// Whether it locks something outside of the transaction, which can outlive what it was locked for.
    pub(super) fn has_distributed_lock(self) -> bool {
        matches!(self, Self::Shedlock | Self::Redlock)
    }

    /// The settings by which its lock lasts so long.
    pub(super) fn lease(self, _lasts: std::time::Duration) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
