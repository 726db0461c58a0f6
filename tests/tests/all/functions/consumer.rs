//! The function `consumer`: effects happen once despite disorder, duplicates, poison, deadlines and freezing.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak_services::Mysql;
use bespeak_tests::{Books, Lambda, TIME, Topic, sample, until_within};
use serde_json::{Value, json};

use super::{open_transactions, sessions};

/// An event about the reservation `n`, as a record of a topic.
fn event(n: u64, kind: &str, version: u64, offset: u64) -> Value {
    let token = token(n);
    let id = format!("00000000-0000-7000-8000-{n:08}{version:04}");
    let data = json!({"token": token, "version": version, "status": kind.to_uppercase(),
        "items": [{"resourceId": "car", "quantity": 1}]});
    let header = |name: &str, value: &str| json!({name: value.as_bytes()});
    json!({"topic": "events", "partition": n % 3, "offset": offset, "timestamp": 1, "timestampType": "CREATE_TIME",
        "key": STANDARD.encode(&token), "value": STANDARD.encode(data.to_string()),
        "headers": [header("ce_specversion", "1.0"), header("ce_id", &id), header("ce_source", "/bespeak"),
            header("ce_type", &format!("bespeak.reservation.{kind}.v1")), header("ce_time", "2026-11-22T10:00:00Z"),
            header("ce_subject", &token), header("ce_keyversion", &version.to_string())]})
}

fn token(n: u64) -> String {
    format!("00000000-0000-7000-9000-{n:012}")
}

/// A batch of a topic.
fn batch(records: &[Value]) -> Value {
    let mut partitions = serde_json::Map::new();
    for record in records {
        let partition = format!("events-{}", record["partition"]);
        let of = partitions.entry(partition).or_insert_with(|| json!([]));
        of.as_array_mut().expect("a list").push(record.clone());
    }
    json!({
        "eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka", "bootstrapServers": "b:9092",
        "records": partitions,
    })
}

/// A batch of a queue.
fn queue(bodies: &[(&str, String)]) -> Value {
    let message = |(id, body): &(&str, String)| {
        let (receipt, source) = ("r", "aws:sqs");
        json!({"messageId": id, "receiptHandle": receipt, "body": body, "eventSource": source})
    };
    json!({"Records": bodies.iter().map(message).collect::<Vec<_>>()})
}

/// How many reservations the books have.
const RESERVATIONS: u64 = 1_500;

/// The function on books with a resource that has SmartKeys, and with the committed reservations that the events are
/// about, because an event that is not in the books has no effect.
async fn started(settings: &[(&str, &str)]) -> (Books, Lambda) {
    let books = Books::mysql().await;
    let consumer = Lambda::start("consumer", &books, settings).await;
    super::commit(&books, (0..RESERVATIONS).map(token).collect()).await;
    (books, consumer)
}

async fn keys(books: &Books) -> i64 {
    books.count("SELECT COUNT(*) FROM smart_keys WHERE code IS NOT NULL AND revoked_at IS NULL").await
}

