//! Keys with many events, keys that wait and partitions that are away do not hold up other keys (I10).

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak::{
    events::{
        Publisher,
        kafka::KafkaPublisher,
        relay::{Relay, RelayOptions},
    },
    store::{Database, Guard},
};
use bespeak_tests::{Api, Books, Client, Topic, each_store};
use rdkafka::mocking::MockCluster;

use super::relay::Log;

each_store!(
    a_key_with_many_events_does_not_hold_up_the_others,
    rows_of_a_parked_key_do_not_hold_up_the_others,
    a_step_takes_a_limited_number_of_bytes,
);

const PATIENCE: Duration = Duration::from_secs(60);

/// Steps so small that a few rows crowd the front.
const SMALL: RelayOptions = RelayOptions {
    lease_for: Duration::from_secs(1_000_000),
    batch: 20,
    of_one_key: 5,
    bytes: 16 << 20,
    attempts_max: 3,
    back_off_first: Duration::from_secs(1),
    back_off_max: Duration::from_secs(300),
};

async fn scene(books: Books) -> (Api, Arc<dyn Database>, Log) {
    let api = Api::start(books).await;
    // Rows that the test inserts have no record in the books.
    api.books.expect_damage();
    let store = api.books.open(None, Guard::RowLock).await;
    (api, store, Log::new())
}

/// Inserts unpublished events of one key.
async fn insert(books: &Books, key: &str, versions: std::ops::RangeInclusive<u64>) {
    let id = |version: u64| format!("x'{:032x}'", uuid::Uuid::now_v7().as_u128() ^ u128::from(version));
    let row = |version| format!("({}, 3, '{key}', {version}, 't', '{{}}', {version})", id(version));
    let rows: Vec<String> = versions.map(row).collect();
    books
        .tamper(&format!(
            "INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at) VALUES {}",
            rows.join(", ")
        ))
        .await;
}

/// A resource that sells out and back has hundreds of waiting events. An event of another key behind them is published
/// in the first step, and the order of both keys is kept.
async fn a_key_with_many_events_does_not_hold_up_the_others(books: Books) {
    let (api, store, log) = scene(books).await;
    insert(&api.books, "hot", 1..=400).await;
    insert(&api.books, "other", 1..=2).await;
    insert(&api.books, "hot", 401..=402).await;
    let mut relay = Relay::new(store.clone(), Arc::new(log.clone()), SMALL);
    let first = relay.step().await.expect("stepped");
    assert!(first.more, "{first:?}");
    let keys = |log: &Log| log.written().iter().map(|event| event.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&log).iter().filter(|key| *key == "other").count(), 2, "{:?}", keys(&log));
    assert_eq!(keys(&log).len(), 7, "five events of the hot key, and two of the other");
    // Also if it is written later, and while the hot key still has hundreds of events.
    insert(&api.books, "late", 1..=1).await;
    insert(&api.books, "other", 3..=3).await;
    relay.step().await.expect("stepped");
    assert!(keys(&log).contains(&"late".to_owned()), "{:?}", keys(&log));
    while relay.step().await.expect("stepped").published > 0 {}
    assert_eq!(log.written().len(), 402 + 4);
    log.assert_consistent();
    assert_eq!(store.backlog().await.expect("counted").unpublished, 0);
}

/// A parked key has many more rows than a step looks at. Events behind them are published, also those that are written
/// later, and none of the parked key.
async fn rows_of_a_parked_key_do_not_hold_up_the_others(books: Books) {
    let (api, store, log) = scene(books).await;
    insert(&api.books, "parked", 1..=300).await;
    api.books
        .tamper(
            "INSERT INTO outbox_blocked (event_key, event_id, blocked_until, attempts, parked, reason, updated_at)
            SELECT event_key, event_id, 0, 8, 1, 'too large', 0 FROM outbox
            WHERE event_key = 'parked' AND key_version = 1",
        )
        .await;
    let mut relay = Relay::new(store.clone(), Arc::new(log.clone()), SMALL);
    for n in 1..=5 {
        insert(&api.books, &format!("key-{n}"), 1..=2).await;
        insert(&api.books, "parked", 300 + n..=300 + n).await;
        assert_eq!(relay.step().await.expect("stepped").published, 2, "round {n}");
    }
    assert_eq!(store.retry_blocked(Some("parked")).await.expect("tried"), 1);
    let deadline = Instant::now() + PATIENCE;
    while store.backlog().await.expect("counted").unpublished > 0 {
        relay.step().await.expect("stepped");
        assert!(Instant::now() < deadline, "the key is published once it is free");
    }
    log.assert_consistent();
}

