//! The JSON Schemas of events: of the data, derived from the types that are serialised, and of the headers, which
//! have no type.
//!
//! The draft is 7, the default of AsyncAPI 3.0
//! (<https://www.asyncapi.com/docs/reference/specification/v3.0.0#schemaObject>). Next: `asyncapi.rs`, which refers
//! to the schemas.

use std::collections::BTreeMap;

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, RestrictFormats},
};
use serde_json::{Map, Value, json};

use super::{StockWebhookBody, WEBHOOK_TEST, WebhookTest};
use crate::engine::{EventType, Payload};

/// The published schemas by name, each complete in itself, without references.
pub fn schemas() -> BTreeMap<String, Value> {
    let (mut schemas, _) = derived(settings().with(|settings| settings.inline_subschemas = true));
    schemas.insert("EventHeaders".to_owned(), event_headers());
    let data = schemas.get("Reservation").cloned().unwrap_or_default();
    schemas.insert("ReservationWebhook".to_owned(), reservation_webhook(data));
    for (name, schema) in &mut schemas {
        schema["$schema"] = settings().meta_schema.into();
        schema["title"] = name.as_str().into();
    }
    schemas
}

/// The schemas for the components of a document, in which they refer to each other and to the types in them.
pub(super) fn components() -> Map<String, Value> {
    let (schemas, types) =
        derived(settings().with(|settings| settings.definitions_path = "/components/schemas".into()));
    let data = json!({"$ref": "#/components/schemas/Reservation"});
    let mut components: Map<String, Value> = types
        .into_iter()
        .chain(schemas)
        .chain([("EventHeaders".to_owned(), event_headers())])
        .chain([("ReservationWebhook".to_owned(), reservation_webhook(data))])
        .collect();
    components.values_mut().for_each(for_generators);
    components
}

/// Settings for schemas of what is written, which is stricter than what can be read.
fn settings() -> SchemaSettings {
    // Omit `uint64`, which few tools know and which says less than the bounds do.
    let mut formats = RestrictFormats::default();
    formats.infer_from_meta_schema = false;
    formats.allowed_formats = ["date-time".into(), "uuid".into()].into();
    SchemaSettings::draft07()
        .for_serialize()
        .with(|settings| settings.untagged_enum_variant_titles = true)
        .with_transform(formats)
        .with_transform(RecursiveTransform(names_as_enum))
}

/// Derives the schemas of the payloads and of the bodies of webhooks by name, and the types in them.
fn derived(settings: SchemaSettings) -> (BTreeMap<String, Value>, Map<String, Value>) {
    let mut generator = settings.into_generator();
    let payload = generator.root_schema_for::<Payload>();
    let notice = generator.root_schema_for::<StockWebhookBody>();
    let mut test = json!(generator.root_schema_for::<WebhookTest>());
    if let Some(kind) = test.pointer_mut("/properties/type").and_then(Value::as_object_mut) {
        kind.insert("const".to_owned(), WEBHOOK_TEST.into());
    }
    let types = generator.take_definitions(true);
    let payloads = payload.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_default();
    debug_assert!(!payloads.is_empty(), "the payload of an event is one of several types: {payload:?}");
    let schemas = payloads
        .into_iter()
        .filter_map(|schema| Some((schema.get("title")?.as_str()?.to_owned(), schema)))
        .chain([
            (StockWebhookBody::schema_name().into_owned(), json!(notice)),
            (WebhookTest::schema_name().into_owned(), test),
        ])
        .map(|(name, mut schema)| {
            // The document states the dialect and contains the types once for all schemas.
            if let Value::Object(schema) = &mut schema {
                schema.retain(|keyword, _| !matches!(keyword.as_str(), "$schema" | "components"));
            }
            (name, schema)
        })
        .collect();
    (schemas, types)
}

