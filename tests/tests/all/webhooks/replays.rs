//! Events that an endpoint missed: kept while it is disabled, and replayed from the outbox.

use std::time::Duration;

use bespeak_tests::{Behaviour, Books, Client, Receiver, Server, each_store, until_within};
use http::Method;
use serde_json::{Value, json};

use super::*;

each_store!(a_disabled_endpoint_gets_what_happened_meanwhile, a_new_endpoint_gets_the_events_from_before,);

async fn server(books: &Books) -> Server {
    let server = Server::start(books, &[ALLOWED]).await;
    server.stock("seat", 1).await;
    server
}

async fn ask(server: &Server, method: Method, path: &str, body: Value) -> Value {
    let (status, reply) =
        server.ask(method, &format!("/api/v1/webhooks{path}"), &[], &body.to_string()).await;
    assert!(status < 300, "{path}: {status} {reply}");
    reply
}

/// Waits until every event is applied.
async fn settled(books: &Books) {
    const WAITING: &str = "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL";
    until_within(Duration::from_secs(60), "every event is applied", async || books.count(WAITING).await == 0)
        .await;
}

async fn arrived(receiver: &Receiver, count: usize) {
    until_within(Duration::from_secs(60), "the events arrive", async || receiver.messages().len() >= count)
        .await;
}

async fn a_disabled_endpoint_gets_what_happened_meanwhile(books: Books) {
    let server = server(&books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let made = ask(&server, Method::POST, "", json!({"url": receiver.url()})).await;
    let endpoint = id(&made);
    ask(&server, Method::POST, &format!("/{endpoint}/disable"), json!({})).await;
    let token = server.hold("1", "seat").await;
    server.submit("/api/v1/release", "", &json!({"token": token})).await;
    settled(&books).await;
    assert_eq!(receiver.connections(), 0);
    ask(&server, Method::POST, &format!("/{endpoint}/enable"), json!({})).await;
    arrived(&receiver, 4).await;
    let mut types: Vec<String> = receiver
        .messages()
        .iter()
        .map(|message| serde_json::from_str::<Value>(&message.body).expect("JSON")["type"].to_string())
        .collect();
    types.sort();
    assert_eq!(
        types,
        [
            r#""STOCK_DEPLETED""#,
            r#""STOCK_RESTORED""#,
            r#""bespeak.reservation.held.v1""#,
            r#""bespeak.reservation.released.v1""#
        ]
    );
}

async fn a_new_endpoint_gets_the_events_from_before(books: Books) {
    let server = server(&books).await;
    let (first, second) =
        (Receiver::start(Behaviour::status(200)).await, Receiver::start(Behaviour::status(200)).await);
    ask(&server, Method::POST, "", json!({"url": first.url()})).await;
    for n in 0..3 {
        let token = server.hold(&n.to_string(), "seat").await;
        server.submit("/api/v1/release", "", &json!({"token": token})).await;
    }
    settled(&books).await;
    arrived(&first, 12).await;
    let made =
        ask(&server, Method::POST, "", json!({"url": second.url(), "eventTypes": ["bespeak.stock.*"]})).await;
    let path = format!("/{}/replay", id(&made));
    let span = json!({"from": "2026-01-01T00:00:00Z", "to": "9999-01-01T00:00:00Z"});
    let replayed = ask(&server, Method::POST, &path, span.clone()).await;
    assert_eq!(replayed, json!({"deliveries": 0, "enqueued": 6}), "no further page");
    arrived(&second, 6).await;
    let messages = |receiver: &Receiver| -> Vec<(String, String)> {
        let messages = receiver.messages();
        let stock = messages.iter().filter(|message| message.body.contains("STOCK_"));
        let mut all: Vec<_> =
            stock.map(|message| (message.header("webhook-id").to_owned(), message.body.clone())).collect();
        all.sort();
        all
    };
    assert_eq!(messages(&first), messages(&second), "the same events with the same bodies");

    let mut missing = span.clone();
    missing["onlyMissing"] = true.into();
    let again = ask(&server, Method::POST, &path, missing).await;
    assert_eq!(again, json!({"deliveries": 0, "enqueued": 0}), "each event has its delivery");
    let mut after = span.clone();
    after["after"] = "e0".into();
    assert_eq!(ask(&server, Method::POST, &path, after.clone()).await["enqueued"], 0);
    after["after"] = "x1".into();
    let (status, _) =
        server.ask(Method::POST, &format!("/api/v1/webhooks{path}"), &[], &after.to_string()).await;
    assert_eq!(status, 422);
    let before = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
    assert_eq!(ask(&server, Method::POST, &path, before).await, json!({"deliveries": 0, "enqueued": 0}));
    assert_eq!(ask(&server, Method::POST, &path, span).await["deliveries"], 6, "what is there is sent again");
}
