//! The event pipeline: relays, the event log, consumers, and the commands of operators.

mod auditing;
mod broker;
mod consumer;
mod crashes;
mod crowding;
mod log;
mod operators;
mod relay;
mod settling;
mod webhooks;

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, Topic, bespeak, until_within};
use serde_json::Value;

/// The environment of servers and commands on this topic.
fn settings<'a>(events: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("BESPEAK_EVENTS_URL", events)], more].concat()
}

/// Waits until every event is published and applied.
async fn settled(books: &Books, events: &str) {
    const UNPUBLISHED: &str = "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL";
    const UNCONSUMED: &str = "SELECT COUNT(*) FROM outbox o LEFT JOIN processed_events p
        ON p.event_id = o.event_id WHERE p.event_id IS NULL";
    let _ = events;
    until_within(Duration::from_secs(60), "every event is published and applied", async || {
        books.count(UNPUBLISHED).await == 0 && books.count(UNCONSUMED).await == 0
    })
    .await;
}

/// Audits the event pipeline by the command of operators; returns its report.
async fn audited(books: &Books, events: &str) -> Value {
    let url = books.url();
    let environment = [("BESPEAK_DATABASE_URL", url.as_str()), ("BESPEAK_EVENTS_URL", events)];
    let ran = bespeak(&["verify", "--events", "--json"], &environment).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    ran.json()["wayOfEvents"].clone()
}

/// Makes holds: commits two of three, cancels one of these two, and returns the tokens of those that stay committed.
async fn trade(server: &Server, name: &str, holds: usize) -> Vec<String> {
    let mut committed = Vec::new();
    for n in 0..holds {
        let token = server.hold(&format!("{name}-{n}"), "car").await;
        if n % 3 < 2 {
            server.act("commit", &token).await;
        }
        if n % 3 == 1 {
            server.act("cancel", &token).await;
        } else if n % 3 == 0 {
            committed.push(token);
        }
    }
    committed
}

/// The number of valid SmartKeys.
async fn keys(books: &Books) -> i64 {
    books.count("SELECT COUNT(*) FROM smart_keys WHERE code IS NOT NULL AND revoked_at IS NULL").await
}

/// The URL of a topic of its own, or of the embedded event log.
async fn way(kafka: bool) -> (Option<Topic>, String) {
    if kafka {
        let topic = Topic::new().await;
        let url = topic.url();
        (Some(topic), url)
    } else {
        (None, "embedded:".to_owned())
    }
}
