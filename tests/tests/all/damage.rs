//! Damaged rows, as after a manual UPDATE or a partial restore. The requests that need such a row fail and the log says
//! why; all other traffic goes on, also on the same resources, and for as long as the damage lasts.

use std::time::Duration;

use bespeak_tests::{Behaviour, Books, Client, Receiver, Server, each_store, until, until_within};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

each_store!(
    a_damaged_hold_fails_no_other_command,
    a_damaged_reservation_fails_no_command_that_shares_a_lookup,
    a_hold_with_an_impossible_time_does_not_stop_the_timer,
    a_damaged_lease_does_not_stop_the_relay,
    a_damaged_endpoint_does_not_stop_other_deliveries,
    a_damaged_event_does_not_stop_the_others,
    a_damaged_smart_key_does_not_stop_the_consumer,
    units_that_do_not_fit_are_left_out,
);

/// Damage to a hold of one unit each of `a` and `b`, under the key `damaged`.
const DAMAGES: [&str; 8] = [
    "UPDATE reservations SET version = 2 WHERE item_no = 1",
    "UPDATE reservations SET status = 'RELEASED' WHERE item_no = 1",
    "UPDATE reservations SET status = 'COMMITTED' WHERE item_no = 0",
    "UPDATE reservations SET expires_at = expires_at - 1 WHERE item_no = 1",
    "UPDATE reservations SET updated_at = updated_at + 1 WHERE item_no = 1",
    "UPDATE reservations SET item_no = 5 WHERE item_no = 1",
    "UPDATE reservations SET resource_id = 'no id' WHERE item_no = 1",
    "UPDATE reservations SET resource_id = 'a' WHERE item_no = 1",
];

fn order(items: &[&str], ttl_seconds: u64) -> Value {
    let items: Vec<_> = items.iter().map(|id| json!({"resourceId": id, "quantity": 1})).collect();
    json!({"items": items, "ttlSeconds": ttl_seconds})
}

async fn reserve(server: &Server, key: &str, items: &[&str]) -> (u16, Value) {
    server.request(Method::POST, "/api/v1/reserve", key, &order(items, 600).to_string()).await
}

/// Sends requests side by side, and returns their answers in order.
async fn at_once(server: &Server, requests: Vec<(&str, String, Value)>) -> Vec<(u16, Value)> {
    let sent = requests.into_iter().map(|(path, key, body)| {
        let path = format!("/api/v1/{path}");
        async move { server.request(Method::POST, &path, &key, &body.to_string()).await }
    });
    futures_util::future::join_all(sent).await
}

/// The units of the damaged hold are not for sale, and everything else is.
async fn a_damaged_hold_fails_no_other_command(books: Books) {
    books.expect_damage();
    for damage in DAMAGES {
        let books = books.another().await;
        books.expect_damage();
        let server = Server::start(&books, &[]).await;
        for name in ["a", "b", "other"] {
            server.stock(name, 10).await;
        }
        let held = server.submit("/api/v1/reserve", "damaged", &order(&["a", "b"], 1)).await;
        let token = held["token"].as_str().expect("a token").to_owned();
        books.tamper(damage).await;
        // When the hold is over, and the timer, which looks every half second, has tried to expire it
        let ends: Timestamp = held["expiresAt"].as_str().expect("a time").parse().expect("a time");
        until("the hold is over", async || Timestamp::now() > ends + Duration::from_millis(700)).await;
        // Then its resources are sold until its own units are left, and are then sold out, again and again
        for round in 0..4 {
            let mut requests = Vec::new();
            for n in 0..8 {
                for name in ["a", "b"] {
                    requests.push(("reserve", format!("{round}-{name}-{n}"), order(&[name], 600)));
                }
            }
            requests.push(("reserve", format!("{round}-other"), order(&["other"], 600)));
            for (status, answer) in at_once(&server, requests).await {
                assert!(matches!(status, 200 | 409), "{damage}: {status} {answer}");
            }
            let (status, answer) = reserve(&server, &format!("{round}-both"), &["a", "b"]).await;
            assert!(matches!(status, 200 | 409), "{damage}: {status} {answer}");
        }
        for name in ["a", "b"] {
            let (status, problem) = reserve(&server, &format!("last-{name}"), &[name]).await;
            assert_eq!(
                (status, &problem["type"]),
                (409, &json!("out-of-stock")),
                "{damage}: {name}: {problem}"
            );
        }
        let sold = "SELECT COUNT(*) FROM reservations WHERE idempotency_key LIKE '%-other'";
        assert_eq!(books.count(sold).await, 4, "{damage}");
        // And only requests about the hold itself fail
        for verb in ["commit", "release", "cancel"] {
            let body = json!({"token": token}).to_string();
            let (status, _) = server.request(Method::POST, &format!("/api/v1/{verb}"), "", &body).await;
            assert_eq!(status, 500, "{damage}: {verb}");
        }
        let logged = server.logged("ERROR");
        assert!(logged.iter().any(|line| line.contains(&token)), "{damage}: {logged:?}");
        assert_eq!(server.stop().await, 0);
    }
}

