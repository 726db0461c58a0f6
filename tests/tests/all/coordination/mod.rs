//! Several processes that share a Redis: its uses, and that correctness does not depend on it (I11).

mod limit;
mod outages;
mod sold_out_channel;

use std::time::Duration;

use bespeak_lab::load::{Answer, Connection};
use bespeak_services::{Redis, Switch};
use bespeak_tests::{Books, Server, until_within};
use http::Method;
use serde_json::{Value, json};

/// How long a step may take on a machine that is slow for the moment.
const PATIENCE: Duration = Duration::from_secs(60);

async fn redis() -> (Redis, Switch) {
    Redis::start_own_behind_switch(&[]).await.unwrap_or_else(|missing| panic!("{missing}"))
}

/// A server on these books that shares this Redis, with a timeout that a slow machine does not exceed.
async fn server(books: &Books, redis: &str, settings: &[(&str, &str)]) -> Server {
    let all = [("BESPEAK_REDIS_URLS", redis), ("BESPEAK_REDIS_TIMEOUT_MS", "1000")];
    Server::start(books, &[&all, settings].concat()).await
}

/// Waits until a server uses Redis.
async fn joined(server: &Server) {
    until_within(PATIENCE, "Redis is used", async || {
        // Only a request makes the server look for Redis.
        let _ =
            reserve(server, "probe", &json!({"resourceId": "none", "quantity": 1, "holder": "probe"})).await;
        server.metric("bespeak_redis_open_breakers").await < 0.5
    })
    .await;
}

/// Sends a reserve; returns the status and the answer.
async fn reserve(server: &Server, key: &str, body: &Value) -> (u16, Value) {
    server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", key)], &body.to_string()).await
}

/// Sends a reserve on an open connection.
async fn reserve_on(connection: &mut Connection, key: &str, body: &Value) -> Answer {
    let (headers, body) = ([("idempotency-key", key)], body.to_string().into());
    connection.send(Method::POST, "/api/v1/reserve", &headers, body).await.expect("answered")
}

fn one(resource: &str) -> Value {
    json!({"resourceId": resource, "quantity": 1, "ttlSeconds": 600})
}

fn token_of(answer: &Value) -> &str {
    answer["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}"))
}
