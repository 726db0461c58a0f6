//! Checks requests and answers against the OpenAPI document, so that every test of the API is a test of its contract.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use http::Method;
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use uuid::Uuid;

static DOCUMENT: LazyLock<Value> = LazyLock::new(bespeak_http::contract);
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Asserts that the document describes an answer: its status, and its body. What the router answers to unknown paths
/// and methods must be the problem for that. `body` is the body as JSON, or null if it is not JSON.
#[track_caller]
pub(crate) fn assert_answer(method: &Method, path: &str, status: u16, body: &Value) {
    let path = path.split('?').next().unwrap_or_default();
    if !path.starts_with("/api/") && !path.starts_with("/health/") {
        return;
    }
    let schema = match operation(method, path) {
        // An operation with a path parameter does not answer to a path with an empty one.
        Some(pointer) => answer_schema(&pointer, status, body),
        None if status == 405 => Some("/components/schemas/MethodNotAllowedProblem".to_owned()),
        None if status == 404 => Some("/components/schemas/NotFoundProblem".to_owned()),
        // Other layers answer before the router does.
        None => Some("/components/schemas/Problem".to_owned()).filter(|_| status >= 400),
    };
    let Some(schema) = schema.filter(|_| !body.is_null()) else { return };
    assert_valid(&schema, body, &format!("the answer {status} to {method} {path}"));
}

/// Asserts that the document allows a request that was accepted.
#[track_caller]
pub(crate) fn assert_request(method: &Method, path: &str, body: &Value) {
    let path = path.split('?').next().unwrap_or_default();
    let Some(pointer) = operation(method, path) else { return };
    let schema = format!("{pointer}/requestBody/content/application~1json/schema");
    if DOCUMENT.pointer(&schema).is_some() && !body.is_null() {
        assert_valid(
            &schema,
            &without_nulls(body),
            &format!("the request {method} {path}, which was accepted"),
        );
    }
}

#[track_caller]
fn answer_schema(operation: &str, status: u16, body: &Value) -> Option<String> {
    let response = format!("{operation}/responses/{status}");
    let described = DOCUMENT.pointer(&response);
    assert!(described.is_some(), "{operation} does not describe the status {status}: {body}");
    let content = described.and_then(|response| response["content"].as_object())?;
    let media_type = content.keys().find(|name| name.ends_with("json"))?;
    Some(format!("{response}/content/{}/schema", media_type.replace('/', "~1")))
}

/// The pointer to the operation of a method and a path. A path without parameters goes before one with them.
fn operation(method: &Method, path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').collect();
    let matches = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        let fits = |(part, segment): (&&str, &&str)| {
            part == segment || (part.starts_with('{') && !segment.is_empty())
        };
        parts.len() == segments.len() && parts.iter().zip(&segments).all(fits)
    };
    let paths = DOCUMENT["paths"].as_object()?;
    let name = if method == Method::HEAD { "get" } else { &method.as_str().to_ascii_lowercase() };
    let exact = paths.get(path).map(|_| path);
    let template = exact.or_else(|| paths.keys().map(String::as_str).find(|template| matches(template)))?;
    let pointer = format!("/paths/{}/{name}", template.replace('~', "~0").replace('/', "~1"));
    DOCUMENT.pointer(&pointer).map(|_| pointer)
}

#[track_caller]
fn assert_valid(schema: &str, value: &Value, what: &str) {
    let validator = VALIDATORS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(schema.to_owned())
        .or_insert_with(|| Arc::new(validator(schema)))
        .clone();
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what} is not as the document describes it: {errors:#?} in {value:#}");
}

fn validator(pointer: &str) -> Validator {
    let mut schema = DOCUMENT.clone();
    // The reference is a URI, in which braces are not allowed.
    schema["$ref"] = format!("#{}", pointer.replace('{', "%7B").replace('}', "%7D")).into();
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .with_format("uuid", |text| text.len() == 36 && Uuid::try_parse(text).is_ok())
        .build(&schema)
        .unwrap_or_else(|error| panic!("{pointer} is no schema: {error}"))
}

/// Without fields that are null: the server reads them as absent, which the contract does not promise.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                // Metadata is the client's own.
                (name.clone(), if name == "metadata" { json!(value) } else { without_nulls(value) })
            })
            .collect(),
        other => other.clone(),
    }
}
