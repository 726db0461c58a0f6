//! The commands of operators for events, `bespeak outbox` and `bespeak dlq`, as typed.

use std::time::Duration;

use bespeak::store::{DeadLetter, Guard};
use bespeak::{
    app::dead_letters,
    config::{Config, Values},
    envelope::{Origin, Record},
};
use bespeak_tests::{Books, Client, Output, Server, bespeak, each_store, until, until_within};
use serde_json::{Value, json};

use super::{keys, settings, settled, way};

each_store!(outbox_commands_list_retry_skip_and_replay, dlq_commands_list_show_replay_and_drop,);

/// The command line of an operator.
pub(super) struct Shell {
    pub(super) database: String,
    pub(super) events: String,
}

impl Shell {
    async fn run(&self, args: &[&str]) -> Output {
        let environment =
            [("BESPEAK_DATABASE_URL", self.database.as_str()), ("BESPEAK_EVENTS_URL", self.events.as_str())];
        bespeak(args, &environment).await
    }

    pub(super) async fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat()).await;
        assert_eq!(ran.code, 0, "{args:?} {ran:?}");
        ran.json()
    }
}

async fn outbox_commands_list_retry_skip_and_replay(books: Books) {
    let shell = Shell { database: books.url(), events: "embedded:".to_owned() };
    let server = Server::start(&books, &settings("embedded:", &[("BESPEAK_RELAY", "off")])).await;
    server.cars("car", 10).await;
    let (one, two) = (server.hold("1", "car").await, server.hold("2", "car").await);
    server.act("commit", &one).await;
    let listed = shell.json(&["outbox", "list"]).await;
    assert_eq!((&listed["unpublished"], listed["events"].as_array().map(Vec::len)), (&json!(3), Some(3)));
    let first = &listed["events"][0];
    let id = first["eventId"].as_str().expect("an id");
    assert_eq!(
        (&first["key"], &first["state"], &first["data"]["status"]),
        (&json!(one), &json!("waiting"), &json!("HELD"))
    );
    let shown = shell.run(&["outbox", "show", id]).await;
    assert!(
        shown.code == 0 && shown.out.contains(&one) && shown.out.contains("bespeak.reservation.held.v1"),
        "{shown:?}"
    );
    // Given a parked key
    books
        .tamper(&format!(
            "INSERT INTO outbox_blocked (event_key, event_id, blocked_until, attempts, parked, reason, updated_at)
            SELECT event_key, event_id, 0, 8, 1, 'too large', 0 FROM outbox
            WHERE event_key = '{one}' AND key_version = 1"
        ))
        .await;
    let parked = shell.json(&["outbox", "list", "--state", "parked"]).await;
    assert_eq!((parked["events"].as_array().map(Vec::len), &parked["parkedKeys"]), (Some(2), &json!(1)));
    assert_eq!(parked["events"][0]["reason"], "too large");
    let listed = shell.run(&["outbox", "list", "--key", &one]).await;
    assert!(listed.out.contains("parked") && !listed.out.contains(&two), "{listed:?}");
    let refused = shell.run(&["outbox", "retry", &two]).await;
    assert!(refused.code == 1 && refused.err.contains("neither blocked nor parked"), "{refused:?}");
    assert_eq!(shell.json(&["outbox", "retry", "--all"]).await["keys"], 1);
    let skipped = shell.run(&["outbox", "skip", id]).await;
    assert!(skipped.code == 0 && skipped.out.contains("is skipped"), "{skipped:?}");
    let again = shell.run(&["outbox", "skip", id]).await;
    assert!(again.code == 1 && again.err.contains("is already published"), "{again:?}");
    let unknown = shell.run(&["outbox", "show", "01890a5d-ac96-774b-bcce-b302099a8057"]).await;
    assert!(unknown.code == 1 && unknown.err.contains("is not in the outbox"), "{unknown:?}");
    assert_eq!(shell.run(&["outbox", "show", "7"]).await.code, 2);
    // With a relay, the other events are published, and published again on request.
    drop(server);
    let server = Server::start(&books, &settings("embedded:", &[])).await;
    settled_but(&books, 1).await;
    let since = ["outbox", "replay", "--since", "2020-01-01T00:00:00Z"];
    assert_eq!(shell.json(&since).await["events"], 2, "the skipped event stays skipped");
    until("replayed events are recognised", async || {
        server.metric("bespeak_consumer_events_total").await >= 4.0
    })
    .await;
    let wrong = shell.run(&[&since[..], &["--until", "2019-01-01T00:00:00Z"]].concat()).await;
    assert!(wrong.code == 2 && wrong.err.contains("must be after --since"), "{wrong:?}");
    assert_eq!(keys(&books).await, 1);
    assert_eq!(books.count("SELECT COUNT(*) FROM processed_events").await, 2);
    super::audited(&books, "embedded:").await;
}

/// Waits until all events are published, `skipped` of them without being applied.
async fn settled_but(books: &Books, skipped: i64) {
    until("all is published", async || {
        books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await == 0
    })
    .await;
    let applied = books.count("SELECT COUNT(*) FROM processed_events").await;
    assert_eq!(applied, books.count("SELECT COUNT(*) FROM outbox").await - skipped);
}

