//! The strategies that keep concurrent reservations of one resource apart, and what each is made of.

use crate::{lock::LockKind, store::Guard};

/// How concurrent reservations of one resource are kept apart.
///
/// Each strategy is three choices: whether waiting commands share a transaction, what guards a write, and which lock
/// is acquired around it. `Unguarded` and the two `Alone` strategies oversell. They exist only with the cargo feature
/// `lab`, which no production build enables, and no setting selects them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Row locks, batched: waiting commands share a transaction.
    Lanes,
    /// The update itself states what must still be available; one command per transaction.
    Conditional,
    /// Row locks, one command per transaction.
    Pessimistic,
    /// The update states the version that it was decided on; one command per transaction.
    Optimistic,
    /// A lease in the database around a transaction that checks versions nevertheless.
    Shedlock,
    /// A lock on a majority of Redis nodes around a transaction that checks versions nevertheless.
    Redlock,
    /// No guard: a write overwrites what was read. Oversells.
    #[cfg(feature = "lab")]
    Unguarded,
    /// A lease in the database and no other guard. Oversells if a holder freezes past its lease.
    #[cfg(feature = "lab")]
    ShedlockAlone,
    /// A lock on a majority of Redis nodes and no other guard. Oversells if a holder freezes past its lease.
    #[cfg(feature = "lab")]
    RedlockAlone,
}

impl Strategy {
    /// All strategies of this build, those that may serve first.
    pub const ALL: &[Self] = &[
        Self::Lanes,
        Self::Conditional,
        Self::Pessimistic,
        Self::Optimistic,
        Self::Shedlock,
        Self::Redlock,
        #[cfg(feature = "lab")]
        Self::Unguarded,
        #[cfg(feature = "lab")]
        Self::ShedlockAlone,
        #[cfg(feature = "lab")]
        Self::RedlockAlone,
    ];

    /// The name, as in `BESPEAK_STRATEGY` and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lanes => "lanes",
            Self::Conditional => "conditional",
            Self::Pessimistic => "pessimistic",
            Self::Optimistic => "optimistic",
            Self::Shedlock => "shedlock",
            Self::Redlock => "redlock",
            #[cfg(feature = "lab")]
            Self::Unguarded => "unguarded",
            #[cfg(feature = "lab")]
            Self::ShedlockAlone => "shedlock-alone",
            #[cfg(feature = "lab")]
            Self::RedlockAlone => "redlock-alone",
        }
    }

    /// Finds a strategy of this build by its name, whether or not it may serve.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|strategy| strategy.as_str() == name)
    }

    /// The guard of the store's writes.
    pub fn guard(self) -> Guard {
        match self {
            Self::Lanes | Self::Pessimistic => Guard::RowLock,
            Self::Conditional => Guard::Conditional,
            Self::Optimistic | Self::Shedlock | Self::Redlock => Guard::Optimistic,
            #[cfg(feature = "lab")]
            Self::Unguarded | Self::ShedlockAlone | Self::RedlockAlone => Guard::Unguarded,
        }
    }

    /// The lock that is acquired around a transaction.
    pub fn lock(self) -> Option<LockKind> {
        match self {
            Self::Shedlock => Some(LockKind::Database),
            Self::Redlock => Some(LockKind::Redlock),
            Self::Lanes | Self::Conditional | Self::Pessimistic | Self::Optimistic => None,
            #[cfg(feature = "lab")]
            Self::ShedlockAlone => Some(LockKind::Database),
            #[cfg(feature = "lab")]
            Self::RedlockAlone => Some(LockKind::Redlock),
            #[cfg(feature = "lab")]
            Self::Unguarded => None,
        }
    }

    /// Whether the strategy never oversells (I1). No other strategy may serve.
    pub fn may_serve(self) -> bool {
        self.guard().prevents_overselling()
    }

    /// Whether `BESPEAK_EXPERIMENTAL` must allow the strategy: it costs more than it gives.
    pub fn is_experimental(self) -> bool {
        self.may_serve() && self.lock().is_some()
    }

    /// Whether the strategy is available on SQLite. SQLite locks the whole file before it reads, so no other guard is
    /// needed; the version is checked nevertheless.
    pub fn is_of_sqlite(self) -> bool {
        self.may_serve() && !matches!(self, Self::Conditional | Self::Optimistic)
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
