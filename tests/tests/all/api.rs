//! The API as a client uses it, mostly through the router without a socket.

use std::time::{Duration, Instant};

use bespeak::{
    engine::{Command, Token},
    store::{CommitMode, FixedClock, Guard},
};
use bespeak_tests::{Api, Books, Client, Server, each_store, until};
use http::Method;
use serde_json::json;
use uuid::Uuid;

each_store!(
    the_sold_out_memory_expires_in_time,
    the_life_of_a_reservation,
    several_items_with_holder_and_metadata,
    a_retry_gets_its_reservation_as_it_is_now,
    a_retry_of_an_ended_reservation_is_no_success,
    a_hold_can_be_extended_up_to_its_longest_life,
    sold_out_has_retry_after_and_overdue_units_are_sold_on_time,
    the_root_redirects_to_the_documentation,
    resources_are_listed_in_pages,
    setting_a_total_keeps_what_is_taken,
    health_and_metrics,
);

fn clock() -> FixedClock {
    FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"))
}

async fn the_life_of_a_reservation(books: Books) {
    let clock = clock();
    let api = Api::at(books, &clock).await;
    api.stock("room-101", 3).await;
    let held =
        api.reserve("order-1", &json!({"resourceId": "room-101", "quantity": 2, "ttlSeconds": 60})).await;
    assert_eq!(held.status, 200);
    let token = held.json()["token"].as_str().expect("a token").to_owned();
    let mut shown = held.json();
    shown["token"] = "TOKEN".into();
    insta::assert_json_snapshot!("the_life_of_a_reservation", shown);
    assert_eq!(api.get(&format!("/api/v1/reservations/{token}")).await.json(), held.json());
    insta::assert_json_snapshot!(
        "the_life_of_a_reservation-2",
        api.get("/api/v1/resources/room-101").await.json()
    );

    clock.advance(Duration::from_secs(1));
    let committed = api.act("commit", &token).await;
    assert_eq!((committed.status.as_u16(), &committed.json()["status"]), (200, &json!("COMMITTED")));
    let again = api.act("commit", &token).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, committed.json()), "again: the same answer");
    let cancelled = api.act("cancel", &token).await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["status"]), (200, &json!("CANCELLED")));
    assert_eq!(api.act("cancel", &token).await.json(), cancelled.json());
    assert_eq!(api.available("room-101").await, 3);

    let other = api.hold("order-2", "room-101", 1).await;
    let released = api.act("release", &other).await;
    assert_eq!((released.status.as_u16(), &released.json()["status"]), (200, &json!("RELEASED")));
    assert_eq!(api.act("release", &other).await.json(), released.json());
    api.books.assert_consistent().await;
}

async fn several_items_with_holder_and_metadata(books: Books) {
    let api = Api::at(books, &clock()).await;
    api.stock("car/7", 2).await;
    api.stock("driver", 1).await;
    let body = json!({
        "items": [
            {"resourceId": "driver", "quantity": 1},
            {"resourceId": "car/7", "quantity": 1},
            {"resourceId": "car/7", "quantity": 1},
        ],
        "holder": "ann", "metadata": {"trip": {"to": "Zürich", "from": "Bern"}},
    });
    let mut made = api.reserve("k", &body).await.json();
    made["token"] = "TOKEN".into();
    insta::assert_json_snapshot!("several_items_with_holder_and_metadata", made);
    assert_eq!(api.get("/api/v1/resources/car%2F7").await.json()["availableStock"], 0);
}

async fn a_retry_gets_its_reservation_as_it_is_now(books: Books) {
    let clock = clock();
    let api = Api::at(books, &clock).await;
    api.stock("seat", 1).await;
    let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60});
    let first = api.reserve("k", &body).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    // The same request, spelt in another way, under the key as a Structured-Field string.
    let spelt = json!({"ttlSeconds": 60, "items": [{"quantity": 1, "resourceId": "seat"}]});
    for key in ["k", "\"k\"", " k "] {
        let again = api.reserve(key, &spelt).await;
        assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (200, "true"), "{key}");
        assert_eq!(again.json(), first.json());
    }
    let other = api.reserve("k", &json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 61})).await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused".to_owned()));
}

