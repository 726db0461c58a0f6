//! The effect that enqueues webhook deliveries: one per event and subscribed endpoint, sent after the transaction.
//!
//! The body is encoded here once, and every attempt sends the same bytes.

use super::{
    records::{NewDelivery, Subscription},
    set::{Effect, EffectOutcome, EffectSet},
};
use crate::envelope::{Incoming, webhook_body};

/// Enqueues webhook deliveries.
pub(super) struct WebhookEffect;

impl Effect for WebhookEffect {
    // A late event is delivered too: it happened, and its version tells the receiver that it is late.
    fn apply(&self, event: &Incoming, _: [u8; 16], set: &mut EffectSet) -> EffectOutcome {
        let kind = event.kind.as_str();
        let mut wanting = set.subscriptions.iter().filter(|endpoint| endpoint.filter.wants(kind)).peekable();
        if wanting.peek().is_none() {
            return EffectOutcome::Done;
        }
        let body = webhook_body(event);
        let delivery = |endpoint: &Subscription| {
            NewDelivery::new(event, endpoint.endpoint_id, body.clone(), endpoint.is_full)
        };
        let deliveries: Vec<_> = wanting.map(delivery).collect();
        set.deliveries.extend(deliveries);
        EffectOutcome::Done
    }
}
