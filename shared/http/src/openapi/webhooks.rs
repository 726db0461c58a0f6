//! What the server sends to webhook endpoints: the top-level `webhooks` of the document.

use bespeak::{engine::EventType, envelope};
use serde_json::{Value, json};

/// Adds the webhooks, and the schemas of their bodies.
pub(super) fn add(document: &mut Value) {
    for (name, schema) in bodies() {
        document["components"]["schemas"][name] = schema;
    }
    let webhook = |id: &str, summary: &str, schema: &str| {
        json!({
            "post": {
                "tags": ["webhooks"],
                "operationId": id,
                "summary": summary,
                "description": "Signed as Standard Webhooks specifies. The same event may arrive more than once, with \
                    the same `webhook-id`, and events may arrive out of order, so compare their versions.",
                "parameters": headers(),
                "requestBody": {
                    "required": true,
                    "content": {
                        "application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}},
                    },
                },
                "responses": {
                    "2XX": {"description": "The event was received."},
                    "4XX": {"description": "The event is sent again later; 410 means that the endpoint is gone."},
                },
            },
        })
    };
    document["webhooks"] = json!({
        "reservationEvent": webhook(
            "receiveReservationEvent",
            "A reservation changed",
            "ReservationEvent",
        ),
        "stockNotice": webhook("receiveStockNotice", "Stock was depleted or restored", "StockNotice"),
        "webhookTest": webhook("receiveWebhookTest", "An operator tests the endpoint", "WebhookTestEvent"),
    });
}

/// The headers of Standard Webhooks.
fn headers() -> Value {
    let header = |name: &str, description: &str, schema: Value| {
        let place = "header";
        json!({"name": name, "in": place, "required": true, "description": description, "schema": schema})
    };
    json!([
        header(
            "webhook-id",
            "The id of the event, the same for every attempt.",
            json!({"type": "string", "format": "uuid"})
        ),
        header(
            "webhook-timestamp",
            "The time of the attempt, in seconds since 1970.",
            json!({"type": "string", "pattern": "^[0-9]+$"}),
        ),
        header(
            "webhook-signature",
            "One or more signatures, separated by spaces.",
            json!({"type": "string", "pattern": "^v1,"}),
        ),
    ])
}

/// The schemas of the bodies, by name.
fn bodies() -> Vec<(&'static str, Value)> {
    let mut schemas = envelope::schemas();
    let mut take = |name: &str| {
        let mut schema = schemas.remove(name).unwrap_or_default();
        if let Value::Object(schema) = &mut schema {
            // The document states the dialect.
            schema.retain(|keyword, _| !matches!(keyword.as_str(), "$schema" | "title"));
        }
        schema
    };
    vec![
        ("StockNotice", take("StockNotice")),
        ("ReservationEventData", take("Reservation")),
        ("ReservationEvent", reservation_event()),
        ("WebhookTestEvent", webhook_test_event()),
    ]
}

/// The body of a webhook about a reservation: the event in CloudEvents' JSON format.
fn reservation_event() -> Value {
    let types: Vec<&str> = EventType::ALL
        .iter()
        .map(|kind| kind.as_str())
        .filter(|kind| kind.starts_with("bespeak.reservation."))
        .collect();
    json!({
        "description": "A change of a reservation, as a CloudEvent in JSON format.",
        "type": "object",
        "properties": {
            "specversion": {"description": "The version of CloudEvents.", "type": "string", "const": "1.0"},
            "id": {
                "description": "The id of the event, the same for every attempt, also sent as webhook-id.",
                "type": "string",
                "format": "uuid",
            },
            "source": {
                "description": "The Bespeak installation.",
                "type": "string",
                "format": "uri-reference",
                "minLength": 1,
            },
            "type": {"description": "The change.", "type": "string", "enum": types},
            "subject": {"description": "The token of the reservation.", "type": "string", "format": "uuid"},
            "time": {"description": "The time of the change.", "type": "string", "format": "date-time"},
            "datacontenttype": {"type": "string", "const": "application/json"},
            "data": {"$ref": "#/components/schemas/ReservationEventData"},
        },
        "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
    })
}

/// The body of a webhook that tests an endpoint.
fn webhook_test_event() -> Value {
    json!({
        "description": "A test of a webhook endpoint.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "const": "bespeak.webhook.test.v1"},
            "endpointId": {"description": "The id of the endpoint.", "type": "string", "format": "uuid"},
            "timestamp": {"description": "The time of the test.", "type": "string", "format": "date-time"},
        },
        "required": ["type", "endpointId", "timestamp"],
    })
}
