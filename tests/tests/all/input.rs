//! What comes in is kept exactly, or refused: nothing that a client sends is accepted and silently altered.

use bespeak::{
    engine::{
        Command, IdempotencyKey, Item, Items, Limits, Metadata, Quantity, ReserveDraft, ResourceId, Token,
    },
    store::{CommitMode, Guard},
};
use bespeak_tests::{Api, Behaviour, Books, Client, Receiver, Reply, Server, each_store, until};
use http::Method;
use serde_json::json;
use uuid::Uuid;

each_store!(
    metadata_comes_back_as_it_was_sent,
    different_metadata_is_a_different_request,
    metadata_without_fields_is_the_same_request_as_none,
    a_retry_finds_the_reservation_that_version_0_2_made,
    events_and_webhooks_carry_metadata_as_it_was_sent,
    a_whole_number_may_have_a_fraction_of_zero,
    input_that_would_be_altered_is_refused,
);

const JSON: (&str, &str) = ("content-type", "application/json");

/// Values that JSON parsers like to change, in canonical form.
const VALUES: &str = concat!(
    r#"{"":"","a":117.63331139400017,"b":18446744073709551616,"c":1e400,"d":-0,"e":1.0,"f":1,"g":44442.0,"#,
    r#""h":-1e-99999999999999999999,"i":[[[[null,true,{}]]]],"j":"\u0000\u001f","#,
    r#""k":3.141592653589793238462643383279502884197,"l":9007199254740993,"m":"e\"\\"}"#
);

async fn reserve(api: &Api, key: &str, metadata: &str) -> Reply {
    let body = format!(r#"{{"resourceId":"seat","quantity":1,"ttlSeconds":60,"metadata":{metadata}}}"#);
    api.raw("/api/v1/reserve", &[JSON, ("idempotency-key", key)], body).await
}

async fn metadata_comes_back_as_it_was_sent(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 9).await;
    let made = reserve(&api, "k", VALUES).await;
    let has_metadata = |reply: &Reply| reply.text.contains(&format!(r#""metadata":{VALUES}"#));
    assert!(has_metadata(&made), "{}", made.text);
    // Not by the parser of the tests, which does not know 1e400.
    let token = made.text.split('"').nth(3).expect("a token").to_owned();
    for reply in [
        api.get(&format!("/api/v1/reservations/{token}")).await,
        reserve(&api, "k", VALUES).await,
        api.act("commit", &token).await,
        api.act("cancel", &token).await,
    ] {
        assert!(has_metadata(&reply), "{}", reply.text);
    }
    // Another spelling of the same values is the same request.
    let spelt = r#" { "c" : 1e400, "b":18446744073709551616 , "a":117.63331139400017,"":"" } "#;
    let first =
        reserve(&api, "spelt", r#"{"":"","a":117.63331139400017,"b":18446744073709551616,"c":1e400}"#);
    assert_eq!(first.await.status, 200);
    assert_eq!(reserve(&api, "spelt", spelt).await.header("idempotent-replayed"), "true");
}

async fn different_metadata_is_a_different_request(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 99).await;
    for (n, (one, other)) in [
        ("117.63331139400017", "117.63331139400016"),
        ("18446744073709551616", "18446744073709551617"),
        ("18446744073709551616", "1.8446744073709552e+19"),
        ("1e400", "1e401"),
        ("0", "-0"),
        ("1", "1.0"),
        ("1", "\"1\""),
        ("9007199254740993.0", "9007199254740992.0"),
        ("0.1", "0.1000000000000000055"),
        ("1e-400", "0.0"),
        ("null", "{}"),
        ("[1,2]", "[2,1]"),
    ]
    .into_iter()
    .enumerate()
    {
        for (order, (first, second)) in [(one, other), (other, one)].into_iter().enumerate() {
            let key = format!("{n}-{order}");
            let with = |value: &str| format!(r#"{{"n":{value}}}"#);
            let made = reserve(&api, &key, &with(first)).await;
            assert_eq!(made.status, 200, "{first}: {}", made.text);
            let refused = reserve(&api, &key, &with(second)).await;
            assert_eq!(refused.problem().1, "idempotency-key-reused", "{second} after {first}");
            let retry = reserve(&api, &key, &with(first)).await;
            assert_eq!(retry.header("idempotent-replayed"), "true", "{first}: {}", retry.text);
        }
    }
}

async fn metadata_without_fields_is_the_same_request_as_none(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 9).await;
    let none = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60});
    let mut empty = none.clone();
    empty["metadata"] = json!({});
    for (key, first, retry) in [("1", &none, &empty), ("2", &empty, &none), ("3", &empty, &empty)] {
        let made = api.reserve(key, first).await;
        assert_eq!(made.json()["metadata"], first["metadata"], "it comes back as it was sent");
        let again = api.reserve(key, retry).await;
        assert_eq!((again.header("idempotent-replayed"), again.json()), ("true", made.json()));
    }
}

