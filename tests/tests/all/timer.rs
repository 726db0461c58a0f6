//! A lone hold is EXPIRED, with its event, within 200 ms, although nobody asks for its units.

use std::time::Duration;

use bespeak_tests::{Books, Server, until};
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_hold_is_expired_on_time_by_the_timer_of_any_process() {
    let books = Books::new();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 1).await;
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1}).to_string();
    let (status, held) =
        server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", "k")], &body).await;
    assert_eq!(status, 200);
    // The process that made the hold is gone; another one has to find it.
    server.kill();
    let _other = Server::start(&books, &[]).await;
    until("the expiry is written", || async { expired(&books).await.is_some() }).await;
    let event = expired(&books).await.expect("written");
    assert_eq!(event["key"], held["token"]);
    let due: jiff::Timestamp = held["expiresAt"].as_str().expect("a time").parse().expect("a time");
    let written = written_at(&books).await;
    let late = Duration::try_from(written.duration_since(due)).expect("not early");
    assert!(late < Duration::from_millis(200), "{late:?} late");
    books.in_order().await;
}

async fn expired(books: &Books) -> Option<Value> {
    books.events().await.into_iter().find(|event| event["type"] == "bespeak.reservation.expired.v1")
}

async fn written_at(books: &Books) -> jiff::Timestamp {
    let row: (i64,) = sqlx::query_as("SELECT updated_at FROM reservations WHERE status = 'EXPIRED'")
        .fetch_one(&mut books.connection().await)
        .await
        .expect("one row");
    jiff::Timestamp::from_microsecond(row.0).expect("a time")
}
