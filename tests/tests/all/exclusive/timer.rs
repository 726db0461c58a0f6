//! A hold becomes EXPIRED, with its event, within 200 ms, even if no request needs its units.

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, each_store, until};
use http::Method;
use serde_json::json;

each_store!(a_lone_hold_is_expired_on_time_by_the_timer_of_any_process,);

const HOLDS: usize = 5;

async fn a_lone_hold_is_expired_on_time_by_the_timer_of_any_process(books: Books) {
    let server = Server::start(&books, &[]).await;
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1}).to_string();
    server.stock("seat", HOLDS as u64).await;
    for n in 0..HOLDS {
        let key = format!("{n}");
        let (status, _) =
            server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", &key)], &body).await;
        assert_eq!(status, 200);
    }
    // The process that made the holds is killed, and another one has to find them.
    server.kill();
    let _other = Server::start(&books, &[]).await;
    until("the expiries are written", || async { expired(&books).await == HOLDS }).await;
    let mut late = lateness(&books).await;
    late.sort();
    // The median, because the machine may have stalled once.
    assert!(late[HOLDS / 2] < Duration::from_millis(200), "{late:?}");
    books.assert_consistent().await;
}

async fn expired(books: &Books) -> usize {
    let events = books.events().await;
    events.iter().filter(|event| event["type"] == "bespeak.reservation.expired.v1").count()
}

async fn lateness(books: &Books) -> Vec<Duration> {
    let micros =
        books.integers("SELECT updated_at - expires_at FROM reservations WHERE status = 'EXPIRED'").await;
    micros
        .into_iter()
        .map(|micros| Duration::from_micros(u64::try_from(micros).expect("not early")))
        .collect()
}