/// A retry across an upgrade is not refused, although version 0.2 rounded numbers and distinguished `{}` from none.
async fn a_retry_finds_the_reservation_that_version_0_2_made(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 9).await;
    let store = api.books.open(None, Guard::RowLock).await;
    let limits = Limits::default();
    for (key, sent, stored) in [
        ("plain", r#"{"b":1.50,"a":"x"}"#, r#"{"a":"x","b":1.5}"#),
        ("rounded", r#"{"n":117.63331139400017}"#, r#"{"n":117.63331139400016}"#),
        ("large", r#"{"n":18446744073709551616}"#, r#"{"n":1.8446744073709552e+19}"#),
        ("empty", "{}", "{}"),
    ] {
        let item = Item {
            resource_id: ResourceId::new("resourceId", "seat").expect("valid"),
            quantity: Quantity::new("quantity", 1).expect("valid"),
        };
        let draft = ReserveDraft {
            items: Items::new(vec![item], &limits).expect("valid"),
            ttl: limits.ttl("ttlSeconds", Some(60)).expect("valid"),
            holder: None,
            metadata: Some(Metadata::from_canonical(stored.to_owned()).expect("JSON")),
            key: IdempotencyKey::new(key).expect("valid"),
        };
        let token = Token::from_uuid(Uuid::now_v7());
        let command = Command::Reserve(draft.with_token(token));
        store.execute(&[command], CommitMode::Commit).await.expect("executed");
        let retry = reserve(&api, key, sent).await;
        assert_eq!(retry.header("idempotent-replayed"), "true", "{key}: {}", retry.text);
        assert_eq!(retry.json()["token"], json!(token));
        let other = reserve(&api, key, r#"{"n":117.63331139400018}"#).await;
        assert_eq!(other.problem().1, "idempotency-key-reused", "{key}");
    }
}

async fn events_and_webhooks_carry_metadata_as_it_was_sent(books: Books) {
    let receiver = Receiver::start(Behaviour::status(204)).await;
    let server = Server::start(&books, &[("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true")]).await;
    server.stock("seat", 1).await;
    let endpoint = json!({"url": receiver.url(), "eventTypes": ["bespeak.reservation.held.v1"]});
    let (status, _) = server.request(Method::POST, "/api/v1/webhooks", "", &endpoint.to_string()).await;
    assert_eq!(status, 201);
    let body = format!(r#"{{"resourceId":"seat","quantity":1,"metadata":{VALUES}}}"#);
    let (status, _) = server.request(Method::POST, "/api/v1/reserve", "k", &body).await;
    assert_eq!(status, 200);
    until("the webhook arrives", || async { !receiver.messages().is_empty() }).await;
    let message = receiver.messages().remove(0).body;
    assert!(message.contains(&format!(r#""metadata":{VALUES}"#)), "{message}");
    let events = "SELECT COUNT(*) FROM outbox WHERE payload LIKE '%\"metadata\":{\"\":\"\",\"a\":117.63331139400017,\
        \"b\":18446744073709551616,\"c\":1e400,\"d\":-0,\"e\":1.0,\"f\":1,%'";
    assert_eq!(books.count(events).await, 1);
}

async fn a_whole_number_may_have_a_fraction_of_zero(books: Books) {
    let api = Api::start(books).await;
    let post = async |path: &str, body: &str| {
        let key = ("idempotency-key", "k");
        api.raw(path, &[JSON, key], body.to_owned()).await
    };
    let defined = post("/api/v1/resources", r#"{"resourceId":"seat","totalStock":44442.0}"#).await;
    assert_eq!(defined.json()["totalStock"], 44_442, "{}", defined.text);
    let most = post("/api/v1/resources", r#"{"resourceId":"most","totalStock":9007199254740991.0}"#).await;
    assert_eq!(most.json()["totalStock"], 9_007_199_254_740_991_u64, "{}", most.text);
    let made = post("/api/v1/reserve", r#"{"resourceId":"seat","quantity":2e0,"ttlSeconds":60.0}"#).await;
    assert_eq!(made.json()["quantity"], 2, "{}", made.text);
    let retry =
        post("/api/v1/reserve", r#"{"items":[{"resourceId":"seat","quantity":2}],"ttlSeconds":60}"#).await;
    assert_eq!(retry.header("idempotent-replayed"), "true", "{}", retry.text);
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    let extended = post("/api/v1/extend", &format!(r#"{{"token":"{token}","ttlSeconds":9e1}}"#)).await;
    assert_eq!(extended.status, 200, "{}", extended.text);
}

/// Bodies, and the field that is refused.
const ALTERED: &[(&str, &str, &str)] = &[
    ("/api/v1/reserve", "quantity", r#"{"resourceId":"seat","quantity":1.00000000000000000001}"#),
    ("/api/v1/reserve", "quantity", r#"{"resourceId":"seat","quantity":true}"#),
    ("/api/v1/reserve", "quantity", r#"{"resourceId":"seat","quantity":1e400}"#),
    ("/api/v1/reserve", "quantity", r#"{"resourceId":"seat","quantity":18446744073709551617}"#),
    ("/api/v1/reserve", "items[0].quantity", r#"{"items":[{"resourceId":"seat","quantity":0.5}]}"#),
    ("/api/v1/reserve", "ttlSeconds", r#"{"resourceId":"seat","quantity":1,"ttlSeconds":1.5}"#),
    ("/api/v1/reserve", "ttlSeconds", r#"{"resourceId":"seat","quantity":1,"ttlSeconds":4294967297}"#),
    ("/api/v1/reserve", "metadata", r#"{"resourceId":"seat","quantity":1,"metadata":{"a":1,"a":2}}"#),
    (
        "/api/v1/reserve",
        "metadata",
        r#"{"resourceId":"seat","quantity":1,"metadata":{"b":{"a":1,"\u0061":1}}}"#,
    ),
    ("/api/v1/reserve", "metadata", r#"{"resourceId":"seat","quantity":1,"metadata":{"a":"\ud800"}}"#),
    ("/api/v1/reserve", "metadata", r#"{"resourceId":"seat","quantity":1,"metadata":"text"}"#),
    ("/api/v1/reserve", "holder", r#"{"resourceId":"seat","quantity":1,"holder":"a\u0000b"}"#),
    ("/api/v1/reserve", "holder", r#"{"resourceId":"seat","quantity":1,"holder":1}"#),
    ("/api/v1/reserve", "resourceId", r#"{"resourceId":" seat","quantity":1}"#),
    ("/api/v1/reserve", "resourceId", r#"{"resourceId":"seat\n","quantity":1}"#),
    ("/api/v1/resources", "totalStock", r#"{"resourceId":"seat","totalStock":9007199254740993.0}"#),
    ("/api/v1/resources", "totalStock", r#"{"resourceId":"seat","totalStock":"7"}"#),
    ("/api/v1/resources", "totalStock", r#"{"resourceId":"seat","totalStock":null}"#),
    ("/api/v1/commit", "token", r#"{"token":"01890a5d-ac96-774b-bcce-b302099a8057 "}"#),
    ("/api/v1/commit", "token", r#"{"token":"{01890a5dac96774bbcceb302099a8057}"}"#),
];

async fn input_that_would_be_altered_is_refused(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 9).await;
    let field = |reply: Reply| {
        assert_eq!(reply.problem(), (422, "invalid-value".to_owned()), "{}", reply.text);
        reply.json()["field"].as_str().expect("a field").to_owned()
    };
    for (path, expected, body) in ALTERED {
        let reply = api.raw(path, &[JSON, ("idempotency-key", "k")], (*body).to_owned()).await;
        assert_eq!(field(reply), *expected, "{body}");
    }
    for url in
        [" https://a.example/", "https://a.example/x\ty", "https://a.ex\nample/", "https:\\\\a.example/"]
    {
        let reply = api.post("/api/v1/webhooks", &json!({"url": url})).await;
        assert_eq!(field(reply), "url", "{url:?}");
    }
    for (path, expected) in [
        ("/api/v1/resources?limit=1&limit=2", "limit"),
        ("/api/v1/resources?after=a&after=b", "after"),
        ("/api/v1/resources?limit=%2B5", "limit"),
        ("/api/v1/resources?limit=5.0", "limit"),
        ("/api/v1/resources?after=%ff", "after"),
        ("/api/v1/resources?after=a+b", "after"),
        ("/api/v1/webhooks?limit=1&limit=1", "limit"),
    ] {
        assert_eq!(field(api.get(path).await), expected, "{path}");
    }
    let twice = "/api/v1/resources/import?dryRun=true&dryRun=false";
    assert_eq!(field(api.raw(twice, &[("content-type", "text/csv")], "seat,1").await), "dryRun");
    assert_eq!(api.available("seat").await, 9, "nothing changed");
    assert_eq!(api.get("/api/v1/resources").await.json()["resources"].as_array().map(Vec::len), Some(1));
}
