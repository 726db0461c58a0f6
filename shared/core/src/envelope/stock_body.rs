//! The body of a webhook about stock. Its format is OpenReserve's.

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::{EventType, ResourceId, TOTAL_MAX, Timestamp};

/// What became of a resource's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(inline)]
pub enum StockBodyType {
    /// The last unit was taken.
    StockDepleted,
    /// There are units again.
    StockRestored,
}

/// The body of a webhook about stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// The name in the published schemas.
#[schemars(rename = "StockNotice")]
pub struct StockWebhookBody {
    /// What became of the stock.
    #[serde(rename = "type")]
    kind: StockBodyType,
    /// The resource.
    resource_id: ResourceId,
    /// Units available: 0 where the last one was taken.
    #[schemars(range(max = TOTAL_MAX))]
    value: u64,
    /// When it happened.
    timestamp: Timestamp,
}

impl StockWebhookBody {
    /// The notice of an event, with the units available after it; none where the event is not about stock.
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
