//! Brokers that are unreachable, return, or refuse records.

use std::time::{Duration, Instant};

use bespeak::{
    engine::EventType,
    envelope::OutboxEvent,
    events::{
        PublishError, Publisher,
        kafka::{KafkaPublisher, TopicError, ensure_topics},
    },
};
use bespeak_services::Kafka;
use bespeak_tests::{Books, Client, Server, Topic, bespeak, until, until_within};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use uuid::Uuid;

use super::{audited, keys, settings, settled, trade};

/// The broker is unreachable for half a minute under load: no event is lost, each key stays in order, and the backlog
/// rises and falls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_outage_of_half_a_minute_loses_no_event() {
    let (broker, switch) = Kafka::start_own_behind_switch().await.expect("a broker");
    let books = Books::mysql().await;
    let topic = Topic::on(&broker);
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[])).await;
    server.cars("car", 100_000).await;
    let mut committed = trade(&server, "before", 15).await.len();
    settled(&books, &events).await;
    switch.turn_off();
    let away = Instant::now();
    let mut n = 0;
    while away.elapsed() < Duration::from_secs(30) {
        committed += trade(&server, &format!("away-{n}"), 30).await.len();
        n += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let backlog = server.metric("bespeak_outbox_unpublished_events").await;
    let lag = server.metric("bespeak_outbox_lag_seconds").await;
    assert!(backlog > 100.0 && lag > 20.0, "{backlog} events wait, the oldest for {lag} s");
    assert!(server.metric("bespeak_relay_outages_total").await > 0.0);
    assert!(server.metric("bespeak_outbox_blocked_keys").await < 1.0, "no key is to blame");
    let said = server.logged("ERROR").iter().filter(|line| line.contains("cannot be published")).count();
    assert_eq!(said, 1, "an outage is logged once");
    switch.turn_on().expect("the same port");
    settled(&books, &events).await;
    until("the metrics say so", async || {
        server.metric("bespeak_outbox_unpublished_events").await < 1.0
            && server.metric("bespeak_outbox_lag_seconds").await < 1.0
    })
    .await;
    audited(&books, &events).await;
    assert_eq!(keys(&books).await, i64::try_from(committed).expect("few"));
    assert_eq!(server.stop().await, 0);
}

/// No broker answers at the start: the server serves requests, and publishes once a broker answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_without_a_broker_and_publishes_later() {
    let (broker, switch) = Kafka::start_own_behind_switch().await.expect("a broker");
    switch.turn_off();
    let books = Books::sqlite();
    let topic = Topic::on(&broker);
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[])).await;
    server.cars("car", 100).await;
    let committed = trade(&server, "a", 6).await.len();
    assert!(server.logged("ERROR").iter().any(|line| line.contains("no broker answers")));
    switch.turn_on().expect("the same port");
    settled(&books, &events).await;
    assert_eq!(keys(&books).await, i64::try_from(committed).expect("few"));
}

/// A topic with another number of partitions would map keys to other partitions, so `serve` refuses to start and
/// explains the remedy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_other_partitions_is_refused() {
    let topic = Topic::new().await;
    let mut config = topic.config();
    config.partitions = 3;
    ensure_topics(&config).await.expect("created");
    ensure_topics(&config).await.expect("there already");
    config.partitions = 4;
    let refused = ensure_topics(&config).await.expect_err("refused");
    assert!(matches!(refused, TopicError::Partitions { found: 3, expected: 4, .. }), "{refused}");
    let books = Books::sqlite();
    let (database, events) = (books.url(), topic.url());
    let environment = [("BESPEAK_DATABASE_URL", database.as_str()), ("BESPEAK_EVENTS_URL", events.as_str())];
    let ran = bespeak(&["serve", "--listen", "127.0.0.1:0"], &environment).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("has 3 partitions, but BESPEAK_EVENTS_PARTITIONS is 12"), "{ran:?}");
}

/// A compacted topic would delete events, so `serve` refuses it; the topics that it creates itself pass the check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_with_safe_settings() {
    let topic = Topic::new().await;
    ensure_topics(&topic.config()).await.expect("created");
    for (name, expected) in [
        (topic.name().to_owned(), [("cleanup.policy", "delete"), ("retention.ms", "604800000")]),
        (format!("{}.dlq", topic.name()), [("cleanup.policy", "delete"), ("retention.ms", "-1")]),
    ] {
        let settings = topic.settings(&name).await;
        println!("{name}: {settings:?}");
        for (setting, value) in expected {
            if let Some(found) = settings.get(setting) {
                assert_eq!(found, value, "{name} {setting}");
            }
        }
    }
}

