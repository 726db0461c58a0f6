//! The audit finds each kind of damage to the books by the id of its invariant, and reports nothing about consistent
//! books.

use bespeak_tests::{Api, Books, Client, bespeak, each_store};
use serde_json::json;

each_store!(
    each_kind_of_damage_is_found,
    the_schema_itself_refuses_an_oversell,
    verify_reports_damage_and_exits_with_1,
    the_harness_audits_dropped_books,
);

/// Books with reservations in every state; returns the token of a committed one.
async fn sold(books: Books) -> (Api, String) {
    let api = Api::start(books).await;
    api.stock("seat", 2).await;
    api.stock("car", 9).await;
    let items = json!([{"resourceId": "seat", "quantity": 2}, {"resourceId": "car", "quantity": 3}]);
    let both = json!({"items": items, "ttlSeconds": 600});
    let first = api.reserve("1", &both).await.json()["token"].as_str().expect("a token").to_owned();
    api.act("release", &first).await;
    let second = api.hold("2", "seat", 2).await;
    api.act("commit", &second).await;
    let third = api.hold("3", "car", 1).await;
    api.post("/api/v1/extend", &json!({"token": third, "ttlSeconds": 900})).await;
    api.act("commit", &third).await;
    api.act("cancel", &third).await;
    api.books.assert_consistent().await;
    (api, second)
}

async fn each_kind_of_damage_is_found(books: Books) {
    let cases: [(&str, &str); 16] = [
        ("I1", "UPDATE resources SET available = available + 1, total = total + 2 WHERE id = 'car'"),
        ("I1", "UPDATE reservations SET quantity = 1 WHERE status = 'COMMITTED'"),
        ("I1", "DELETE FROM resources WHERE id = 'car'"),
        ("I2", "UPDATE reservations SET status = 'HELD' WHERE item_no = 1"),
        ("I2", "DELETE FROM reservations WHERE item_no = 1"),
        ("I2", "UPDATE reservations SET quantity = quantity + 1 WHERE status = 'RELEASED'"),
        ("I2", "UPDATE outbox SET payload = json_remove(payload, '$.items')"),
        ("I3", "INSERT INTO outbox (event_id, shard, event_key, key_version, type, payload, created_at)
            SELECT event_id, shard, event_key, key_version + 1, 'bespeak.reservation.expired.v1', payload, created_at
            FROM outbox WHERE type = 'bespeak.reservation.released.v1'"),
        ("I3", "UPDATE outbox SET type = 'bespeak.reservation.cancelled.v1'
            WHERE type = 'bespeak.reservation.extended.v1'"),
        ("I7", "DELETE FROM outbox WHERE type = 'bespeak.reservation.committed.v1'"),
        ("I7", "DELETE FROM outbox WHERE type = 'bespeak.reservation.held.v1' AND id > 1"),
        ("I7", "DELETE FROM outbox"),
        ("I7", "UPDATE outbox SET payload = json_set(payload, '$.status', 'HELD')"),
        ("I7", "DELETE FROM outbox WHERE type LIKE 'bespeak.stock.%'"),
        ("I7", "UPDATE outbox SET type = 'bespeak.stock.restored.v1' WHERE type LIKE 'bespeak.stock.%'"),
        ("I7", "DELETE FROM reservations WHERE status = 'CANCELLED'"),
    ];
    for (invariant, damage) in cases {
        let (api, _) = sold(books.another().await).await;
        api.books.expect_damage();
        api.books.tamper(damage).await;
        let audit = api.books.audit().await;
        assert!(audit.findings.iter().any(|finding| finding.invariant == invariant), "{damage}: {audit:#?}");
    }
}

async fn the_schema_itself_refuses_an_oversell(books: Books) {
    let (api, _) = sold(books).await;
    let why = api.books.refused("UPDATE resources SET available = -1 WHERE id = 'car'").await;
    assert!(why.contains("CHECK") || why.contains("resources_available"), "{why}");
}

async fn verify_reports_damage_and_exits_with_1(books: Books) {
    let (api, token) = sold(books).await;
    let url = api.books.url();
    let environment = [("BESPEAK_DATABASE_URL", url.as_str())];
    let clean = bespeak(&["verify"], &environment).await;
    assert_eq!((clean.code, clean.out.contains("the books are consistent")), (0, true), "{clean:?}");
    api.books.expect_damage();
    api.books.tamper("DELETE FROM outbox WHERE type = 'bespeak.reservation.committed.v1'").await;
    let broken = bespeak(&["verify"], &environment).await;
    assert_eq!(broken.code, 1);
    assert!(broken.out.contains(&token) && broken.out.contains("I7"), "{}", broken.out);
    let json = bespeak(&["verify", "--json"], &environment).await;
    assert_eq!(json.code, 1);
    assert!(json.json()["findings"].as_array().is_some_and(|findings| !findings.is_empty()));
    let missing = bespeak(&["verify"], &[("BESPEAK_DATABASE_URL", "sqlite:///nowhere/at-all.db")]).await;
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("BESPEAK_DATABASE_URL"), "{}", missing.err);
}

/// The harness audits the books of every test that ends well: a test that oversells cannot pass.
async fn the_harness_audits_dropped_books(books: Books) {
    const OVERSELL: &str =
        "UPDATE resources SET available = available + 1, total = total + 2 WHERE id = 'car'";
    let (api, _) = sold(books).await;
    let Api { books, .. } = api;
    books.tamper(OVERSELL).await;
    let dropped = tokio::task::spawn_blocking(move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(books)))
    });
    let panic = dropped.await.expect("caught").expect_err("the audit fails the test");
    let message = panic.downcast_ref::<String>().expect("text");
    assert!(message.contains("the test left damaged books") && message.contains("I1"), "{message}");
}
