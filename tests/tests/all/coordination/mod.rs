//! Several processes that share a Redis: what it is good for, and that nothing rests on it (I11).

mod limit;
mod outages;
mod sold_out_channel;

use std::time::Duration;

use bespeak_lab::load::{Answer, Connection};
use bespeak_services::{Redis, Switch};
use bespeak_tests::{Books, Server, until_within};
use http::Method;
use serde_json::{Value, json};

/// As long as a machine that is slow for the moment may take.
const PATIENCE: Duration = Duration::from_secs(60);

async fn redis() -> (Redis, Switch) {
    Redis::start_own_behind_gate(&[]).await.unwrap_or_else(|missing| panic!("{missing}"))
}

/// A server on these books that shares this Redis, and waits for it for longer than a slow machine makes it wait.
async fn server(books: &Books, redis: &str, settings: &[(&str, &str)]) -> Server {
    let all = [("BESPEAK_REDIS_URLS", redis), ("BESPEAK_REDIS_TIMEOUT_MS", "1000")];
    Server::start(books, &[&all, settings].concat()).await
}

/// Waits until a server asks Redis.
async fn joined(server: &Server) {
    until_within(PATIENCE, "Redis is asked", async || {
        // A call is what has it looked for.
        let _ = reserve(server, "nobody", &json!({"resourceId": "none", "quantity": 1, "holder": "nobody"}))
            .await;
        server.metric("bespeak_redis_open_breakers").await < 0.5
    })
    .await;
}

/// Asks for units; status and answer.
async fn reserve(server: &Server, key: &str, body: &Value) -> (u16, Value) {
    server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", key)], &body.to_string()).await
}

/// The same on a connection that stays.
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
