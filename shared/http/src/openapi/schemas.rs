//! The schemas of bodies: their bounds, and what `utoipa` writes differently from what the API means.

use std::collections::BTreeMap;

use bespeak::{
    engine::EventType,
    envelope,
    webhooks::{CustomHeaders, EndpointUrl},
};
use serde_json::{Map, Value, json};

use super::set;
use crate::problem;

/// The largest integer that every JSON client reads exactly (RFC 8259, section 6).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The longest URL of a webhook endpoint: its normal form may have a slash more.
const URL_LENGTH_MAX: usize = EndpointUrl::LENGTH_MAX - 1;
/// The secret of a webhook endpoint: `whsec_` and the base64 of 24 to 64 bytes. The character before the padding has
/// zeros in the bits that belong to no byte.
const SECRET_PATTERN: &str = "^whsec_([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|\
    ([A-Za-z0-9+/]{4})?[A-Za-z0-9+/][AQgw]==)?$";

/// The schema of a resource id, as events have it.
pub(super) fn resource_id() -> Value {
    let id = &envelope::schemas()["Resource"]["properties"]["resourceId"];
    json!({
        "type": "string",
        "minLength": id["minLength"],
        "maxLength": id["maxLength"],
        "pattern": id["pattern"],
        "examples": ["room-101"],
    })
}

/// Completes the schemas.
pub(super) fn complete(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    schemas.extend(problem::schemas());
    split_reserve(schemas);
    for schema in schemas.values_mut() {
        plain(schema);
    }
    bound(schemas);
    for (_, _, operation) in super::operations_of(document) {
        for parameter in super::list_of(operation, "parameters") {
            plain(&mut parameter["schema"]);
        }
        // A body that may be missing is not null.
        if let Some(body) = operation.pointer_mut("/requestBody/content/application~1json/schema") {
            plain(body);
        }
        for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
            for header in response["headers"].as_object_mut().into_iter().flat_map(Map::values_mut) {
                plain(&mut header["schema"]);
            }
        }
    }
}

/// A reserve has either one resource with a quantity, or items: a schema for each.
fn split_reserve(schemas: &mut Map<String, Value>) {
    let Some(both) = schemas.get("ReserveRequest").cloned() else { return };
    for (name, description, required, absent) in [
        (
            "ReserveOneRequest",
            "The units of one resource to hold.",
            &["resourceId", "quantity"][..],
            &["items"][..],
        ),
        (
            "ReserveManyRequest",
            "The units of several resources to hold, all or nothing.",
            &["items"],
            &["resourceId", "quantity"],
        ),
    ] {
        let mut one = both.clone();
        one["description"] = description.into();
        one["required"] = json!(required);
        if let Some(properties) = one["properties"].as_object_mut() {
            properties.retain(|property, _| !absent.contains(&property.as_str()));
        }
        schemas.insert(name.to_owned(), one);
    }
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let union = json!({
        "description": both["description"],
        "oneOf": [reference("ReserveOneRequest"), reference("ReserveManyRequest")],
    });
    schemas.insert("ReserveRequest".to_owned(), union);
}

/// Says what the API means, in all parts of a schema: an optional field is absent and never null, an object has any
/// fields, an integer is one that every client reads exactly, and examples have the keyword of OpenAPI 3.1.
fn plain(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(plain),
        Value::Object(parts) => {
            parts.values_mut().for_each(plain);
            not_null(parts);
            if let Some(example) = parts.get("example").filter(|example| !example.is_object()).cloned() {
                parts.remove("example");
                parts.insert("examples".to_owned(), json!([example]));
            }
            let integer = parts.get("type").is_some_and(|kind| kind == "integer");
            if integer && !parts.contains_key("const") {
                let narrow = parts.get("format").is_some_and(|format| format == "int32");
                let most = if narrow { i32::MAX.unsigned_abs().into() } else { INTEGER_MAX };
                parts.entry("minimum").or_insert_with(|| 0.into());
                parts.entry("maximum").or_insert_with(|| most.into());
            }
            let object = parts.get("type").is_some_and(|kind| kind == "object");
            if object && !parts.contains_key("properties") && !parts.contains_key("additionalProperties") {
                parts.insert("additionalProperties".to_owned(), true.into());
            }
        }
        _ => {}
    }
}

/// Takes null out of the types of a schema.
fn not_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    for union in ["oneOf", "anyOf"] {
        let Some(Value::Array(choices)) = schema.get_mut(union) else { continue };
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = &choices[..] {
            let only = only.clone();
            schema.remove(union);
            // The field's own description is nearer than that of its type.
            for (keyword, value) in only {
                schema.entry(keyword).or_insert(value);
            }
        }
    }
}

