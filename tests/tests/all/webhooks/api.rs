//! Endpoints and deliveries over HTTP.

use std::time::Duration;

use bespeak::background::{Purger, Retention};
use bespeak_tests::{Api, Behaviour, Books, Receiver, Reply, each_store};
use http::{Method, Request};
use serde_json::{Value, json};

use super::*;

each_store!(
    the_life_of_an_endpoint,
    secrets_are_shown_once,
    invalid_webhook_requests_are_refused,
    a_test_delivery_is_sent_immediately,
    a_disabled_endpoint_keeps_its_pending_deliveries,
    deliveries_are_listed_and_redelivered,
    a_time_range_is_replayed_over_http,
    the_environment_s_endpoint_is_configured_once,
    deliveries_are_purged_and_counted,
);

impl Hooks {
    pub(super) async fn method(&self, method: Method, path: &str, body: &Value) -> Reply {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.api.send(request.body(body.to_string().into()).expect("a request")).await
    }
}

async fn the_life_of_an_endpoint(books: Books) {
    let hooks = Hooks::start(books).await;
    let types = ["bespeak.stock.*", "bespeak.reservation.held.v1"];
    let body = json!({"url": "https://example.com/a%20b", "eventTypes": types});
    let made = hooks.api.post("/api/v1/webhooks", &body).await;
    assert_eq!(made.status, 201);
    let endpoint = id(&made.json());
    assert_eq!(made.header("location"), format!("/api/v1/webhooks/{endpoint}"));
    let mut webhook = made.json();
    for random in ["id", "secret"] {
        webhook.as_object_mut().expect("an object").remove(random).expect("there");
    }
    insta::assert_json_snapshot!("the_life_of_an_endpoint", webhook);
    let shown = hooks.get(endpoint, "").await;
    assert_eq!(shown["url"], "https://example.com/a%20b");
    let path = format!("/api/v1/webhooks/{endpoint}");
    let changed = hooks.method(Method::PATCH, &path, &json!({"eventTypes": []})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["eventTypes"]), (200, &json!([])));
    let unchanged = hooks.method(Method::PATCH, &path, &json!({})).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.json()), (200, changed.json()), "an empty body");
    for (verb, enabled) in [("disable", false), ("disable", false), ("enable", true), ("enable", true)] {
        assert_eq!(hooks.post(endpoint, &format!("/{verb}"), &json!({})).await["enabled"], enabled);
    }
    let (other, _) = hooks.endpoint("https://example.com/b").await;
    let page = hooks.api.get("/api/v1/webhooks?limit=1").await.json();
    assert_eq!(
        (page["webhooks"].as_array().map(Vec::len), &page["next"]),
        (Some(1), &json!(endpoint.to_string()))
    );
    let page = hooks.api.get(&format!("/api/v1/webhooks?limit=1&after={endpoint}")).await.json();
    assert_eq!((&page["webhooks"][0]["id"], &page["next"]), (&json!(other.to_string()), &Value::Null));
    for _ in 0..3 {
        hooks.enqueue(endpoint).await;
    }
    let gone = hooks.method(Method::DELETE, &path, &Value::Null).await;
    assert_eq!((gone.status.as_u16(), &*gone.text), (204, ""));
    assert_eq!(hooks.api.get(&path).await.problem(), (404, "webhook-not-found".to_owned()));
    assert_eq!(hooks.method(Method::DELETE, &path, &Value::Null).await.status, 404);
    assert_eq!(hooks.api.books.count("SELECT COUNT(*) FROM webhook_deliveries").await, 0);
}

