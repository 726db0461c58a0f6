//! A server with all its parts, and requests that cause everything that a dashboard shows.

use std::sync::atomic::{AtomicU64, Ordering};

use bespeak_services::Redis;
use bespeak_tests::{Behaviour, Books, Client, Receiver, Server, Topic, bespeak};
use http::Method;
use serde_json::json;

/// `bespeak serve` on MySQL, Kafka and Redis, a second process with a locking strategy, and two receivers of
/// webhooks, one of which always fails.
pub(super) struct Load {
    server: Server,
    locking: Server,
    topic: Topic,
    _redis: Redis,
    rounds: AtomicU64,
    _receivers: [Receiver; 2],
}

impl Load {
    pub(super) async fn start(books: &Books) -> Self {
        let topic = Topic::new().await;
        let receivers =
            [Receiver::start(Behaviour::status(200)).await, Receiver::start(Behaviour::status(500)).await];
        let events = topic.url();
        let redis = Redis::start_own(&[]).await.unwrap_or_else(|missing| panic!("{missing}"));
        let redis_url = redis.url();
        let settings = [
            ("BESPEAK_EVENTS_URL", events.as_str()),
            ("BESPEAK_REDIS_URLS", &redis_url),
            ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true"),
            ("BESPEAK_RATE_LIMIT_PER_HOLDER", "1000/1s"),
        ];
        let server = Server::start(books, &settings).await;
        let settings = [
            ("BESPEAK_EVENTS_URL", events.as_str()),
            ("BESPEAK_RELAY", "off"),
            ("BESPEAK_CONSUMER", "off"),
            ("BESPEAK_STRATEGY", "shedlock"),
            ("BESPEAK_EXPERIMENTAL", "true"),
        ];
        let locking = Server::start(books, &settings).await;
        for receiver in &receivers {
            let endpoint = json!({"url": receiver.url()}).to_string();
            let (status, made) = server.ask(Method::POST, "/api/v1/webhooks", &[], &endpoint).await;
            assert_eq!(status, 201, "{made}");
        }
        let recorded = bespeak(&["verify", "--record"], &[("BESPEAK_DATABASE_URL", &books.url())]).await;
        assert_eq!(recorded.code, 0, "{recorded:?}");
        server.cars("car", 1_000_000).await;
        server.stock("seat", 1).await;
        server.stock("room", 1_000_000).await;
        server.stock("bike", 1_000_000).await;
        Self { server, locking, topic, _redis: redis, rounds: AtomicU64::new(0), _receivers: receivers }
    }

    /// The addresses of the processes that Prometheus scrapes.
    pub(super) fn addresses(&self) -> [&str; 2] {
        [&self.server, &self.locking].map(|server| server.url.trim_start_matches("http://"))
    }

    /// The text of `/metrics`.
    pub(super) async fn metrics(&self) -> String {
        self.server.text("/metrics").await
    }

    /// Causes everything once: holds that are committed, cancelled, extended, replayed, refused and left to expire,
    /// invalid requests, and an invalid record.
    pub(super) async fn once(&self) {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let server = &self.server;
        let key = |name: &str| format!("{name}-{round}");
        let token = server.hold(&key("kept"), "car").await;
        server.hold(&key("kept"), "car").await;
        server.submit("/api/v1/extend", "", &json!({"token": token, "ttlSeconds": 900})).await;
        server.act("commit", &token).await;
        server.act("cancel", &token).await;
        let token = server.hold(&key("released"), "car").await;
        server.act("release", &token).await;
        let hold =
            |resource: &str| json!({"resourceId": resource, "quantity": 1, "ttlSeconds": 1}).to_string();
        // The first hold takes the seat. Later ones are refused until it expires and its unit is sold again on demand.
        for (name, resource) in [("seat", "seat"), ("late", "seat"), ("left", "room"), ("none", "none")] {
            let key = key(name);
            let headers = [("idempotency-key", key.as_str())];
            server.ask(Method::POST, "/api/v1/reserve", &headers, &hold(resource)).await;
        }
        // Three holds at once, so that two of them wait for the lock.
        let waits = [1, 2, 3].map(|n| key(&format!("bike-{n}")));
        let [one, two, three] = waits.each_ref().map(|key| self.locking.hold(key, "bike"));
        tokio::join!(one, two, three);
        server.ask(Method::POST, "/api/v1/reserve", &[], "{}").await;
        server.ask(Method::GET, "/api/v1/resources/car", &[], "").await;
        server.ask(Method::GET, "/health/ready", &[], "").await;
        self.topic.put("stranger", &[], Some(b"no event")).await;
    }
}
