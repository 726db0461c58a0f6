//! The three functions together, with an event source and a schedule like those of Lambda.

use std::time::Duration;

use async_trait::async_trait;
use bespeak_event_source::{EventSource, Invoke, Mapping, event, left_of};
use bespeak_services::Kafka;
use bespeak_tests::{Books, Client, Lambda, Topic, sample};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// A hold gets its SmartKey and loses it: `reserve` writes, `relay-cron` publishes, `consumer` applies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_reservations_get_a_key_and_cancelled_ones_lose_it() {
    let (books, topic) = (Books::mysql().await, Topic::new().await);
    let settings = [("BESPEAK_EVENTS_URL", &*topic.url())];
    let reserve = Lambda::start("reserve", &books, &[]).await;
    let cron = Lambda::start("relay-cron", &books, &settings).await;
    let consumer = Lambda::start("consumer", &books, &settings).await;
    reserve.cars("car", 20).await;
    let mut tokens = Vec::new();
    for n in 0..20 {
        let token = reserve.hold(&n.to_string(), "car").await;
        reserve.act("commit", &token).await;
        tokens.push(token);
    }
    assert_eq!(reserve.show(&tokens[0]).await["smartKey"], Value::Null);
    minute(&cron).await;
    let mut source = EventSource::start(topic.bootstrap(), topic.name(), "flow", Mapping::default()).await;
    drained(&mut source, &consumer, 41).await;
    for token in &tokens {
        assert_eq!(reserve.show(token).await["smartKey"]["status"], "ISSUED");
    }
    reserve.act("cancel", &tokens[3]).await;
    minute(&cron).await;
    drained(&mut source, &consumer, 2).await;
    assert_eq!(reserve.show(&tokens[3]).await["smartKey"]["status"], "REVOKED");
    books.assert_consistent().await;
}

/// The database is down for the first batch: the batch is bisected and retried, and each key is issued once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_batch_is_retried_and_applied_once() {
    let mut server = bespeak_services::Mysql::start_own(&[]).await.expect("a server");
    let (books, topic) = (Books::on(&server).await, Topic::new().await);
    let settings = [("BESPEAK_EVENTS_URL", &*topic.url())];
    let reserve = Lambda::start("reserve", &books, &[]).await;
    let cron = Lambda::start("relay-cron", &books, &settings).await;
    let consumer = Lambda::start("consumer", &books, &settings).await;
    reserve.cars("car", 40).await;
    for n in 0..40 {
        let token = reserve.hold(&n.to_string(), "car").await;
        reserve.act("commit", &token).await;
    }
    minute(&cron).await;
    let mut source = EventSource::start(topic.bootstrap(), topic.name(), "flow", Mapping::default()).await;
    server.kill().await.expect("killed");
    let away = Away { consumer, server: Mutex::new(server) };
    let mut delivered = (0, 0);
    while delivered.0 < 81 {
        let batch = source.deliver(&away).await;
        delivered = (delivered.0 + batch.records, delivered.1 + batch.failures);
    }
    assert!(delivered.1 > 0, "the first batch must fail");
    assert_eq!(books.count("SELECT COUNT(*) FROM smart_keys WHERE code IS NOT NULL").await, 40);
    books.assert_consistent().await;
}

/// A consumer whose database is restarted after the first failure.
struct Away {
    consumer: Lambda,
    server: Mutex<bespeak_services::Mysql>,
}

#[async_trait]
impl Invoke for Away {
    async fn invoke(&self, event: Value) -> Result<Value, String> {
        let ended = self.consumer.invoke(event).await;
        if ended.is_err() {
            self.server.lock().await.restart().await.expect("restarted");
        }
        ended
    }
}

/// The event source itself: bisection isolates the failing record, a record that failed too often goes to the
/// destination, and a partial answer retries the named record and all after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_source_bisects_retries_and_sets_aside() {
    struct Refuses(&'static str);
    #[async_trait]
    impl Invoke for Refuses {
        async fn invoke(&self, event: Value) -> Result<Value, String> {
            if event.to_string().contains(self.0) {
                Err("refused".to_owned())
            } else {
                Ok(json!({"batchItemFailures": []}))
            }
        }
    }
    let broker = Kafka::start_own().await.expect("a broker");
    let topic = Topic::on(&broker);
    for n in 0..8 {
        topic.put("k", &[("n", &n.to_string())], Some(if n == 5 { b"bad" } else { b"good" })).await;
    }
    let mapping = Mapping { retries_max: Some(4), back_off: Duration::from_millis(1), ..Mapping::default() };
    let mut source = EventSource::start(topic.bootstrap(), topic.name(), "g", mapping).await;
    let mut delivered = source.deliver(&Refuses("YmFk")).await;
    while delivered.records < 8 {
        let more = source.deliver(&Refuses("YmFk")).await;
        delivered.records += more.records;
        delivered.on_failure.extend(more.on_failure);
    }
    let aside: Vec<_> = delivered.on_failure.iter().map(|record| record.value.clone()).collect();
    assert_eq!(aside, [Some(b"bad".to_vec())]);
    // A new event source continues at the committed offsets.
    drop(source);
    let mut source = EventSource::start(topic.bootstrap(), topic.name(), "g", mapping).await;
    assert_eq!(source.deliver(&Refuses("never")).await.records, 0);
    // After a partial answer, only the named record is left.
    let record = |partition, offset| bespeak::envelope::Record {
        key: None,
        headers: Vec::new(),
        value: None,
        origin: bespeak::envelope::Origin { topic: "t".into(), partition, offset },
    };
    let records = [record(0, 1), record(0, 2), record(1, 7), record(1, 8)];
    let answer = json!({"batchItemFailures": [{"itemIdentifier": {"partition": "t-1", "offset": 8}}]});
    assert_eq!(left_of(&records, &answer), [record(1, 8)]);
    assert_eq!(event(&records)["records"]["t-0"].as_array().map(Vec::len), Some(2));
}

/// Invokes `relay-cron` as the schedule does every minute.
async fn minute(cron: &Lambda) {
    let mut event = sample("relay-cron-schedule");
    event["time"] = "2026-11-22T10:01:00Z".into();
    let summary = cron.call(&event).await.expect("done");
    assert_eq!(summary["unpublished"], 0, "{summary}");
}

async fn drained(source: &mut EventSource, consumer: &Lambda, records: usize) {
    let mut seen = 0;
    while seen < records {
        let delivered = source.deliver(consumer).await;
        assert_eq!((delivered.failures, delivered.on_failure.len()), (0, 0));
        seen += delivered.records;
    }
    assert_eq!(seen, records);
}