async fn secrets_are_shown_once(books: Books) {
    let hooks = Hooks::start(books).await;
    let mine = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({"url": "https://example.com/", "secret": mine});
    let made = hooks.api.post("/api/v1/webhooks", &body).await.json();
    assert_eq!(made["secret"], mine);
    let endpoint = id(&made);
    hooks.post(endpoint, "/rotate", &json!({})).await;
    let (drawn, first) = hooks.endpoint("https://example.com/").await;
    let (_, second) = hooks.endpoint("https://example.com/").await;
    assert!(first.starts_with("whsec_") && first != second);
    for path in ["", &format!("/{endpoint}"), &format!("/{drawn}"), &format!("/{drawn}/deliveries")] {
        let reply = hooks.api.get(&format!("/api/v1/webhooks{path}")).await;
        assert!(reply.status == 200 && !reply.text.contains("whsec_"), "{path}: {}", reply.text);
    }
    for verb in ["enable", "disable"] {
        let reply = hooks.post(drawn, &format!("/{verb}"), &json!({})).await;
        assert!(!reply.to_string().contains("whsec_"), "{reply}");
    }
    let wrong = json!({"url": "https://example.com/", "secret": "hunter2"});
    let refused = hooks.api.post("/api/v1/webhooks", &wrong).await;
    assert_eq!(refused.problem(), (422, "invalid-value".to_owned()));
    assert!(!refused.text.contains("hunter2"), "{}", refused.text);
}

async fn invalid_webhook_requests_are_refused(books: Books) {
    let hooks = Hooks::start(books).await;
    let (endpoint, _) = hooks.endpoint("https://example.com/").await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let summary = |reply: &Reply| {
        let (status, slug) = reply.problem();
        format!("{status} {slug}: {}", reply.json()["field"].as_str().unwrap_or_default())
    };
    for (expected, body) in [
        ("422 invalid-value: url", json!({})),
        ("422 invalid-value: url", json!({"url": "example.com"})),
        ("422 invalid-value: url", json!({"url": "https://user:pass@example.com/"})),
        ("422 invalid-value: url", json!({"url": "file:///etc/passwd"})),
        (
            "422 invalid-value: eventTypes[1]",
            json!({"url": "https://a/", "eventTypes": ["*", "bespeak.stok.*"]}),
        ),
        ("422 invalid-value: eventTypes", json!({"url": "https://a/", "eventTypes": "*"})),
        ("422 invalid-value: secret", json!({"url": "https://a/", "secret": "whsec_c2hvcnQ="})),
        ("422 invalid-value: colour", json!({"url": "https://a/", "colour": 1})),
    ] {
        assert_eq!(summary(&hooks.api.post("/api/v1/webhooks", &body).await), expected, "{body}");
    }
    for (expected, path) in [
        ("422 invalid-value: id", "/nonsense".to_owned()),
        ("404 webhook-not-found: ", format!("/{unknown}")),
        ("404 webhook-not-found: ", format!("/{unknown}/deliveries")),
        ("422 invalid-value: status", format!("/{endpoint}/deliveries?status=pending")),
        ("422 invalid-value: limit", format!("/{endpoint}/deliveries?limit=0")),
        ("422 invalid-value: after", format!("/{endpoint}/deliveries?after=-1")),
        ("422 invalid-value: before", format!("/{endpoint}/deliveries?before=1")),
        ("422 invalid-value: after", "?after=1".to_owned()),
    ] {
        assert_eq!(summary(&hooks.api.get(&format!("/api/v1/webhooks{path}")).await), expected, "{path}");
    }
    let span = |from: &str, to: &str| json!({"from": from, "to": to});
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    for (expected, path, body) in [
        ("404 webhook-not-found: ", format!("/{unknown}/rotate"), json!({})),
        (
            "422 invalid-value: overlapSeconds",
            format!("/{endpoint}/rotate"),
            json!({"overlapSeconds": 604_801}),
        ),
        ("404 webhook-not-found: ", format!("/{unknown}/enable"), json!({})),
        ("404 webhook-not-found: ", format!("/{unknown}/test"), json!({})),
        ("404 webhook-not-found: ", format!("/{unknown}/deliveries/1/redeliver"), json!({})),
        ("404 delivery-not-found: ", format!("/{endpoint}/deliveries/1/redeliver"), json!({})),
        ("422 invalid-value: deliveryId", format!("/{endpoint}/deliveries/one/redeliver"), json!({})),
        ("404 webhook-not-found: ", format!("/{unknown}/replay"), span(start, end)),
        ("422 invalid-value: to", format!("/{endpoint}/replay"), span(end, start)),
        ("422 invalid-value: from", format!("/{endpoint}/replay"), span("yesterday", end)),
        ("422 invalid-value: to", format!("/{endpoint}/replay"), json!({"from": start})),
    ] {
        assert_eq!(
            summary(&hooks.api.post(&format!("/api/v1/webhooks{path}"), &body).await),
            expected,
            "{path} {body}"
        );
    }
}

