//! One attempt: the request that arrives, the answers that count as delivered, and forbidden addresses.

use std::time::Duration;

use bespeak::delivery::{DeliveryStep, Dispatcher, DispatcherOptions, Sender, SenderOptions};
use bespeak_tests::{Behaviour, Books, Receiver, each_store};
use serde_json::{Value, json};

use super::*;

each_store!(
    a_delivery_is_the_signed_event,
    only_2xx_is_delivered_and_failures_are_retried,
    a_truncated_response_body_changes_nothing,
    a_redirect_is_not_followed,
    a_confirmed_410_disables_the_endpoint,
    retry_after_delays_the_next_attempt,
    a_delivery_fails_after_the_last_attempt,
    nothing_is_sent_to_private_addresses,
    both_secrets_sign_while_one_is_rotated,
);

async fn a_delivery_is_the_signed_event(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(204)).await;
    let (endpoint, secret) = hooks.endpoint(&receiver.url()).await;
    let event = hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await, DeliveryStep { claimed: 1, delivered: 1, ..DeliveryStep::default() });
    let message = receiver.messages().pop().expect("it arrived");
    assert!(message.is_signed_with(&secret));
    assert!(
        !message.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "another secret must not match"
    );
    assert_eq!(message.header("webhook-id"), event.to_string());
    assert_eq!(message.header("content-type"), "application/json");
    assert!(message.header("user-agent").starts_with("bespeak/"));
    assert_eq!(message.path, "/hooks?tenant=7");
    assert_eq!(message.body, r#"{"it's":"a \"payload\" 東京 \\"}"#, "to the byte");
    let delivery = hooks.delivery(endpoint).await;
    assert_eq!(
        (&delivery["status"], &delivery["lastStatus"], &delivery["attempts"], &delivery["eventId"]),
        (&json!("DELIVERED"), &json!(204), &json!(1), &json!(event.to_string()))
    );
    assert_eq!(hooks.round().await, DeliveryStep::default(), "nothing is sent a second time");
}

async fn only_2xx_is_delivered_and_failures_are_retried(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::Nothing).await;
    let (endpoint, secret) = hooks.endpoint(&receiver.url()).await;
    let event = hooks.enqueue(endpoint).await;
    let failures = [
        (Behaviour::Nothing, Value::Null, "no complete response within 300ms", 5),
        (Behaviour::Closes, Value::Null, "the connection broke", 5 * 60),
        (Behaviour::status(500), json!(500), "answered 500", 30 * 60),
        (Behaviour::status(404), json!(404), "answered 404", 2 * 3_600),
        (Behaviour::status(400), json!(400), "answered 400", 5 * 3_600),
    ];
    let mut attempts = 0;
    for (says, status, error, delay) in failures {
        receiver.says(says.clone());
        assert_eq!(
            hooks.round().await,
            DeliveryStep { claimed: 1, failed: 1, ..DeliveryStep::default() },
            "{says:?}"
        );
        attempts += 1;
        let delivery = hooks.delivery(endpoint).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"], &delivery["lastStatus"]),
            (&json!("PENDING"), &json!(attempts), &status),
            "{says:?}"
        );
        assert!(delivery["lastError"].as_str().is_some_and(|said| said.contains(error)), "{delivery}");
        let waits = hooks.waits(&delivery);
        assert!((delay..=delay + delay / 5).contains(&waits), "{says:?}: {waits}");
        assert_eq!(hooks.round().await, DeliveryStep::default(), "no attempt before it is due");
        hooks.clock.advance(Duration::from_secs(u64::try_from(waits).expect("in the future") + 1));
    }
    receiver.says(Behaviour::status(299));
    assert_eq!(hooks.round().await.delivered, 1);
    assert!(
        received(&receiver).iter().all(|id| *id == event.to_string()),
        "every attempt has the id of the event"
    );
    assert!(receiver.messages().iter().all(|message| message.is_signed_with(&secret)));
    assert!(hooks.delivery(endpoint).await["lastError"].is_null());
    receiver.close().await;
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.failed, 1);
    let refused = hooks.deliveries(endpoint).await.swap_remove(0);
    assert!(
        refused["lastError"].as_str().is_some_and(|said| said.contains("the connection failed")),
        "{refused}"
    );
}

