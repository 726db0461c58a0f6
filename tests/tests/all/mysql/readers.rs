//! Reads that take long: they hold up each other, and nothing else.

use std::{sync::Arc, time::Duration};

use bespeak_tests::{Books, Client, Server, until, until_within};
use http::Method;
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use super::ask_root;

/// GETs that wait for a locked table occupy every connection for views. Meanwhile the timer, the relay, commands and
/// metrics go on. (The server gives a read eight seconds, so this has to happen in less.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_readers_holds_up_no_other_part() {
    let books = Books::mysql().await;
    let server = Arc::new(Server::start(&books, &[]).await);
    server.cars("car", 1).await;
    server.stock("seat", 1).await;
    server.stock("room", 1).await;
    let token = server.hold("car", "car").await;
    server.act("commit", &token).await;
    until("its key is issued", async || server.show(&token).await["smartKey"].is_object()).await;
    // Given a crowd that reads SmartKeys, whose table is locked
    let mut root = books.root().await;
    let lock = format!("LOCK TABLES {}.smart_keys WRITE", books.name());
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut root).await.expect("locked");
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let (server, path) = (server.clone(), format!("/api/v1/reservations/{token}"));
        crowd.spawn(async move { server.request(Method::GET, &path, "", "").await.0 });
    }
    let waiting = format!(
        "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.processlist
        WHERE db = '{}' AND state LIKE 'Waiting for table%'",
        books.name()
    );
    until("the crowd has all connections", async || ask_root(&books, &waiting).await == 4).await;
    // When a hold makes an event, and another one ends
    server.hold("seat", "seat").await;
    server.hold_for("room", "room", 1).await;
    // Then the relay publishes, the timer expires, and metrics are counted
    let published = "SELECT COUNT(*) FROM outbox WHERE event_key = 'seat' AND published_at IS NOT NULL";
    let expired = "SELECT COUNT(*) FROM reservations WHERE status = 'EXPIRED'";
    until_within(Duration::from_secs(6), "the event is published and the hold expires", async || {
        books.count(published).await == 1 && books.count(expired).await == 1
    })
    .await;
    assert!(server.text("/metrics").await.contains("bespeak_outbox_unpublished_events"));
    assert_eq!(ask_root(&books, &waiting).await, 4, "the crowd still waits");
    sqlx::raw_sql("UNLOCK TABLES").execute(&mut root).await.expect("unlocked");
    while let Some(status) = crowd.join_next().await {
        let status = status.expect("no panic");
        assert!(matches!(status, 200 | 503), "{status}");
    }
}
