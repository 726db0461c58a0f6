//! `BESPEAK_COMPAT=openreserve`: what clients, probes and dashboards of OpenReserve do, as they do it.

use std::{collections::BTreeMap, time::Duration};

use bespeak::store::FixedClock;
use bespeak_tests::{
    Api, Behaviour, Books, Client, Receiver, Reply, Server, bespeak, each_store, until_within,
};
use http::Method;
use serde_json::{Value, json};

each_store!(
    the_calls_of_the_readme_are_answered,
    unknown_fields_are_ignored,
    a_hold_never_ends_before_its_expires_at,
    requests_are_timed_as_by_micrometer,
    without_the_setting_nothing_changes,
    its_receiver_is_told_of_every_give_back,
);

const COMPAT: (&str, &str) = ("BESPEAK_COMPAT", "openreserve");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn reserve(api: &Api, key: &str, body: &Value) -> Reply {
    api.raw("/api/v1/reserve", &[JSON, ("idempotency-key", key)], body.to_string()).await
}

/// The calls in the order of its README: define, reserve with a key, commit or release by token, look.
async fn the_calls_of_the_readme_are_answered(books: Books) {
    let api = Api::with(books, &[COMPAT], None).await;
    let defined = api.post("/api/v1/resources", &json!({"resourceId": "concert-a", "totalStock": 100})).await;
    assert_eq!(defined.status, 200, "{}", defined.text);
    let order = json!({"resourceId": "concert-a", "quantity": 2, "ttlSeconds": 300});
    let uuid = "0b9f5a6e-3f6c-4a55-9d0c-6f2d0a3c9e11";
    let held = reserve(&api, uuid, &order).await;
    assert_eq!(held.status, 200, "{}", held.text);
    let token = held.json()["token"].as_str().expect("a token").to_owned();
    assert!(held.json()["expiresAt"].is_string());
    let again = reserve(&api, uuid, &order).await;
    assert_eq!((again.status.as_u16(), &again.json()["token"]), (200, &json!(token)), "the same key");
    let committed = api.post("/api/v1/commit", &json!({"token": token})).await;
    assert_eq!((committed.status.as_u16(), &committed.json()["status"]), (200, &json!("COMMITTED")));
    let other = reserve(&api, "another", &order).await.json()["token"].clone();
    let released = api.post("/api/v1/release", &json!({"token": other})).await;
    assert_eq!((released.status.as_u16(), &released.json()["status"]), (200, &json!("RELEASED")));
    let shown = api.get("/api/v1/resources/concert-a").await.json();
    assert_eq!((&shown["totalStock"], &shown["availableStock"]), (&json!(100), &json!(98)));
    let sold_out = reserve(&api, "too many", &json!({"resourceId": "concert-a", "quantity": 99})).await;
    assert_eq!(sold_out.status, 409);
    api.books.assert_consistent().await;
}

/// Spring's JSON ignores what it does not know, and so clients send it.
async fn unknown_fields_are_ignored(books: Books) {
    let api = Api::with(books, &[COMPAT], None).await;
    let define = json!({"resourceId": "seat", "totalStock": 5, "name": "Row 1", "tags": [{"a": 1}]});
    assert_eq!(api.post("/api/v1/resources", &define).await.status, 200);
    let metadata = r#"{"price":117.63331139400017,"unknown":{"kept":1}}"#;
    let items = r#"[{"resourceId":"seat","quantity":1,"row":7}]"#;
    let body = format!(r#"{{"customer":"ann","items":{items},"metadata":{metadata},"ttlSeconds":60}}"#);
    let held = api.raw("/api/v1/reserve", &[JSON, ("idempotency-key", "k")], body).await;
    assert_eq!(held.status, 200, "{}", held.text);
    assert!(held.json()["metadata"]["unknown"]["kept"] == 1, "metadata is the client's own: {}", held.text);
    let token = held.json()["token"].clone();
    let commit = api.post("/api/v1/commit", &json!({"token": token, "paymentId": "p-1"})).await;
    assert_eq!(commit.status, 200, "{}", commit.text);
    // What is wrong otherwise is refused as always.
    for (body, expected) in [
        (json!({"resourceId": "seat", "quantity": 0, "x": 1}), (422, "quantity")),
        (json!({"quantity": 1, "x": 1}), (422, "resourceId")),
        (json!({"resourceId": "seat", "quantity": "1", "x": 1}), (422, "quantity")),
    ] {
        let refused = reserve(&api, "bad", &body).await;
        let field = refused.json()["field"].as_str().unwrap_or_default().to_owned();
        assert_eq!((refused.status.as_u16(), field.as_str()), expected, "{body}: {}", refused.text);
    }
    api.books.assert_consistent().await;
}

/// `expiresAt` has whole seconds, in every answer, and is never later than the real end.
async fn a_hold_never_ends_before_its_expires_at(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00.999999Z".parse().expect("a time"));
    let api = Api::with(books, &[COMPAT], Some(&clock)).await;
    api.stock("seat", 1).await;
    let order = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60});
    let held = reserve(&api, "k", &order).await.json();
    let token = held["token"].as_str().expect("a token").to_owned();
    assert_eq!(held["expiresAt"], "2026-01-01T00:01:00Z", "the hold ends at 00:01:00.999999");
    let shown = api.get(&format!("/api/v1/reservations/{token}")).await.json();
    assert_eq!(shown["expiresAt"], held["expiresAt"]);
    let extended = api.post("/api/v1/extend", &json!({"token": token, "ttlSeconds": 90})).await.json();
    assert_eq!(extended["expiresAt"], "2026-01-01T00:01:30Z");
    clock.advance(Duration::from_millis(90_000) - Duration::from_micros(1));
    assert_eq!(api.get(&format!("/api/v1/reservations/{token}")).await.json()["status"], "HELD");
    clock.advance(Duration::from_micros(1));
    let ended = reserve(&api, "k", &order).await;
    assert_eq!(ended.problem(), (409, "reservation-ended".to_owned()));
    assert_eq!(ended.json()["reservation"]["expiresAt"], "2026-01-01T00:01:30Z");
}

