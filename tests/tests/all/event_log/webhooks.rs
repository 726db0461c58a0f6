//! The whole path from a change of the books to a signed request at each subscribed endpoint.

use bespeak_tests::{Behaviour, Books, Client, Receiver, Server, each_store, until};
use serde_json::{Value, json};

use super::{settings, settled, way};

each_store!(each_subscribed_endpoint_gets_an_event_once,);

/// On both stores, with and without Kafka: each endpoint gets the events that it subscribed to, signed, once.
async fn each_subscribed_endpoint_gets_an_event_once(books: Books) {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for kafka in [false, true] {
        let books = books.another().await;
        let (_topic, events) = way(kafka).await;
        let (all, stock) =
            (Receiver::start(Behaviour::status(200)).await, Receiver::start(Behaviour::status(204)).await);
        let url = all.url();
        let hooks = [
            ("BESPEAK_WEBHOOK_URL", url.as_str()),
            ("BESPEAK_WEBHOOK_SECRET", SECRET),
            ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true"),
        ];
        let server = Server::start(&books, &settings(&events, &hooks)).await;
        let endpoint = json!({"url": stock.url(), "eventTypes": ["bespeak.stock.*"]}).to_string();
        let (status, made) = server.ask(http::Method::POST, "/api/v1/webhooks", &[], &endpoint).await;
        assert_eq!(status, 201, "{made}");
        server.stock("seat", 1).await;
        let token = server.hold("1", "seat").await;
        let body = json!({"token": token});
        server.submit("/api/v1/release", "", &body).await;
        settled(&books, &events).await;
        until("both receivers have their events", async || {
            all.messages().len() == 4 && stock.messages().len() == 2
        })
        .await;
        let bodies = |receiver: &Receiver, secret: &str| -> Vec<Value> {
            let messages = receiver.messages();
            assert!(messages.iter().all(|message| message.is_signed_with(secret)), "signed");
            messages.iter().map(|message| serde_json::from_str(&message.body).expect("JSON")).collect()
        };
        let of_stock = bodies(&stock, made["secret"].as_str().expect("a secret"));
        let depleted =
            of_stock.iter().find(|body| body["type"] == "STOCK_DEPLETED").expect("it was delivered");
        let restored =
            of_stock.iter().find(|body| body["type"] == "STOCK_RESTORED").expect("it was delivered");
        assert_eq!((&depleted["resourceId"], &depleted["value"]), (&json!("seat"), &json!(0)));
        assert_eq!((&restored["resourceId"], &restored["value"]), (&json!("seat"), &json!(1)));
        // Both may have the same time and arrive in any order; the version tells which is newer.
        let version = |body: &Value| body["version"].as_u64().expect("a version");
        assert!(version(depleted) < version(restored), "{of_stock:?}");
        for message in stock.messages() {
            let body: Value = serde_json::from_str(&message.body).expect("JSON");
            assert_eq!(body["eventId"], message.header("webhook-id"));
        }
        assert!(depleted["timestamp"].as_str().expect("a time").parse::<jiff::Timestamp>().is_ok());
        let delivered = bodies(&all, SECRET);
        let held = delivered
            .iter()
            .find(|body| body["type"] == "bespeak.reservation.held.v1")
            .expect("it was delivered");
        assert_eq!((&held["data"]["token"], &held["subject"]), (&json!(token), &json!(token)));
        // When events are published again, the consumer recognises them and delivers nothing twice.
        books.tamper("UPDATE outbox SET published_at = NULL").await;
        settled(&books, &events).await;
        until("the repeated events are recognised", async || {
            server.metric("bespeak_consumer_events_total").await >= 8.0
        })
        .await;
        let deliveries =
            books.count("SELECT COUNT(*) FROM webhook_deliveries WHERE status = 'DELIVERED'").await;
        assert_eq!((deliveries, all.messages().len(), stock.messages().len()), (6, 4, 2));
    }
}
