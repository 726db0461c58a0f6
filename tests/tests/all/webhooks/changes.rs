//! Changes of endpoints: requests that are safe to retry, headers, another URL, and limits.

use std::sync::Arc;

use bespeak_tests::{Behaviour, Books, Receiver, Reply, each_store, until};
use http::Method;
use serde_json::{Value, json};

use super::*;

each_store!(
    creating_and_rotating_are_safe_to_retry,
    a_moved_endpoint_keeps_what_is_pending,
    headers_of_an_endpoint_are_sent_and_not_shown,
    queries_of_urls_are_masked,
    endpoints_and_tests_are_bounded,
    a_destination_must_be_allowed,
    the_endpoint_of_a_former_configuration_can_be_deleted,
);

impl Hooks {
    async fn keyed(&self, path: &str, key: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.api.raw(&format!("/api/v1/webhooks{path}"), &headers, body.to_string()).await
    }

    async fn patch(&self, endpoint: EndpointId, body: &Value) -> Reply {
        self.method(Method::PATCH, &format!("/api/v1/webhooks/{endpoint}"), body).await
    }
}

async fn creating_and_rotating_are_safe_to_retry(books: Books) {
    let hooks = Hooks::start(books).await;
    let body = json!({"url": "https://example.com/a?key=1", "headers": {"X-Key": "1"}});
    let first = hooks.keyed("", "create", &body).await;
    let again = hooks.keyed("", "create", &body).await;
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (201, ""));
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, "true"));
    assert_eq!(first.json(), again.json(), "with the secret");
    assert_eq!(first.header("location"), again.header("location"));
    let other = hooks.keyed("", "create", &json!({"url": "https://example.com/b"})).await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused".to_owned()));
    assert_eq!(hooks.keyed("", "", &body).await.problem(), (400, "idempotency-key-malformed".to_owned()));
    let endpoint = id(&first.json());

    let rotate = format!("/{endpoint}/rotate");
    let rotated = hooks.keyed(&rotate, "rotate", &json!({})).await.json();
    assert_eq!(hooks.keyed(&rotate, "rotate", &json!({})).await.json(), rotated);
    assert_ne!(rotated["secret"], first.json()["secret"]);
    let other = hooks.keyed(&rotate, "rotate", &json!({"overlapSeconds": 1})).await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused".to_owned()));
    let without_body = hooks.api.raw(&format!("/api/v1/webhooks{rotate}"), &[], "").await;
    assert_eq!(without_body.status, 200, "{}", without_body.text);
    let mine = json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    for _ in 0..3 {
        assert_eq!(hooks.post(endpoint, "/rotate", &mine).await["secret"], mine["secret"]);
    }
    assert_eq!(hooks.api.raw(&format!("/api/v1/webhooks{rotate}"), &[], "").await.status, 200);
    let limit = hooks.api.raw(&format!("/api/v1/webhooks{rotate}"), &[], "").await;
    assert_eq!(limit.problem(), (409, "webhook-secret-limit".to_owned()), "each of four signs for a day");

    hooks.clock.advance(Duration::from_secs(25 * 3_600));
    let late = hooks.keyed("", "create", &body).await;
    assert_eq!(
        late.problem(),
        (422, "idempotency-key-reused".to_owned()),
        "the secret is not shown for ever"
    );
}

async fn a_moved_endpoint_keeps_what_is_pending(books: Books) {
    let hooks = Hooks::start(books).await;
    let old = Receiver::start(Behaviour::status(500)).await;
    let new = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, secret) = hooks.endpoint(&old.url()).await;
    let event = hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.failed, 1);
    let moved = hooks.patch(endpoint, &json!({"url": new.url(), "eventTypes": ["bespeak.stock.*"]})).await;
    assert_eq!((moved.status.as_u16(), &moved.json()["eventTypes"]), (200, &json!(["bespeak.stock.*"])));
    hooks.clock.advance(Duration::from_secs(60));
    assert_eq!(hooks.round().await.delivered, 1);
    assert_eq!(received(&new), [event.to_string()]);
    assert!(new.messages()[0].is_signed_with(&secret));
    assert_eq!(hooks.patch(endpoint, &json!({})).await.status, 200, "an empty body changes nothing");
    let wrong = hooks.patch(endpoint, &json!({"url": "https://example.com:22/"})).await;
    assert_eq!((wrong.problem().0, &wrong.json()["field"]), (422, &json!("url")));
}