async fn a_test_delivery_is_sent_immediately(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, secret) = hooks.endpoint(&receiver.url()).await;
    hooks.post(endpoint, "/disable", &json!({})).await;
    let tested = hooks.post(endpoint, "/test", &json!({})).await;
    let message = receiver.messages().pop().expect("it arrived");
    assert!(message.is_signed_with(&secret), "a test is sent even if the endpoint is disabled");
    let body: Value = serde_json::from_str(&message.body).expect("JSON");
    assert_eq!(body["type"], "bespeak.webhook.test.v1");
    assert_eq!(tested["eventId"], message.header("webhook-id"));
    assert_eq!(
        (&tested["delivered"], &tested["status"], &tested["body"]),
        (&json!(true), &json!(200), &json!("received"))
    );
    receiver.says(Behaviour::Closes);
    let tested = hooks.post(endpoint, "/test", &json!({})).await;
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(false), &Value::Null));
    assert!(tested["error"].as_str().is_some_and(|said| said.contains("the connection broke")), "{tested}");
    receiver.says(Behaviour::status(410));
    let tested = hooks.post(endpoint, "/test", &json!({})).await;
    assert_eq!((&tested["delivered"], &tested["error"]), (&json!(false), &json!("answered 410")));
    assert!(hooks.deliveries(endpoint).await.is_empty(), "a test is not recorded as a delivery");
}

async fn a_disabled_endpoint_keeps_its_pending_deliveries(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    let off = hooks.post(endpoint, "/disable", &json!({})).await;
    assert_eq!((&off["enabled"], &off["disabledReason"]), (&json!(false), &json!("it was disabled by hand")));
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await, DeliveryStep::default());
    assert_eq!(receiver.connections(), 0);
    assert!(hooks.deliveries(endpoint).await.iter().all(|delivery| delivery["status"] == "PENDING"));
    let on = hooks.post(endpoint, "/enable", &json!({})).await;
    assert!(on["enabled"] == true && on["disabledReason"].is_null(), "{on}");
    assert_eq!(hooks.round().await.delivered, 2);
}

async fn deliveries_are_listed_and_redelivered(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(hooks.enqueue(endpoint).await.to_string());
    }
    assert_eq!(hooks.round().await.delivered, 5);
    let page = hooks.get(endpoint, "/deliveries?status=DELIVERED&limit=3").await;
    let listed: Vec<_> =
        page["deliveries"].as_array().expect("deliveries").iter().map(|one| one["eventId"].clone()).collect();
    assert_eq!(listed, [&*events[4], &events[3], &events[2]], "the newest first");
    let rest = hooks.get(endpoint, &format!("/deliveries?limit=3&after={}", page["next"])).await;
    assert_eq!((rest["deliveries"].as_array().map(Vec::len), &rest["next"]), (Some(2), &Value::Null));
    let first = &rest["deliveries"][1];
    let again = hooks.post(endpoint, &format!("/deliveries/{}/redeliver", first["id"]), &json!({})).await;
    assert_eq!((&again["status"], &again["attempts"]), (&json!("PENDING"), &json!(0)));
    assert_eq!(hooks.round().await.delivered, 1);
    assert_eq!(received(&receiver).last(), Some(&events[0]));
}