/// Commands that share a query with a damaged reservation: refusals of a resource that is known to be sold out, and
/// releases whose lanes are looked up together.
async fn a_damaged_reservation_fails_no_command_that_shares_a_lookup(books: Books) {
    books.expect_damage();
    let server = Server::start(&books, &[]).await;
    server.stock("sold-out", 1).await;
    server.stock("seat", 100).await;
    server.hold("damaged", "sold-out").await;
    let bad = server.hold("bad", "seat").await;
    let mut good = Vec::new();
    for n in 0..30 {
        good.push(server.hold(&format!("good-{n}"), "seat").await);
    }
    books.tamper("UPDATE reservations SET metadata = 'no JSON' WHERE idempotency_key = 'damaged'").await;
    books.tamper("UPDATE reservations SET resource_id = 'no id' WHERE idempotency_key = 'bad'").await;
    for round in 0..5 {
        let mut requests: Vec<_> =
            (0..40).map(|n| ("reserve", format!("{round}-{n}"), order(&["sold-out"], 600))).collect();
        requests.insert(20, ("reserve", "damaged".to_owned(), order(&["sold-out"], 600)));
        for (n, (status, answer)) in at_once(&server, requests).await.into_iter().enumerate() {
            assert_eq!(status, if n == 20 { 500 } else { 409 }, "{n} in round {round}: {answer}");
        }
        let mut requests: Vec<_> =
            good.drain(..6).map(|token| ("release", String::new(), json!({"token": token}))).collect();
        requests.insert(3, ("release", String::new(), json!({"token": bad})));
        for (n, (status, answer)) in at_once(&server, requests).await.into_iter().enumerate() {
            assert_eq!(status, if n == 3 { 500 } else { 200 }, "{n} in round {round}: {answer}");
        }
    }
}

async fn a_hold_with_an_impossible_time_does_not_stop_the_timer(books: Books) {
    books.expect_damage();
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 10).await;
    server.hold("early", "seat").await;
    server.hold("late", "seat").await;
    for (key, time) in [("early", "-9000000000000000000"), ("late", "9000000000000000000")] {
        let sql = format!("UPDATE reservations SET expires_at = {time} WHERE idempotency_key = '{key}'");
        books.tamper(&sql).await;
    }
    for n in 0..3 {
        server.hold_for(&format!("{n}"), "seat", 1).await;
    }
    let expired = "SELECT COUNT(*) FROM reservations WHERE status = 'EXPIRED'";
    until_within(Duration::from_secs(20), "the holds expire", async || books.count(expired).await == 3).await;
    // Units are refused, too, when the next hold ends at an impossible time
    let (status, problem) = server
        .request(
            Method::POST,
            "/api/v1/reserve",
            "many",
            &json!({"resourceId": "seat", "quantity": 10}).to_string(),
        )
        .await;
    assert_eq!((status, &problem["type"]), (409, &json!("out-of-stock")), "{problem}");
}

async fn a_damaged_lease_does_not_stop_the_relay(books: Books) {
    let server = Server::start(&books, &[]).await;
    server.cars("car", 10).await;
    let issued = async |key: &str| {
        let token = server.hold(key, "car").await;
        server.act("commit", &token).await;
        until_within(Duration::from_secs(30), "the SmartKey is issued", async || {
            server.show(&token).await["smartKey"].is_object()
        })
        .await;
    };
    issued("before").await;
    // An impossible time, and one that a clock wrote which was a year ahead
    for time in ["9000000000000000000", "expires_at + 31536000000000", "-9000000000000000000"] {
        books.tamper(&format!("UPDATE leases SET expires_at = {time}, owner = NULL")).await;
        books
            .tamper("UPDATE leases SET owner = x'00000000000000000000000000000001' WHERE name <> 'relay'")
            .await;
        issued(time).await;
    }
}

