//! Encodes an event as the body of a webhook: a stock body, or the event in `CloudEvents`' JSON format.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Incoming, StockWebhookBody, Subject};
use crate::engine::Timestamp;

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

/// Encodes the body of a webhook: a stock body for a resource, the event itself for a reservation.
pub fn webhook_body(event: &Incoming) -> Arc<str> {
    let text = match &event.subject {
        Subject::Resource { id, available } => {
            let of = (event.event_id, event.at);
            serde_json::to_string(&StockWebhookBody::new(
                event.kind,
                of,
                id.clone(),
                event.version,
                *available,
            ))
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
    // Cannot fail: the data was parsed as JSON before, and the added fields are strings.
    text.map_or_else(|_| event.payload.clone(), Arc::from)
}

/// The type of a test event, which is not an event of the log.
pub const WEBHOOK_TEST: &str = "bespeak.webhook.test.v1";

/// The body of a test event.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTest {
    /// Always `bespeak.webhook.test.v1`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The endpoint that is tested.
    endpoint_id: Uuid,
    /// The time of the test.
    timestamp: Timestamp,
}

/// Encodes the body of a test event; its time has microseconds, as those of events.
pub fn webhook_test_body(endpoint_id: Uuid, now: Timestamp) -> String {
    let timestamp = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    // Cannot fail: all fields are strings.
    serde_json::to_string(&WebhookTest { kind: WEBHOOK_TEST, endpoint_id, timestamp }).unwrap_or_default()
}