/// A client that looks only at the status must never charge for units that were given back: neither a lane, nor the
/// sold-out memory, nor a transaction of its own answers a retry of an ended reservation with 200.
async fn a_retry_of_an_ended_reservation_is_no_success(books: Books) {
    let (clock, mut api) = (clock(), None);
    let mut books = Some(books);
    for strategy in ["lanes", "pessimistic"] {
        let settings = [("BESPEAK_STRATEGY", strategy)];
        let books = books.take().or_else(|| api.take().map(|api: Api| api.books)).expect("books");
        let api = api.insert(Api::with(books, &settings, Some(&clock)).await);
        api.stock("seat", 1).await;
        let body = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60});
        for status in ["RELEASED", "CANCELLED", "EXPIRED"] {
            let key = format!("{strategy}-{status}");
            let token = api.hold(&key, "seat", 1).await;
            match status {
                "RELEASED" => _ = api.act("release", &token).await,
                "CANCELLED" => {
                    api.act("commit", &token).await;
                    api.act("cancel", &token).await;
                }
                _ => clock.advance(Duration::from_secs(60)),
            }
            let assert_refused = async |situation: &str| {
                let retry = api.reserve(&key, &body).await;
                assert_eq!(retry.problem(), (409, "reservation-ended".to_owned()), "{key}, {situation}");
                assert_eq!(retry.json()["reservationStatus"], status, "{key}, {situation}");
                let shown = api.get(&format!("/api/v1/reservations/{token}")).await.json();
                assert_eq!(retry.json()["reservation"], shown, "{key}, {situation}");
                assert_eq!(retry.header("retry-after"), "");
            };
            assert_refused("with units left").await;
            // Another customer buys the unit, and a third one makes the process remember that none is left.
            let winner = api.hold(&format!("{key}-winner"), "seat", 1).await;
            assert_eq!(api.reserve(&format!("{key}-loser"), &body).await.problem().1, "out-of-stock");
            assert_refused("sold out").await;
            api.act("release", &winner).await;
            let other = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 61});
            assert_eq!(api.reserve(&key, &other).await.problem(), (422, "idempotency-key-reused".to_owned()));
        }
        api.books.assert_consistent().await;
    }
}

async fn a_hold_can_be_extended_up_to_its_longest_life(books: Books) {
    let clock = clock();
    let api = Api::at(books, &clock).await;
    api.stock("seat", 1).await;
    let token = api.hold("k", "seat", 1).await;
    let extend =
        async |ttl: u64| api.post("/api/v1/extend", &json!({"token": token, "ttlSeconds": ttl})).await;
    assert_eq!(extend(30).await.json()["expiresAt"], "2026-01-01T00:01:00Z", "never shorter");
    assert_eq!(extend(90).await.json()["expiresAt"], "2026-01-01T00:01:30Z");
    for _ in 0..3 {
        assert_eq!(extend(86_400).await.status, 200);
        clock.advance(Duration::from_secs(80_000));
    }
    let shown = api.get(&format!("/api/v1/reservations/{token}")).await.json();
    assert_eq!((&shown["expiresAt"], &shown["status"]), (&json!("2026-01-03T00:00:00Z"), &json!("EXPIRED")));
    assert_eq!(extend(60).await.problem(), (410, "hold-expired".to_owned()));
}

async fn sold_out_has_retry_after_and_overdue_units_are_sold_on_time(books: Books) {
    let clock = clock();
    let api = Api::at(books, &clock).await;
    api.stock("seat", 1).await;
    api.hold("1", "seat", 1).await;
    clock.advance(Duration::from_millis(500));
    let refused = api.reserve("2", &json!({"resourceId": "seat", "quantity": 1})).await;
    assert_eq!(refused.problem(), (409, "out-of-stock".to_owned()));
    assert_eq!(refused.json()["nextReleaseAt"], "2026-01-01T00:01:00Z");
    assert!(!refused.header("retry-after").is_empty());
    clock.advance(Duration::from_millis(59_500));
    assert_eq!(api.available("seat").await, 1);
    api.hold("2", "seat", 1).await;
    api.books.assert_consistent().await;
}

/// The memory of sold-out resources never hides a reservation from its own retry, nor units that this process released.
/// It hides units that another process released only for a short time.
async fn the_sold_out_memory_expires_in_time(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 1).await;
    let order = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60});
    let refused = async || {
        for n in 0..5 {
            assert_eq!(api.reserve(&format!("loser-{n}"), &order).await.problem().1, "out-of-stock");
        }
    };
    // The first request for the metrics starts the recorder in this process.
    api.get("/metrics").await;
    let winner = api.hold("winner", "seat", 1).await;
    refused().await;
    assert!(api.get("/metrics").await.text.contains("bespeak_refusals_from_memory_total"));
    let retry = api.reserve("winner", &order).await;
    assert_eq!((&retry.json()["token"], retry.header("idempotent-replayed")), (&json!(winner), "true"));
    let other = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 61});
    assert_eq!(api.reserve("winner", &other).await.problem().1, "idempotency-key-reused");

    refused().await;
    api.act("release", &winner).await;
    let next = api.hold("released", "seat", 1).await;
    refused().await;
    api.stock("seat", 2).await;
    api.hold("defined", "seat", 1).await;
    refused().await;
    api.act("commit", &next).await;
    api.act("cancel", &next).await;
    let last = api.hold("cancelled", "seat", 1).await;

    refused().await;
    let process = api.books.open(None, Guard::RowLock).await;
    let token = last.parse::<Uuid>().map(Token::from_uuid).expect("a token");
    process.execute(&[Command::Release(token)], CommitMode::Commit).await.expect("released");
    let given_back = Instant::now();
    until("this process sells the released unit", || async {
        api.reserve("elsewhere", &order).await.status == 200
    })
    .await;
    // The bound is 50 ms; the rest is for a busy machine. The hold that was given back would have lasted longer.
    assert!(given_back.elapsed() < Duration::from_secs(5), "{:?}", given_back.elapsed());
    api.books.assert_consistent().await;
}

