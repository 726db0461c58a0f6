//! A clock that jumps purges nothing and expires nothing for good; on demand, holds expire as always.

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, until, until_within};
use http::Method;
use serde_json::json;

const DAY: u64 = 24 * 3_600;
/// Two interpreters of one clock are on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const HELD: &str = "SELECT COUNT(*) FROM reservations WHERE status = 'HELD'";

/// Books with one hold and one released reservation, which ended long ago.
async fn traded(server: &Server) -> (String, String) {
    server.stock("seat", 2).await;
    let released = server.hold("released", "seat").await;
    server.act("release", &released).await;
    (server.hold_for("held", "seat", 3_600).await, released)
}

/// The clock of this machine, which is that of SQLite, jumps ten days ahead and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_of_the_machine_s_clock_ends_no_hold_for_good() {
    let books = Books::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    let offset = folder.path().join("offset");
    let set = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, &offset).expect("renamed");
    };
    set("+0s");
    let server = Server::start_with_clock_of(&books, &offset).await;
    let (held, _) = traded(&server).await;
    // When the clock jumps
    set(&format!("+{}s", 10 * DAY));
    until_within(PATIENCE, "the jump is noticed", async || {
        server.logged("ERROR").iter().any(|line| line.contains("jumped by that much"))
    })
    .await;
    // Then the clock that decides says that the hold is over
    let commit = json!({"token": held}).to_string();
    assert_eq!(server.ask(Method::POST, "/api/v1/commit", &[], &commit).await.0, 410);
    assert!(server.metric("bespeak_clock_skew_seconds").await > 800_000.0);
    assert_eq!(books.count(HELD).await, 1, "but the timer does not write it");
    // And when the clock jumps back, the hold is as it was
    set("+0s");
    until_within(PATIENCE, "the clocks agree", async || {
        server.logged("INFO").iter().any(|line| line.contains("the clocks agree again"))
    })
    .await;
    server.act("commit", &held).await;
    // And the timer works again
    let short = server.hold_for("short", "seat", 1).await;
    until("the hold expires", async || server.show(&short).await["status"] == "EXPIRED").await;
    until("the expiry is written", async || books.count(HELD).await == 0).await;
    assert_eq!(server.stop().await, 0);
}

/// As if no process had purged lately.
const NO_PASS: &str = "DELETE FROM leases WHERE name LIKE '%purge%'";

/// The clock of the database is ten days ahead of a server's: the server does nothing that cannot be undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_differs_from_the_database_s_neither_purges_nor_runs_the_timer() {
    let books = Books::mysql().await;
    let server = Server::start(&books, &[]).await;
    let (_, released) = traded(&server).await;
    until("all events are published", async || {
        books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await == 0
    })
    .await;
    assert_eq!(server.stop().await, 0);
    // Given an old reservation that ended, old events, and an overdue hold
    let eight_days = 8 * DAY * 1_000_000;
    books
        .tamper(&format!(
            "UPDATE reservations SET created_at = created_at - {eight_days}, updated_at = updated_at - {eight_days},
                expires_at = expires_at - {eight_days};
            UPDATE outbox SET created_at = created_at - {eight_days}, published_at = published_at - {eight_days}"
        ))
        .await;
    // And no pass of a purge that counts as recent
    books.tamper(NO_PASS).await;
    let gone = async |server: &Server| {
        server.ask(Method::GET, &format!("/api/v1/reservations/{released}"), &[], "").await.0 == 404
    };
    let server = Server::start_with_late_clock(&books, Duration::from_secs(10 * DAY)).await;
    until_within(PATIENCE, "the difference is noticed", async || {
        server.logged("ERROR").iter().any(|line| line.contains("ahead of this machine's"))
    })
    .await;
    assert!(server.metric("bespeak_clock_skew_seconds").await > 800_000.0);
    assert!(!gone(&server).await, "nothing is purged");
    assert_eq!(books.count(HELD).await, 1, "and the timer rests");
    // On demand, the hold expires by the clock that decides (I6)
    server.hold("one", "seat").await;
    server.hold("two", "seat").await;
    assert_eq!(server.stop().await, 0);
    // And a server whose clock is right purges
    books.tamper(NO_PASS).await;
    let server = Server::start(&books, &[]).await;
    until_within(PATIENCE, "the reservation is purged", async || gone(&server).await).await;
    assert!(server.metric("bespeak_clock_skew_seconds").await.abs() < 60.0);
    assert_eq!(server.stop().await, 0);
}
