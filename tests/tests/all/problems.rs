//! Invalid requests: each gets its status and problem body, and changes nothing.

use std::time::Duration;

use bespeak::store::FixedClock;
use bespeak_tests::{Api, Books, Client, Reply, each_store};
use http::{Method, Request};
use serde_json::{Value, json};

each_store!(
    invalid_reserve_requests_are_refused_by_field,
    bad_utf8_is_malformed,
    malformed_and_unknown_tokens_are_rejected,
    unknown_paths_methods_and_parameters_are_rejected,
    invalid_resource_definitions_are_rejected,
    a_command_on_an_ended_reservation_gets_how_it_ended,
    problem_bodies,
);

const JSON: (&str, &str) = ("content-type", "application/json");
const KEY: (&str, &str) = ("idempotency-key", "k");

/// The expected answer, the headers, and the body of a request.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Status, type and field of a problem, in one line.
fn summary(reply: &Reply) -> String {
    let (status, slug) = reply.problem();
    match reply.json()["field"].as_str() {
        Some(field) => format!("{status} {slug}: {field}"),
        None => format!("{status} {slug}"),
    }
}

/// Bodies of a reserve, each with the answer that it gets.
const BODIES: &[(&str, &str)] = &[
    ("400 malformed-body", "{"),
    ("400 malformed-body", ""),
    ("400 malformed-body", r#"{"resourceId":"seat","quantity":1} trailing"#),
    ("422 invalid-value: body", "[]"),
    ("422 invalid-value: body", r#"["seat",1,null,null,null,null]"#),
    ("422 invalid-value: items[0]", r#"{"items":[["seat",1]]}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat","quantity":"1"}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat","quantity":1.5}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat","quantity":-1}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat","quantity":0}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat","quantity":1000001}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat"}"#),
    ("422 invalid-value: quantity", r#"{"resourceId":"seat","quantity":1,"quantity":2}"#),
    ("422 invalid-value: resourceId", r#"{"quantity":1}"#),
    ("422 invalid-value: resourceId", r#"{"resourceId":"../seat","quantity":1}"#),
    ("422 invalid-value: resourceId", r#"{"resourceId":"se\u0000at","quantity":1}"#),
    ("422 invalid-value: ttlSecond", r#"{"resourceId":"seat","quantity":1,"ttlSecond":9}"#),
    ("422 invalid-value: ttlSeconds", r#"{"resourceId":"seat","quantity":1,"ttlSeconds":0}"#),
    ("422 invalid-value: ttlSeconds", r#"{"resourceId":"seat","quantity":1,"ttlSeconds":86401}"#),
    ("422 invalid-value: items", r#"{"resourceId":"seat","quantity":1,"items":[]}"#),
    ("422 invalid-value: items", r#"{"items":[]}"#),
    (
        "422 invalid-value: items[1].quantity",
        r#"{"items":[{"resourceId":"a","quantity":1},{"resourceId":"b"}]}"#,
    ),
    ("422 invalid-value: items[0].resourceId", r#"{"items":[{"resourceId":"a b","quantity":1}]}"#),
    ("422 invalid-value: items[0].colour", r#"{"items":[{"resourceId":"a","quantity":1,"colour":1}]}"#),
    ("422 invalid-value: holder", r#"{"resourceId":"seat","quantity":1,"holder":""}"#),
    ("422 invalid-value: metadata", r#"{"resourceId":"seat","quantity":1,"metadata":[1]}"#),
    ("404 resource-not-found", r#"{"resourceId":"nowhere","quantity":1}"#),
    ("409 out-of-stock", r#"{"resourceId":"seat","quantity":6}"#),
];

async fn invalid_reserve_requests_are_refused_by_field(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 5).await;
    let long_key = "k".repeat(300);
    let good = r#"{"resourceId":"seat","quantity":1}"#;
    let many = json!({"items": vec![json!({"resourceId": "seat", "quantity": 1}); 33]}).to_string();
    let big = json!({"resourceId": "seat", "quantity": 1, "metadata": {"a": "x".repeat(5_000)}}).to_string();
    let huge = "x".repeat(65 * 1024);
    let deep =
        format!(r#"{{"resourceId":"seat","quantity":1,"metadata":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let cases: &[Case<'_>] = &[
        ("422 invalid-value: metadata", &[JSON, KEY], &deep),
        ("422 invalid-value: items", &[JSON, KEY], &many),
        ("422 invalid-value: metadata", &[JSON, KEY], &big),
        ("400 idempotency-key-missing: Idempotency-Key", &[JSON], good),
        ("400 idempotency-key-malformed: Idempotency-Key", &[JSON, ("idempotency-key", &long_key)], good),
        ("400 idempotency-key-malformed: Idempotency-Key", &[JSON, ("idempotency-key", "")], good),
        ("400 idempotency-key-malformed: Idempotency-Key", &[JSON, ("idempotency-key", "\"open")], good),
        ("400 idempotency-key-malformed: Idempotency-Key", &[JSON, ("idempotency-key", "schlüssel")], good),
        ("400 idempotency-key-malformed: Idempotency-Key", &[JSON, KEY, KEY], good),
        ("415 unsupported-media-type: Content-Type", &[KEY], good),
        ("415 unsupported-media-type: Content-Type", &[("content-type", "text/plain"), KEY], good),
        ("413 body-too-large", &[JSON, KEY], &huge),
    ];
    let bodies = BODIES.iter().map(|(expected, body)| (*expected, &[JSON, KEY][..], *body));
    for (expected, headers, body) in bodies.chain(cases.iter().copied()) {
        let reply = api.raw("/api/v1/reserve", headers, body.to_owned()).await;
        assert_eq!(
            summary(&reply),
            expected,
            "{headers:?} {} -> {}",
            &body[..body.len().min(120)],
            reply.text
        );
        assert!(!reply.text.contains("sqlx") && !reply.text.contains("SELECT"), "{}", reply.text);
    }
    assert_eq!(api.available("seat").await, 5, "nothing changed");
    assert!(api.books.events().await.is_empty());
}

async fn bad_utf8_is_malformed(books: Books) {
    let api = Api::start(books).await;
    let reply =
        api.raw("/api/v1/reserve", &[JSON, KEY], b"{\"resourceId\":\"\xff\",\"quantity\":1}".to_vec()).await;
    assert_eq!(summary(&reply), "400 malformed-body");
}

async fn malformed_and_unknown_tokens_are_rejected(books: Books) {
    let api = Api::start(books).await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    for verb in ["commit", "release", "cancel"] {
        assert_eq!(summary(&api.act(verb, "not-a-uuid").await), "422 invalid-value: token", "{verb}");
        assert_eq!(summary(&api.act(verb, unknown).await), "404 reservation-not-found", "{verb}");
        let reply = api.raw(&format!("/api/v1/{verb}"), &[JSON], r#"{"tokens":1}"#).await;
        assert_eq!(summary(&reply), "422 invalid-value: tokens", "{verb}");
        let reply = api.raw(&format!("/api/v1/{verb}"), &[JSON], "{}").await;
        assert_eq!(summary(&reply), "422 invalid-value: token", "{verb}");
    }
    let extend = async |body: Value| summary(&api.post("/api/v1/extend", &body).await);
    assert_eq!(extend(json!({"token": unknown, "ttlSeconds": 5})).await, "404 reservation-not-found");
    assert_eq!(extend(json!({"token": unknown, "ttlSeconds": 0})).await, "422 invalid-value: ttlSeconds");
    assert_eq!(extend(json!({"token": unknown})).await, "422 invalid-value: ttlSeconds");
    assert_eq!(summary(&api.get("/api/v1/reservations/nonsense").await), "422 invalid-value: token");
    assert_eq!(
        summary(&api.get(&format!("/api/v1/reservations/{unknown}")).await),
        "404 reservation-not-found"
    );
}

async fn unknown_paths_methods_and_parameters_are_rejected(books: Books) {
    let api = Api::start(books).await;
    for (expected, path) in [
        ("404 not-found", "/api/v1/nothing"),
        ("404 not-found", "/api/v1/resources/a/b"),
        ("404 resource-not-found", "/api/v1/resources/a%2Fb"),
        ("422 invalid-value: resourceId", "/api/v1/resources/..%2F..%2Fetc%2Fpasswd"),
        ("422 invalid-value: resourceId", "/api/v1/resources/a%00b"),
        ("422 invalid-value: resourceId", "/api/v1/resources/%ff"),
        ("422 invalid-value: limit", "/api/v1/resources?limit=0"),
        ("422 invalid-value: limit", "/api/v1/resources?limit=many"),
        ("422 invalid-value: after", "/api/v1/resources?after=%20"),
        ("422 invalid-value: limt", "/api/v1/resources?limt=5"),
    ] {
        assert_eq!(summary(&api.get(path).await), expected, "{path}");
    }
    assert!(
        api.get("/api/v1/resources/a/b").await.text.contains("%2F"),
        "the detail explains how to write a slash"
    );
    let reply = api.get("/api/v1/reserve").await;
    assert_eq!((summary(&reply), reply.header("allow")), ("405 method-not-allowed".to_owned(), "POST"));
    let request =
        Request::builder().method(Method::DELETE).uri("/api/v1/resources/a").body(axum::body::Body::empty());
    assert_eq!(summary(&api.send(request.expect("a request")).await), "405 method-not-allowed");
}

async fn invalid_resource_definitions_are_rejected(books: Books) {
    let api = Api::start(books).await;
    for (expected, body) in [
        ("422 invalid-value: totalStock", json!({"resourceId": "a"})),
        ("422 invalid-value: totalStock", json!({"resourceId": "a", "totalStock": -1})),
        (
            "422 invalid-value: totalStock",
            json!({"resourceId": "a", "totalStock": 9_007_199_254_740_992_u64}),
        ),
        ("422 invalid-value: resourceId", json!({"resourceId": "", "totalStock": 1})),
        ("422 invalid-value: resourceId", json!({"resourceId": "a".repeat(129), "totalStock": 1})),
        ("422 invalid-value: fulfilment", json!({"resourceId": "a", "totalStock": 1, "fulfilment": "smart"})),
        ("422 invalid-value: total", json!({"resourceId": "a", "total": 1})),
    ] {
        assert_eq!(summary(&api.post("/api/v1/resources", &body).await), expected, "{body}");
    }
    assert_eq!(api.get("/api/v1/resources").await.json()["resources"], json!([]));
}

async fn a_command_on_an_ended_reservation_gets_how_it_ended(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    api.stock("seat", 9).await;
    let (committed, released, cancelled, held) = (
        api.hold("1", "seat", 1).await,
        api.hold("2", "seat", 1).await,
        api.hold("3", "seat", 1).await,
        api.hold("4", "seat", 1).await,
    );
    api.act("commit", &committed).await;
    api.act("release", &released).await;
    api.act("commit", &cancelled).await;
    api.act("cancel", &cancelled).await;
    let assert_refused = async |verb: &str, token: &str, expected: &str, status: &str| {
        let body = match verb {
            "extend" => json!({"token": token, "ttlSeconds": 60}),
            _ => json!({"token": token}),
        };
        let reply = api.post(&format!("/api/v1/{verb}"), &body).await;
        assert_eq!(summary(&reply), expected, "{verb}");
        assert_eq!(reply.json()["reservationStatus"], status, "{verb}: {expected}");
    };
    for verb in ["release", "extend"] {
        assert_refused(verb, &committed, "409 already-committed", "COMMITTED").await;
    }
    for verb in ["commit", "extend"] {
        assert_refused(verb, &released, "409 already-released", "RELEASED").await;
    }
    for verb in ["commit", "release", "extend"] {
        assert_refused(verb, &cancelled, "409 already-cancelled", "CANCELLED").await;
    }
    assert_refused("cancel", &held, "409 not-committed", "HELD").await;
    assert_refused("cancel", &released, "409 not-committed", "RELEASED").await;
    clock.advance(Duration::from_secs(60));
    for verb in ["commit", "release", "extend"] {
        assert_refused(verb, &held, "410 hold-expired", "EXPIRED").await;
    }
    assert_refused("cancel", &held, "409 not-committed", "EXPIRED").await;
}

async fn problem_bodies(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    api.stock("seat", 2).await;
    let held = api.hold("held", "seat", 1).await;
    let order = |quantity: u64| json!({"resourceId": "seat", "quantity": quantity, "ttlSeconds": 60});
    let mut seen = vec![
        api.reserve("new", &order(3)).await.json(),
        api.reserve("held", &order(2)).await.json(),
        api.reserve("new", &json!({"resourceId": "nowhere", "quantity": 1})).await.json(),
        api.reserve("new", &json!({"resourceId": "seat", "quantity": 0})).await.json(),
        api.reserve("new", &json!({"resourceId": "seat", "quantity": 1, "ttlSecond": 1})).await.json(),
        api.raw("/api/v1/reserve", &[JSON], "{}").await.json(),
        api.raw("/api/v1/reserve", &[JSON, KEY], "{").await.json(),
        api.raw("/api/v1/reserve", &[KEY], "{}").await.json(),
        api.post("/api/v1/resources", &json!({"resourceId": "seat", "totalStock": 0})).await.json(),
        api.act("cancel", &held).await.json(),
        api.act("commit", "01890a5d-ac96-774b-bcce-b302099a8057").await.json(),
        api.get("/nowhere").await.json(),
        api.get("/api/v1/reserve").await.json(),
    ];
    clock.advance(Duration::from_secs(60));
    seen.push(api.act("commit", &held).await.json());
    let mut ended = api.reserve("held", &order(1)).await.json();
    ended["reservation"]["token"] = "TOKEN".into();
    seen.push(ended);
    insta::assert_json_snapshot!("problem_bodies", seen);
}
