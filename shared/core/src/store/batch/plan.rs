//! What a batch locks and reads.

use std::{collections::BTreeSet, time::Duration};

use super::CLOCK_MOVES_MAX;
use crate::{
    engine::{Command, IdempotencyKey, ResourceId, Timestamp, Token, Traced},
    store::Guard,
};

/// The locks and reads of a batch. Back ends lock resources in id order, then reservations in token order.
#[derive(Debug)]
pub(in crate::store) struct LockPlan {
    /// The guard of the changes of resources.
    pub(in crate::store) guard: Guard,
    /// Resources that commands name.
    pub(in crate::store) resources: BTreeSet<ResourceId>,
    /// Reservations that commands name.
    pub(in crate::store) tokens: BTreeSet<Token>,
    /// Reservations whose resources must be locked too: those that commands give back, and overdue ones.
    pub(in crate::store) with_resources: BTreeSet<Token>,
    /// Idempotency keys to look up.
    pub(in crate::store) keys: BTreeSet<IdempotencyKey>,
    /// Overdue holds that may be expired on demand.
    pub(in crate::store) overdue: BTreeSet<Token>,
    /// Whether the batch runs again because its first decision was based on a time that had passed.
    repeated: bool,
}

impl LockPlan {
    pub(super) fn of(commands: &[Traced], guard: Guard) -> Self {
        let mut plan = Self {
            guard,
            resources: BTreeSet::new(),
            tokens: BTreeSet::new(),
            with_resources: BTreeSet::new(),
            keys: BTreeSet::new(),
            overdue: BTreeSet::new(),
            repeated: false,
        };
        for Traced { command, .. } in commands {
            match command {
                Command::Define(define) => {
                    plan.resources.insert(define.resource_id.clone());
                    // The outcome contains the resource as it is now, which only a row lock can tell.
                    plan.guard = Guard::RowLock;
                }
                Command::Reserve(reserve) => {
                    plan.resources.extend(reserve.items.iter().map(|item| item.resource_id.clone()));
                    plan.keys.insert(reserve.key.clone());
                }
                Command::Commit(_)
                | Command::Release(_)
                | Command::Extend(_)
                | Command::Cancel(_)
                | Command::Expire(_) => {
                    if let Some(token) = command.token() {
                        plan.tokens.insert(token);
                        if command.gives_back() {
                            plan.with_resources.insert(token);
                        }
                    }
                }
            }
        }
        plan
    }

    pub(super) fn add_overdue(&mut self, tokens: impl IntoIterator<Item = Token>) {
        self.guard = Guard::RowLock;
        for token in tokens {
            self.tokens.insert(token);
            self.with_resources.insert(token);
            self.overdue.insert(token);
        }
    }

    /// Changes the plan for a batch whose decision was based on a time that had passed.
    pub(super) fn repeat_later(&mut self) {
        self.guard = Guard::RowLock;
        self.repeated = true;
    }

    /// Whether a decision of the time `now` may not be committed, because its last lock was acquired at `later`. A
    /// batch is repeated once: a server that is so slow that the next decision is late too still has to answer.
    pub(super) fn is_stale(&self, now: Timestamp, later: Timestamp, first_end: Option<Timestamp>) -> bool {
        let moved = Duration::try_from(later.duration_since(now)).unwrap_or_default();
        match self.guard {
            _ if self.repeated => false,
            // Resources and reservations were locked before the clock was read. Only a new idempotency key may have
            // waited, for another transaction that inserts it.
            Guard::RowLock => first_end.is_some_and(|end| end <= later),
            Guard::Conditional | Guard::Optimistic => moved > CLOCK_MOVES_MAX,
            #[cfg(feature = "lab")]
            Guard::Unguarded => false,
        }
    }
}