fn event(n: u128, bytes: usize) -> OutboxEvent {
    OutboxEvent {
        id: i64::try_from(n).expect("few"),
        event_id: Uuid::from_u128(n),
        shard: 0,
        key: format!("key-{n}"),
        version: 1,
        kind: EventType::Held.as_str().to_owned(),
        payload: format!("{{\"x\": \"{}\"}}", "x".repeat(bytes)),
        created_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        trace: None,
        attempts: 0,
        blocked: false,
    }
}

/// I10: an oversized event is refused, and the events of the same batch are published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_oversized_event_is_refused_alone() {
    let topic = Topic::new().await;
    ensure_topics(&topic.config()).await.expect("created");
    let publisher = KafkaPublisher::new(&topic.config(), "/test").expect("a publisher");
    let mut events: Vec<OutboxEvent> = (0..100).map(|n| event(n, 10)).collect();
    events[41] = event(41, 2 << 20);
    events[42].key = events[41].key.clone();
    let mut results = publisher.publish(&events).await;
    assert_eq!(results.remove(42), Err(PublishError::Behind), "nothing of a key is sent behind a failure");
    for (n, result) in results.iter().enumerate() {
        match result {
            Err(PublishError::Rejected(reason)) => {
                assert!(n == 41 && reason.contains("too large"), "{n} {reason}");
            }
            result => assert!(n != 41 && result.is_ok(), "{n} {result:?}"),
        }
    }
    assert_eq!(topic.read().await.len(), 98);
}

/// A broker refuses a whole batch because of one record: the publisher sends each of its events again in a batch of
/// its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_is_retried_event_by_event() {
    let mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("mocked", 1, 1).expect("a topic");
    let url = format!("kafka://{}/mocked", mock.bootstrap_servers());
    let values = bespeak::config::Values::collect(
        |asked| (asked == "BESPEAK_EVENTS_URL").then(|| url.clone()),
        |_| None,
    );
    let config = bespeak::config::Config::parse(&values).expect("valid settings");
    let bespeak::events::EventLog::Kafka(config) = config.events else { panic!("the URL names Kafka") };
    let publisher = KafkaPublisher::new(&config, "/test").expect("a publisher");
    assert!(publisher.publish(&[event(0, 1)]).await[0].is_ok(), "the mock works");
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    mock.request_errors(RDKafkaApiKey::Produce, &[too_large]);
    let events: Vec<OutboxEvent> = (1..50).map(|n| event(n, 10)).collect();
    let became = publisher.publish(&events).await;
    assert!(became.iter().all(Result::is_ok), "{became:?}");
}

/// An unreachable broker is reported as an outage, and not as a failure of an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_an_outage() {
    let broker = Kafka::start_own().await.expect("a broker");
    let topic = Topic::on(&broker);
    let config = topic.config();
    drop(broker);
    let publisher = KafkaPublisher::new(&config, "/test").expect("a publisher");
    let became = publisher.publish(&[event(0, 1), event(1, 1)]).await;
    assert!(became.iter().all(|became| matches!(became, Err(PublishError::Unavailable(_)))), "{became:?}");
    assert!(matches!(ensure_topics(&config).await, Err(TopicError::Unavailable { .. })));
}

/// Servers of one consumer group share the partitions. When one leaves, the other takes over, and no event is applied
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_share_and_take_over_partitions() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let first = Server::start(&books, &settings(&events, &[])).await;
    first.cars("car", 10_000).await;
    let mut committed = trade(&first, "a", 30).await.len();
    let second = Server::start(&books, &settings(&events, &[])).await;
    until_within(Duration::from_secs(30), "the second has partitions", async || {
        second.metric("bespeak_consumer_rebalances_total").await > 0.0
    })
    .await;
    committed += trade(&first, "b", 60).await.len();
    assert_eq!(first.stop().await, 0);
    committed += trade(&second, "c", 30).await.len();
    settled(&books, &events).await;
    let audit = audited(&books, &events).await;
    assert_eq!(audit["events"], audit["records"], "{audit}");
    assert_eq!(keys(&books).await, i64::try_from(committed).expect("few"));
}