/// I9, I10: dead letters are listed, shown, replayed and dropped. A `committed` event that is replayed after its
/// `cancelled` event was applied issues no key.
async fn dlq_commands_list_show_replay_and_drop(books: Books) {
    for kafka in [false, true] {
        let books = books.another().await;
        let (topic, events) = way(kafka).await;
        let shell = Shell { database: books.url(), events: events.clone() };
        let server = Server::start(&books, &settings(&events, &[])).await;
        server.cars("car", 10).await;
        let token = server.hold("1", "car").await;
        server.act("commit", &token).await;
        settled(&books, &events).await;
        // The books now look as if the commit could not be applied and the cancel could.
        let at = books.count("SELECT COUNT(*) FROM outbox WHERE key_version = 2").await;
        assert_eq!(at, 1);
        let row = shell.json(&["outbox", "list", "--key", &token]).await["events"][1].clone();
        books.tamper("DELETE FROM processed_events").await;
        books.tamper("DELETE FROM smart_keys").await;
        server.act("cancel", &token).await;
        until_within(Duration::from_secs(20), "the cancel is applied", async || {
            books.count("SELECT COUNT(*) FROM smart_keys WHERE version = 3").await == 1
        })
        .await;
        let source = topic.as_ref().map_or("outbox", |topic| topic.name());
        keep(&books, &events, &[letter(&row, source), poison(source)]).await;

        let listed = shell.json(&["dlq", "list"]).await;
        let [first, second] = listed.as_array().expect("a list").as_slice() else { panic!("{listed}") };
        assert_eq!(
            (&first["reason"], &first["key"], &first["topic"]),
            (&json!("a defect"), &json!(token), &json!(source))
        );
        let (good, bad) = (first["id"].as_str().expect("an id"), second["id"].as_str().expect("an id"));
        let shown = shell.run(&["dlq", "show", good]).await;
        assert!(
            shown.code == 0 && shown.out.contains("ce_type: bespeak.reservation.committed.v1"),
            "{shown:?}"
        );
        assert_eq!(shell.json(&["dlq", "replay", good]).await["replayed"], json!([good]));
        until_within(Duration::from_secs(20), "the late event is recognised", async || {
            books.count("SELECT COUNT(*) FROM processed_events").await == 2
        })
        .await;
        assert_eq!(keys(&books).await, 0, "a cancelled reservation has no valid key");
        let again = shell.run(&["dlq", "replay", good]).await;
        assert!(
            again.code == 1 && again.err.contains(&format!("there is no dead letter {good}")),
            "{again:?}"
        );
        // A record that still cannot be applied becomes a dead letter again.
        shell.json(&["dlq", "replay", "--all"]).await;
        let lists = async || shell.json(&["dlq", "list"]).await;
        until_within(Duration::from_secs(20), "it is a dead letter again", async || {
            lists().await.as_array().map(Vec::len) == Some(1)
        })
        .await;
        let left = lists().await;
        let id = left[0]["id"].as_str().expect("an id");
        assert_ne!(id, bad);
        assert!(
            left[0]["reason"].as_str().expect("a reason").contains("ce_specversion is missing"),
            "{left}"
        );
        assert_eq!(shell.json(&["dlq", "drop", id]).await["dropped"], id);
        assert_eq!(lists().await, json!([]));
        assert_eq!(shell.run(&["dlq", "show", "seven"]).await.code, 2);
    }
}

/// A dead letter with a valid event.
pub(super) fn letter(row: &Value, topic: &str) -> DeadLetter {
    let text = |field: &str| row[field].as_str().expect("text").as_bytes().to_vec();
    let header = |name: &str, value: Vec<u8>| (name.to_owned(), value);
    let headers = vec![
        header("ce_specversion", b"1.0".to_vec()),
        header("ce_id", text("eventId")),
        header("ce_source", b"/bespeak".to_vec()),
        header("ce_type", text("type")),
        header("ce_time", text("createdAt")),
        header("ce_keyversion", row["version"].to_string().into_bytes()),
    ];
    let record = Record {
        key: Some(text("key")),
        headers,
        value: Some(row["data"].to_string().into_bytes()),
        origin: Origin { topic: topic.into(), partition: 0, offset: 0 },
    };
    DeadLetter { record, reason: "a defect".to_owned(), attempts: 1 }
}

/// A dead letter with an invalid record.
fn poison(topic: &str) -> DeadLetter {
    let origin = Origin { topic: topic.into(), partition: 0, offset: 1 };
    let record = Record { key: None, headers: Vec::new(), value: Some(b"{}".to_vec()), origin };
    DeadLetter { record, reason: "no event".to_owned(), attempts: 1 }
}

pub(super) async fn keep(books: &Books, events: &str, letters: &[DeadLetter]) {
    let (url, events) = (books.url(), events.to_owned());
    let values = Values::collect(
        |asked| match asked {
            "BESPEAK_DATABASE_URL" => Some(url.clone()),
            "BESPEAK_EVENTS_URL" => Some(events.clone()),
            _ => None,
        },
        |_| None,
    );
    let config = Config::parse(&values).expect("valid settings");
    let store = books.open(None, Guard::RowLock).await;
    dead_letters(&config, &store).expect("letters").keep(letters).await.expect("kept");
    store.close().await;
}
