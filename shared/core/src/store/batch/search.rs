//! Finds the damaged ones among overdue holds: those that cannot be expired.

use std::collections::BTreeSet;

use super::{Backend, Earlier, Transacted, overdue, plan::LockPlan, transaction};
use crate::{
    engine::{Command, Token, Traced},
    store::{CommitMode, Guard, StoreError},
};

/// The most transactions of a search. What is not found by then is left out with the damaged holds; the timer expires
/// it.
const TRANSACTIONS_MAX: u32 = 64;

/// Expires holds apart from the batch that needs them, by halves, and returns those that cannot be expired.
///
/// # Errors
/// The failure is of another kind than damage, such as an outage.
pub(super) async fn damaged_among<B: Backend>(
    backend: &B,
    holds: &BTreeSet<Token>,
    mode: CommitMode,
    earlier: &mut Earlier,
) -> Result<Vec<Token>, StoreError> {
    let mut damaged = Vec::new();
    let mut parts: Vec<Vec<Token>> = Vec::new();
    halve(holds.iter().copied().collect(), &mut parts);
    let mut transactions = 0;
    while let Some(part) = parts.pop() {
        if transactions == TRANSACTIONS_MAX {
            damaged.extend(part);
            continue;
        }
        transactions += 1;
        let commands: Vec<Traced> = part.iter().map(|token| Traced::from(Command::Expire(*token))).collect();
        let plan = LockPlan::of(&commands, Guard::RowLock);
        match transaction(backend, &plan, &commands, (mode, overdue::ROUNDS_MAX)).await {
            Ok(Transacted::Ended(executed)) => {
                earlier.round_trips += executed.round_trips;
                earlier.events += executed.events;
                earlier.expired += executed.outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            }
            // An expiry needs no units, so it never asks to run again but for the time, which does not matter to it.
            Ok(Transacted::Again { .. }) => {}
            Err(failure) if failure.concerns_records() || failure.is_changed() => match part[..] {
                [hold] => damaged.push(hold),
                _ => halve(part, &mut parts),
            },
            Err(failure) => return Err(failure),
        }
    }
    Ok(damaged)
}

/// Appends the two halves of a list, of which the first may be empty.
fn halve(mut holds: Vec<Token>, parts: &mut Vec<Vec<Token>>) {
    let second = holds.split_off(holds.len() / 2);
    parts.extend([holds, second].into_iter().filter(|half| !half.is_empty()));
}
