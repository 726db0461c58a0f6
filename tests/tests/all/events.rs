//! The events that each change writes to the outbox.

use std::{collections::HashMap, time::Duration};

use bespeak::store::FixedClock;
use bespeak_tests::{Api, Books, Client, each_store};
use serde_json::{Value, json};

each_store!(each_change_writes_its_event,);

async fn each_change_writes_its_event(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    api.stock("seat", 2).await;
    api.stock("car", 5).await;
    let body = json!({
        "items": [{"resourceId": "seat", "quantity": 2}, {"resourceId": "car", "quantity": 1}],
        "ttlSeconds": 60, "holder": "ann", "metadata": {"b": 1, "a": [true, null]},
    });
    let first = api.reserve("1", &body).await.json()["token"].as_str().expect("a token").to_owned();
    api.post("/api/v1/extend", &json!({"token": first, "ttlSeconds": 90})).await;
    api.act("commit", &first).await;
    api.act("cancel", &first).await;
    let second = api.hold("2", "seat", 1).await;
    api.act("release", &second).await;
    api.hold("3", "seat", 2).await;
    clock.advance(Duration::from_secs(60));
    // The overdue hold expires on demand. Its units are sold at once, so there is no stock event.
    api.hold("4", "seat", 2).await;

    let mut names: HashMap<String, String> = HashMap::new();
    let events: Vec<Value> =
        api.books.events().await.into_iter().map(|event| named(event, &mut names)).collect();
    insta::assert_json_snapshot!("each_change_writes_its_event", events);
    api.books.assert_consistent().await;
}

/// Replaces each random token by a name for its place in the order of appearance.
fn named(mut event: Value, names: &mut HashMap<String, String>) -> Value {
    let Some(token) = event["payload"]["token"].as_str().map(str::to_owned) else { return event };
    let next = format!("TOKEN-{}", names.len() + 1);
    let name = names.entry(token).or_insert(next).clone();
    event["key"] = name.clone().into();
    event["payload"]["token"] = name.into();
    event
}
