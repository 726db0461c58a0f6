//! Webhook endpoints and deliveries as clients read them, in JSON.
//!
//! Never: a secret, except in the answer to the request that created or rotated it.

use bespeak::{
    app::{ReplayPlace, WebhookReplayed, WebhookState, WebhookTest},
    delivery::Received,
    engine::Timestamp,
    webhooks::{Circuit, Delivery, DeliveryStatus, Endpoint, EndpointHealth, EndpointOrigin},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::enums::{self, WebhookCircuit, WebhookOrigin};

/// A webhook endpoint, to which events are sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub(crate) struct WebhookView {
    /// The id of the endpoint.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057", format = "uuid")]
    id: String,
    /// The URL to which events are sent. A query is shown only by the answer that created the endpoint, and as `***`
    /// everywhere else, because it may be a secret.
    #[schema(example = "https://example.com/webhooks?***")]
    url: String,
    /// The CloudEvents types that are sent, or prefixes of them that end in `*`. An empty list means every event.
    event_types: Vec<String>,
    /// The names of the headers that are added to deliveries. Their values are secrets, and are never shown.
    #[schema(example = json!(["authorization"]))]
    header_names: Vec<String>,
    /// The origin of the endpoint.
    #[schema(value_type = WebhookOrigin)]
    origin: EndpointOrigin,
    /// Whether events are sent to the endpoint.
    enabled: bool,
    /// Why the endpoint is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// When the endpoint was disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// What is known of the receiver.
    health: HealthView,
    /// When the last of the replaced secrets stops signing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// When the endpoint was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the endpoint last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// What is known of the receiver of a webhook endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookHealth)]
pub(crate) struct HealthView {
    /// The state of the circuit breaker.
    #[schema(value_type = WebhookCircuit)]
    circuit: &'static str,
    /// The number of attempts in a row that got no answer, or one that says that the receiver cannot serve.
    consecutive_failures: u32,
    /// When the next delivery is attempted, while the circuit is `OPEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_probe_at: Option<Timestamp>,
    /// The first attempt that failed since the last delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// Whether too many deliveries are pending, so that further events are stored as `FAILED`.
    full: bool,
}

impl From<&WebhookState> for HealthView {
    fn from(state: &WebhookState) -> Self {
        let WebhookState { circuit, health, .. } = state;
        Self {
            circuit: circuit.as_str(),
            consecutive_failures: health.failures,
            next_probe_at: match circuit {
                Circuit::Open(until) => Some(*until),
                Circuit::Closed | Circuit::HalfOpen => None,
            },
            failing_since: health.failing_since,
            full: health.is_full,
        }
    }
}

impl From<WebhookState> for WebhookView {
    fn from(state: WebhookState) -> Self {
        let health = HealthView::from(&state);
        let endpoint = state.endpoint;
        let (disabled_reason, disabled_at) =
            endpoint.disabled.map(|disabled| (disabled.reason, disabled.at)).unzip();
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url.masked(),
            event_types: endpoint.filter.patterns().map(str::to_owned).collect(),
            header_names: endpoint.headers.names().map(str::to_owned).collect(),
            origin: endpoint.origin,
            enabled: disabled_at.is_none(),
            disabled_reason,
            disabled_at,
            health,
            previous_secret_until: endpoint.previous.iter().map(|previous| previous.until).max(),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

/// A webhook endpoint with its secret, which is shown only in this answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookWithSecret)]
pub(crate) struct SecretWebhookView {
    #[serde(flatten)]
    webhook: WebhookView,
    /// The secret that signs deliveries. Store it: it is not shown again.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
}

impl SecretWebhookView {
    /// The endpoint that a request created, with its whole URL.
    pub(crate) fn created(endpoint: Endpoint) -> Self {
        let health = EndpointHealth::default();
        let url = endpoint.url.as_str().to_owned();
        let mut view = Self::from(WebhookState { endpoint, circuit: Circuit::Closed, health });
        view.webhook.url = url;
        view
    }
}

impl From<WebhookState> for SecretWebhookView {
    fn from(state: WebhookState) -> Self {
        Self { secret: state.endpoint.secret.reveal().to_owned(), webhook: state.into() }
    }
}

/// A page of endpoints, in the order of their ids.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookPage {
    /// The endpoints of this page.
    pub(crate) webhooks: Vec<WebhookView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// The result of a test event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookTest)]
pub(crate) struct TestView {
    /// The id of the event, which was sent as `webhook-id`.
    #[schema(format = "uuid")]
    event_id: String,
    /// Whether the status of the answer was 2xx.
    delivered: bool,
    /// The status of the answer, if there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The first 4 KiB of the body of the answer, if there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Why the delivery failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How long the delivery took, in milliseconds.
    took_ms: u64,
}

impl From<WebhookTest> for TestView {
    fn from(tested: WebhookTest) -> Self {
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

/// A delivery: one event for one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDelivery)]
pub(crate) struct DeliveryView {
    /// The id of the delivery.
    #[schema(example = 1)]
    id: i64,
    /// The id of the event, which is sent as `webhook-id`.
    #[schema(format = "uuid")]
    event_id: String,
    /// The CloudEvents type of the event.
    #[schema(example = "bespeak.stock.depleted.v1")]
    event_type: String,
    /// When the event happened.
    #[schema(value_type = String, format = DateTime)]
    event_at: Timestamp,
    /// The status of the delivery.
    #[schema(value_type = enums::DeliveryStatus)]
    status: DeliveryStatus,
    /// The number of completed attempts since the delivery was enqueued, redelivered or replayed.
    attempts: u32,
    /// When the next attempt is due. During an attempt: when it is repeated if its result is not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The status of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// When the delivery was enqueued.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the delivery last changed.
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
            status: delivery.status,
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
    /// The deliveries of this page.
    pub(crate) deliveries: Vec<DeliveryView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// The result of a page of a replay.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookReplay)]
pub(crate) struct ReplayView {
    /// The number of deliveries that existed and are pending again.
    deliveries: u64,
    /// The number of events that the endpoint had no delivery for, and that were enqueued.
    enqueued: u64,
    /// The `after` of the next request; absent at the end of the span.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "e4711")]
    next: Option<String>,
}

impl From<WebhookReplayed> for ReplayView {
    fn from(page: WebhookReplayed) -> Self {
        Self {
            deliveries: page.deliveries,
            enqueued: page.enqueued,
            next: page.next.map(ReplayPlace::as_text),
        }
    }
}
