//! Webhook deliveries: one for each endpoint that wants an event, to be made after the transaction.
//!
//! The body is made here, once, and is what is sent however often it is sent.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Effect, EffectSet, Effected, Incoming, Subject};
use crate::{
    engine::{EventType, Timestamp},
    events::StockNotice,
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

/// An event in `CloudEvents`' JSON format.
#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    time: Timestamp,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

/// The effect.
pub(super) struct Webhooks;

impl Effect for Webhooks {
    // A late event is told all the same: it happened, and it bears its version.
    fn apply(&self, event: &Incoming, set: &mut EffectSet) -> Effected {
        let kind = event.kind.as_str();
        let mut wanting = set.subscriptions.iter().filter(|endpoint| endpoint.filter.wants(kind)).peekable();
        if wanting.peek().is_none() {
            return Effected::Done;
        }
        let body = body(event);
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

/// What is sent: a notice of stock, or the event itself.
fn body(event: &Incoming) -> Arc<str> {
    let text = match &event.subject {
        Subject::Resource { id, available } => {
            serde_json::to_string(&StockNotice::new(event.kind, id.clone(), *available, event.at))
        }
        Subject::Reservation { token, .. } => {
            serde_json::from_str::<&RawValue>(&event.payload).and_then(|data| {
                serde_json::to_string(&Envelope {
                    specversion: "1.0",
                    id: event.event_id,
                    source: &event.source,
                    kind: event.kind.as_str(),
                    subject: token.to_string(),
                    time: event.at,
                    datacontenttype: "application/json",
                    data,
                })
            })
        }
    };
    // It was parsed before: its data is JSON, and what is added can be written as such.
    text.map_or_else(|_| event.payload.clone(), Arc::from)
}
