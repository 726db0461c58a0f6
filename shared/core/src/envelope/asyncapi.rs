//! Describes the published events for their consumers: topics, headers and data, as an AsyncAPI document
//! (<https://www.asyncapi.com/docs/reference/specification/v3.0.0>).
//!
//! Never: a schema that can be derived from a type; `schema.rs` derives those. Next: `docs/events/`, which contains the
//! generated document.

use serde_json::{Map, Value, json};

use super::{WEBHOOK_TEST, schema};
use crate::engine::EventType;

const DESCRIPTION: &str = "Every change of a reservation, and every depletion and restoration of a resource's \
stock, as CloudEvents 1.0 in the binary mode of the Kafka binding: attributes are headers, and the value is the \
data, a snapshot of the record after the change.\n\nEvents of one key arrive in the order of their versions \
(`ce_keyversion`) and may be repeated: drop an event whose version is not higher than the last one of its key. A \
token lets its bearer act on the reservation, so everyone who can read the topic can do so.";

/// The rules for changes of the format, as `docs/events/README.md` states them.
const VERSIONING: &str = "The number at the end of a type is the version of its data and headers. Within `v1`, they \
only grow: optional fields, optional headers and new types may be added. Nothing is removed, renamed, or given \
another meaning or other values, and every field that is always present stays present. Consumers must ignore fields, \
headers and types that they do not know. Any other change becomes a new type, `.v2`, which is published alongside \
`.v1` for a period that the changelog announces.";

// The defaults of the configuration.
const TOPIC: &str = "bespeak.events";
const PARTITIONS: u32 = 12;
const DEAD_LETTER_TOPIC: &str = "bespeak.events.dlq";

/// The id of the event in examples.
const EVENT_ID: &str = "01890a5d-ac97-7c3e-9f6a-2d1f0b8e4c55";

/// The version of the Kafka bindings: <https://github.com/asyncapi/bindings/blob/master/kafka/README.md>.
const KAFKA_BINDINGS: &str = "0.5.0";

/// The AsyncAPI document, as JSON.
pub fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Bespeak events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{DESCRIPTION}\n\n{VERSIONING}"),
            "contact": {"name": "The Bespeak project"},
            "license": {"name": "MIT", "url": "https://spdx.org/licenses/MIT.html"},
            "tags": [{"name": "reservations"}, {"name": "stock"}, {"name": "webhooks"}],
        },
        "defaultContentType": "application/json",
        "servers": servers(),
        "channels": channels(),
        "operations": operations(),
        "components": {"messages": messages(), "schemas": schema::components()},
    })
}

/// The servers, as templates: the real addresses depend on the installation.
fn servers() -> Value {
    json!({
        "kafka": {
            "host": "{host}:{port}",
            "protocol": "kafka",
            "description": "Kafka, or another broker that speaks its protocol.",
            "variables": {"host": {"default": "localhost"}, "port": {"default": "9092"}},
        },
        "subscriber": {
            "host": "{host}",
            "protocol": "https",
            "description": "A webhook endpoint.",
            "variables": {"host": {"default": "example.com"}},
        },
    })
}

fn channels() -> Value {
    let kafka = |topic: &str, partitions: u32| {
        let binding = json!({"topic": topic, "partitions": partitions, "bindingVersion": KAFKA_BINDINGS});
        json!({"kafka": binding})
    };
    let types: Map<String, Value> = EventType::ALL
        .iter()
        .map(|kind| {
            (kind.as_str().to_owned(), reference(&format!("#/components/messages/{}", kind.as_str())))
        })
        .collect();
    json!({
        "events": {
            "address": TOPIC,
            "description": "Events, keyed by the token of the reservation or the id of the resource. All events of one \
                key are in one partition. The name of the topic and its number of partitions are settings; the \
                defaults are shown.",
            "servers": [reference("#/servers/kafka")],
            "messages": types,
            "bindings": kafka(TOPIC, PARTITIONS),
        },
        "deadLetters": {
            "address": DEAD_LETTER_TOPIC,
            "description": "Records that could not be consumed, unchanged and under their key, with the reason.",
            "servers": [reference("#/servers/kafka")],
            "messages": {"DeadLetter": reference("#/components/messages/DeadLetter")},
            "bindings": kafka(DEAD_LETTER_TOPIC, 1),
        },
        "stockNotices": {
            "address": null,
            "description": "A POST to the URL of a webhook endpoint, signed as Standard Webhooks specifies.",
            "servers": [reference("#/servers/subscriber")],
            "messages": {"StockNotice": reference("#/components/messages/StockNotice")},
        },
        "webhooks": {
            "address": null,
            "description": "A POST to the URL of a webhook endpoint, signed as Standard Webhooks specifies. Deliveries \
                may be repeated, under the same webhook-id, and arrive in any order: drop a body whose version is not \
                higher than the last one of its reservation (`data.version`) or of its resource (`version`).",
            "servers": [reference("#/servers/subscriber")],
            "messages": {
                "ReservationWebhook": reference("#/components/messages/ReservationWebhook"),
                "StockNotice": reference("#/components/messages/StockNotice"),
                "WebhookTest": reference("#/components/messages/WebhookTest"),
            },
        },
    })
}