async fn a_damaged_endpoint_does_not_stop_other_deliveries(books: Books) {
    books.expect_damage();
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let server = Server::start(&books, &[("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true")]).await;
    let mut ids = Vec::new();
    for path in ["damaged", "sound"] {
        let body = json!({"url": format!("{}/{path}", receiver.url().trim_end_matches('/'))}).to_string();
        let (status, endpoint) = server.request(Method::POST, "/api/v1/webhooks", "", &body).await;
        assert_eq!(status, 201, "{endpoint}");
        ids.push(endpoint["id"].as_str().expect("an id").replace('-', ""));
    }
    books.tamper(&format!("UPDATE webhook_endpoints SET url = 'no url' WHERE id = x'{}'", ids[0])).await;
    server.stock("seat", 1).await;
    server.hold("sold-out", "seat").await;
    until_within(Duration::from_secs(30), "the sound endpoint receives it", async || {
        !receiver.messages().is_empty()
    })
    .await;
}

async fn a_damaged_event_does_not_stop_the_others(books: Books) {
    books.expect_damage();
    let server = Server::start(&books, &[("BESPEAK_RELAY", "off")]).await;
    for name in ["a", "b", "c"] {
        server.stock(name, 1).await;
        server.hold(name, name).await;
    }
    assert_eq!(server.stop().await, 0);
    books.tamper("UPDATE outbox SET created_at = 9000000000000000000 WHERE event_key = 'a'").await;
    books.tamper("UPDATE outbox SET created_at = -9000000000000000000 WHERE event_key = 'b'").await;
    let _server = Server::start(&books, &[]).await;
    let waiting = "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL";
    until_within(Duration::from_secs(30), "all are published", async || books.count(waiting).await == 0)
        .await;
}

async fn a_damaged_smart_key_does_not_stop_the_consumer(books: Books) {
    books.expect_damage();
    let server = Server::start(&books, &[]).await;
    server.cars("car", 10).await;
    let has_key = async |token: &str| server.show(token).await["smartKey"].is_object();
    let damaged = server.hold("damaged", "car").await;
    server.act("commit", &damaged).await;
    until("its key is issued", async || has_key(&damaged).await).await;
    books.tamper("UPDATE smart_keys SET issued_at = 9000000000000000000").await;
    // When the event of the damaged key comes together with others
    let mut others = Vec::new();
    for n in 0..5 {
        let token = server.hold(&format!("{n}"), "car").await;
        server.act("commit", &token).await;
        others.push(token);
    }
    server.act("cancel", &damaged).await;
    let last = server.hold("last", "car").await;
    server.act("commit", &last).await;
    others.push(last);
    // Then the others get their keys, and the event is a dead letter
    for token in &others {
        until_within(Duration::from_secs(30), "its key is issued", async || has_key(token).await).await;
    }
    let letters = "SELECT COUNT(*) FROM dead_letters";
    until("the event is a dead letter", async || books.count(letters).await == 1).await;
}

/// Somebody gave units back by hand: there are more available than the overdue holds leave room for.
async fn units_that_do_not_fit_are_left_out(books: Books) {
    books.expect_damage();
    let server = Server::start(&books, &[]).await;
    for name in ["seat", "pair", "other"] {
        server.stock(name, 10).await;
    }
    server.submit("/api/v1/reserve", "over", &order(&["seat", "pair"], 1)).await;
    books.tamper("UPDATE resources SET available = total WHERE id = 'pair'").await;
    until_within(Duration::from_secs(20), "the timer fails to expire the hold", async || {
        !server.logged("ERROR").is_empty()
    })
    .await;
    for n in 0..9 {
        assert_eq!(reserve(&server, &format!("{n}"), &["seat"]).await.0, 200);
    }
    for n in 0..3 {
        let (status, problem) = reserve(&server, &format!("late-{n}"), &["seat"]).await;
        assert_eq!((status, &problem["type"]), (409, &json!("out-of-stock")), "{problem}");
        assert_eq!(reserve(&server, &format!("other-{n}"), &["other"]).await.0, 200);
    }
    // When somebody takes a unit away again, the hold expires
    books.tamper("UPDATE resources SET available = available - 1 WHERE id = 'pair'").await;
    until("its units are sold", async || reserve(&server, "again", &["seat"]).await.0 == 200).await;
}