/// A person who opens the server's address in a browser finds the documentation, also below a base path.
async fn the_root_redirects_to_the_documentation(books: Books) {
    let mut books = Some(books);
    for (base, paths) in [("", &["/"][..]), ("/booking", &["/booking", "/booking/"])] {
        let settings = [("BESPEAK_HTTP_BASE_PATH", base)];
        let api = Api::with(books.take().expect("books"), &settings, None).await;
        for path in paths {
            let root = api.get(path).await;
            let docs = format!("{base}/docs/");
            assert_eq!((root.status.as_u16(), root.header("location")), (307, docs.as_str()), "{path}");
            let page = api.get(&docs).await;
            assert_eq!((page.status.as_u16(), page.text.contains("swagger-ui")), (200, true), "{docs}");
        }
        books = Some(api.books);
    }
}

async fn resources_are_listed_in_pages(books: Books) {
    let api = Api::start(books).await;
    for name in ["b", "a", "d", "c", "import"] {
        api.stock(name, 1).await;
    }
    let ids = |page: &serde_json::Value| -> Vec<String> {
        let resources = page["resources"].as_array().expect("a list");
        resources.iter().map(|resource| resource["resourceId"].as_str().expect("an id").to_owned()).collect()
    };
    let first = api.get("/api/v1/resources?limit=2").await.json();
    assert_eq!((ids(&first), &first["next"]), (vec!["a".to_owned(), "b".to_owned()], &json!("b")));
    let rest = api.get("/api/v1/resources?limit=3&after=b").await.json();
    assert_eq!((ids(&rest).len(), &rest["next"]), (3, &json!(null)));
    assert_eq!(api.get("/api/v1/resources/import").await.json()["resourceId"], "import", "a path of its own");
}

async fn setting_a_total_keeps_what_is_taken(books: Books) {
    let api = Api::start(books).await;
    api.stock("seat", 5).await;
    api.hold("k", "seat", 3).await;
    let set = async |total: u64| {
        api.post("/api/v1/resources", &json!({"resourceId": "seat", "totalStock": total})).await
    };
    let refused = set(2).await;
    assert_eq!(refused.problem(), (409, "stock-in-use".to_owned()));
    assert_eq!(refused.json()["inUse"], 3);
    assert_eq!(set(3).await.json()["availableStock"], 0);
    let smart = api
        .post("/api/v1/resources", &json!({"resourceId": "seat", "totalStock": 9, "fulfilment": "SMART_KEY"}))
        .await;
    assert_eq!(
        (&smart.json()["availableStock"], &smart.json()["fulfilment"]),
        (&json!(6), &json!("SMART_KEY"))
    );
    assert_eq!(set(9).await.json()["fulfilment"], "SMART_KEY", "left as it is");
    api.books.assert_consistent().await;
}

async fn health_and_metrics(books: Books) {
    // The relay is off, so that the unpublished events can be counted.
    let server = Server::start(&books, &[("BESPEAK_RELAY", "off")]).await;
    let get = async |path: &str| server.ask(Method::GET, path, &[], "").await;
    assert_eq!(get("/health/live").await, (200, json!({"status": "ok"})));
    assert_eq!(get("/health/ready").await, (200, json!({"status": "ok"})));
    server.stock("seat", 1).await;
    let order = r#"{"resourceId":"seat","quantity":1}"#;
    for (key, status) in [("k", 200), ("l", 409)] {
        let reply = server.ask(Method::POST, "/api/v1/reserve", &[("idempotency-key", key)], order).await;
        assert_eq!(reply.0, status);
    }
    get("/invented-by-a-client").await;
    server.ask(Method::from_bytes(b"INVENTED").expect("a method"), "/nowhere", &[], "").await;
    let answer =
        server.connect().await.send(Method::GET, "/metrics", &[], "".into()).await.expect("answered");
    let metrics = String::from_utf8(answer.body.to_vec()).expect("text");
    for line in [
        r#"bespeak_commands_total{command="reserve",outcome="accepted"} 1"#,
        r#"bespeak_commands_total{command="reserve",outcome="out-of-stock"} 1"#,
        r#"bespeak_http_requests_total{method="POST",route="/api/v1/reserve",status="409"} 1"#,
        r#"bespeak_http_requests_total{method="other",route="unmatched",status="404"} 1"#,
        r#"bespeak_lane_batch_commands_bucket{le="1"} 3"#,
        "bespeak_store_transaction_seconds_sum",
        "bespeak_outbox_unpublished_events 2",
        "# HELP bespeak_lane_queue_commands",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("nvented"));
}
