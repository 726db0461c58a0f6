//! Receivers that fail: they hold up no other, and are left alone for a while.

use std::time::Duration;

use bespeak::delivery::DispatcherOptions;
use bespeak_tests::{Behaviour, Books, Receiver, each_store, until_within};
use serde_json::json;

use super::{dispatchers::Running, *};

each_store!(
    fifty_receivers_that_hang_do_not_hold_up_a_healthy_one,
    an_endpoint_that_fails_is_paused_and_shown,
    an_endpoint_without_any_delivery_is_disabled_in_time,
);

/// Every attempt to a hanging receiver is still in flight when the healthy one has all its deliveries.
async fn fifty_receivers_that_hang_do_not_hold_up_a_healthy_one(books: Books) {
    let hooks = Hooks::start(books).await;
    let mut hanging = Vec::new();
    for _ in 0..50 {
        let receiver = Receiver::start(Behaviour::Nothing).await;
        let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
        for _ in 0..4 {
            hooks.enqueue(endpoint).await;
        }
        hanging.push(receiver);
    }
    let healthy = Receiver::start(Behaviour::status(200)).await;
    let (endpoint, _) = hooks.endpoint(&healthy.url()).await;
    hooks.clock.advance(Duration::from_secs(1));
    let options = DispatcherOptions { grace: Duration::ZERO, ..DispatcherOptions::default() };
    let running = Running::start(hooks.store.clone(), Duration::from_secs(600), options);
    until_within(Duration::from_secs(60), "each of the fifty has an attempt", || async {
        hanging.iter().all(|receiver| !receiver.messages().is_empty())
    })
    .await;
    for n in 1..=20 {
        hooks.enqueue(endpoint).await;
        running.wake.notify_one();
        until_within(Duration::from_secs(60), "the healthy one has its delivery", || async {
            healthy.messages().len() == n
        })
        .await;
    }
    let most = hanging.iter().map(|receiver| receiver.messages().len()).max();
    assert!(most <= Some(4), "an unknown receiver is trusted with few attempts at the same time: {most:?}");
    let report = running.stop().await;
    assert_eq!((report.total.failed, report.total.delivered), (0, 20), "no attempt to the fifty has ended");
}

async fn an_endpoint_that_fails_is_paused_and_shown(books: Books) {
    bespeak::telemetry::metrics().expect("started");
    let hooks = Hooks::start(books).await;
    let receiver = Receiver::start(Behaviour::status(503)).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    let health = hooks.get(endpoint, "").await["health"].clone();
    assert_eq!(health, json!({"circuit": "CLOSED", "consecutiveFailures": 0, "full": false}));
    for _ in 0..6 {
        hooks.enqueue(endpoint).await;
        hooks.round().await;
    }
    assert_eq!(receiver.messages().len(), 5, "the sixth waits");
    let health = hooks.get(endpoint, "").await["health"].clone();
    assert_eq!(
        (&health["circuit"], &health["consecutiveFailures"], &health["failingSince"]),
        (&json!("OPEN"), &json!(5), &json!("2026-01-01T00:00:00Z"))
    );
    let probe: Timestamp = health["nextProbeAt"].as_str().expect("a time").parse().expect("a time");
    assert!((5..=10).contains(&probe.duration_since(hooks.clock.now()).as_secs()), "{health}");
    hooks.api.app.refresh_metrics().await;
    let metrics = bespeak::telemetry::metrics().expect("started").render();
    assert!(metrics.contains(r#"bespeak_webhook_endpoints{state="open"} 1"#), "{metrics}");

    hooks.clock.advance(Duration::from_secs(10));
    let listed = hooks.api.get("/api/v1/webhooks").await.json();
    assert_eq!(listed["webhooks"][0]["health"]["circuit"], "HALF_OPEN");
    receiver.says(Behaviour::status(200));
    let probed = hooks.round().await;
    assert_eq!((probed.claimed, probed.delivered), (1, 1), "one probe");
    assert_eq!(hooks.get(endpoint, "").await["health"]["circuit"], "CLOSED");
    assert_eq!(hooks.round().await.delivered, 5, "the rest follows");
}

async fn an_endpoint_without_any_delivery_is_disabled_in_time(books: Books) {
    let hooks = Hooks::with(books, &[ALLOWED, ("BESPEAK_WEBHOOK_DISABLE_AFTER_HOURS", "2")]).await;
    let receiver = Receiver::start(Behaviour::Closes).await;
    let (endpoint, _) = hooks.endpoint(&receiver.url()).await;
    hooks.enqueue(endpoint).await;
    let limits = bespeak::webhooks::WebhookLimits {
        disable_after: Duration::from_secs(2 * 3_600),
        ..bespeak::webhooks::WebhookLimits::default()
    };
    let round = async || {
        let options = DispatcherOptions { limits, ..DispatcherOptions::default() };
        dispatcher(hooks.store.clone(), SHORT, options).step().await.expect("answers")
    };
    assert_eq!(round().await.failed, 1);
    hooks.clock.advance(Duration::from_secs(3_600));
    assert_eq!(round().await.disabled, 0);
    hooks.clock.advance(Duration::from_secs(3_600));
    assert_eq!(round().await.disabled, 1);
    let shown = hooks.get(endpoint, "").await;
    assert_eq!(shown["disabledReason"], "nothing was delivered for 2 hours");
    receiver.says(Behaviour::status(200));
    let enabled = hooks.post(endpoint, "/enable", &json!({})).await;
    assert_eq!(
        (&enabled["enabled"], &enabled["health"]["failingSince"]),
        (&json!(true), &serde_json::Value::Null)
    );
    hooks.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(round().await.delivered, 1, "what was kept");
}