async fn a_truncated_response_body_changes_nothing(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::HalfABody(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.delivered, 1, "the status arrived before the connection broke");
    let long = "x".repeat(1 << 20);
    receiver.says(Behaviour::Answer(200, String::new(), long));
    let tested = hooks.post(endpoint, "/test", &json!({})).await;
    assert_eq!(tested["body"].as_str().map(str::len), Some(4_096), "only the beginning of the body is read");
}

async fn a_redirect_is_not_followed(books: Books) {
    let hooks = Hooks::start(books).await;
    let elsewhere = Receiver::start(Behaviour::status(200)).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    for status in [301, 302, 307, 308] {
        receiver.says(Behaviour::with(status, &format!("Location: {}", elsewhere.url())));
        assert_eq!(hooks.round().await.failed, 1, "{status}");
        let delivery = hooks.delivery(endpoint).await;
        assert_eq!(delivery["lastStatus"], status);
        assert!(delivery["lastError"].as_str().is_some_and(|said| said.contains("redirects")), "{delivery}");
        hooks.clock.advance(Duration::from_secs(24 * 3_600));
    }
    assert_eq!(elsewhere.connections(), 0);
}

async fn a_confirmed_410_disables_the_endpoint(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(410)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    let failed = DeliveryStep { claimed: 1, failed: 1, ..DeliveryStep::default() };
    assert_eq!(hooks.round().await, failed);
    assert_eq!(
        hooks.get(endpoint, "").await["enabled"],
        true,
        "one answer, as of a misrouted proxy, is not enough"
    );
    hooks.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(hooks.round().await, failed);
    hooks.clock.advance(Duration::from_secs(3 * 3_600));
    assert_eq!(hooks.round().await, DeliveryStep { disabled: 1, ..failed });
    let shown = hooks.get(endpoint, "").await;
    assert_eq!(
        (&shown["enabled"], &shown["disabledReason"]),
        (&json!(false), &json!("it answered 410 Gone 3 times, for 1 hour"))
    );
    let event = hooks.enqueue(endpoint).await;
    hooks.clock.advance(Duration::from_secs(60));
    assert_eq!(hooks.round().await, DeliveryStep::default(), "a disabled endpoint gets nothing");
    receiver.says(Behaviour::status(200));
    hooks.post(endpoint, "/enable", &json!({})).await;
    hooks.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(hooks.round().await.delivered, 2, "both deliveries were kept");
    assert!(received(&receiver).contains(&event.to_string()));
}

async fn retry_after_delays_the_next_attempt(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    let date = jiff::Timestamp::now().checked_add(Duration::from_secs(1_000)).expect("a time");
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).expect("a date");
    for (status, header, least, most) in [
        (429, "Retry-After: 3600".to_owned(), 3_600, 3_600),
        (503, format!("Retry-After: {date}"), 990, 1_000),
        (429, "Retry-After: 1".to_owned(), 5, 6),
        (429, "Retry-After: 99999999".to_owned(), 86_400, 86_400),
        (429, "Retry-After: soon".to_owned(), 5, 6),
        (500, "Retry-After: 3600".to_owned(), 5, 6),
    ] {
        receiver.says(Behaviour::with(status, &header));
        hooks.enqueue(endpoint).await;
        assert_eq!(hooks.round().await.failed, 1);
        let waits = hooks.waits(&hooks.deliveries(endpoint).await[0]);
        assert!((least..=most).contains(&waits), "{status} {header}: {waits}");
        hooks.api.books.tamper("DELETE FROM webhook_deliveries").await;
        // After five failures in a row its circuit would be open.
        hooks.api.books.tamper("DELETE FROM webhook_health").await;
    }
}

