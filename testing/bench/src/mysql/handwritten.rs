//! The base that Bespeak is compared with: the transaction that a team would write by hand. It uses one transaction per
//! request and prepared statements, and updates the hot row last.
//!
//! The transaction is correct: key, reservation, event and stock are written together, and the conditional
//! update guards the stock. It does less than Bespeak: a reservation has one item, a repeated key fails on
//! the unique index instead of returning the earlier reservation, and holds do not expire on demand.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use bespeak::config::{Config, Values};
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Error;

const SCHEMA: &str = "CREATE TABLE stock (id VARCHAR(128) PRIMARY KEY, available BIGINT NOT NULL);
    CREATE TABLE holds (token BINARY(16) PRIMARY KEY, resource_id VARCHAR(128) NOT NULL, quantity BIGINT NOT NULL,
        idempotency_key VARCHAR(255) NOT NULL, status VARCHAR(9) NOT NULL, expires_at DATETIME(6) NOT NULL,
        UNIQUE KEY (idempotency_key), KEY (status, expires_at));
    CREATE TABLE events (id BIGINT AUTO_INCREMENT PRIMARY KEY, payload JSON NOT NULL, published_at DATETIME(6),
        KEY (published_at));
    INSERT INTO stock VALUES ('hot', 9000000000)";

/// Serves `POST /api/v1/reserve` on the database of `BENCH_DATABASE_URL`, at `BENCH_LISTEN`.
pub(crate) async fn serve() -> Result<(), Error> {
    let options: MySqlConnectOptions = std::env::var("BENCH_DATABASE_URL")?.parse()?;
    let pool = MySqlPoolOptions::new()
        .max_connections(16)
        .acquire_timeout(Duration::from_secs(60))
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let level = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
                sqlx::raw_sql(level).execute(connection).await.map(drop)
            })
        })
        .connect_with(options)
        .await?;
    sqlx::raw_sql(AssertSqlSafe(SCHEMA)).execute(&pool).await?;
    let address: SocketAddr = std::env::var("BENCH_LISTEN")?.parse()?;
    let listener = TcpListener::bind(address).await?;
    let router = Router::new().route("/api/v1/reserve", post(reserve)).with_state(pool);
    let http = Config::parse(&Values::from_environment())?.http;
    bespeak_http::serve(listener, router, &http, CancellationToken::new()).await;
    Ok(())
}

async fn reserve(
    State(pool): State<MySqlPool>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    match transaction(&pool, key, &body).await {
        Ok(Some(held)) => (StatusCode::OK, Json(held)),
        Ok(None) => (StatusCode::CONFLICT, Json(json!({"type": "out-of-stock"}))),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"detail": error.to_string()}))),
    }
}

async fn transaction(pool: &MySqlPool, key: &str, body: &Value) -> Result<Option<Value>, sqlx::Error> {
    let resource = body["resourceId"].as_str().unwrap_or_default();
    let (quantity, ttl) =
        (body["quantity"].as_i64().unwrap_or(1), body["ttlSeconds"].as_i64().unwrap_or(300));
    let token = Uuid::now_v7();
    let held = json!({"token": token, "resourceId": resource, "quantity": quantity, "status": "HELD"});
    let mut transaction = pool.begin().await?;
    sqlx::query("INSERT INTO holds VALUES (?, ?, ?, ?, 'HELD', NOW(6) + INTERVAL ? SECOND)")
        .bind(token.as_bytes().to_vec())
        .bind(resource)
        .bind(quantity)
        .bind(key)
        .bind(ttl)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO events (payload) VALUES (?)")
        .bind(held.to_string())
        .execute(&mut *transaction)
        .await?;
    let taken = sqlx::query("UPDATE stock SET available = available - ? WHERE id = ? AND available >= ?")
        .bind(quantity)
        .bind(resource)
        .bind(quantity)
        .execute(&mut *transaction)
        .await?;
    if taken.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(None);
    }
    transaction.commit().await?;
    Ok(Some(held))
}
