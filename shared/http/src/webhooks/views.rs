//! What clients read of webhooks. Never a secret, but in the answer that made it.

use bespeak::{
    app::Tested,
    delivery::Received,
    engine::Timestamp,
    webhooks::{Delivery, Endpoint},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Somebody who is told of what happened.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub(crate) struct WebhookView {
    /// Its id.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    id: String,
    /// Where it listens.
    #[schema(example = "https://example.com/webhooks")]
    url: String,
    /// What it is told of: CloudEvents types, or beginnings of such with `*` at the end. Every event where there are none.
    event_types: Vec<String>,
    /// Who made it: `api`, or `environment` (the configuration).
    #[schema(example = "api")]
    origin: &'static str,
    /// Whether anything is sent to it.
    enabled: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// Since when not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// Until when the secret before this one signs as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Endpoint> for WebhookView {
    fn from(endpoint: Endpoint) -> Self {
        let (disabled_reason, disabled_at) =
            endpoint.disabled.map(|disabled| (disabled.reason, disabled.at)).unzip();
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url.to_string(),
            event_types: endpoint.filter.patterns().map(str::to_owned).collect(),
            origin: endpoint.origin.as_str(),
            enabled: disabled_at.is_none(),
            disabled_reason,
            disabled_at,
            previous_secret_until: endpoint.previous.map(|previous| previous.until),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

/// The same with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookWithSecret)]
pub(crate) struct SecretWebhookView {
    #[serde(flatten)]
    webhook: WebhookView,
    /// What deliveries are signed with. Keep it; it is not shown again.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
}

impl From<Endpoint> for SecretWebhookView {
    fn from(endpoint: Endpoint) -> Self {
        Self { secret: endpoint.secret.reveal().to_owned(), webhook: endpoint.into() }
    }
}

/// A page of endpoints, in id order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookPage {
    /// The endpoints.
    pub(crate) webhooks: Vec<WebhookView>,
    /// Where the next page starts: its `after`. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// What a receiver said to a test.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookTest)]
pub(crate) struct TestView {
    /// What was sent as `webhook-id`.
    #[schema(format = "uuid")]
    event_id: String,
    /// Whether the answer was 2xx.
    delivered: bool,
    /// The status of the answer, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The beginning of its body, where there was one: 4 KiB at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How long it took, in milliseconds.
    took_ms: u64,
}

impl From<Tested> for TestView {
    fn from(tested: Tested) -> Self {
        let (delivered, error) = (tested.received.is_success(), tested.received.failure());
        let (status, body) = match tested.received {
            Received::Answer { status, body, .. } => (Some(status), Some(body)),
            Received::Nothing { .. } => (None, None),
        };
        Self {
            event_id: tested.event_id.to_string(),
            delivered,
            status,
            body,
            error,
            took_ms: u64::try_from(tested.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// An event that an endpoint is told of.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDelivery)]
pub(crate) struct DeliveryView {
    /// Its id.
    #[schema(example = 1)]
    id: i64,
    /// The event: what is sent as `webhook-id`.
    #[schema(format = "uuid")]
    event_id: String,
    /// Its CloudEvents type.
    #[schema(example = "bespeak.stock.depleted.v1")]
    event_type: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    event_at: Timestamp,
    /// `PENDING`, `DELIVERED` or `FAILED` (given up).
    #[schema(example = "PENDING")]
    status: &'static str,
    /// Attempts that ended, since it was enqueued or made again by hand.
    attempts: u32,
    /// When the next attempt is due; while one is under way, when it is made again if nobody says how it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// What was answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    /// What was wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// When it was enqueued.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.number(),
            event_id: delivery.event_id.to_string(),
            event_type: delivery.event_type,
            event_at: delivery.event_at,
            status: delivery.status.as_str(),
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

/// A page of an endpoint's deliveries, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDeliveryPage)]
pub(crate) struct DeliveryPage {
    /// The deliveries.
    pub(crate) deliveries: Vec<DeliveryView>,
    /// Where the next page starts: its `after`. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// What a replay did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookReplay)]
pub(crate) struct ReplayView {
    /// Deliveries that are pending again.
    pub(crate) deliveries: u64,
}
