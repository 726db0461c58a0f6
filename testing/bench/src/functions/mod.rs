//! What is measured of the Lambda functions: their programs, as a Runtime API on loopback invokes them.
//!
//! Each program is built by itself, with the back ends that are deployed. The database shares the machine's cores with them.

mod cold;
mod concurrency;
mod events;
mod warm;

use std::path::PathBuf;

use bespeak_services::{Failure, Function};
use serde_json::{Value, json};

use crate::{Error, cases::Bench, events::migrated, mysql::Database};

pub(crate) use cold::cold;
pub(crate) use concurrency::concurrency;
pub(crate) use events::{consume, relay};
pub(crate) use warm::{bare, warm};

/// Tells this program to be the function that does nothing.
pub(crate) const BARE: &str = "BENCH_BARE_FUNCTION";

/// What an invocation has time for, where that does not matter.
const TIME: std::time::Duration = std::time::Duration::from_secs(120);

/// A database that is migrated, and its name.
async fn database(database: &Database) -> Result<String, Error> {
    let (name, store) = migrated(database).await?;
    bespeak::store::Store::close(&*store).await;
    Ok(name)
}

fn program(bench: &Bench, name: &str) -> PathBuf {
    bench.functions.join(name)
}

/// The event of a request through an HTTP API.
fn request(method: &str, path: &str, key: &str, body: &str) -> Vec<u8> {
    let host = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com";
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": host, "idempotency-key": key,
            "x-forwarded-proto": "https"},
        "requestContext": {"accountId": "1", "apiId": "a", "domainName": host, "domainPrefix": "a",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "bench"},
            "requestId": "r", "routeKey": "$default", "stage": "$default", "time": "22/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1_795_341_600_000_u64},
        "body": body, "isBase64Encoded": false,
    })
    .to_string()
    .into_bytes()
}

/// A hold of the hot resource, under a key that nobody used.
fn hold() -> Vec<u8> {
    let body = r#"{"resourceId":"hot","quantity":1,"ttlSeconds":3600}"#;
    request("POST", "/api/v1/reserve", &crate::client::random_key(), body)
}

/// Invokes `reserve`; whether it answered with this status.
async fn answers(function: &Function, event: Vec<u8>, status: u64) -> Result<(), Error> {
    let answer = function.invoke(event, TIME).await.map_err(told)?;
    let answer: Value = serde_json::from_slice(&answer)?;
    if answer["statusCode"] == status { Ok(()) } else { Err(format!("{answer}").into()) }
}

/// Defines the hot resource.
async fn define(function: &Function) -> Result<(), Error> {
    let body = r#"{"resourceId":"hot","totalStock":1000000000}"#;
    answers(function, request("POST", "/api/v1/resources", "", body), 200).await
}

fn told(failure: Failure) -> Error {
    format!("{}: {}", failure.kind, failure.message).into()
}
