//! The API's description: generated from the handlers, with the limits that this configuration sets.

use bespeak::{engine::Limits, http_options::HttpOptions};
use serde_json::{Value, json};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, tag::TagBuilder};

use crate::{observe::REQUEST_ID_LENGTH_MAX, router::described};

const DESCRIPTION: &str = "Holds limited stock for a while, then commits, releases or expires it, without ever \
overselling.\n\nErrors are problem details (RFC 9457); `type` is a stable name. An idempotency key is remembered for as \
long as its reservation is kept: committed ones for ever; released, expired and cancelled ones for at least 72 hours.";

/// The part that no handler describes.
pub(crate) fn head() -> OpenApi {
    let tag =
        |name: &str, description: &str| TagBuilder::new().name(name).description(Some(description)).build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Bespeak")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build()))
                .build(),
        )
        .tags(Some([
            tag("reservations", "Hold, commit, release, extend, cancel"),
            tag("resources", "What there is"),
            tag("webhooks", "Who is told of what happened"),
            tag("operations", "Health and metrics"),
        ]))
        .build()
}

/// The whole document, as JSON.
pub fn document(limits: &Limits, http: &HttpOptions) -> Value {
    let mut document = json!(described().into_openapi());
    let mut set = |schema: &str, property: &str, constraints: Value| {
        let pointer = format!("/components/schemas/{schema}/properties/{property}");
        let target = document.pointer_mut(&pointer).and_then(Value::as_object_mut);
        debug_assert!(target.is_some(), "the document has no {pointer}");
        if let (Some(target), Value::Object(constraints)) = (target, constraints) {
            target.extend(constraints);
        }
    };
    let ttl = json!({"minimum": 1, "maximum": limits.ttl_max_seconds});
    set("ReserveRequest", "ttlSeconds", ttl.clone());
    set("ReserveRequest", "ttlSeconds", json!({"default": limits.ttl_default_seconds}));
    set("ExtendRequest", "ttlSeconds", ttl);
    set("ExtendRequest", "ttlSeconds", json!({"x-life-max-seconds": limits.life_max_seconds}));
    let quantity = json!({"minimum": 1, "maximum": limits.quantity_max});
    set("ReserveRequest", "quantity", quantity.clone());
    set("ItemRequest", "quantity", quantity);
    let id = json!({"minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9._:/-]+$"});
    set("ReserveRequest", "resourceId", id.clone());
    set("ItemRequest", "resourceId", id.clone());
    set("DefineRequest", "resourceId", id);
    set("DefineRequest", "totalStock", json!({"minimum": 0, "maximum": limits.total_max}));
    set("DefineRequest", "fulfilment", json!({"enum": ["NONE", "SMART_KEY", null]}));
    set("ReserveRequest", "items", json!({"minItems": 1, "maxItems": limits.items_max}));
    set("ReserveRequest", "holder", json!({"minLength": 1, "maxLength": limits.holder_length_max}));
    set("ReserveRequest", "metadata", json!({"x-max-bytes": limits.metadata_bytes_max}));
    add_common_responses(&mut document);
    document["components"]["headers"]["X-Request-Id"] = json!({
        "description": "The request's id, as the client sent it or as it was given one; log lines have it.",
        "schema": {"type": "string"},
    });
    document["components"]["parameters"] = tracing_headers();
    document["info"]["x-limits"] = json!({
        "reservation": limits,
        "bodyBytesMax": http.body_bytes_max,
        "importBytesMax": http.import_bytes_max,
        "idempotencyKeyLengthMax": 255,
        "resourceIdLengthMax": 128,
    });
    document
}

/// Adds what every operation, or every one with a body, may answer.
fn add_common_responses(document: &mut Value) {
    let problem = |description: &str| {
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        json!({"description": description, "content": {"application/problem+json": {"schema": schema}}})
    };
    let retry_after =
        json!({"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}});
    let operations = document["paths"]
        .as_object_mut()
        .into_iter()
        .flat_map(|paths| paths.values_mut())
        .filter_map(Value::as_object_mut)
        .flat_map(|path| path.values_mut());
    for operation in operations {
        let has_body = !operation["requestBody"].is_null();
        add_tracing(operation);
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        let mut common = vec![("500", "internal-error"), ("503", "unavailable, expiry-backlog")];
        if has_body {
            common.extend([
                ("400", "malformed-body"),
                ("408", "request-timeout"),
                ("413", "body-too-large"),
                ("415", "unsupported-media-type"),
                ("422", "invalid-value"),
            ]);
        }
        for (status, description) in common {
            responses.entry(status).or_insert_with(|| problem(description));
        }
        for (status, response) in responses.iter_mut() {
            let description = response["description"].as_str().unwrap_or_default();
            if status == "503" || description.contains("Retry-After") {
                response["headers"] = retry_after.clone();
            }
            response["headers"]["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        }
    }
}

/// The headers by which any request may say what it belongs to.
fn tracing_headers() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema});
    json!({
        "RequestId": header(
            "X-Request-Id",
            "A name for this request, which its answer and its log lines bear. What is longer or not printable is \
                ignored; a request without one is given one.",
            json!({"type": "string", "maxLength": REQUEST_ID_LENGTH_MAX, "pattern": "^[!-~]+$"}),
        ),
        "Traceparent": header(
            "traceparent",
            "The trace that this request belongs to (W3C Trace Context); its events bear it. A malformed one is \
                ignored; where there is none, `X-Amzn-Trace-Id` is taken, else a trace is begun.",
            json!({"type": "string", "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}),
        ),
    })
}

fn add_tracing(operation: &mut Value) {
    if operation["parameters"].is_null() {
        operation["parameters"] = json!([]);
    }
    for name in ["RequestId", "Traceparent"] {
        let parameter = json!({"$ref": format!("#/components/parameters/{name}")});
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(parameter);
        }
    }
}