/// The series of a metric, by the values of its labels.
fn series(text: &str, name: &str) -> BTreeMap<String, f64> {
    let of_metric =
        text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    of_metric.map(|(labels, value)| (labels.to_owned(), value.parse().expect("a number"))).collect()
}

/// The queries of a dashboard for Spring Boot find their series: rate of requests, of errors, mean and maximum.
async fn requests_are_timed_as_by_micrometer(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::with(books, &[COMPAT], Some(&clock)).await;
    api.stock("seat", 1).await;
    let token = api.hold("k", "seat", 1).await;
    reserve(&api, "sold-out", &json!({"resourceId": "seat", "quantity": 1})).await;
    api.get("/api/v1/resources/seat").await;
    api.get("/api/v1/resources/none").await;
    api.get("/nowhere").await;
    let text = api.get("/actuator/prometheus").await.text;
    let counts = series(&text, "http_server_requests_seconds_count");
    let labels = |method: &str, status: u16, outcome: &str, uri: &str| {
        format!(
            r#"error="none",exception="none",method="{method}",outcome="{outcome}",status="{status}",uri="{uri}""#
        )
    };
    for (method, status, outcome, uri) in [
        ("POST", 200, "SUCCESS", "/api/v1/reserve"),
        ("POST", 409, "CLIENT_ERROR", "/api/v1/reserve"),
        ("GET", 200, "SUCCESS", "/api/v1/resources/{id}"),
        ("GET", 404, "CLIENT_ERROR", "/api/v1/resources/{id}"),
        ("GET", 404, "CLIENT_ERROR", "NOT_FOUND"),
    ] {
        let labels = labels(method, status, outcome, uri);
        assert_eq!(counts.get(&labels), Some(&1.0), "{labels} in {text}");
        let sum = series(&text, "http_server_requests_seconds_sum")[&labels];
        let max = series(&text, "http_server_requests_seconds_max")[&labels];
        assert!(sum > 0.0 && (sum - max).abs() < 1e-9, "one request: {sum} {max}");
    }
    assert!(text.contains("# TYPE http_server_requests_seconds summary"), "{text}");
    assert!(text.contains("# TYPE bespeak_"), "beside the metrics of Bespeak");
    assert!(text.contains("\nopenreserve_reconciled_holds_total "), "{text}");
    assert!(!text.contains(&token));
    assert!(
        !api.get("/metrics").await.text.contains("http_server_requests_seconds"),
        "/metrics is as it was"
    );
}

async fn without_the_setting_nothing_changes(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00.5Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    for path in ["/actuator/health", "/actuator/health/readiness", "/actuator/prometheus"] {
        assert_eq!(api.get(path).await.problem(), (404, "not-found".to_owned()), "{path}");
    }
    api.stock("seat", 1).await;
    let held =
        reserve(&api, "k", &json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60})).await.json();
    assert_eq!(held["expiresAt"], "2026-01-01T00:01:00.5Z");
    let unknown = api.post("/api/v1/commit", &json!({"token": held["token"], "paymentId": "p-1"})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["field"]), (422, &json!("paymentId")));
    assert!(!api.get("/metrics").await.text.contains("openreserve"));
}

