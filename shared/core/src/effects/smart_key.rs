//! The effect that issues a SmartKey when a reservation of a resource with a smart lock is committed, and revokes it
//! when the reservation is cancelled.

use super::{
    records::SmartKey,
    set::{Effect, EffectOutcome, EffectSet},
};
use crate::{
    engine::EventType,
    envelope::{Incoming, Subject},
};

/// Whether an event may change a key.
pub(super) fn concerns(event: &Incoming) -> bool {
    matches!(event.kind, EventType::Committed | EventType::Cancelled)
}

/// Issues and revokes SmartKeys.
pub(super) struct SmartKeyEffect;

impl Effect for SmartKeyEffect {
    fn apply(&self, event: &Incoming, random: [u8; 16], set: &mut EffectSet) -> EffectOutcome {
        let Subject::Reservation { token, resources } = &event.subject else { return EffectOutcome::Done };
        let known = set.smart_keys.get(token);
        // The resource may have lost its smart lock since the key was issued; the key is revoked all the same.
        let opened = known.is_some() || resources.iter().any(|id| set.opened_by_key.contains(id));
        if !concerns(event) || !opened {
            return EffectOutcome::Done;
        }
        if known.is_some_and(|key| key.version >= event.version) {
            return EffectOutcome::Stale;
        }
        let issued = known.and_then(|key| key.issued);
        let changed = if event.kind == EventType::Committed {
            SmartKey {
                token: *token,
                version: event.version,
                issued: issued.or(Some((random, set.now))),
                revoked_at: None,
            }
        } else {
            SmartKey { token: *token, version: event.version, issued, revoked_at: Some(set.now) }
        };
        set.smart_keys.insert(*token, changed);
        set.changed_keys.insert(*token);
        EffectOutcome::Done
    }
}
