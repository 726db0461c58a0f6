//! The body of a webhook about stock, in the format of OpenReserve.

use schemars::JsonSchema;
use serde::Serialize;

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
    /// The time of the change.
    timestamp: Timestamp,
}

impl StockWebhookBody {
    /// The body for an event, with the units available after it; `None` if the event is not about stock.
    pub fn new(
        kind: EventType,
        resource_id: ResourceId,
        available: u64,
        timestamp: Timestamp,
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
        Some(Self { kind, resource_id, value: available, timestamp })
    }
}
