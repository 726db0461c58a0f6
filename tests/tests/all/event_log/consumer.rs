//! Consumers: invalid records, and the time until an effect happens.

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, Topic, each_store, until, until_within};
use serde_json::json;

use super::{keys, settings, settled, way};

each_store!(
    a_key_is_issued_soon_after_the_commit,
    invalid_records_become_dead_letters_and_the_rest_is_applied,
);

/// I9 as a user sees it, on both stores, with and without Kafka.
async fn a_key_is_issued_soon_after_the_commit(books: Books) {
    for kafka in [false, true] {
        let books = books.another().await;
        let (_topic, events) = way(kafka).await;
        let server = Server::start(&books, &settings(&events, &[])).await;
        server.cars("car", 10).await;
        server.stock("seat", 10).await;
        let (car, seat) = (server.hold("1", "car").await, server.hold("2", "seat").await);
        assert!(server.show(&car).await["smartKey"].is_null(), "no key before the commit");
        server.act("commit", &seat).await;
        server.act("commit", &car).await;
        until_within(Duration::from_secs(20), "there is a key", async || {
            !server.show(&car).await["smartKey"].is_null()
        })
        .await;
        let key = server.show(&car).await["smartKey"].clone();
        assert_eq!((key["code"].as_str().map(str::len), &key["status"]), (Some(32), &json!("ISSUED")));
        server.act("cancel", &car).await;
        until("it is revoked", async || server.show(&car).await["smartKey"]["status"] == "REVOKED").await;
        settled(&books, &events).await;
        assert!(server.show(&seat).await["smartKey"].is_null(), "the resource has no keys");
    }
}

/// I10: valid records are applied whatever records are between them, and each invalid one is kept with its reason.
async fn invalid_records_become_dead_letters_and_the_rest_is_applied(books: Books) {
    let topic = Topic::new().await;
    let events = topic.url();
    // The relay is off, so that the topic has only the records of the test. They agree with the books, apart from the
    // invalid ones.
    let server = Server::start(&books, &settings(&events, &[("BESPEAK_RELAY", "off")])).await;
    server.cars("car", 10).await;
    let token = server.hold("1", "car").await;
    for command in ["commit", "cancel"] {
        server.act(command, &token).await;
    }
    let ids: Vec<String> = (0..9).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    let headers = |n: usize| {
        vec![
            ("ce_specversion", "1.0"),
            ("ce_id", ids[n].as_str()),
            ("ce_source", "/test"),
            ("ce_type", "bespeak.reservation.committed.v1"),
            ("ce_time", "2026-01-01T00:00:00Z"),
            ("ce_keyversion", "2"),
        ]
    };
    let with = |n: usize, name: &str, value: &'static str| {
        let mut changed = headers(n);
        changed.retain(|(found, _)| *found != name);
        changed.push(("ce_type", value));
        changed
    };
    let good =
        json!({"token": token, "version": 2, "items": [{"resourceId": "car", "quantity": 1}]}).to_string();
    let huge = format!("{{\"x\": \"{}\"}}", "x".repeat(2 << 20));
    let without: Vec<_> = headers(3).into_iter().filter(|(name, _)| *name != "ce_id").collect();
    let cancelled = good.replace("\"version\":2", "\"version\":3");
    topic.put(&token, &headers(0), Some(b"{\"token\": ")).await;
    topic.put(&token, &with(1, "ce_type", "bespeak.reservation.teleported.v1"), Some(good.as_bytes())).await;
    topic.put(&token, &with(2, "ce_type", "bespeak.reservation.committed.v2"), Some(good.as_bytes())).await;
    topic.put(&token, &without, Some(good.as_bytes())).await;
    topic.put(&token, &headers(4), Some(huge.as_bytes())).await;
    topic.put(&token, &headers(5), None).await;
    // The books contradict this record, which is in a batch with others.
    let refused = good.replace("\"version\":2", "\"version\":0");
    topic.put(&token, &headers(8), Some(refused.as_bytes())).await;
    topic.put(&token, &headers(6), Some(good.as_bytes())).await;
    topic.put(&token, &[], None).await;
    // The valid record between them takes effect.
    until("the valid record is applied", async || keys(&books).await == 1).await;
    topic
        .put(&token, &with(7, "ce_type", "bespeak.reservation.cancelled.v1"), Some(cancelled.as_bytes()))
        .await;
    until("the record after them is applied", async || keys(&books).await == 0).await;
    assert_dead_letters(&topic, &ids[1], &token).await;
    assert!((server.metric("bespeak_consumer_events_total").await - 10.0).abs() < 0.1);
}

/// Asserts that the eight invalid records are dead letters with their reasons; the second has this id and this key.
async fn assert_dead_letters(topic: &Topic, id: &str, token: &str) {
    until("eight records are dead letters", async || topic.dead_letters().await.len() == 8).await;
    let letters = topic.dead_letters().await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.headers["dlq_reason"].as_str()).collect();
    let expected = [
        "EOF while parsing",
        "teleported",
        "committed.v2",
        "ce_id is missing",
        "2097161 bytes",
        "no value",
        "version 0 of reservation",
        "no value",
    ];
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason} / {expected}");
    }
    for letter in &letters {
        assert_eq!(letter.headers["dlq_topic"], topic.name());
        assert!(letter.headers["dlq_partition"].parse::<u64>().is_ok());
        assert!(letter.headers["dlq_offset"].parse::<u64>().is_ok());
        assert_eq!(letter.headers["dlq_attempts"], "1");
    }
    assert_eq!((letters[1].headers["ce_id"].as_str(), letters[1].key.as_str()), (id, token));
}
