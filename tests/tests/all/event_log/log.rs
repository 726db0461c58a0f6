//! The records of the topic as another client sees them, and the audit that compares them with the outbox.

use std::collections::HashMap;

use bespeak_tests::{Books, Client, Server, Topic};
use serde_json::json;

use super::{audited, settings, settled};

/// Each record is a well-formed `CloudEvents` message in binary mode, and each key is in one partition, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_well_formed_cloudevents() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[("BESPEAK_EVENTS_SOURCE", "/hotel")])).await;
    server.cars("car", 2).await;
    let token = server.hold("1", "car").await;
    server.act("commit", &token).await;
    server.hold("2", "car").await;
    server.act("cancel", &token).await;
    settled(&books, &events).await;
    let seen = topic.read().await;
    let of = |key: &str| {
        let records = seen.iter().filter(|record| record.key == key);
        records.map(|record| record.headers["ce_type"].as_str()).collect::<Vec<_>>()
    };
    assert_eq!(
        of(&token),
        [
            "bespeak.reservation.held.v1",
            "bespeak.reservation.committed.v1",
            "bespeak.reservation.cancelled.v1"
        ]
    );
    assert_eq!(of("car"), ["bespeak.stock.depleted.v1", "bespeak.stock.restored.v1"]);
    let mut partitions: HashMap<&str, i32> = HashMap::new();
    for record in &seen {
        assert_eq!(*partitions.entry(&record.key).or_insert(record.partition), record.partition);
        let header =
            |name: &str| record.headers.get(name).unwrap_or_else(|| panic!("no {name}: {record:?}")).as_str();
        assert_eq!((header("ce_specversion"), header("ce_source")), ("1.0", "/hotel"));
        assert_eq!((header("content-type"), header("ce_subject")), ("application/json", record.key.as_str()));
        assert!(uuid::Uuid::try_parse(header("ce_id")).is_ok());
        assert!(header("ce_time").parse::<jiff::Timestamp>().is_ok());
        assert_eq!(json!(header("ce_keyversion").parse::<u64>().expect("a number")), record.value["version"]);
    }
    let audit = audited(&books, &events).await;
    assert_eq!((&audit["events"], &audit["records"], &audit["repeated"]), (&json!(6), &json!(6), &json!(0)));
}

/// The audit of the event pipeline finds foreign, forged, missing and disordered records, and wrong keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_audit_finds_every_kind_of_damage() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[])).await;
    server.cars("car", 10).await;
    let (one, two) = (server.hold("1", "car").await, server.hold("2", "car").await);
    for token in [&one, &two] {
        server.act("commit", token).await;
    }
    settled(&books, &events).await;
    assert_eq!(server.stop().await, 0);
    books.expect_damage();
    // A foreign record, a forged event that is also out of order, a missing event, and a wrong key.
    topic.put("x", &[], Some(b"{}")).await;
    let id = uuid::Uuid::now_v7().to_string();
    topic.put(&two, &[("ce_id", id.as_str()), ("ce_keyversion", "1")], Some(b"{}")).await;
    books
        .tamper(&format!(
            "INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at, published_at)
            SELECT UNHEX(REPLACE(UUID(), '-', '')), shard, event_key, 9, 'lost', payload, created_at, 1
            FROM outbox WHERE event_key = '{one}' LIMIT 1"
        ))
        .await;
    books.tamper("UPDATE smart_keys SET revoked_at = 1 LIMIT 1").await;
    let url = books.url();
    let environment = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_EVENTS_URL", events.as_str())];
    let ran = bespeak_tests::bespeak(&["verify", "--events"], &environment).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for finding in [
        "is no event of this product",
        "was never in the outbox",
        "first appears in the event log after version",
        "is not in the event log",
        "has no SmartKey that is valid",
    ] {
        let squeezed = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            squeezed.contains(finding) || squeezed.replace(" │ ", " ").contains(finding),
            "{finding}: {}",
            ran.out
        );
    }
}