/// S7: a step is bounded by the size of its events, and a single large event is published all the same.
async fn a_step_takes_a_limited_number_of_bytes(books: Books) {
    let (api, store, log) = scene(books).await;
    api.stock("seat", 100).await;
    for n in 0..6 {
        let large =
            serde_json::json!({"resourceId": "seat", "quantity": 1, "metadata": {"x": "x".repeat(3_000)}});
        assert_eq!(api.reserve(&format!("large-{n}"), &large).await.status, 200);
    }
    let large = "UPDATE outbox SET payload = REPLACE(payload, 'xxx', 'xxxxxxxxxxxx')";
    api.books.tamper(large).await;
    let options = RelayOptions { bytes: 30_000, batch: 100, ..SMALL };
    let mut relay = Relay::new(store.clone(), Arc::new(log.clone()), options);
    assert_eq!(relay.step().await.expect("stepped").published, 2, "two of 12 kB each");
    let options = RelayOptions { bytes: 1, ..options };
    relay.leave().await.expect("left");
    let mut relay = Relay::new(store.clone(), Arc::new(log.clone()), options);
    assert_eq!(relay.step().await.expect("stepped").published, 1, "one, whatever its size");
    assert!(log.written().iter().all(|event| event.payload.len() > 10_000), "payloads are read");
}

/// C4: one partition has no leader. Its keys wait, without a row for each of them, and every later step publishes all
/// others, and waits for none of its keys; they follow when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_a_leader_does_not_hold_up_the_others() {
    let (api, store, _) = scene(Books::sqlite()).await;
    let mock = MockCluster::new(1).expect("a mock cluster");
    let name = format!("mocked.{}", bespeak_tests::unique());
    mock.create_topic(&name, 12, 1).expect("a topic");
    mock.partition_leader(&name, 5, None).expect("no leader");
    let options = Topic::named(&mock.bootstrap_servers(), &name).config();
    let publisher = Arc::new(KafkaPublisher::new(&options, "/test").expect("a publisher"));
    let relaying = RelayOptions { batch: 1_000, ..SMALL };
    let mut relay = Relay::new(store.clone(), publisher.clone(), relaying);
    let keys = |round: usize| (0..100).map(move |n| format!("key-{round}-{n}"));
    let mut waiting = HashSet::new();
    for round in 0..4 {
        for key in keys(round) {
            insert(&api.books, &key, 1..=1).await;
        }
        let step = relay.step().await.expect("stepped");
        assert_eq!((step.failed, step.outage.as_deref()), (0, None), "round {round}: no key is blocked");
        let left = api.books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await;
        waiting.insert(left);
        if round > 0 {
            assert!(step.claimed < 100, "round {round}: keys of that partition are not even read: {step:?}");
            assert!(
                step.claimed - step.published <= 1,
                "round {round}: at most one of them is tried: {step:?}"
            );
        }
    }
    assert!(waiting.iter().all(|left| (1..100).contains(left)), "some of each hundred wait: {waiting:?}");
    let away = keys(0).find(|key| !publisher.admits(key)).expect("one of them waits");
    mock.partition_leader(&name, 5, Some(1)).expect("a leader");
    let deadline = Instant::now() + PATIENCE;
    while store.backlog().await.expect("counted").unpublished > 0 {
        relay.step().await.expect("stepped");
        assert!(Instant::now() < deadline, "all are published once the partition is back");
    }
    assert!(publisher.admits(&away));
    assert_eq!(api.books.count("SELECT COUNT(*) FROM outbox_blocked").await, 0);
}

/// S6: an operator gives an event up while a relay notes its failure. Its key is not blocked for an event that counts
/// as published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skip_wins_over_a_failure_that_is_noted_meanwhile() {
    let (api, store, _) = scene(Books::mysql().await).await;
    insert(&api.books, "bad", 1..=1).await;
    let relay = uuid::Uuid::now_v7();
    let lease = store.lease(relay, None, SMALL.lease_for).await.expect("leased");
    let shards: Vec<u8> = (0..64).collect();
    let read = bespeak::store::OutboxRead::oldest(&shards, 10);
    let event = store.unpublished(&read).await.expect("read").events.remove(0);
    // The transaction of `skip`, before its commit.
    let mut skipping = api.books.customer().await.expect("connected");
    let sql = format!("START TRANSACTION; UPDATE outbox SET published_at = 1 WHERE id = {}", event.id);
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut skipping).await.expect("run");
    let blocked = bespeak::store::Blocked {
        id: event.id,
        key: event.key.clone(),
        shard: event.shard,
        event_id: event.event_id,
        attempts: 1,
        reason: "too large".to_owned(),
        retry_after: None,
    };
    let sent = bespeak::store::Sent { blocked: vec![blocked], ..Default::default() };
    let noting = tokio::spawn({
        let store = store.clone();
        async move { store.record_results(relay, lease.fencing, &sent).await }
    });
    bespeak_tests::until("it waits for the row, or has ended", async || {
        let waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
        noting.is_finished() || api.books.count(waits).await > 0
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut skipping).await.expect("run");
    noting.await.expect("no panic").expect("noted");
    assert_eq!(api.books.count("SELECT COUNT(*) FROM outbox_blocked").await, 0);
}
