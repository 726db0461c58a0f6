//! The working set of a consumer's transaction, and the trait of an effect.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::records::{NewDelivery, SmartKey, Subscription};
use crate::{
    engine::{ResourceId, Timestamp, Token},
    envelope::Incoming,
};

/// The result of applying an event to an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectOutcome {
    /// The event was applied, or is irrelevant to this effect.
    Done,
    /// A newer event of the same subject was applied before, so this event changed nothing.
    Stale,
}

/// A consequence of events.
pub trait Effect: Send + Sync {
    /// Applies an event. Events of one subject may arrive out of order, but none arrives twice. `random` was drawn
    /// for this event alone.
    fn apply(&self, event: &Incoming, random: [u8; 16], set: &mut EffectSet) -> EffectOutcome;
}

/// The records that a batch of events may read or change, and the changes that its events made so far.
#[derive(Debug, Default)]
pub struct EffectSet {
    pub(super) now: Timestamp,
    pub(super) opened_by_key: HashSet<ResourceId>,
    pub(super) smart_keys: HashMap<Token, SmartKey>,
    /// The keys that existed before; the transaction has locked their rows.
    known_keys: HashSet<Token>,
    pub(super) changed_keys: BTreeSet<Token>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) deliveries: Vec<NewDelivery>,
}

/// The changes that the transaction must write.
#[derive(Debug, Default)]
pub struct EffectChanges {
    /// SmartKeys that did not exist before, in token order. If the insert of one finds a row, another consumer was
    /// faster, and this transaction must not overwrite what that consumer knew.
    pub created_keys: Vec<SmartKey>,
    /// SmartKeys whose locked rows change, in token order.
    pub updated_keys: Vec<SmartKey>,
    /// Deliveries to enqueue, in the order of their events.
    pub deliveries: Vec<NewDelivery>,
}

impl EffectSet {
    /// The records that were read at `now`: those resources of the batch that a key opens, the keys of its
    /// reservations, and the webhook endpoints.
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

    /// The changes of all events that were applied.
    pub fn into_changes(self) -> EffectChanges {
        let Self { mut smart_keys, known_keys, changed_keys, deliveries, .. } = self;
        let changed = changed_keys.iter().filter_map(|token| smart_keys.remove(token));
        let (updated_keys, created_keys) = changed.partition(|key| known_keys.contains(&key.token));
        EffectChanges { created_keys, updated_keys, deliveries }
    }
}
