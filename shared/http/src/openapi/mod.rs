//! The OpenAPI document, apart from its operations: the head, the configured limits, and what all operations share.
//!
//! Receives the operations that `utoipa` derives from the handlers, and returns the whole document as JSON.

use bespeak::{engine::Limits, http_options::HttpOptions};
use serde_json::{Map, Value, json};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, tag::TagBuilder};

use crate::{
    observe::REQUEST_ID_LENGTH_MAX,
    problem::{self, Kind},
};

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

const DESCRIPTION: &str = "Holds limited stock for a while, then commits, releases or expires it, and never \
oversells.\n\nErrors are problem details (RFC 9457), whose `type` is a stable name. An idempotency key is \
stored for as long as its reservation: without limit if it is committed, and for at least 72 hours if it is \
released, expired or cancelled.";

/// The head of the document: the part that no handler describes.
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
            tag("resources", "Define, import, show and list resources"),
            tag("webhooks", "Send events to HTTP endpoints"),
            tag("operations", "Health and metrics"),
        ]))
        .build()
}

/// The whole document, as JSON: the operations with the configured limits and with the responses that all share.
pub(crate) fn complete(document: OpenApi, limits: &Limits, http: &HttpOptions) -> Value {
    let mut document = json!(document);
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
    set("ReserveRequest", "items", json!({"minItems": 1, "maxItems": limits.items_max}));
    set("ReserveRequest", "holder", json!({"minLength": 1, "maxLength": limits.holder_length_max}));
    set("ReserveRequest", "metadata", json!({"x-max-bytes": limits.metadata_bytes_max}));
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(problem::schemas());
    }
    add_common_responses(&mut document);
    document["components"]["headers"]["X-Request-Id"] = json!({
        "description": "The id of the request, from the client or drawn by the server. Log lines contain it.",
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

/// Adds the problems that every operation, or every one with a body or a path parameter, can answer.
fn add_common_responses(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(path, methods)| {
        let has_parameter = path.contains('{');
        methods.as_object_mut().into_iter().flat_map(Map::values_mut).map(move |one| (has_parameter, one))
    });
    for (has_parameter, operation) in operations {
        let mut common = EVERY_OPERATION.to_vec();
        if has_parameter {
            common.extend(EVERY_PATH_PARAMETER);
        }
        if !operation["requestBody"].is_null() {
            common.extend(EVERY_BODY);
        }
        add_tracing(operation);
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        problem::complete(responses, &common);
        for response in responses.values_mut() {
            response["headers"]["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        }
    }
}

/// The optional request headers of every operation: the request id and the trace context.
fn tracing_headers() -> Value {
    let header = |name: &str, description: &str, schema: Value| {
        let (place, required) = ("header", false);
        json!({"name": name, "in": place, "required": required, "description": description, "schema": schema})
    };
    json!({
        "RequestId": header(
            "X-Request-Id",
            "An id for this request, which the answer and the log lines repeat. An id that is longer or not \
                printable is ignored, and a request without one gets one.",
            json!({"type": "string", "maxLength": REQUEST_ID_LENGTH_MAX, "pattern": "^[!-~]+$"}),
        ),
        "Traceparent": header(
            "traceparent",
            "The trace of this request (W3C Trace Context), which its events carry. A malformed one is ignored. \
                Without it, `X-Amzn-Trace-Id` is used, and without either, a new trace begins.",
            json!({"type": "string", "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}),
        ),
    })
}

/// Adds references to the headers of [`tracing_headers`].
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