async fn a_delivery_fails_after_the_last_attempt(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(500)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    for _ in 1..bespeak::delivery::ATTEMPTS_MAX {
        assert_eq!(hooks.round().await.failed, 1);
        let waits = u64::try_from(hooks.waits(&hooks.delivery(endpoint).await)).expect("in the future");
        // After five failures its circuit is open, for a quarter of an hour at most.
        hooks.clock.advance(Duration::from_secs(waits.max(15 * 60) + 1));
    }
    assert_eq!(hooks.round().await, DeliveryStep { claimed: 1, given_up: 1, ..DeliveryStep::default() });
    let delivery = hooks.delivery(endpoint).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("FAILED"), &json!(10)));
    assert!(delivery["nextAttemptAt"].is_null());
    hooks.clock.advance(Duration::from_secs(30 * 3_600));
    assert_eq!(hooks.round().await, DeliveryStep::default());
    assert_eq!(receiver.messages().len(), 10);
}

async fn nothing_is_sent_to_private_addresses(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    // Given endpoints that were created while private addresses were allowed, one by address and one by name
    let (by_address, _) = hooks.endpoint(&receiver.url()).await;
    let (by_name, _) = hooks.endpoint(&receiver.url_by_name()).await;
    for endpoint in [by_address, by_name] {
        hooks.enqueue(endpoint).await;
    }
    let sender = Sender::new(SenderOptions::default()).expect("a client");
    let mut guarded = Dispatcher::new(hooks.store.clone(), sender.into(), DispatcherOptions::default());
    assert_eq!(
        guarded.step().await.expect("made"),
        DeliveryStep { claimed: 2, failed: 2, ..DeliveryStep::default() }
    );
    for endpoint in [by_address, by_name] {
        let delivery = hooks.delivery(endpoint).await;
        let error = delivery["lastError"].as_str().unwrap_or_default();
        assert!(
            error.contains("is this machine") && error.contains("BESPEAK_WEBHOOK_ALLOW_PRIVATE"),
            "{error}"
        );
    }
    assert_eq!(receiver.connections(), 0, "no connection may be opened");
    hooks.clock.advance(Duration::from_secs(60));
    assert_eq!(hooks.round().await.delivered, 2, "both arrive if private addresses are allowed");

    let http = [("BESPEAK_WEBHOOK_ALLOW_HTTP", "true")];
    let strict = Hooks::with(hooks.api.books.another().await, &http).await;
    for url in [receiver.url(), "http://[::1]/".to_owned(), "https://169.254.169.254/latest".to_owned()] {
        let refused = strict.api.post("/api/v1/webhooks", &json!({"url": url})).await;
        assert_eq!(refused.problem(), (422, "invalid-value".to_owned()), "{url}");
    }
    let (named, _) = strict.endpoint(&receiver.url_by_name()).await;
    let tested = strict.post(named, "/test", &json!({})).await;
    assert_eq!(tested["delivered"], false);
    assert!(tested["error"].as_str().is_some_and(|said| said.contains("is this machine")), "{tested}");
    assert_eq!(receiver.connections(), 2, "only the allowed connections");
}

async fn both_secrets_sign_while_one_is_rotated(books: Books) {
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, old) = hooks.endpoint(&receiver.url()).await;
    let rotated = hooks.post(endpoint, "/rotate", &json!({"overlapSeconds": 60})).await;
    let new = rotated["secret"].as_str().expect("a secret").to_owned();
    assert_ne!(old, new);
    assert_eq!(rotated["previousSecretUntil"], "2026-01-01T00:01:00Z");
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.delivered, 1);
    let message = receiver.messages().pop().expect("it arrived");
    assert!(message.is_signed_with(&old) && message.is_signed_with(&new));
    assert_eq!(message.header("webhook-signature").split(' ').count(), 2);
    hooks.clock.advance(Duration::from_secs(60));
    hooks.enqueue(endpoint).await;
    assert_eq!(hooks.round().await.delivered, 1);
    let message = receiver.messages().pop().expect("it arrived");
    assert!(!message.is_signed_with(&old) && message.is_signed_with(&new));

    let at_once = hooks.post(endpoint, "/rotate", &json!({"overlapSeconds": 0})).await;
    assert!(at_once["previousSecretUntil"].is_null(), "{at_once}");
    let by_default = hooks.post(endpoint, "/rotate", &json!({})).await;
    assert_eq!(by_default["previousSecretUntil"], "2026-01-02T00:01:00Z", "a day");
}
