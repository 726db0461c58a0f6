//! `bespeak verify --events` finds every kind of loss, also behind the consumer, and reports nothing that is right.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
    time::Duration,
};

use bespeak::store::Guard;
use bespeak_tests::{Books, Client, Server, Topic, bespeak, clean_program, each_store, until, until_within};

use super::{
    operators::{Shell, keep, letter},
    settings, settled,
};

each_store!(
    an_audit_finds_damage_behind_the_consumer,
    a_dropped_dead_letter_is_not_reported,
    events_that_were_published_again_are_purged_in_their_order,
);

/// The findings of `bespeak verify --events`, as one line of text, and the exit code.
async fn found(books: &Books, events: &str) -> (i32, String) {
    let url = books.url();
    let environment = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_EVENTS_URL", events)];
    let ran = bespeak(&["verify", "--events", "--json"], &environment).await;
    assert!(ran.code == 0 || ran.code == 1, "{ran:?}");
    (ran.code, ran.out)
}

/// C2: a consumer has committed an offset behind an event that it did not apply. The event is a finding, and so is the
/// key that it did not issue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_consumer_passed_over_is_found() {
    let books = Books::mysql().await;
    let topic = Topic::new().await;
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[])).await;
    server.cars("car", 10).await;
    let token = server.hold("1", "car").await;
    server.act("commit", &token).await;
    settled(&books, &events).await;
    assert_eq!(server.stop().await, 0);
    assert_eq!(found(&books, &events).await.0, 0, "all is well");
    books.tamper("DELETE FROM processed_events").await;
    books.tamper("DELETE FROM smart_keys").await;
    books.expect_damage();
    let (code, out) = found(&books, &events).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("was passed over") && out.contains("has no SmartKey that is valid"), "{out}");
    // The same events are no finding while the consumer has not reached them.
    let environment = settings(&events, &[("BESPEAK_CONSUMER_GROUP", "another")]);
    let url = books.url();
    let environment = [&environment[..], &[("BESPEAK_DATABASE_URL", url.as_str())]].concat();
    let ran = bespeak(&["verify", "--events", "--json"], &environment).await;
    assert_eq!((ran.code, &ran.json()["wayOfEvents"]["unconsumed"]), (0, &2.into()), "{ran:?}");
}

/// C8: an event whose row has a lower id than those that the audit has read becomes visible while it runs, and reaches
/// the log. It is not reported as one that was never written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_becomes_visible_during_the_audit_is_not_reported() {
    let books = Books::mysql().await;
    // Its event has no reservation.
    books.expect_damage();
    let topic = Topic::new().await;
    let events = topic.url();
    let server = Server::start(&books, &settings(&events, &[])).await;
    server.stock("seat", 10).await;
    let mut late = books.customer().await.expect("connected");
    let insert = "START TRANSACTION;
        INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at)
        VALUES (UNHEX(REPLACE(UUID(), '-', '')), 3, 'late', 1, 't', '{}', 1)";
    sqlx::raw_sql(insert).execute(&mut late).await.expect("run");
    server.hold("1", "seat").await;
    settled(&books, &events).await;
    let folder = tempfile::tempdir().expect("a folder");
    let go = folder.path().join("go");
    let mut audit = clean_program("bespeak")
        .args(["verify", "--events", "--json"])
        .env("BESPEAK_DATABASE_URL", books.url())
        .env("BESPEAK_EVENTS_URL", &events)
        .env("BESPEAK_CONSUMER_GROUP", topic.name())
        .env("BESPEAK_TEST_FAILPOINT", "audit.outbox_read")
        .env("BESPEAK_TEST_FAILPOINT_UNTIL", &go)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = BufReader::new(audit.stderr.take().expect("piped"));
    let said = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains("reached") && said.read_line(&mut line).expect("text") > 0 {}
        (line, said)
    });
    let (line, _said) = said.await.expect("no panic");
    assert!(line.contains("audit.outbox_read reached"), "{line}");
    sqlx::raw_sql("COMMIT").execute(&mut late).await.expect("run");
    until_within(Duration::from_secs(30), "it is in the log", async || topic.read().await.len() == 2).await;
    std::fs::write(&go, "").expect("written");
    let out = tokio::task::spawn_blocking(move || {
        let mut out = String::new();
        audit.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        audit.wait().expect("it ends");
        out
    });
    let out = out.await.expect("no panic");
    assert!(out.contains("\"records\": 2") && !out.contains("was never in the outbox"), "{out}");
}