async fn headers_of_an_endpoint_are_sent_and_not_shown(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let body = json!({"url": receiver.url(), "headers": {"Authorization": "Bearer hunter2", "X-Shop": "7"}});
    let made = hooks.api.post("/api/v1/webhooks", &body).await;
    let endpoint = id(&made.json());
    assert_eq!(made.json()["headerNames"], json!(["authorization", "x-shop"]));
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.delivered, 1);
    hooks.post(endpoint, "/test", &json!({})).await;
    for message in receiver.messages() {
        assert_eq!((message.header("authorization"), message.header("x-shop")), ("Bearer hunter2", "7"));
    }
    let other = Receiver::start(Behaviour::status(200)).await;
    let refused = hooks.patch(endpoint, &json!({"url": other.url()})).await;
    assert_eq!((refused.problem().0, &refused.json()["field"]), (422, &json!("headers")), "they are secrets");
    let changed = hooks.patch(endpoint, &json!({"url": other.url(), "headers": {"X-Shop": "8"}})).await;
    assert_eq!(changed.json()["headerNames"], json!(["x-shop"]));
    hooks.post(endpoint, "/test", &json!({})).await;
    let message = other.messages().pop().expect("it arrived");
    assert_eq!((message.header("authorization"), message.header("x-shop")), ("", "8"));
    for reply in [made, hooks.api.get("/api/v1/webhooks").await, changed] {
        assert!(!reply.text.contains("hunter2"), "{}", reply.text);
    }
    for name in ["Host", "webhook-id", "Content-Length"] {
        let body = json!({"url": receiver.url(), "headers": {name: "hunter2"}});
        let refused = hooks.api.post("/api/v1/webhooks", &body).await;
        assert_eq!((refused.problem().0, &refused.json()["field"]), (422, &json!(format!("headers.{name}"))));
        assert!(!refused.text.contains("hunter2"), "{}", refused.text);
    }
}

