//! Processes that are killed at each boundary, and relays that freeze: no event is lost, and each effect happens once.

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, Topic, each_store, until, until_within};

use super::{audited, keys, settings, settled, trade, way};

each_store!(a_crash_at_any_boundary_loses_nothing_embedded, a_crash_at_any_boundary_loses_nothing,);

async fn a_crash_at_any_boundary_loses_nothing_embedded(books: Books) {
    crash_at_each(books, false, &["relay.claimed", "relay.published"]).await;
}

async fn a_crash_at_any_boundary_loses_nothing(books: Books) {
    crash_at_each(books, true, &["relay.claimed", "relay.published", "consumer.applied"]).await;
}

/// Kills a server after the commit of the state, between publishing and marking, or between the commits of the inbox
/// and of the offset; then starts another server and audits.
async fn crash_at_each(books: Books, kafka: bool, points: &[&str]) {
    let (_topic, events) = way(kafka).await;
    let mut committed = Vec::new();
    for point in points {
        // Given a server that stops at a boundary, under load
        let stops = [("BESPEAK_TEST_FAILPOINT", *point)];
        let server = Server::start(&books, &settings(&events, &stops)).await;
        server.cars("car", 1_000).await;
        committed.extend(trade(&server, point, 30).await);
        server.reached(point).await;
        // When it is killed there, and another server starts
        server.kill();
        let server = Server::start(&books, &settings(&events, &[])).await;
        committed.extend(trade(&server, &format!("{point}-after"), 15).await);
        settled(&books, &events).await;
        // Then every event reached the log, in order, and took effect once
        audited(&books, &events).await;
        assert_eq!(keys(&books).await, i64::try_from(committed.len()).expect("few"), "{point}");
        for token in &committed {
            assert_eq!(server.show(token).await["smartKey"]["status"], "ISSUED", "{point}");
        }
        assert_eq!(server.stop().await, 0);
    }
    books.assert_consistent().await;
}

/// A consumer is killed before it commits its offsets: a thousand events are redelivered, and no key is issued twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redelivered_events_issue_no_key_twice() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[("BESPEAK_CONSUMER", "off")])).await;
    server.cars("car", 2_000).await;
    let mut tokens = Vec::new();
    for n in 0..500 {
        let token = server.hold(&n.to_string(), "car").await;
        server.act("commit", &token).await;
        tokens.push(token);
    }
    until("all is published", async || {
        books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await == 0
    })
    .await;
    assert_eq!((server.stop().await, keys(&books).await), (0, 0));
    let mut issued = Vec::new();
    for run in 0..2 {
        let stops = [("BESPEAK_TEST_FAILPOINT", "consumer.applied"), ("BESPEAK_RELAY", "off")];
        let server = Server::start(&books, &settings(&events, &stops)).await;
        server.reached("consumer.applied").await;
        if run == 0 {
            assert!(keys(&books).await > 0);
        }
        issued.push(server.show(&tokens[0]).await["smartKey"]["code"].clone());
        server.kill();
    }
    let server = Server::start(&books, &settings(&events, &[])).await;
    settled(&books, &events).await;
    until("all redelivered events are recognised", async || {
        server.metric("bespeak_consumer_events_total").await >= 1_000.0
    })
    .await;
    assert_eq!(keys(&books).await, 500);
    let code = server.show(&tokens[0]).await["smartKey"]["code"].clone();
    assert!(issued.iter().all(|earlier| earlier.is_null() || *earlier == code), "{issued:?} {code}");
    let audit = audited(&books, &events).await;
    assert_eq!(audit["records"], 1_000);
}

/// A query for the number of shards that each relay holds.
const HELD_BY: &str = "SELECT COUNT(*) FROM leases WHERE name LIKE 'relay/shard/%' AND owner IS NOT NULL
    GROUP BY owner ORDER BY 1";

/// A process is frozen past its lease with events in flight, and resumes after another process took its shards over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_frozen_past_its_lease_resumes_without_damage() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let first = Server::start(&books, &settings(&events, &[])).await;
    first.cars("car", 10_000).await;
    let second = Server::start(&books, &settings(&events, &[])).await;
    until_within(Duration::from_secs(20), "they share the shards", async || {
        books.integers(HELD_BY).await == [32, 32]
    })
    .await;
    let mut committed = trade(&first, "a", 30).await;
    first.signal("STOP");
    committed.extend(trade(&second, "b", 30).await);
    until_within(Duration::from_secs(40), "the second holds all shards", async || {
        books.integers(HELD_BY).await == [64]
    })
    .await;
    first.signal("CONT");
    committed.extend(trade(&second, "c", 30).await);
    committed.extend(trade(&first, "d", 30).await);
    settled(&books, &events).await;
    until_within(Duration::from_secs(20), "they share again", async || {
        books.integers(HELD_BY).await == [32, 32]
    })
    .await;
    audited(&books, &events).await;
    assert_eq!(keys(&books).await, i64::try_from(committed.len()).expect("few"));
}

/// The clock of one process is ten minutes ahead: leases and waits depend only on the clock of the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_a_wrong_clock_relays() {
    let books = Books::mysql().await;
    let right = Server::start(&books, &[]).await;
    right.cars("car", 1_000).await;
    let wrong = Server::start_with_wrong_clock(&books, Duration::from_secs(600)).await;
    let mut committed = trade(&wrong, "wrong", 30).await;
    committed.extend(trade(&right, "right", 30).await);
    settled(&books, "embedded:").await;
    assert_eq!(right.stop().await, 0);
    committed.extend(trade(&wrong, "alone", 30).await);
    settled(&books, "embedded:").await;
    audited(&books, "embedded:").await;
    assert_eq!(keys(&books).await, i64::try_from(committed.len()).expect("few"));
}

/// Random load with random crashes: in the end the log, the outbox and the keys agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_crashes_lose_and_repeat_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let points = ["relay.claimed", "relay.published", "consumer.applied", "none"];
    let mut committed = 0;
    for round in 0..4 {
        let point = points[random.usize(..points.len())];
        let server = Server::start(&books, &settings(&events, &[("BESPEAK_TEST_FAILPOINT", point)])).await;
        server.cars("car", 1_000).await;
        committed += trade(&server, &round.to_string(), random.usize(5..60)).await.len();
        server.kill();
    }
    let server = Server::start(&books, &settings(&events, &[])).await;
    settled(&books, &events).await;
    audited(&books, &events).await;
    assert_eq!(keys(&books).await, i64::try_from(committed).expect("few"));
    drop(server);
}
