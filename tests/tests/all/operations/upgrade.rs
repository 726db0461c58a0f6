//! The program of the previous release on today's schema: `tests/previous-release.txt` names it.

use bespeak_tests::{Books, Client, Server, bespeak, each_store, previous_bespeak, until};
use http::Method;
use serde_json::json;

each_store!(
    a_running_server_of_the_previous_release_works_on_this_schema,
    the_previous_release_restarts_only_if_it_ignores_newer_migrations
);

/// Whether the previous release ignores migrations that it does not know. Versions up to 0.2.0 did not; change this
/// when `tests/previous-release.txt` names a later one.
const PREVIOUS_IGNORES_NEWER_MIGRATIONS: bool = false;

/// The requests of a day, on a server of either version.
async fn trade(server: &Server, day: &str) {
    let key = |name: &str| format!("{name}-{day}");
    server.stock("seat", 100).await;
    server.cars("car", 100).await;
    let committed = server.hold(&key("committed"), "car").await;
    server.submit("/api/v1/extend", "", &json!({"token": committed, "ttlSeconds": 900})).await;
    server.act("commit", &committed).await;
    let released = server.hold(&key("released"), "seat").await;
    server.act("release", &released).await;
    let cancelled = server.hold(&key("cancelled"), "seat").await;
    server.act("commit", &cancelled).await;
    server.act("cancel", &cancelled).await;
    let expired = server.hold_for(&key("expired"), "seat", 1).await;
    until("the hold expires", async || server.show(&expired).await["status"] == "EXPIRED").await;
    until("the key is issued", async || server.show(&committed).await["smartKey"].is_object()).await;
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(server.ask(Method::GET, path, &[], "").await.0, 200, "{path} on {day}");
    }
}

/// Migrate first, then replace the processes: between the two, the old ones must go on.
async fn a_running_server_of_the_previous_release_works_on_this_schema(books: Books) {
    let url = books.url();
    let old = Server::start_previous(&books).await;
    trade(&old, "before").await;
    let held = old.hold("over-the-upgrade", "seat").await;
    let migrated = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &url)]).await;
    assert_eq!(migrated.code, 0, "{migrated:?}");
    trade(&old, "between").await;
    // A retry that reaches the new version finds what the old one did, and the other way around.
    let new = Server::start(&books, &[]).await;
    assert_eq!(new.hold("over-the-upgrade", "seat").await, held);
    new.act("commit", &held).await;
    let since = new.hold("since-the-upgrade", "seat").await;
    assert_eq!(old.hold("since-the-upgrade", "seat").await, since);
    trade(&new, "after").await;
    trade(&old, "side-by-side").await;
    assert!(old.logged("ERROR").is_empty(), "{:?}", old.logged("ERROR"));
    assert_eq!(old.stop().await, 0);
    until("all events are published", async || {
        books.count("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL").await == 0
    })
    .await;
    assert!(new.logged("ERROR").is_empty(), "{:?}", new.logged("ERROR"));
    assert_eq!(new.stop().await, 0);
    let audited = previous_bespeak(&["verify"], &[("BESPEAK_DATABASE_URL", &url)]).await;
    assert_eq!(audited.code, 0, "{audited:?}");
}

async fn the_previous_release_restarts_only_if_it_ignores_newer_migrations(books: Books) {
    let url = books.url();
    let old = Server::start_previous(&books).await;
    old.stock("seat", 2).await;
    old.hold("before", "seat").await;
    assert_eq!(old.stop().await, 0);
    let migrated = bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &url)]).await;
    assert_eq!(migrated.code, 0, "{migrated:?}");
    let again = previous_bespeak(&["migrate"], &[("BESPEAK_DATABASE_URL", &url)]).await;
    if PREVIOUS_IGNORES_NEWER_MIGRATIONS {
        assert_eq!(again.code, 0, "{again:?}");
        let old = Server::start_previous(&books).await;
        assert_eq!(old.available("seat").await, 1);
        assert_eq!(old.stop().await, 0);
    } else {
        assert_eq!(again.code, 1, "it ignores newer migrations, so change the constant: {again:?}");
        assert!(again.err.contains("migration"), "{again:?}");
    }
    let new = Server::start(&books, &[]).await;
    assert_eq!(new.available("seat").await, 1, "nothing was lost");
    assert_eq!(new.stop().await, 0);
}