fn done() -> Value {
    json!({"batchItemFailures": []})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_happen_once_in_any_order_of_partitions_and_records() {
    let (books, consumer) = started(&[]).await;
    super::commit(&books, vec![super::SAMPLE.to_owned()]).await;
    for n in 0..30 {
        let token = token(n);
        let cancel =
            "UPDATE reservations SET status = 'CANCELLED', version = 3 WHERE token = UNHEX(REPLACE('";
        books.tamper(&format!("{cancel}{token}', '-', ''))")).await;
    }
    books.tamper("UPDATE resources SET available = available + 30").await;
    // All three samples contain the same event.
    for name in ["consumer-msk", "consumer-self-managed", "consumer-sqs"] {
        assert_eq!(consumer.call(&sample(name)).await, Ok(done()), "{name}");
        assert_eq!(keys(&books).await, 1, "{name}");
    }
    // The records of a partition are out of order in the event, and one of them appears twice.
    let mut records = Vec::new();
    for n in 0..30 {
        records.push(event(n, "cancelled", 3, 100 + n));
        records.push(event(n, "committed", 2, 50 + n));
        records.push(event(n + 100, "committed", 2, 200 + n));
    }
    records.push(event(7, "committed", 2, 57));
    assert_eq!(consumer.call(&batch(&records)).await, Ok(done()));
    assert_eq!(keys(&books).await, 1 + 30, "cancelled reservations have no key");
    // The whole batch is delivered once more.
    assert_eq!(consumer.call(&batch(&records)).await, Ok(done()));
    assert_eq!(keys(&books).await, 1 + 30);
    assert_eq!(open_transactions(&books).await, 0);
    assert!(sessions(&books).await <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_of_a_topic_becomes_dead_letters_and_the_rest_is_applied() {
    let topic = Topic::new().await;
    let (books, consumer) = started(&[("BESPEAK_EVENTS_URL", &topic.url())]).await;
    let mut odd = event(2, "committed", 2, 11);
    odd["value"] = json!(STANDARD.encode([0xff, 0xfe, 0]));
    odd["key"] = json!(STANDARD.encode([0, 0xff, 0x80]));
    let mut undecodable = event(3, "committed", 2, 12);
    undecodable["value"] = json!("no base64!");
    let mut bare = event(4, "committed", 2, 13);
    bare["headers"] = json!([{"x": [-1, -128, 127, 255]}]);
    let mut tombstone = event(5, "committed", 2, 14);
    tombstone["value"] = Value::Null;
    let records =
        [event(1, "committed", 2, 10), odd, undecodable, bare, tombstone, event(6, "committed", 2, 15)];
    assert_eq!(consumer.call(&batch(&records)).await, Ok(done()));
    assert_eq!(keys(&books).await, 2);
    let letters = topic.dead_letters().await;
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().all(|letter| letter.headers["dlq_topic"] == "events"), "{letters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_of_a_queue_is_returned_to_it() {
    let (books, consumer) = started(&[]).await;
    let body = |n| event(n, "committed", 2, 7).to_string();
    let mut odd = event(3, "committed", 2, 7);
    odd["headers"] = json!([]);
    let event = queue(&[
        ("a", body(1)),
        ("b", "hello".to_owned()),
        ("c", body(2)),
        ("d", odd.to_string()),
        ("e", body(1)),
        ("f", String::new()),
    ]);
    let answer = json!({"batchItemFailures":
        [{"itemIdentifier": "b"}, {"itemIdentifier": "d"}, {"itemIdentifier": "f"}]});
    assert_eq!(consumer.call(&event).await, Ok(answer.clone()));
    assert_eq!(keys(&books).await, 2);
    assert_eq!(books.count("SELECT COUNT(*) FROM dead_letters").await, 0, "the queue has its own redrive");
    assert_eq!(consumer.call(&event).await, Ok(answer), "every delivery gets the same answer");
    assert_eq!(keys(&books).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_batch_fails_alone_and_an_empty_batch_succeeds() {
    let (books, consumer) = started(&[]).await;
    for event in
        ["", "{", "[]", "{}", "null", r#"{"task":"all"}"#, r#"{"eventSource":"aws:kafka","records":7}"#]
    {
        let failed = consumer.invoke(event, TIME).await.expect_err(event);
        assert!(!failed.message.is_empty(), "{event}: {failed:?}");
    }
    for name in ["reserve-http-api", "reserve-rest-api", "reserve-alb", "relay-cron-schedule"] {
        let failed = consumer.call(&sample(name)).await.expect_err(name);
        assert!(failed.message.contains("consumer takes batches"), "{name}: {failed:?}");
    }
    for empty in
        [batch(&[]), queue(&[]), json!({"eventSource": "SelfManagedKafka", "records": {"events-0": []}})]
    {
        assert_eq!(consumer.call(&empty).await, Ok(done()));
    }
    // One record has about half of the 6 MB that an event may have.
    let mut large = event(1, "committed", 2, 1);
    large["value"] = json!("A".repeat(3_000_000));
    let answer = consumer.call(&batch(&[large, event(4, "committed", 2, 2)])).await;
    assert_eq!(answer, Ok(done()));
    assert_eq!(keys(&books).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_beyond_the_deadline_are_returned_for_retry() {
    let (books, consumer) = started(&[]).await;
    let records: Vec<_> = (0..1_500).map(|n| event(n, "committed", 2, n)).collect();
    // With far too little time, the function applies some records or none, and returns the rest.
    let mut left = records;
    let mut time = Duration::from_millis(20);
    let mut invocations = 0;
    for _ in 0..200 {
        invocations += 1;
        match consumer.call_within(&batch(&left), time).await {
            Ok(answer) => left.retain(|record| {
                answer["batchItemFailures"].as_array().expect("a list").iter().any(|failure| {
                    let item = &failure["itemIdentifier"];
                    item["partition"] == format!("events-{}", record["partition"])
                        && record["offset"].as_u64() >= item["offset"].as_u64()
                })
            }),
            Err(failed) => assert!(failed.message.contains("the deadline is near"), "{failed:?}"),
        }
        // The growing deadline lets the test end on a slow machine too.
        time += Duration::from_millis(50);
        until_within(Duration::from_secs(20), "nothing is left open", async || {
            open_transactions(&books).await == 0
        })
        .await;
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(left.len(), 0);
    assert!(invocations > 1, "the first deadline must be too short");
    assert_eq!(keys(&books).await, 1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_consumer_replaces_its_connections() {
    let (books, consumer) = started(&[]).await;
    assert_eq!(consumer.call(&batch(&[event(1, "committed", 2, 1)])).await, Ok(done()));
    consumer.freeze().expect("frozen");
    books.cut_all().await;
    consumer.thaw().expect("thawed");
    assert_eq!(consumer.call(&batch(&[event(2, "committed", 2, 2)])).await, Ok(done()));
    assert_eq!(keys(&books).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_fails_the_batch_for_retry() {
    let mut server = Mysql::start_own(&[]).await.expect("a server");
    let books = Books::on(&server).await;
    let warm = Lambda::start("consumer", &books, &[]).await;
    drop(warm);
    server.kill().await.expect("killed");
    let cold = Lambda::start_at("consumer", &books.url(), &[]).await;
    let failed = cold.call(&batch(&[event(1, "committed", 2, 1)])).await.expect_err("the database is away");
    assert!(failed.message.contains("come again"), "{failed:?}");
    assert_eq!(failed.kind, "Bespeak.NothingDone");
    server.restart().await.expect("restarted");
    until_within(Duration::from_secs(30), "it applies", async || {
        cold.call(&batch(&[event(1, "committed", 2, 1)])).await == Ok(done())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_fails_its_invocation_alone() {
    let (books, consumer) = started(&[("BESPEAK_TEST_FAILPOINT", "consumer.begun:panic")]).await;
    let records = batch(&[event(1, "committed", 2, 1)]);
    let failed = consumer.call(&records).await.expect_err("it panics");
    assert!(failed.message.contains("failpoint consumer.begun panics"), "{failed:?}");
    assert_eq!(keys(&books).await, 0);
    assert_eq!(consumer.call(&records).await, Ok(done()));
    assert_eq!(keys(&books).await, 1);
}