/// Bounds the values of fields as every installation does.
fn bound(schemas: &mut Map<String, Value>) {
    let events = envelope::schemas();
    let holder = &events["Reservation"]["properties"]["holder"];
    let holder = json!({
        "minLength": holder["minLength"],
        "maxLength": holder["maxLength"],
        "pattern": holder["pattern"],
        "examples": ["customer-17"],
    });
    let quantity = json!({"minimum": 1});
    let ttl = json!({"minimum": 1, "maximum": u32::MAX});
    let secret = json!({"pattern": SECRET_PATTERN});
    let types = EventType::ALL.map(EventType::as_str);
    let whole = types.join("|").replace('.', "[.]");
    let pattern = format!("^({whole}|{}[*])$", prefix_of(&types));
    let event_types = json!({"maxItems": 32, "items": {"type": "string", "pattern": pattern}});
    for (names, property, keywords) in [
        (
            &["ReserveOneRequest", "ItemRequest", "DefineRequest", "Resource", "Item", "Reservation"][..],
            "resourceId",
            resource_id(),
        ),
        (&["ReserveOneRequest", "ItemRequest", "Item", "Reservation"], "quantity", quantity),
        (&["ReserveOneRequest", "ReserveManyRequest", "ExtendRequest"], "ttlSeconds", ttl),
        (&["ReserveOneRequest", "ReserveManyRequest", "Reservation"], "holder", holder),
        (&["ReserveManyRequest"], "items", json!({"minItems": 1, "maxItems": 1000})),
        (&["Reservation"], "items", json!({"minItems": 1})),
        (&["Resource", "Reservation"], "version", json!({"minimum": 1})),
        (&["SmartKey"], "code", json!({"pattern": "^[0-9a-f]{32}$"})),
        (
            &["CreateWebhookRequest", "ChangeWebhookRequest", "Webhook", "WebhookWithSecret"],
            "url",
            json!({"format": "uri", "maxLength": URL_LENGTH_MAX}),
        ),
        (&["CreateWebhookRequest", "RotateRequest", "WebhookWithSecret"], "secret", secret),
        (&["CreateWebhookRequest", "ChangeWebhookRequest"], "headers", custom_headers()),
        (&["CreateWebhookRequest", "ChangeWebhookRequest"], "eventTypes", event_types),
        (&["WebhookDelivery"], "id", json!({"minimum": 1, "maximum": i64::MAX})),
        (&["WebhookDelivery"], "eventType", json!({"examples": types})),
        (&["WebhookDelivery"], "lastStatus", json!({"minimum": 100, "maximum": 599})),
        (&["WebhookTest"], "status", json!({"minimum": 100, "maximum": 599})),
        (&["WebhookDeliveryPage"], "next", json!({"minimum": 1, "maximum": i64::MAX})),
    ] {
        for name in names {
            let Some(schema) = schemas.get_mut(*name) else { continue };
            let own = schema.pointer_mut(&format!("/properties/{property}"));
            set(own, keywords.clone());
        }
    }
}

/// The headers of a webhook endpoint. Two names that differ only in case are refused, which no schema can say.
fn custom_headers() -> Value {
    let any_case = |text: &str| -> String {
        text.chars()
            .map(|c| if c == '-' { "-".to_owned() } else { format!("[{}{c}]", c.to_ascii_uppercase()) })
            .collect()
    };
    let names: Vec<String> = CustomHeaders::forbidden_names().map(any_case).collect();
    let prefixes: Vec<String> = CustomHeaders::forbidden_prefixes().map(any_case).collect();
    json!({
        "maxProperties": CustomHeaders::COUNT_MAX,
        "propertyNames": {
            "type": "string",
            "pattern": format!("^[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{}}}$", CustomHeaders::NAME_LENGTH_MAX),
            "not": {"pattern": format!("^({}$|{})", names.join("$|"), prefixes.join("|"))},
        },
        "additionalProperties": {
            "type": "string",
            "pattern": format!("^[!-~]([ -~]{{0,{}}}[!-~])?$", CustomHeaders::VALUE_LENGTH_MAX - 2),
        },
    })
}

/// A regular expression for every prefix of these texts, which have no special characters but dots.
fn prefix_of(texts: &[&str]) -> String {
    let mut branches: BTreeMap<char, Vec<&str>> = BTreeMap::new();
    for text in texts {
        let mut rest = text.chars();
        if let Some(first) = rest.next() {
            branches.entry(first).or_default().push(rest.as_str());
        }
    }
    let branch = |(first, rest): (&char, &Vec<&str>)| {
        let first = if *first == '.' { "[.]".to_owned() } else { first.to_string() };
        format!("{first}{}", prefix_of(rest))
    };
    let branches: Vec<String> = branches.iter().map(branch).collect();
    if branches.is_empty() { String::new() } else { format!("({})?", branches.join("|")) }
}
