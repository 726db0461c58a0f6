//! How concurrent reservations of one resource are kept apart: which strategies there are, and what each is made of.

use crate::{lock::LockKind, store::Guard};

/// How concurrent reservations of one resource are kept apart.
///
/// Each is three choices: whether waiting commands share a transaction, what guards a write, and which lock is taken around
/// it. Those that end in `Alone`, and `Unguarded`, are for the lock lab: no setting chooses them
/// ([`super::Config::with_strategy`] does), because they oversell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Row locks, batched: waiting commands share a transaction.
    Lanes,
    /// The update says what must still be available; one command per transaction.
    Conditional,
    /// Row locks, one command per transaction.
    Pessimistic,
    /// The update says which version it was decided on; one command per transaction.
    Optimistic,
    /// A lease in the database around a transaction that checks versions all the same.
    Shedlock,
    /// A lock on a majority of Redis nodes around a transaction that checks versions all the same.
    Redlock,
    /// Nothing: what was read is overwritten. Oversells.
    Unguarded,
    /// A lease in the database, and nothing else. Oversells when a holder freezes past its lease.
    ShedlockAlone,
    /// A lock on a majority of Redis nodes, and nothing else. Oversells when a holder freezes past its lease.
    RedlockAlone,
}

impl Strategy {
    /// All of them, those that may serve first.
    pub const ALL: [Self; 9] = [
        Self::Lanes,
        Self::Conditional,
        Self::Pessimistic,
        Self::Optimistic,
        Self::Shedlock,
        Self::Redlock,
        Self::Unguarded,
        Self::ShedlockAlone,
        Self::RedlockAlone,
    ];

    /// Its name, as in `BESPEAK_STRATEGY` and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lanes => "lanes",
            Self::Conditional => "conditional",
            Self::Pessimistic => "pessimistic",
            Self::Optimistic => "optimistic",
            Self::Shedlock => "shedlock",
            Self::Redlock => "redlock",
            Self::Unguarded => "unguarded",
            Self::ShedlockAlone => "shedlock-alone",
            Self::RedlockAlone => "redlock-alone",
        }
    }

    /// The strategy of that name, for whoever may run any of them.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == name)
    }

    /// What the store guards its writes by.
    pub fn guard(self) -> Guard {
        match self {
            Self::Lanes | Self::Pessimistic => Guard::RowLock,
            Self::Conditional => Guard::Conditional,
            Self::Optimistic | Self::Shedlock | Self::Redlock => Guard::Optimistic,
            Self::Unguarded | Self::ShedlockAlone | Self::RedlockAlone => Guard::Unguarded,
        }
    }

    /// The lock that is taken around a transaction.
    pub fn lock(self) -> Option<LockKind> {
        match self {
            Self::Shedlock | Self::ShedlockAlone => Some(LockKind::Database),
            Self::Redlock | Self::RedlockAlone => Some(LockKind::Redlock),
            Self::Lanes | Self::Conditional | Self::Pessimistic | Self::Optimistic | Self::Unguarded => None,
        }
    }

    /// Whether it never oversells (I1): nothing else may serve.
    pub fn may_serve(self) -> bool {
        self.guard() != Guard::Unguarded
    }

    /// Whether it must be asked for twice: it costs more than it gives.
    pub fn is_experimental(self) -> bool {
        self.may_serve() && self.lock().is_some()
    }

    /// Whether SQLite has it. It locks the whole file before it reads, so there is nothing else to guard by; the version is
    /// checked all the same.
    pub fn is_of_sqlite(self) -> bool {
        self.may_serve() && !matches!(self, Self::Conditional | Self::Optimistic)
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
