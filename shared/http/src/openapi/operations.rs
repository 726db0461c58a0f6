//! The names of the operations, whether they may be repeated, and the answers that all of them share.

use serde_json::{Value, json};

use super::operations_of;
use crate::problem::{self, Kind};

/// The problems that every operation can answer.
const EVERY_OPERATION: &[Kind] = &[
    Kind::MalformedRequest,
    Kind::MethodNotAllowed,
    Kind::RequestTimeout,
    Kind::HostNotAllowed,
    Kind::InternalError,
    Kind::Unavailable,
];
/// The problems that every operation with a path parameter can answer: a slash in its value makes it another path.
const EVERY_PATH_PARAMETER: &[Kind] = &[Kind::NotFound];
/// The problems that every operation with a body can answer.
const EVERY_BODY: &[Kind] =
    &[Kind::MalformedBody, Kind::BodyTooLarge, Kind::UnsupportedMediaType, Kind::InvalidValue];

/// What becomes of a repeated request.
#[derive(Clone, Copy)]
enum Retry {
    /// The same answer, or the same effect.
    Safe,
    /// The same answer, with the same idempotency key.
    Key,
    /// The effect a second time.
    Unsafe,
}

/// Each operation: its method and path, its name in client libraries, which never changes, what a retry does, and the
/// meaning of its success.
#[rustfmt::skip]
const OPERATIONS: &[(&str, &str, &str, Retry, &str)] = &[
    ("post", "/api/v1/reserve", "reserve", Retry::Key,
        "The reservation, which holds the units; after a retry, the reservation of the first request as it is now."),
    ("post", "/api/v1/commit", "commit", Retry::Safe, "The committed reservation."),
    ("post", "/api/v1/release", "release", Retry::Safe, "The released reservation."),
    ("post", "/api/v1/extend", "extend", Retry::Safe, "The reservation with its new time."),
    ("post", "/api/v1/cancel", "cancel", Retry::Safe, "The cancelled reservation."),
    ("get", "/api/v1/reservations/{token}", "getReservation", Retry::Safe, "The reservation as it is now."),
    ("post", "/api/v1/resources", "setResource", Retry::Safe, "The resource as it is now."),
    ("get", "/api/v1/resources", "listResources", Retry::Safe, "A page of resources."),
    ("post", "/api/v1/resources/import", "importResources", Retry::Safe, "What the import changed, or would change."),
    ("get", "/api/v1/resources/import", "getResourceNamedImport", Retry::Safe, "The resource as it is now."),
    ("get", "/api/v1/resources/{id}", "getResource", Retry::Safe, "The resource as it is now."),
    ("post", "/api/v1/webhooks", "createWebhook", Retry::Unsafe, "The endpoint with its secret."),
    ("get", "/api/v1/webhooks", "listWebhooks", Retry::Safe, "A page of endpoints."),
    ("get", "/api/v1/webhooks/{id}", "getWebhook", Retry::Safe, "The endpoint."),
    ("patch", "/api/v1/webhooks/{id}", "updateWebhook", Retry::Safe, "The changed endpoint."),
    ("delete", "/api/v1/webhooks/{id}", "deleteWebhook", Retry::Safe, "The endpoint was deleted."),
    ("post", "/api/v1/webhooks/{id}/enable", "enableWebhook", Retry::Safe, "The enabled endpoint."),
    ("post", "/api/v1/webhooks/{id}/disable", "disableWebhook", Retry::Safe, "The disabled endpoint."),
    ("post", "/api/v1/webhooks/{id}/rotate", "rotateWebhookSecret", Retry::Unsafe, "The endpoint with its new secret."),
    ("post", "/api/v1/webhooks/{id}/test", "testWebhook", Retry::Unsafe, "What the endpoint answered."),
    ("get", "/api/v1/webhooks/{id}/deliveries", "listWebhookDeliveries", Retry::Safe, "A page of deliveries."),
    ("post", "/api/v1/webhooks/{id}/deliveries/{deliveryId}/redeliver", "redeliverWebhookDelivery", Retry::Unsafe,
        "The delivery, which is pending again."),
    ("post", "/api/v1/webhooks/{id}/replay", "replayWebhookDeliveries", Retry::Unsafe, "How much is pending again."),
    ("get", "/health/live", "getLiveness", Retry::Safe, "The process runs."),
    ("get", "/health/ready", "getReadiness", Retry::Safe, "Requests can be served."),
    ("get", "/metrics", "getMetrics", Retry::Safe, "The metrics."),
];

/// Names each operation, and describes its success and the problems that it shares with others.
pub(super) fn complete(document: &mut Value) {
    for (path, method, operation) in operations_of(document) {
        if let Some((_, _, id, retry, success)) =
            OPERATIONS.iter().find(|(m, p, ..)| (*m, *p) == (method, path))
        {
            operation["operationId"] = (*id).into();
            name(operation, *retry, success);
        }
        let mut common = EVERY_OPERATION.to_vec();
        if path.contains('{') {
            common.extend(EVERY_PATH_PARAMETER);
        }
        if !operation["requestBody"].is_null() {
            common.extend(EVERY_BODY);
        }
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        problem::complete(responses, &common);
        for response in responses.values_mut() {
            response["headers"]["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        }
    }
}

fn name(operation: &mut Value, retry: Retry, success: &str) {
    let has_key = operation["parameters"]
        .as_array()
        .is_some_and(|parameters| parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key"));
    operation["x-retry"] = match retry {
        Retry::Safe => "safe",
        Retry::Unsafe if !has_key => "unsafe",
        Retry::Unsafe | Retry::Key => "key",
    }
    .into();
    if operation["description"].is_null() {
        operation["description"] = operation["summary"].clone();
    }
    for status in ["200", "201", "204"] {
        let response = &mut operation["responses"][status];
        if response.is_object() && response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = success.into();
        }
    }
    // Indexing adds a null for a status that is not there.
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.retain(|_, response| !response.is_null());
    }
    let next = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str();
    let page = next.and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
    let items = match page {
        "ResourcePage" => "resources",
        "WebhookPage" => "webhooks",
        "WebhookDeliveryPage" => "deliveries",
        _ => return,
    };
    operation["x-pagination"] = json!({"cursor": "after", "next": "next", "items": items});
}
