//! The body of a webhook about stock, in the format of OpenReserve.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::engine::{EventType, ResourceId, TOTAL_MAX, Timestamp};

/// The change of a resource's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(inline, title = "StockNoticeType")]
pub enum StockBodyType {
    /// The last unit was taken.
    StockDepleted,
    /// Units are available again.
    StockRestored,
}

/// The body of a webhook about stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// The name in the published schemas.
#[schemars(rename = "StockNotice")]
pub struct StockWebhookBody {
    /// The change of the stock.
    #[serde(rename = "type")]
    kind: StockBodyType,
    /// The resource.
    resource_id: ResourceId,
    /// The units available; 0 if the last one was taken.
    #[schemars(range(max = TOTAL_MAX))]
    value: u64,
    /// The time of the change. Two changes may have the same; compare versions to order them.
    timestamp: Timestamp,
    /// The version of the resource after the change. Drop a body whose version is not higher than the last one of its
    /// resource.
    // Both are always written, and optional in the schema, because `v1` only gains optional fields.
    #[serde(skip_serializing_if = "is_absent")]
    #[schemars(range(min = 1, max = TOTAL_MAX))]
    version: u64,
    /// The id of the event, which is also sent as `webhook-id`.
    #[serde(skip_serializing_if = "is_absent")]
    event_id: Uuid,
}

fn is_absent<T>(_: &T) -> bool {
    false
}

impl StockWebhookBody {
    /// The body for an event, with the version of the resource and the units available after it; `None` if the event is
    /// not about stock.
    pub fn new(
        kind: EventType,
        (event_id, timestamp): (Uuid, Timestamp),
        resource_id: ResourceId,
        version: u64,
        available: u64,
    ) -> Option<Self> {
        let kind = match kind {
            EventType::Depleted => StockBodyType::StockDepleted,
            EventType::Restored => StockBodyType::StockRestored,
            EventType::Held
            | EventType::Committed
            | EventType::Released
            | EventType::Expired
            | EventType::Extended
            | EventType::Cancelled => return None,
        };
        Some(Self { kind, resource_id, value: available, timestamp, version, event_id })
    }
}
