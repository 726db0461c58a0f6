//! Webhooks whose database answers are lost: a proxy cuts the connection after the COMMIT.

use std::{collections::HashMap, time::Duration};

use bespeak::{
    app::{Access, open_store},
    config::{Config, Values},
    engine::Timestamp,
    store::{
        conformance::Enqueued,
        webhooks::{Attempt, AttemptOutcome, ClaimCapacity, DeliveryPage},
    },
    webhooks::{EndpointId, Observation, Sign},
};
use bespeak_tests::{Api, Books};
use serde_json::{Value, json};
use uuid::Uuid;

use super::through_proxy;

const BODY: &str = r#"{"url": "https://example.com/second"}"#;
/// Endpoints whose secret was rotated once.
const ROTATED_ONCE: &str = "SELECT COUNT(*) FROM webhook_endpoints
    WHERE previous_secret IS NOT NULL AND earlier_secrets IS NULL";

/// An attempt whose record was committed, and whose answer was lost, is counted once, for the delivery and for the
/// health of its endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_record_got_no_answer_is_counted_once() {
    let books = Books::mysql().await;
    let (proxy, url) = through_proxy(&books);
    let api = Api::with(books, &[("BESPEAK_DATABASE_URL", &url)], None).await;
    let values = Values::collect(|_| None, |name| (name == "BESPEAK_DATABASE_URL").then(|| url.clone()));
    let config = Config::parse(&values).expect("valid settings");
    let store = open_store(&config, Access::Serve).await.expect("opened");
    let made = api.post("/api/v1/webhooks", &json!({"url": "https://example.com/"})).await.json();
    let endpoint = EndpointId::parse("id", made["id"].as_str().expect("an id")).expect("a UUID");
    let now = Timestamp::UNIX_EPOCH;
    api.books.enqueue(&Enqueued { endpoint, event_id: Uuid::now_v7(), event_at: now, due: now }).await;
    let room = ClaimCapacity {
        in_all: 1,
        per_endpoint: 1,
        at_first: 1,
        windows: HashMap::new(),
        under_way: HashMap::new(),
        idle: 0,
    };
    let claimed = store.claim_deliveries(&room, Duration::from_secs(60)).await.expect("claimed");
    let attempts: Vec<_> = claimed
        .iter()
        .map(|claimed| Attempt {
            delivery: claimed.delivery,
            claim: claimed.claim,
            endpoint,
            status: None,
            error: Some("test".to_owned()),
            outcome: AttemptOutcome::Retry { after: Duration::ZERO },
            observed: Observation { sign: Sign::Failed, is_probe: false, random: 0.0 },
            was_healthy: claimed.is_healthy,
        })
        .collect();
    proxy.cut_after_script(1);
    store.record_attempts(&attempts, Duration::from_secs(600)).await.expect("recorded");
    assert_eq!(proxy.cuts(), 1, "the answer was lost, and the record was repeated");
    let page = DeliveryPage { endpoint, status: None, after: None, limit: 9 };
    let listed = store.deliveries(page).await.expect("read");
    assert_eq!(listed.iter().map(|delivery| delivery.attempts).collect::<Vec<_>>(), [1]);
    let health = store.endpoint_health().await.expect("read").endpoints;
    assert_eq!(health.get(&endpoint).map(|health| health.failures), Some(1));
}

/// An endpoint is created once, and its secret is rotated once, although the answers to both COMMITs are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_created_and_rotated_once_although_answers_are_lost() {
    let books = Books::mysql().await;
    let (proxy, url) = through_proxy(&books);
    let api = Api::with(books, &[("BESPEAK_DATABASE_URL", &url)], None).await;
    proxy.cut_after_script(1);
    let made = api.post("/api/v1/webhooks", &json!({"url": "https://example.com/"})).await;
    assert_eq!((made.status.as_u16(), proxy.cuts()), (201, 1), "{}", made.text);
    assert_eq!(api.books.count("SELECT COUNT(*) FROM webhook_endpoints").await, 1);
    let path = format!("/api/v1/webhooks/{}", made.json()["id"].as_str().expect("an id"));
    proxy.cut_after_script(1);
    let rotated = api.post(&format!("{path}/rotate"), &json!({})).await;
    assert_eq!((rotated.status.as_u16(), proxy.cuts()), (200, 2), "{}", rotated.text);
    assert_eq!(api.books.count(ROTATED_ONCE).await, 1);

    // Given a client that gets 503, because every answer is lost, and tries again
    proxy.cut_after_script(1_000);
    let lost =
        api.raw("/api/v1/webhooks", &[("content-type", "application/json"), ("idempotency-key", "k")], BODY);
    assert_eq!(lost.await.problem().0, 503);
    proxy.cut_after_script(0);
    let again =
        api.raw("/api/v1/webhooks", &[("content-type", "application/json"), ("idempotency-key", "k")], BODY);
    let again = again.await;
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, "true"));
    assert!(again.json()["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
    let listed: Value = api.get("/api/v1/webhooks").await.json();
    assert_eq!(listed["webhooks"].as_array().map(Vec::len), Some(2), "{listed}");
}
