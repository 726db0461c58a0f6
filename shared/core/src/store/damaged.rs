//! Overdue holds that cannot be expired, because their rows are damaged.
//!
//! A hold that falls short takes overdue holds into its own transaction, which fails if one of them is damaged. Each
//! store remembers such holds for a while, so that a damaged hold does not fail one batch after another. Never: a
//! repair.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::engine::Token;

/// How long a damaged hold is left out. An operator may repair it, and then its units are for sale again.
const LEFT_OUT_FOR: Duration = Duration::from_secs(60);
/// The most holds that are remembered.
const HOLDS_MAX: usize = 4_096;

/// The overdue holds that are left out of expiry on demand, and since when.
#[derive(Debug, Default)]
pub(super) struct DamagedHolds(Mutex<HashMap<Token, Instant>>);

impl DamagedHolds {
    /// The holds that are left out now.
    pub(super) fn tokens(&self) -> HashSet<Token> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|_, since| since.elapsed() < LEFT_OUT_FOR);
        holds.keys().copied().collect()
    }

    /// Leaves holds out for a while. Beyond the limit they are not remembered, and are found again.
    pub(super) fn leave_out(&self, tokens: impl IntoIterator<Item = Token>) {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for token in tokens {
            if holds.len() < HOLDS_MAX || holds.contains_key(&token) {
                holds.insert(token, Instant::now());
            }
        }
    }
}
