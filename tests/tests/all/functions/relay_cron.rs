//! The function `relay-cron`: the work of one invocation, and that no work continues after its answer.

use std::time::{Duration, Instant};

use bespeak_services::Kafka;
use bespeak_tests::{Behaviour, Books, Client, Gateway, Lambda, Receiver, TIME, Topic, sample, until_within};
use serde_json::{Value, json};

use super::{open_transactions, sessions};

async fn unpublished(books: &Books) -> i64 {
    books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await
}

/// The number of leases that are still in force.
/// The leases that are held; the mark of a complete purge is none.
async fn leases(books: &Books) -> i64 {
    const HELD: &str = "SELECT COUNT(*) FROM leases
        WHERE owner IS NOT NULL AND expires_at > UNIX_TIMESTAMP(NOW(6)) * 1000000
        AND name <> 'lock/purge/done'";
    books.count(HELD).await
}

/// Books with a sold-out car and five committed reservations: eleven events.
async fn traded(books: &Books) -> Lambda {
    let reserve = Lambda::start("reserve", books, &[]).await;
    reserve.cars("car", 5).await;
    for n in 0..5 {
        let token = reserve.hold(&format!("k{n}"), "car").await;
        reserve.act("commit", &token).await;
    }
    assert_eq!(unpublished(books).await, 11);
    reserve
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_invocation_expires_publishes_delivers_and_purges() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let reserve = traded(&books).await;
    // Given an overdue hold
    reserve.cars("bike", 1).await;
    reserve.hold("overdue", "bike").await;
    books.tamper("UPDATE reservations SET expires_at = created_at + 1 WHERE resource_id = 'bike'").await;
    let settings = [
        ("BESPEAK_EVENTS_URL", &*topic.url()),
        ("BESPEAK_WEBHOOK_URL", &receiver.url()),
        ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true"),
        ("BESPEAK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ];
    let cron = Lambda::start("relay-cron", &books, &settings).await;
    // When all tasks are requested
    let summary = cron.call(&sample("relay-cron-all")).await.expect("done");
    // Then the report counts the work of each
    assert_eq!((&summary["task"], &summary["expired"]), (&json!("all"), &json!(1)), "{summary}");
    let published = summary["relayed"]["published"].as_u64().expect("a number");
    let rest = cron.call(&sample("relay-cron-relay")).await.expect("done");
    let total = published + rest["relayed"]["published"].as_u64().expect("a number");
    assert_eq!(
        total, 15,
        "11 events, and held, depleted, expired and restored of the bike; {summary} {rest}"
    );
    assert_eq!(rest["unpublished"], 0, "{rest}");
    assert_eq!(topic.read().await.len(), 15);
    // And no transaction is open, and no lease is held
    assert_eq!((open_transactions(&books).await, leases(&books).await), (0, 0));
    assert!(sessions(&books).await <= 2 + 6, "the sessions of `reserve` and of `relay-cron`");
    // When the consumer has enqueued deliveries, the next invocation delivers them
    let mapping = bespeak_event_source::Mapping::default();
    let consumer = Lambda::start("consumer", &books, &settings).await;
    let mut source =
        bespeak_event_source::EventSource::start(topic.bootstrap(), topic.name(), "functions", mapping).await;
    let mut seen = 0;
    while seen < 15 {
        seen += source.deliver(&consumer).await.records;
    }
    let summary = cron.call(&sample("relay-cron-webhooks")).await.expect("done");
    assert_eq!(summary["webhooks"]["delivered"], 15, "{summary}");
    assert_eq!(receiver.messages().len(), 15);
    // When the task purge is requested, old events are deleted. The books are damaged on purpose: events that are older
    // than their reservations.
    books.expect_damage();
    books
        .tamper(
            "UPDATE outbox SET published_at = published_at - 2592000000000, created_at = created_at - 2592000000000",
        )
        .await;
    let summary = cron.call(&sample("relay-cron-purge")).await.expect("done");
    assert_eq!(summary["purged"], 15, "{summary}");
    assert_eq!(books.count("SELECT COUNT(*) FROM outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_invocation_runs_until_shortly_before_its_deadline() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let reserve = traded(&books).await;
    let cron = Lambda::start("relay-cron", &books, &[("BESPEAK_EVENTS_URL", &topic.url())]).await;
    let time = Duration::from_secs(20);
    let started = Instant::now();
    let invocation = cron.begin(sample("relay-cron-schedule").to_string(), time);
    // While it runs, it publishes new events
    until_within(TIME, "it publishes", async || unpublished(&books).await == 0).await;
    reserve.cars("late", 5).await;
    reserve.hold("late", "late").await;
    until_within(TIME, "it publishes", async || unpublished(&books).await == 0).await;
    assert!(leases(&books).await > 0, "the invocation still runs");
    let summary: Value =
        serde_json::from_slice(&cron.end(invocation, time).await.expect("done")).expect("JSON");
    // Shortly before its deadline it answers, and has given up its leases
    assert!(started.elapsed() >= Duration::from_secs(5), "{summary}");
    assert_eq!(summary["relayed"]["published"], 12, "{summary}");
    assert_eq!((open_transactions(&books).await, leases(&books).await), (0, 0));
    // An event that is written now waits for the next invocation
    reserve.hold("later", "late").await;
    assert_eq!(unpublished(&books).await, 1);
    let summary = cron.call(&sample("relay-cron-all")).await.expect("done");
    assert_eq!(summary["relayed"]["published"], 1, "{summary}");
    assert!(cron.log().iter().any(|line| line.contains("relay-cron is done")), "{:?}", cron.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_with_little_time_answers_in_time() {
    let books = Books::mysql().await;
    traded(&books).await;
    let topic = Topic::new().await;
    let cron = Lambda::start("relay-cron", &books, &[("BESPEAK_EVENTS_URL", &topic.url())]).await;
    for task in ["relay-cron-schedule", "relay-cron-all", "relay-cron-relay"] {
        let started = Instant::now();
        let ended = cron.call_within(&sample(task), Duration::from_millis(200)).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{task}: {ended:?}");
        if let Err(failed) = ended {
            assert_eq!(failed.kind, "Bespeak.ChoreFailed", "{task}: {failed:?}");
        }
    }
    // The leases of the interrupted invocations expire
    until_within(Duration::from_secs(40), "it publishes", async || {
        cron.call(&sample("relay-cron-relay")).await.expect("done");
        unpublished(&books).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_or_silent_broker_fails_the_invocation_in_time() {
    const OVERDUE: &str = "SELECT COUNT(*) FROM reservations
        WHERE status = 'HELD' AND expires_at < UNIX_TIMESTAMP(NOW(6)) * 1000000";
    let books = Books::mysql().await;
    let (mut broker, switch) = Kafka::start_own_behind_switch().await.expect("a broker");
    let topic = Topic::on(&broker);
    let reserve = traded(&books).await;
    reserve.cars("bike", 1).await;
    reserve.cars("car-2", 1).await;
    reserve.hold_for("overdue", "bike", 1).await;
    let cron = Lambda::start("relay-cron", &books, &[("BESPEAK_EVENTS_URL", &topic.url())]).await;
    // If no broker answers at cold start, the invocation fails, and the other tasks are done
    switch.turn_off();
    until_within(TIME, "the hold is overdue", async || books.count(OVERDUE).await == 1).await;
    let failed = cron.call(&sample("relay-cron-all")).await.expect_err("no broker");
    assert!(failed.message.contains("relay: ") && failed.message.contains(r#"\"expired\":1"#), "{failed:?}");
    // When the broker is back, everything is published
    switch.turn_on().expect("opened");
    until_within(Duration::from_secs(60), "it publishes", async || {
        cron.call(&sample("relay-cron-relay")).await.is_ok() && unpublished(&books).await == 0
    })
    .await;
    let before = topic.read().await.len();
    // If the broker falls silent, the invocation returns before its deadline and holds no lease
    reserve.hold("silent", "car-2").await;
    broker.freeze().await.expect("frozen");
    let time = Duration::from_secs(8);
    let started = Instant::now();
    let failed = cron.call_within(&sample("relay-cron-relay"), time).await.expect_err("silent");
    assert!(started.elapsed() < time + Duration::from_secs(2), "{failed:?}");
    let gave_up = failed.message.contains("took too long and was cut off") && leases(&books).await == 0;
    assert!(gave_up || failed.message.contains("cut off shortly before the deadline"), "{failed:?}");
    assert_eq!(open_transactions(&books).await, 0);
    // When the broker answers again, the next invocation publishes, and no event is lost
    broker.thaw().await.expect("thawed");
    until_within(Duration::from_secs(60), "it publishes", async || {
        cron.call(&sample("relay-cron-relay")).await.is_ok() && unpublished(&books).await == 0
    })
    .await;
    assert!(topic.read().await.len() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_applied_in_process_without_an_event_log() {
    let books = Books::mysql().await;
    let reserve = traded(&books).await;
    let cron = Lambda::start("relay-cron", &books, &[]).await;
    let summary = cron.call(&sample("relay-cron-relay")).await.expect("done");
    assert_eq!(summary["relayed"]["published"], 11, "{summary}");
    assert_eq!(books.count("SELECT COUNT(*) FROM smart_keys WHERE code IS NOT NULL").await, 5);
    // After a freeze during which the database closed its connections, the function still works
    cron.freeze().expect("frozen");
    books.cut_all().await;
    cron.thaw().expect("thawed");
    reserve.cars("next", 1).await;
    reserve.hold("next", "next").await;
    let summary = cron.call(&sample("relay-cron-relay")).await.expect("done");
    assert_eq!(summary["relayed"]["published"], 2, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_request_or_a_panic_fails_only_its_own_invocation() {
    let books = Books::mysql().await;
    traded(&books).await;
    let cron =
        Lambda::start("relay-cron", &books, &[("BESPEAK_TEST_FAILPOINT", "relay.claimed:panic")]).await;
    for event in ["", "{", "[]", "{}", "null", r#"{"task":"sell"}"#, r#"{"task":"all","until":"noon"}"#] {
        let failed = cron.invoke(event, TIME).await.expect_err(event);
        assert!(!failed.message.is_empty(), "{event}: {failed:?}");
    }
    for name in ["reserve-http-api", "consumer-msk", "consumer-sqs"] {
        let failed = cron.call(&sample(name)).await.expect_err(name);
        assert!(failed.message.contains("relay-cron takes"), "{name}: {failed:?}");
    }
    let failed = cron.call(&sample("relay-cron-relay")).await.expect_err("it panics");
    assert!(failed.message.contains("failpoint relay.claimed panics"), "{failed:?}");
    // The lease of the invocation that panicked expires
    until_within(Duration::from_secs(40), "it publishes", async || {
        cron.call(&sample("relay-cron-relay")).await.expect("done");
        unpublished(&books).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_fails_the_invocation_and_the_next_succeeds() {
    let mut server = bespeak_services::Mysql::start_own(&[]).await.expect("a server");
    let books = Books::on(&server).await;
    let reserve = traded(&books).await;
    server.kill().await.expect("killed");
    let cold = Lambda::start_at("relay-cron", &books.url(), &[]).await;
    let failed = cold.call(&sample("relay-cron-all")).await.expect_err("the database is away");
    assert_eq!(failed.kind, "Bespeak.ChoreFailed", "{failed:?}");
    server.restart().await.expect("restarted");
    until_within(Duration::from_secs(30), "it publishes", async || {
        cold.call(&sample("relay-cron-all")).await.is_ok() && unpublished(&books).await == 0
    })
    .await;
    assert_eq!(reserve.ask(Gateway::HttpApi, "GET", "/api/v1/resources/car", "", "").await.0, 200);
}