fn operations() -> Value {
    let operation = |action: &str, channel: &str, summary: &str| {
        let channel = reference(&format!("#/channels/{channel}"));
        json!({"action": action, "channel": channel, "summary": summary, "description": summary})
    };
    json!({
        "publishEvents": operation("send", "events", "The relay publishes the events of the outbox."),
        "consumeEvents": operation("receive", "events", "The consumer applies the effects of events, each once."),
        "putAsideDeadLetters": operation("send", "deadLetters", "The consumer stores records that it can never apply."),
        "tellOfStock": operation(
            "send",
            "stockNotices",
            "Webhook endpoints are notified that stock was depleted or restored.",
        ),
        "deliverWebhooks": operation("send", "webhooks", "The dispatcher sends events to webhook endpoints."),
    })
}

fn messages() -> Map<String, Value> {
    EventType::ALL
        .iter()
        .map(|kind| (kind.as_str().to_owned(), message(*kind)))
        .chain([("DeadLetter".to_owned(), dead_letter()), ("StockNotice".to_owned(), stock_notice())])
        .chain([
            ("ReservationWebhook".to_owned(), reservation_webhook()),
            ("WebhookTest".to_owned(), webhook_test()),
        ])
        .collect()
}

/// The message of one type of event.
fn message(kind: EventType) -> Value {
    let (payload, key) = match kind {
        EventType::Held
        | EventType::Committed
        | EventType::Released
        | EventType::Expired
        | EventType::Extended
        | EventType::Cancelled => ("Reservation", "Token"),
        EventType::Depleted | EventType::Restored => ("Resource", "ResourceId"),
    };
    let summary = match kind {
        EventType::Held => "A hold was made.",
        EventType::Committed => "A hold became final.",
        EventType::Released => "A hold was released by its holder.",
        EventType::Expired => "A hold expired at the end of its TTL.",
        EventType::Extended => "The TTL of a hold was extended.",
        EventType::Cancelled => "A committed reservation was cancelled.",
        EventType::Depleted => "The last available unit of a resource was taken.",
        EventType::Restored => "A resource without available units has some again.",
    };
    let data = data(kind);
    json!({
        "name": kind.as_str(),
        "title": kind.as_str(),
        "summary": summary,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "allOf": [
                reference("#/components/schemas/EventHeaders"),
                {"properties": {"ce_type": {"const": kind.as_str()}}},
            ],
        },
        "payload": reference(&format!("#/components/schemas/{payload}")),
        "bindings": {
            "kafka": {
                // Wrapped in `allOf`: a bare reference matches two alternatives of the official schema, which refuses
                // that.
                "key": {"allOf": [reference(&format!("#/components/schemas/{key}"))]},
                "bindingVersion": KAFKA_BINDINGS,
            },
        },
        "examples": [{"summary": summary, "headers": headers(kind, &data), "payload": data}],
    })
}

/// The message of a record that could not be consumed. Nothing of the original is required, since it may be malformed.
fn dead_letter() -> Value {
    let whole_number =
        |description: &str| json!({"description": description, "type": "string", "pattern": "^[0-9]+$"});
    let committed = data(EventType::Committed);
    let mut headers = headers(EventType::Committed, &committed);
    for (name, value) in [
        ("dlq_reason", "resource room-101 is unknown"),
        ("dlq_topic", TOPIC),
        ("dlq_partition", "3"),
        ("dlq_offset", "4711"),
        ("dlq_attempts", "1"),
        ("dlq_time", "2026-01-01T00:00:01Z"),
    ] {
        headers[name] = value.into();
    }
    json!({
        "name": "DeadLetter",
        "title": "Dead letter",
        "summary": "A record as it arrived, with its own headers and the reason why it could not be consumed.",
        "headers": {
            "type": "object",
            "properties": {
                "dlq_reason": {"description": "The reason why the record could not be consumed.", "type": "string"},
                "dlq_topic": {"description": "The topic of the original record.", "type": "string"},
                "dlq_partition": whole_number("The partition of the original record."),
                "dlq_offset": whole_number("The offset of the original record."),
                "dlq_attempts": whole_number("The number of attempts to consume the record."),
                "dlq_time": {
                    "description": "The time at which the record became a dead letter.",
                    "type": "string",
                    "format": "date-time",
                },
                "dlq_omitted": whole_number(
                    "The size of the original value in bytes, if the value is absent because it is too large for \
                     this topic.",
                ),
            },
            "required": ["dlq_reason", "dlq_topic", "dlq_partition", "dlq_offset", "dlq_attempts", "dlq_time"],
        },
        "payload": {"description": "The original value."},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": KAFKA_BINDINGS}},
        "examples": [{"headers": headers, "payload": committed}],
    })
}

