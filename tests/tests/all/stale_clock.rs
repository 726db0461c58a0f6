//! I6: a command is decided at a time after its last lock. A command that waited for a lock does not count the wait as
//! part of its hold.

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, each_store, until};
use http::Method;
use serde_json::{Value, json};

each_store!(a_hold_that_waited_for_a_lock_has_its_whole_time);

/// Longer than a hold of a second, shorter than the longest wait for a lock.
const WAIT: Duration = Duration::from_millis(1_500);
/// By how much the time of a decision may lie before the end of the wait.
const TOLERANCE_MICROS: i64 = 300_000;

fn micros(time: &Value) -> i64 {
    let time: jiff::Timestamp = time.as_str().expect("a time").parse().expect("a time");
    time.as_microsecond()
}

async fn a_hold_that_waited_for_a_lock_has_its_whole_time(books: Books) {
    let strategies: &[&str] = if books.is_file() {
        &["lanes", "pessimistic"]
    } else {
        &["lanes", "pessimistic", "conditional", "optimistic"]
    };
    for strategy in strategies {
        let books = books.another().await;
        let server = Server::start(&books, &[("BESPEAK_STRATEGY", strategy)]).await;
        server.stock("seat", 10).await;
        let released = server.hold("released", "seat").await;
        let cancelled = server.hold("cancelled", "seat").await;
        server.act("commit", &cancelled).await;
        let hold = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1}).to_string();
        let of = |token: &str| json!({"token": token}).to_string();
        for (path, key, body, status) in [
            ("reserve", "short", hold, "HELD"),
            ("release", "", of(&released), "RELEASED"),
            ("cancel", "", of(&cancelled), "CANCELLED"),
        ] {
            // Given a writer that holds the lock for longer than the hold lasts
            let lock = books.block_writers().await;
            let path = format!("/api/v1/{path}");
            let request = server.request(Method::POST, &path, key, &body);
            let unblock = async {
                // The time has to pass: this is no synchronisation.
                tokio::time::sleep(WAIT).await;
                let until = jiff::Timestamp::now().as_microsecond();
                lock.release().await;
                until
            };
            let ((code, answer), waited_until) = tokio::join!(request, unblock);
            // Then it is decided after the wait
            assert_eq!((code, &answer["status"]), (200, &json!(status)), "{strategy}: {answer}");
            let updated = micros(&answer["updatedAt"]);
            assert!(
                updated >= waited_until - TOLERANCE_MICROS,
                "{strategy}: {path} was decided {} us before the lock was free",
                waited_until - updated
            );
            if status == "HELD" {
                assert!(
                    micros(&answer["expiresAt"]) >= waited_until + 1_000_000 - TOLERANCE_MICROS,
                    "{answer}"
                );
            }
        }
        until("the timer expires the hold", async || server.available("seat").await == 10).await;
        assert_eq!(server.stop().await, 0);
    }
}
