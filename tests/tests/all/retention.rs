//! The purge deletes old rows and no others.

use std::{sync::Arc, time::Duration};

use bespeak::{
    background::{Purger, Retention},
    store::{Database, FixedClock, Guard, PurgedLeases},
};
use bespeak_tests::{Api, Books, Client, each_store};
use serde_json::json;
use uuid::Uuid;

each_store!(
    ended_locks_are_purged_and_their_numbers_continue,
    the_audit_accepts_partly_purged_events,
    old_ended_reservations_and_published_events_are_purged,
    purging_runs_in_bounded_steps
);

const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn purge(store: &Arc<dyn Database>) -> (u64, u64) {
    let events = store.purge_events(DAY, 10_000).await.expect("purged").deleted;
    let reservations = store.purge_reservations(7 * DAY, None, 10_000).await.expect("purged").deleted;
    (events, reservations)
}

async fn old_ended_reservations_and_published_events_are_purged(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    let store = api.books.open(Some(&clock), Guard::RowLock).await;
    api.stock("seat", 10).await;
    let released = api.hold("released", "seat", 1).await;
    api.act("release", &released).await;
    let committed = api.hold("committed", "seat", 1).await;
    api.act("commit", &committed).await;
    let unpublished = api.hold("unpublished", "seat", 1).await;
    api.act("release", &unpublished).await;
    let held = api.hold("held", "seat", 1).await;
    assert_eq!(purge(&store).await, (0, 0), "nothing is old");

    let publish = format!(
        "UPDATE outbox SET published_at = created_at WHERE event_key <> '{unpublished}' OR key_version = 1"
    );
    api.books.tamper(&publish).await;
    clock.advance(DAY + Duration::from_secs(1));
    assert_eq!(purge(&store).await, (6, 0), "all published events, and no reservation before a week");
    api.books.assert_consistent().await;
    let retry =
        api.reserve("released", &json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 60})).await;
    assert_eq!(
        retry.problem(),
        (409, "reservation-ended".to_owned()),
        "the key is remembered as long as the reservation is kept"
    );

    clock.advance(7 * DAY);
    assert_eq!(purge(&store).await, (0, 1), "the other released reservation has an unpublished event");
    assert_eq!(api.get(&format!("/api/v1/reservations/{released}")).await.status, 404);
    for kept in [&committed, &unpublished, &held] {
        assert_eq!(api.get(&format!("/api/v1/reservations/{kept}")).await.status, 200);
    }
    let again = api.hold("released", "seat", 1).await;
    assert_ne!(again, released, "the key can be used again");
    api.books.assert_consistent().await;

    // The audit still finds a missing event.
    api.books.expect_damage();
    api.books.tamper(&format!("DELETE FROM outbox WHERE event_key = '{again}'")).await;
    assert!(!api.books.audit().await.is_clean());
}

async fn ended_locks_are_purged_and_their_numbers_continue(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    let store = api.books.open(Some(&clock), Guard::RowLock).await;
    let take = async |name: &str| {
        let taken = store.take_lease(name, Uuid::now_v7(), DAY).await.expect("answered");
        taken.unwrap_or_else(|| panic!("{name} is free"))
    };
    let locks = async || api.books.count("SELECT COUNT(*) FROM leases").await;
    // Given five locks that ended a day ago, one that ended later, and the leases of a stopped relay
    let mut last = 0;
    for number in 0..5 {
        last = take(&format!("ended-{number}")).await;
    }
    store.lease(Uuid::now_v7(), None, DAY).await.expect("leased");
    let of_relays = locks().await - 5;
    assert!(of_relays >= 64, "{of_relays}");
    clock.advance(DAY);
    take("later").await;
    clock.advance(DAY);
    // A lock is kept until it is older than a day, and then purged in bounded steps
    let purge = async |after: Option<&str>| store.purge_leases(DAY, after, 3).await.expect("purged");
    assert_eq!(purge(None).await, PurgedLeases::default());
    clock.advance(Duration::from_secs(1));
    let purged = purge(None).await;
    assert_eq!((purged.deleted, purged.next.as_deref()), (3, Some("lock/ended-2")));
    assert_eq!(purge(purged.next.as_deref()).await, PurgedLeases { deleted: 2, next: None });
    assert_eq!(locks().await, of_relays + 1, "newer locks and the leases of relays are kept");
    // The numbers of a purged name continue above its last one
    assert!(take("ended-4").await > last);
}

/// The audit accepts rows whose counterparts were purged: a resource that was sold out long ago and sold again since,
/// and events that were published late and outlive their reservation.
async fn the_audit_accepts_partly_purged_events(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    let store = api.books.open(Some(&clock), Guard::RowLock).await;
    api.stock("seat", 1).await;
    api.stock("late", 1).await;
    api.hold("first", "seat", 1).await;
    let late = api.hold("late", "late", 1).await;
    api.act("release", &late).await;
    api.books.tamper("UPDATE outbox SET published_at = created_at WHERE event_key LIKE 'seat'").await;
    clock.advance(2 * DAY);
    assert_eq!(purge(&store).await, (1, 0), "the edge is gone");
    api.hold("second", "seat", 1).await;
    api.books.assert_consistent().await;

    clock.advance(7 * DAY + Duration::from_secs(1));
    let now = clock.now().as_microsecond();
    api.books.tamper(&format!("UPDATE outbox SET published_at = {now}")).await;
    assert_eq!(purge(&store).await, (0, 2), "the reservations whose events are published now");
    api.books.assert_consistent().await;
}

async fn purging_runs_in_bounded_steps(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    let store = api.books.open(Some(&clock), Guard::RowLock).await;
    api.stock("seat", 10).await;
    for n in 0..120 {
        let token = api.hold(&format!("{n}"), "seat", 1).await;
        api.act(if n % 20 == 0 { "commit" } else { "release" }, &token).await;
    }
    api.books.tamper("UPDATE outbox SET published_at = created_at").await;
    clock.advance(8 * DAY);
    assert_eq!(
        store.purge_events(DAY, 50).await.expect("purged").deleted,
        50,
        "a step deletes at most its limit"
    );
    let page = store.purge_reservations(7 * DAY, None, 50).await.expect("purged");
    assert!(page.deleted <= 50 && page.next.is_some(), "{page:?}");

    let dispatch = Arc::new(bespeak::dispatch::Dispatch::start(
        store.clone(),
        bespeak::dispatch::Plan::Unbatched { at_once: 1 },
        10,
    ));
    let retention = Retention { reservations: 7 * DAY, events: DAY, inbox: 8 * DAY, deliveries: DAY };
    let mut purger = Purger::new(store.clone(), dispatch, retention);
    while purger.step().await.expect("purged").more {}
    assert_eq!(api.books.count("SELECT COUNT(*) FROM outbox").await, 0);
    assert_eq!(api.books.count("SELECT COUNT(*) FROM reservations").await, 6, "the committed ones");
    api.books.assert_consistent().await;
}