/// A probe of Spring Boot reads the status code and `status`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_see_up_and_down() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[COMPAT]).await;
    let health = async || server.ask(Method::GET, "/actuator/health", &[], "").await;
    assert_eq!(health().await, (200, json!({"status": "UP"})));
    assert_eq!(server.ask(Method::GET, "/actuator/health/liveness", &[], "").await.0, 200);
    let lock = books.block_writers().await;
    until_within(Duration::from_secs(60), "it is down", async || {
        health().await == (503, json!({"status": "DOWN"}))
    })
    .await;
    assert_eq!(server.ask(Method::GET, "/actuator/health/liveness", &[], "").await.0, 200);
    lock.release().await;
    until_within(Duration::from_secs(60), "it is up again", async || health().await.0 == 200).await;
}

/// Its file, with its header, and the flags of its commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_commands_and_its_csv_work() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[COMPAT]).await;
    let file = tempfile::Builder::new().suffix(".csv").tempfile().expect("a file");
    std::fs::write(file.path(), "resource_id,total_stock\nroom-101,1\nconcert-a,500\n").expect("written");
    let file = file.path().to_str().expect("a path");
    let environment = [("OPENRESERVE_SERVER_URL", server.url.as_str())];
    for flags in [["--file", file, "--dry-run"].as_slice(), &["-f", file]] {
        let imported = bespeak(&[&["stock", "import"], flags].concat(), &environment).await;
        assert_eq!(imported.code, 0, "{imported:?}");
    }
    for flag in ["--resource", "-r"] {
        let checked = bespeak(&["stock", "check", flag, "concert-a"], &environment).await;
        assert!(checked.code == 0 && checked.out.contains("500 / 500"), "{checked:?}");
    }
    books.assert_consistent().await;
}

/// The receiver that OpenReserve's settings name gets the two notices that it knows, one for every give-back, unsigned.
async fn its_receiver_is_told_of_every_give_back(books: Books) {
    books.expect_every_give_back();
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let url = receiver.url();
    let settings = [
        COMPAT,
        ("OPENRESERVE_WEBHOOKS_ENABLED", "true"),
        ("OPENRESERVE_WEBHOOKS_URL", url.as_str()),
        ("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "true"),
    ];
    let server = Server::start(&books, &settings).await;
    server.stock("seat", 3).await;
    let released = [server.hold("1", "seat").await, server.hold("2", "seat").await];
    let cancelled = server.hold("3", "seat").await;
    for token in &released {
        server.act("release", token).await;
    }
    server.act("commit", &cancelled).await;
    server.act("cancel", &cancelled).await;
    server.hold_for("4", "seat", 1).await;
    let notices = || {
        let bodies =
            receiver.messages().into_iter().map(|message| serde_json::from_str::<Value>(&message.body));
        bodies.map(|body| body.expect("JSON")).collect::<Vec<_>>()
    };
    // Depleted by the third hold; restored by two releases, a cancel and an expiry.
    until_within(Duration::from_secs(60), "five notices arrive", async || notices().len() >= 5).await;
    let of = |kind: &str| notices().iter().filter(|notice| notice["type"] == kind).count();
    assert_eq!((of("STOCK_DEPLETED"), of("STOCK_RESTORED"), notices().len()), (1, 4, 5), "{:?}", notices());
    let mut values: Vec<_> =
        notices().iter().map(|notice| notice["value"].as_u64().expect("units")).collect();
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2, 3, 3]);
    for message in receiver.messages() {
        assert_eq!(message.header("webhook-signature"), "", "no secret is set");
        assert!(!message.header("webhook-id").is_empty());
    }
    drop(server);
    books.assert_consistent().await;

    // With a secret they are signed, and without the switch there is no receiver.
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let signed =
        Server::start(&books, &[&settings[..], &[("BESPEAK_WEBHOOK_SECRET", secret)]].concat()).await;
    let seen = receiver.messages().len();
    signed.hold_for("5", "seat", 1).await;
    until_within(Duration::from_secs(60), "a notice arrives", async || receiver.messages().len() > seen)
        .await;
    assert!(receiver.messages()[seen].is_signed_with(secret));
    drop(signed);
    let off = Server::start(&books, &[COMPAT, ("OPENRESERVE_WEBHOOKS_URL", url.as_str())]).await;
    let (_, endpoints) = off.ask(Method::GET, "/api/v1/webhooks", &[], "").await;
    let enabled =
        endpoints["webhooks"].as_array().expect("a list").iter().filter(|one| one["enabled"] == true);
    assert_eq!(enabled.count(), 0, "{endpoints}");
}

/// A deployment of Bespeak that happens to have these variables does not change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_setting_its_variables_mean_nothing() {
    let books = Books::sqlite();
    let settings =
        [("OPENRESERVE_WEBHOOKS_ENABLED", "true"), ("OPENRESERVE_WEBHOOKS_URL", "https://example.com/hook")];
    let server = Server::start(&books, &settings).await;
    let (_, endpoints) = server.ask(Method::GET, "/api/v1/webhooks", &[], "").await;
    assert_eq!(endpoints["webhooks"], json!([]), "{endpoints}");
}
