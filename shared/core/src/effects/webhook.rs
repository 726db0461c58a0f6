//! Webhook deliveries: one for each endpoint that wants an event, to be made after the transaction.
//!
//! The body is made here, once, and is what is sent however often it is sent.

use std::sync::Arc;

use uuid::Uuid;

use super::{Effect, EffectSet, Effected};
use crate::{
    engine::{EventType, Timestamp},
    envelope::{Incoming, webhook_body},
    trace::TraceContext,
    webhooks::EventFilter,
};

/// An endpoint that is enabled, and what it wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The endpoint's id.
    pub endpoint_id: Uuid,
    /// Which events.
    pub filter: EventFilter,
}

/// A delivery to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// To which endpoint.
    pub endpoint_id: Uuid,
    /// Of which event; there is one delivery of an event to an endpoint.
    pub event_id: Uuid,
    /// The event's type.
    pub kind: EventType,
    /// When it happened.
    pub event_at: Timestamp,
    /// What is sent.
    pub body: Arc<str>,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceContext>,
}

/// The effect.
pub(super) struct WebhookEffect;

impl Effect for WebhookEffect {
    // A late event is told all the same: it happened, and it bears its version.
    fn apply(&self, event: &Incoming, set: &mut EffectSet) -> Effected {
        let kind = event.kind.as_str();
        let mut wanting = set.subscriptions.iter().filter(|endpoint| endpoint.filter.wants(kind)).peekable();
        if wanting.peek().is_none() {
            return Effected::Done;
        }
        let body = webhook_body(event);
        let delivery = |endpoint: &Subscription| NewDelivery {
            endpoint_id: endpoint.endpoint_id,
            event_id: event.event_id,
            kind: event.kind,
            event_at: event.at,
            body: body.clone(),
            trace: event.trace,
        };
        let deliveries: Vec<_> = wanting.map(delivery).collect();
        set.deliveries.extend(deliveries);
        Effected::Done
    }
}