async fn queries_of_urls_are_masked(books: Books) {
    let hooks = Hooks::start(books).await;
    let url = "https://example.com/hooks?key=hunter2";
    let made = hooks.api.post("/api/v1/webhooks", &json!({"url": url})).await.json();
    assert_eq!(made["url"], url, "the client that created it knows it");
    let endpoint = id(&made);
    assert_eq!(hooks.get(endpoint, "").await["url"], "https://example.com/hooks?***");
    let rotated = hooks.post(endpoint, "/rotate", &json!({})).await;
    let listed = hooks.api.get("/api/v1/webhooks").await.text;
    let disabled = hooks.post(endpoint, "/disable", &json!({})).await;
    for shown in [rotated.to_string(), listed, disabled.to_string()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

async fn endpoints_and_tests_are_bounded(books: Books) {
    let hooks = Hooks::with(books, &[ALLOWED, ("BESPEAK_WEBHOOK_ENDPOINTS_MAX", "2")]).await;
    let receiver = Receiver::start(Behaviour::Nothing).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.endpoint(&receiver.url()).await;
    let third = hooks.api.post("/api/v1/webhooks", &json!({"url": receiver.url()})).await;
    assert_eq!(third.problem(), (409, "webhook-limit".to_owned()));
    assert!(third.text.contains("BESPEAK_WEBHOOK_ENDPOINTS_MAX"), "{}", third.text);
    let hooks = Arc::new(hooks);
    let path = format!("/api/v1/webhooks/{endpoint}/test");
    let mut tests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (hooks, path) = (hooks.clone(), path.clone());
        tests.spawn(async move { hooks.api.post(&path, &json!({})).await.status });
    }
    until("eight tests are in flight", || async { receiver.messages().len() == 8 }).await;
    let ninth = hooks.api.post(&path, &json!({})).await;
    assert_eq!((ninth.problem(), ninth.header("retry-after")), ((429, "webhook-busy".to_owned()), "1"));
    tests.shutdown().await;
    receiver.says(Behaviour::status(200));
    assert_eq!(hooks.api.post(&path, &json!({})).await.status, 200, "their places are free");
}

async fn a_destination_must_be_allowed(books: Books) {
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let allow = [("BESPEAK_WEBHOOK_ALLOW_NETWORKS", "127.0.0.0/8, 10.1.0.0/16")];
    let hooks = Hooks::with(books, &allow).await;
    let create = async |hooks: &Hooks, url: &str| {
        let reply = hooks.api.post("/api/v1/webhooks", &json!({"url": url})).await;
        (reply.status.as_u16(), reply.text)
    };
    for url in [&*receiver.url(), "https://10.1.2.3/", "http://localhost:8080/", "https://example.com/"] {
        assert_eq!(create(&hooks, url).await.0, 201, "{url}");
    }
    for (url, reason) in [
        ("https://10.2.0.1/", "BESPEAK_WEBHOOK_ALLOW_NETWORKS"),
        ("https://168.63.129.16/", "Azure"),
        ("https://[::ffff:169.254.169.254]/", "local link"),
        ("https://example.com:22/", "BESPEAK_WEBHOOK_ALLOW_PORTS"),
        ("http://1.1.1.1/", "BESPEAK_WEBHOOK_ALLOW_HTTP"),
    ] {
        let (status, text) = create(&hooks, url).await;
        assert!(status == 422 && text.contains(reason), "{url}: {text}");
    }
    let (by_name, _) = hooks.endpoint(&receiver.url_by_name()).await;
    assert_eq!(hooks.post(by_name, "/test", &json!({})).await["delivered"], true);

    let strict = Hooks::with(hooks.api.books.another().await, &[]).await;
    assert!(create(&strict, "http://example.com/").await.1.contains("BESPEAK_WEBHOOK_ALLOW_HTTP"));
    // An endpoint that was created by an earlier version goes on to work, unless http is never allowed.
    let denied = [ALLOWED, ("BESPEAK_WEBHOOK_DENY_NETWORKS", "127.0.0.1,::1")];
    let denying = Hooks::with(hooks.api.books.another().await, &denied).await;
    let (status, text) = create(&denying, &receiver.url()).await;
    assert!(status == 422 && text.contains("BESPEAK_WEBHOOK_DENY_NETWORKS"), "{text}");
    let (by_name, _) = denying.endpoint(&receiver.url_by_name()).await;
    let tested = denying.post(by_name, "/test", &json!({})).await;
    assert!(tested["error"].as_str().is_some_and(|error| error.contains("DENY_NETWORKS")), "{tested}");
}

async fn the_endpoint_of_a_former_configuration_can_be_deleted(books: Books) {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let settings = [("BESPEAK_WEBHOOK_URL", "https://example.com/hooks"), ("BESPEAK_WEBHOOK_SECRET", secret)];
    let hooks = Hooks::with(books, &settings).await;
    hooks.api.app.configure_webhooks().await.expect("configured");
    let moved = hooks.patch(EndpointId::ENVIRONMENT, &json!({"url": "https://example.com/other"})).await;
    assert_eq!(moved.problem(), (409, "webhook-of-environment".to_owned()));
    let Hooks { api: bespeak_tests::Api { books, .. }, .. } = hooks;
    let hooks = Hooks::start(books).await;
    hooks.api.app.configure_webhooks().await.expect("configured");
    let path = format!("/api/v1/webhooks/{}", EndpointId::ENVIRONMENT);
    assert_eq!(hooks.method(Method::DELETE, &path, &Value::Null).await.status, 204);
    assert_eq!(hooks.api.get(&path).await.status, 404);
}
