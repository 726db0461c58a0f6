//! The OpenAPI document: the contract, which is the same for every installation, and the document of one installation,
//! which has its limits as well.
//!
//! Receives the operations that `utoipa` derives from the handlers, and returns the whole document as JSON.
//! `operations.rs` names them, `schemas.rs` and `parameters.rs` bound their values, `examples.rs` shows them, and
//! `webhooks.rs` describes what the server sends. Problems come from `problem/`.

mod examples;
mod limits;
mod operations;
mod parameters;
mod schemas;
mod webhooks;

use serde_json::{Map, Value, json};
use utoipa::openapi::{
    ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, tag::TagBuilder,
};

pub(crate) use limits::deployment;

const DESCRIPTION: &str = "Holds limited stock for a while, then commits, releases or expires it, and never oversells.

Errors are problem details (RFC 9457), whose `type` is a stable name. An idempotency key is stored for as long as its \
reservation: without limit if it is committed, and for at least 72 hours if it is released, expired or cancelled.

Within `v1`, the API only grows. New operations, new optional parameters and fields of requests, new fields of \
answers, new problem types and new types of events may be added. No value is added to an enum of an answer, and \
nothing is removed, renamed, or given another meaning. Clients must ignore fields of answers that they do not know, \
and treat an unknown problem type by its status. A request must not have unknown fields or parameters: they are refused.

Every operation accepts two more headers. `X-Request-Id`, up to 128 printable ASCII characters without spaces, is \
repeated in the answer and in log lines; a request without one, or with an invalid one, gets a new id and is otherwise \
served as usual. `traceparent` (W3C Trace Context) is the trace that the events of the request carry; an invalid one \
is ignored. Every path that accepts GET also accepts HEAD. `x-retry` says whether an operation may be repeated if its \
answer was lost: `safe`; `key`, with the same `Idempotency-Key`; or `unsafe`.";

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
                .contact(Some(ContactBuilder::new().name(Some("The Bespeak project")).build()))
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

/// The contract: what holds for every installation, whatever its configuration.
pub(crate) fn contract(operations: OpenApi) -> Value {
    let mut document = json!(operations);
    webhooks::add(&mut document);
    schemas::complete(&mut document);
    operations::complete(&mut document);
    parameters::complete(&mut document);
    examples::add(&mut document);
    document["components"]["headers"]["X-Request-Id"] = json!({
        "description": "The id of the request, from the client or drawn by the server. Log lines contain it.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    });
    // Scopes will be named here, and required by each operation, when there are keys.
    document["security"] = json!([]);
    document["servers"] =
        json!([{"url": "http://127.0.0.1:8080", "description": "A server with default settings"}]);
    document
}

/// The operations of the document, each with its path and its method.
fn operations_of(document: &mut Value) -> impl Iterator<Item = (&str, &str, &mut Value)> {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object_mut().into_iter().flat_map(Map::iter_mut);
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// The values of a list that may be absent. Indexing would add it as null.
fn list_of<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Sets keywords of a schema.
fn set(schema: Option<&mut Value>, keywords: Value) {
    if let (Some(Value::Object(schema)), Value::Object(keywords)) = (schema, keywords) {
        schema.extend(keywords);
    }
}