async fn a_time_range_is_replayed_over_http(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    let (other, _) = hooks.endpoint(&receiver.url()).await;
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(hooks.enqueue(endpoint).await.to_string());
        hooks.enqueue(other).await;
        hooks.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(hooks.round().await.delivered, 8);
    let span = json!({"from": "2026-01-01T00:01:00Z", "to": "2026-01-01T01:03:00+01:00"});
    assert_eq!(hooks.post(endpoint, "/replay", &span).await["deliveries"], 2);
    assert_eq!(hooks.round().await.delivered, 2);
    let mut replayed = received(&receiver).split_off(8);
    replayed.sort();
    assert_eq!(replayed, events[1..3]);
}

async fn the_environment_s_endpoint_is_configured_once(books: Books) {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let settings = [("BESPEAK_WEBHOOK_URL", "https://example.com/hooks"), ("BESPEAK_WEBHOOK_SECRET", secret)];
    let hooks = Hooks::with(books, &settings).await;
    for _ in 0..2 {
        hooks.api.app.configure_webhooks().await.expect("configured");
    }
    let listed = hooks.api.get("/api/v1/webhooks").await;
    assert!(!listed.text.contains("whsec_"));
    let webhooks = listed.json()["webhooks"].as_array().expect("webhooks").clone();
    assert_eq!(webhooks.len(), 1, "{webhooks:?}");
    assert_eq!(
        (&webhooks[0]["origin"], &webhooks[0]["url"], &webhooks[0]["enabled"]),
        (&json!("environment"), &json!("https://example.com/hooks"), &json!(true))
    );
    let path = format!("/api/v1/webhooks/{}", EndpointId::ENVIRONMENT);
    let rotated = hooks.api.post(&format!("{path}/rotate"), &json!({})).await;
    assert_eq!(rotated.problem(), (409, "webhook-of-environment".to_owned()));
    let deleted = hooks.method(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(deleted.problem(), (409, "webhook-of-environment".to_owned()));

    // Given another process without a configured endpoint
    let Hooks { api: Api { books, .. }, .. } = hooks;
    let hooks = Hooks::start(books).await;
    hooks.api.app.configure_webhooks().await.expect("configured");
    let shown = hooks.get(EndpointId::ENVIRONMENT, "").await;
    assert_eq!(
        (&shown["enabled"], &shown["disabledReason"]),
        (&json!(false), &json!("BESPEAK_WEBHOOK_URL is not set"))
    );
}

async fn deliveries_are_purged_and_counted(books: Books) {
    bespeak::telemetry::metrics().expect("started");
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.delivered, 1);
    hooks.enqueue(endpoint).await;
    let day = Duration::from_secs(24 * 3_600);
    let retention = Retention { reservations: 7 * day, events: day, inbox: 8 * day, deliveries: 7 * day };
    let commands: Arc<dyn bespeak::store::Store> = hooks.store.clone();
    let plan = bespeak::dispatch::Plan::Unbatched { at_once: 1 };
    let dispatch = Arc::new(bespeak::dispatch::Dispatch::start(commands, plan, 10));
    let mut purger = Purger::new(hooks.store.clone(), dispatch, retention);
    while purger.step().await.expect("purged").more {}
    assert_eq!(hooks.deliveries(endpoint).await.len(), 2, "nothing is old");
    hooks.clock.advance(7 * day + Duration::from_secs(1));
    while purger.step().await.expect("purged").more {}
    assert_eq!(hooks.delivery(endpoint).await["status"], "PENDING", "a pending delivery is kept at any age");

    let metrics = hooks.api.get("/metrics").await.text;
    for line in [
        "bespeak_webhook_attempts_total{result=\"delivered\"}",
        "bespeak_webhook_attempt_seconds_count",
        "bespeak_webhook_pending_deliveries{endpoint=\"enabled\"}",
        "bespeak_webhook_overdue_seconds",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("example") && !metrics.contains("127.0.0.1"), "labels must not contain URLs");
}
