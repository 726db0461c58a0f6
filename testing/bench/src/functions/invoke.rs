//! Requests to the functions' programs, as API Gateway sends them.

use std::{path::PathBuf, time::Duration};

use bespeak_services::{Failure, Function};
use serde_json::{Value, json};

use crate::{Error, bench::Bench, client::random_key, events::migrated, mysql::Database};

/// The environment variable that makes this program the function without any work.
pub(crate) const BARE: &str = "BENCH_BARE_FUNCTION";

/// A time limit of an invocation that is never reached.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Creates a database with empty tables and returns its name.
pub(super) async fn migrated_database(database: &Database) -> Result<String, Error> {
    let (name, store) = migrated(database).await?;
    bespeak::store::Store::close(&*store).await;
    Ok(name)
}

/// The program of a function.
pub(super) fn program(bench: &Bench, name: &str) -> PathBuf {
    bench.functions.join(name)
}

/// The event for a request through an HTTP API of API Gateway.
pub(super) fn request(method: &str, path: &str, key: &str, body: &str) -> Vec<u8> {
    let host = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com";
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": host, "idempotency-key": key,
            "x-forwarded-proto": "https"},
        "requestContext": {"accountId": "1", "apiId": "a", "domainName": host, "domainPrefix": "a",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7",
                "userAgent": "bench"},
            "requestId": "r", "routeKey": "$default", "stage": "$default", "time": "22/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1_795_341_600_000_u64},
        "body": body, "isBase64Encoded": false,
    })
    .to_string()
    .into_bytes()
}

/// The event for a hold on the hot resource, with a new key.
pub(super) fn hold() -> Vec<u8> {
    let body = r#"{"resourceId":"hot","quantity":1,"ttlSeconds":3600}"#;
    request("POST", "/api/v1/reserve", &random_key(), body)
}

/// Invokes `reserve` and checks the status of its response.
pub(super) async fn expect_status(function: &Function, event: Vec<u8>, status: u64) -> Result<(), Error> {
    let answer = function.invoke(event, TIME_LIMIT).await.map_err(as_error)?;
    let answer: Value = serde_json::from_slice(&answer)?;
    if answer["statusCode"] == status { Ok(()) } else { Err(format!("{answer}").into()) }
}

/// Defines the hot resource.
pub(super) async fn define(function: &Function) -> Result<(), Error> {
    let body = r#"{"resourceId":"hot","totalStock":1000000000}"#;
    expect_status(function, request("POST", "/api/v1/resources", "", body), 200).await
}

pub(super) fn as_error(failure: Failure) -> Error {
    format!("{}: {}", failure.kind, failure.message).into()
}
