//! Webhook deliveries: one for each endpoint that wants an event, to be made after the transaction.

use uuid::Uuid;

use super::{Effect, EffectSet, Effected, Incoming};

/// An endpoint that is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub endpoint_id: Uuid,
}

/// A delivery to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// To which endpoint.
    pub endpoint_id: Uuid,
}

/// The effect.
pub(super) struct Webhooks;

impl Effect for Webhooks {
    fn apply(&self, _event: &Incoming, _set: &mut EffectSet) -> Effected {
        Effected::Done
    }
}
