//! Effects: the consequences of events, as pure rules over what a consumer's transaction has read.
//!
//! An effect is one type, and one line in [`EFFECTS`]. The store reads an [`EffectSet`], applies every new event to
//! it with [`apply`], and writes the changes in the same transaction as the inbox (I9). Never: I/O, a clock,
//! randomness; the random bytes of a SmartKey are an argument. Next: `smart_key.rs` for an effect, `store/inbox.rs`
//! for the transaction.

mod books;
mod records;
mod set;
mod smart_key;
mod webhook;

use std::collections::BTreeSet;

pub use books::{BooksVerdict, KnownBooks};
pub use records::{NewDelivery, SmartKey, Subscription};
pub use set::{Effect, EffectChanges, EffectOutcome, EffectSet};

use crate::{
    engine::{ResourceId, Token},
    envelope::{Incoming, Subject},
};

/// Every effect.
pub const EFFECTS: &[&dyn Effect] = &[&smart_key::SmartKeyEffect, &webhook::WebhookEffect];

/// Applies an event to every effect. `random` must be drawn for this event alone, from a cryptographic source: an
/// effect may make a secret of it.
pub fn apply(event: &Incoming, random: [u8; 16], set: &mut EffectSet) -> EffectOutcome {
    let mut outcome = EffectOutcome::Done;
    for effect in EFFECTS {
        if effect.apply(event, random, set) == EffectOutcome::Stale {
            outcome = EffectOutcome::Stale;
        }
    }
    outcome
}

/// The resources that a batch must read: its own, and those of its reservations whose key may change.
pub fn resources_of(events: &[Incoming]) -> BTreeSet<ResourceId> {
    let of = |event: &Incoming| match &event.subject {
        Subject::Reservation { resources, .. } if smart_key::concerns(event) => resources.clone(),
        Subject::Reservation { .. } => Vec::new(),
        Subject::Resource { id, .. } => vec![id.clone()],
    };
    events.iter().flat_map(of).collect()
}

/// The reservations that a batch must read.
pub fn reservations_of(events: &[Incoming]) -> BTreeSet<Token> {
    let of = |event: &Incoming| match &event.subject {
        Subject::Reservation { token, .. } => Some(*token),
        Subject::Resource { .. } => None,
    };
    events.iter().filter_map(of).collect()
}

/// The reservations whose keys a batch may change, and must therefore lock.
pub fn tokens_of(events: &[&Incoming]) -> BTreeSet<Token> {
    let of = |event: &&Incoming| match &event.subject {
        Subject::Reservation { token, .. } if smart_key::concerns(event) => Some(*token),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