/// Writes a schema as code generators expect it: with a bare reference instead of a list of one, and with the width of
/// integers.
fn for_generators(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(for_generators),
        Value::Object(parts) => {
            parts.values_mut().for_each(for_generators);
            if let Some([only]) = parts.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && only["$ref"].is_string()
            {
                let reference = only["$ref"].clone();
                parts.remove("allOf");
                parts.insert("$ref".to_owned(), reference);
            }
            if parts.get("type").is_some_and(|kind| kind == "integer") {
                parts.entry("format").or_insert_with(|| "int64".into());
            }
        }
        _ => {}
    }
}

/// Turns a list of single names into an `enum`, which every code generator knows.
fn names_as_enum(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let names: Option<Vec<Value>> = choices.iter().map(|choice| choice.get("const").cloned()).collect();
    let Some(names) = names else { return };
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), names.into());
}

/// The schema of the body of a webhook about a reservation: the event in CloudEvents' JSON format.
fn reservation_webhook(data: Value) -> Value {
    let types: Vec<&str> = EventType::ALL
        .iter()
        .filter(|kind| !matches!(kind, EventType::Depleted | EventType::Restored))
        .map(|kind| kind.as_str())
        .collect();
    json!({
        "description": "The body of a webhook about a reservation: the event in the JSON format of CloudEvents 1.0.",
        "type": "object",
        "properties": {
            "specversion": {"description": "The version of CloudEvents.", "type": "string", "const": "1.0"},
            "id": {
                "description": "The id of the event, which is also sent as webhook-id.",
                "type": "string",
                "format": "uuid",
            },
            "source": {
                "description": "The Bespeak installation that published the event.",
                "type": "string",
                "format": "uri-reference",
                "minLength": 1,
            },
            "type": {"description": "The type of the event.", "type": "string", "enum": types},
            "subject": {"description": "The token of the reservation.", "type": "string", "format": "uuid"},
            "time": {"description": "The time of the event.", "type": "string", "format": "date-time"},
            "datacontenttype": {"type": "string", "const": "application/json"},
            "data": data,
        },
        "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
    })
}

/// The schema of the headers of every event: the attributes of CloudEvents, one extension, and W3C Trace Context.
fn event_headers() -> Value {
    json!({
        "description": "CloudEvents attributes as Kafka headers, in binary mode. Values are UTF-8 text.",
        "type": "object",
        "properties": {
            "ce_id": {
                "description": "The id of the event, the same for every delivery.",
                "type": "string",
                "format": "uuid",
            },
            "ce_source": {
                "description": "The Bespeak installation that published the event.",
                "type": "string",
                "format": "uri-reference",
                "minLength": 1,
            },
            "ce_specversion": {"description": "The version of CloudEvents.", "type": "string", "const": "1.0"},
            "ce_type": {
                "description": "The type of the event.",
                "type": "string",
                "pattern": "^bespeak[.][a-z]+[.][a-z]+[.]v[1-9][0-9]*$",
            },
            "ce_time": {"description": "The time of the event.", "type": "string", "format": "date-time"},
            "ce_subject": {
                "description": "The token or the resource id, identical to the key.",
                "type": "string",
                "minLength": 1,
            },
            "ce_keyversion": {
                "description": "The version of the reservation or resource, in decimal. Drop an event whose version is \
                    not higher than that of the last event of its key.",
                "type": "string",
                "pattern": "^[1-9][0-9]*$",
            },
            "content-type": {"type": "string", "const": "application/json"},
            "ce_traceparent": {
                "description": "The value of traceparent when the event was published (CloudEvents' extension for \
                    distributed tracing).",
                "type": "string",
                "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
            },
            "traceparent": {
                "description": "The trace of the request that caused the event (W3C Trace Context); absent if no \
                    request did, as for a hold that expired.",
                "type": "string",
                "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
            },
        },
        "required": [
            "ce_id", "ce_source", "ce_specversion", "ce_type", "ce_time", "ce_subject", "ce_keyversion", "content-type",
        ],
    })
}