/// The message of a webhook about stock.
fn stock_notice() -> Value {
    let body = json!({
        "type": "STOCK_DEPLETED", "resourceId": "room-101", "value": 0, "timestamp": "2026-01-01T00:00:00Z",
        "version": 3, "eventId": EVENT_ID,
    });
    webhook("StockNotice", "Stock notice", "The body of a webhook: stock was depleted or restored.", &body)
}

/// The message of a webhook about a reservation.
fn reservation_webhook() -> Value {
    let data = data(EventType::Committed);
    let body = json!({
        "specversion": "1.0", "id": EVENT_ID, "source": "/bespeak", "type": EventType::Committed.as_str(),
        "subject": data["token"], "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "data": data,
    });
    webhook(
        "ReservationWebhook",
        "Reservation webhook",
        "The body of a webhook: a reservation changed.",
        &body,
    )
}

/// The message of a test of a webhook endpoint.
fn webhook_test() -> Value {
    let body = json!({
        "type": WEBHOOK_TEST, "endpointId": "01890a5d-ac96-774b-bcce-b302099a8057", "timestamp": "2026-01-01T00:00:00Z",
    });
    webhook(
        "WebhookTest",
        "Webhook test",
        "The body of a webhook: a client tests the endpoint. It is not an event.",
        &body,
    )
}

/// The message of a webhook; `name` is also that of its schema.
fn webhook(name: &str, title: &str, summary: &str, body: &Value) -> Value {
    json!({
        "name": name,
        "title": title,
        "summary": summary,
        "contentType": "application/json",
        "headers": {
            "description": "The headers of Standard Webhooks.",
            "type": "object",
            "properties": {
                "webhook-id": {"description": "The id of the event, the same for every attempt.", "type": "string"},
                "webhook-timestamp": {
                    "description": "The time of the attempt, in seconds since 1970.",
                    "type": "string",
                    "pattern": "^[0-9]+$",
                },
                "webhook-signature": {
                    "description": "One or more signatures, space-separated.", "type": "string", "pattern": "^v1",
                },
                "traceparent": {
                    "description": "The trace of the request that caused the event (W3C Trace Context).",
                    "type": "string",
                    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                },
            },
            "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
        },
        "payload": reference(&format!("#/components/schemas/{name}")),
        "examples": [{"payload": body}],
    })
}

/// The data of the example of a type.
fn data(kind: EventType) -> Value {
    let reservation = |version: u64, status: &str| {
        json!({
            "token": "01890a5d-ac96-774b-bcce-b302099a8057",
            "version": version,
            "status": status,
            "items": [{"resourceId": "room-101", "quantity": 1}],
            "holder": "ann",
            "metadata": {"order": 4711},
            "createdAt": "2026-01-01T00:00:00Z",
            "expiresAt": "2026-01-01T00:05:00Z",
        })
    };
    let resource = |version: u64, available: u64| {
        json!({
            "resourceId": "room-101",
            "version": version,
            "availableStock": available,
            "totalStock": 2,
        })
    };
    match kind {
        EventType::Held => reservation(1, "HELD"),
        EventType::Committed => reservation(2, "COMMITTED"),
        EventType::Released => reservation(2, "RELEASED"),
        EventType::Expired => reservation(2, "EXPIRED"),
        EventType::Extended => reservation(2, "HELD"),
        EventType::Cancelled => reservation(3, "CANCELLED"),
        EventType::Depleted => resource(3, 0),
        EventType::Restored => resource(4, 1),
    }
}

/// The headers of the example of a type.
fn headers(kind: EventType, data: &Value) -> Value {
    let subject = if data["token"].is_null() { &data["resourceId"] } else { &data["token"] };
    json!({
        "ce_id": EVENT_ID,
        "ce_source": "/bespeak",
        "ce_specversion": "1.0",
        "ce_type": kind.as_str(),
        "ce_time": "2026-01-01T00:00:00Z",
        "ce_subject": subject,
        "ce_keyversion": data["version"].to_string(),
        "content-type": "application/json",
        "ce_traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    })
}

fn reference(to: &str) -> Value {
    json!({"$ref": to})
}
