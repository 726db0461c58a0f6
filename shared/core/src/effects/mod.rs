//! What events set off: pure rules over what a consumer's transaction has read, as the engine's are over the books.
//!
//! An effect is one type, and one line in [`EFFECTS`]. Never: I/O, a clock. The store reads an [`EffectSet`], has every
//! event that is new applied to it, and writes what changed in the same transaction as the inbox (I9). Next:
//! `smart_key.rs` for an effect, `store/inbox.rs` for the transaction.

mod smart_key;
mod webhook;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    engine::{ResourceId, Timestamp, Token},
    envelope::{Incoming, Subject},
};
pub use smart_key::SmartKey;
pub use webhook::{NewDelivery, Subscription};

/// What became of an event in one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effected {
    /// It was applied, or is none of this effect's.
    Done,
    /// A newer event of the same subject was applied before: it changed nothing.
    Stale,
}

/// Something that events set off.
pub trait Effect: Send + Sync {
    /// Applies an event; events of one subject may come late, never twice.
    fn apply(&self, event: &Incoming, set: &mut EffectSet) -> Effected;
}

/// Every effect.
pub const EFFECTS: &[&dyn Effect] = &[&smart_key::SmartKeys, &webhook::WebhookEffect];

/// The slice of what effects have written that a batch of events needs, and what they change in it.
#[derive(Debug, Default)]
pub struct EffectSet {
    now: Timestamp,
    opened_by_key: HashSet<ResourceId>,
    smart_keys: HashMap<Token, SmartKey>,
    /// Those that were there before: their rows are locked.
    known_keys: HashSet<Token>,
    changed_keys: BTreeSet<Token>,
    subscriptions: Vec<Subscription>,
    deliveries: Vec<NewDelivery>,
}

/// What effects changed.
#[derive(Debug, Default)]
pub struct EffectChanges {
    /// SmartKeys that were not there before, in token order: whoever finds one there all the same lost to another
    /// consumer, and must not overwrite what that one knew.
    pub created_keys: Vec<SmartKey>,
    /// SmartKeys whose locked rows change, in token order.
    pub updated_keys: Vec<SmartKey>,
    /// Deliveries to make, in the order of their events.
    pub deliveries: Vec<NewDelivery>,
}

impl EffectSet {
    /// What was read at `now`: the resources among those of the batch that a key opens, the keys of its reservations, and
    /// the webhook endpoints that are enabled.
    pub fn new(
        now: Timestamp,
        opened_by_key: HashSet<ResourceId>,
        smart_keys: Vec<SmartKey>,
        subscriptions: Vec<Subscription>,
    ) -> Self {
        let smart_keys: HashMap<_, _> = smart_keys.into_iter().map(|key| (key.token, key)).collect();
        let known_keys = smart_keys.keys().copied().collect();
        Self { now, opened_by_key, smart_keys, known_keys, subscriptions, ..Self::default() }
    }

    /// Applies an event to every effect.
    pub fn apply(&mut self, event: &Incoming) -> Effected {
        let mut became = Effected::Done;
        for effect in EFFECTS {
            if effect.apply(event, self) == Effected::Stale {
                became = Effected::Stale;
            }
        }
        became
    }

    /// What changed.
    pub fn into_changes(self) -> EffectChanges {
        let Self { mut smart_keys, known_keys, changed_keys, deliveries, .. } = self;
        let changed = changed_keys.iter().filter_map(|token| smart_keys.remove(token));
        let (updated_keys, created_keys) = changed.partition(|key| known_keys.contains(&key.token));
        EffectChanges { created_keys, updated_keys, deliveries }
    }
}

/// The resources that a batch of events names.
pub fn resources_of(events: &[&Incoming]) -> BTreeSet<ResourceId> {
    let of = |event: &&Incoming| match &event.subject {
        Subject::Reservation { resources, .. } if smart_key::concerns(event) => resources.clone(),
        _ => Vec::new(),
    };
    events.iter().flat_map(of).collect()
}

/// The reservations whose keys a batch of events may change: what must be locked.
pub fn tokens_of(events: &[&Incoming]) -> BTreeSet<Token> {
    let of = |event: &&Incoming| match &event.subject {
        Subject::Reservation { token, .. } if smart_key::concerns(event) => Some(*token),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