/// I6, I9, I10: holds that ended at the wrong time, keys that are blocked for nothing, webhooks without a delivery.
async fn an_audit_finds_damage_behind_the_consumer(books: Books) {
    let hook = [
        ("BESPEAK_WEBHOOK_URL", "http://127.0.0.1:65535/"),
        ("BESPEAK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true"),
    ];
    let server = Server::start(&books, &settings("embedded:", &hook)).await;
    server.stock("seat", 10).await;
    let (one, two) = (server.hold("1", "seat").await, server.hold("2", "seat").await);
    server.act("commit", &one).await;
    let brief = serde_json::json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1});
    server.submit("/api/v1/reserve", "3", &brief).await;
    until_within(Duration::from_secs(30), "it expires", async || {
        books.count("SELECT COUNT(*) FROM reservations WHERE status = 'EXPIRED'").await == 1
    })
    .await;
    settled(&books, "embedded:").await;
    assert_eq!(server.stop().await, 0);
    books.tamper("UPDATE webhook_endpoints SET updated_at = 1").await;
    let (code, out) = found(&books, "embedded:").await;
    assert_eq!(code, 0, "{out}");
    books.expect_damage();
    books.tamper("UPDATE reservations SET expires_at = updated_at + 1 WHERE status = 'EXPIRED'").await;
    books.tamper("UPDATE reservations SET expires_at = updated_at WHERE status = 'COMMITTED'").await;
    books
        .tamper(&format!(
            "INSERT INTO outbox_blocked (event_key, event_id, blocked_until, attempts, parked, reason, updated_at)
            SELECT event_key, event_id, 0, 8, 1, 'too large', 0 FROM outbox WHERE event_key = '{two}'"
        ))
        .await;
    books.tamper("DELETE FROM webhook_deliveries WHERE type = 'bespeak.reservation.committed.v1'").await;
    let (code, out) = found(&books, "embedded:").await;
    assert_eq!(code, 1, "{out}");
    for finding in [
        "expired before its time",
        "was committed when its time was over",
        "which does not await publication",
        "has no delivery of it",
    ] {
        assert_eq!(out.matches(finding).count(), 1, "{finding}: {out}");
    }
}

/// C16: an operator drops a dead letter. Its event was given up, and is no finding.
async fn a_dropped_dead_letter_is_not_reported(books: Books) {
    for kafka in [false, true] {
        let books = books.another().await;
        let (topic, events) = super::way(kafka).await;
        let shell = Shell { database: books.url(), events: events.clone() };
        let server = Server::start(&books, &settings(&events, &[])).await;
        server.stock("seat", 10).await;
        let token = server.hold("1", "seat").await;
        server.act("commit", &token).await;
        settled(&books, &events).await;
        assert_eq!(server.stop().await, 0);
        // The books now look as if the commit could not be applied.
        let row = shell.json(&["outbox", "list", "--key", &token]).await["events"][1].clone();
        let id = row["eventId"].as_str().expect("an id").replace('-', "");
        books.tamper(&format!("DELETE FROM processed_events WHERE event_id = x'{id}'")).await;
        let source = topic.as_ref().map_or("outbox", |topic| topic.name());
        let unexplained = found(&books, &events).await;
        assert_eq!(unexplained.0, 1, "{}", unexplained.1);
        keep(&books, &events, &[letter(&row, source)]).await;
        let waits = found(&books, &events).await;
        assert_eq!(waits.0, 0, "it awaits an operator: {}", waits.1);
        let listed = shell.json(&["dlq", "list"]).await;
        shell.json(&["dlq", "drop", listed[0]["id"].as_str().expect("an id")]).await;
        let dropped = found(&books, &events).await;
        assert_eq!(dropped.0, 0, "it is given up: {}", dropped.1);
    }
}

/// C15: events of a time range are published again. They keep the instant of their first publication, so no event is
/// purged before an earlier one of its key, and `verify` reports nothing in between.
async fn events_that_were_published_again_are_purged_in_their_order(books: Books) {
    let server = Server::start(&books, &[]).await;
    server.stock("seat", 10).await;
    let token = server.hold("1", "seat").await;
    until("the clock moves on", async || {
        server.act("commit", &token).await;
        books.count("SELECT COUNT(DISTINCT created_at) FROM outbox").await == 2
    })
    .await;
    settled(&books, "embedded:").await;
    assert_eq!(server.stop().await, 0);
    let days = |days: i64| Duration::from_secs(days.unsigned_abs() * 24 * 3_600);
    let early = days(2).as_micros();
    let earlier = |columns: &[&str]| {
        columns.iter().map(|column| format!("{column} = {column} - {early}")).collect::<Vec<_>>().join(", ")
    };
    let (of_events, of_books) =
        (earlier(&["published_at", "created_at"]), earlier(&["created_at", "updated_at", "expires_at"]));
    books.tamper(&format!("UPDATE outbox SET {of_events}")).await;
    books.tamper(&format!("UPDATE reservations SET {of_books}")).await;
    let shell = Shell { database: books.url(), events: "embedded:".to_owned() };
    let rows = shell.json(&["outbox", "list", "--key", &token]).await["events"].clone();
    let at = |n: usize| rows[n]["createdAt"].as_str().expect("a time").to_owned();
    let replay = ["outbox", "replay", "--since", &at(0), "--until", &at(1)];
    assert_eq!(shell.json(&replay).await["events"], 1, "only the first");
    // While it waits, the second is purged. That is no finding, and neither is the first once it is published again.
    let store = books.open(None, Guard::RowLock).await;
    assert_eq!(store.purge_events(days(1), 10).await.expect("purged").deleted, 1);
    assert_eq!(found(&books, "embedded:").await.0, 0);
    let server = Server::start(&books, &[]).await;
    until("it is published again", async || {
        books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await == 0
    })
    .await;
    assert_eq!(server.stop().await, 0);
    let (code, out) = found(&books, "embedded:").await;
    assert_eq!(code, 0, "{out}");
    // The server that published it may have purged it already.
    store.purge_events(days(1), 10).await.expect("purged");
    assert_eq!(books.count("SELECT COUNT(*) FROM outbox").await, 0);
}
