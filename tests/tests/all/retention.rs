//! The purge deletes old rows and no others.

use std::{sync::Arc, time::Duration};

use bespeak::{
    background::{HeldBack, Purger, Retention},
    store::{Database, FixedClock, Guard, PurgedLeases},
};
use bespeak_tests::{Api, Books, Client, each_store};
use serde_json::json;
use uuid::Uuid;

each_store!(
    a_pass_leaves_out_what_only_has_committed_reservations,
    ended_locks_are_purged_and_their_numbers_continue,
    the_audit_accepts_partly_purged_events,
    no_kind_of_record_waits_for_another,
    old_ended_reservations_and_published_events_are_purged,
    one_process_purges_for_all,
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

/// A purger on a store of its own, as another process has it.
async fn purger(books: &Books, clock: &FixedClock) -> Purger {
    let store = books.open(Some(clock), Guard::RowLock).await;
    let plan = bespeak::dispatch::Plan::Unbatched { at_once: 1 };
    let dispatch = Arc::new(bespeak::dispatch::Dispatch::start(store.clone(), plan, 10));
    let retention = Retention { reservations: 7 * DAY, events: DAY, inbox: 8 * DAY, deliveries: DAY };
    Purger::new(store, dispatch, retention)
}

/// Inserts `count` published events that are past their retention.
async fn add_old_events(books: &Books, count: usize) {
    let rows: Vec<_> = (0..count)
        .map(|n| format!("(x'{n:032x}', 0, 'old-{n}', 1, 'bespeak.stock.depleted.v1', '{{}}', 1, 1)"))
        .collect();
    let columns = "event_id, shard, event_key, key_version, type, payload, created_at, published_at";
    books.tamper(&format!("INSERT INTO outbox ({columns}) VALUES {}", rows.join(", "))).await;
}

/// A long backlog of events keeps neither inbox rows nor reservations from being purged.
async fn no_kind_of_record_waits_for_another(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    api.stock("seat", 10).await;
    let token = api.hold("old", "seat", 1).await;
    api.act("release", &token).await;
    api.books.tamper("DELETE FROM outbox").await;
    add_old_events(&api.books, 3_000).await;
    let inbox = "INSERT INTO processed_events (consumer, event_id, processed_at)
        VALUES ('c', x'00000000000000000000000000000001', 1)";
    api.books.tamper(inbox).await;
    clock.advance(30 * DAY);
    let mut purger = purger(&api.books, &clock).await;
    // Given a step for each of the five kinds
    for _ in 0..5 {
        assert!(purger.step().await.expect("purged").more);
    }
    let left = async |sql| api.books.count(sql).await;
    assert_eq!(left("SELECT COUNT(*) FROM outbox").await, 2_500, "the events are behind");
    assert_eq!(left("SELECT COUNT(*) FROM processed_events").await, 0);
    assert_eq!(left("SELECT COUNT(*) FROM reservations").await, 0);
    while purger.step().await.expect("purged").more {}
    assert_eq!(left("SELECT COUNT(*) FROM outbox").await, 0);
}

/// One process purges for all. If it is killed, another one takes over; when it has completed a pass, the others leave
/// the next one to the process that comes first an hour later.
async fn one_process_purges_for_all(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    add_old_events(&api.books, 1_200).await;
    let (mut first, mut second) = (purger(&api.books, &clock).await, purger(&api.books, &clock).await);
    first.set_insists(false);
    second.set_insists(false);
    let step = async |purger: &mut Purger| {
        let step = purger.step().await.expect("a step");
        (step.deleted, step.held_back)
    };
    assert_eq!(step(&mut first).await, (500, None));
    assert_eq!(step(&mut second).await, (0, Some(HeldBack::ByAnother)));
    // When the first process is gone for a minute
    clock.advance(Duration::from_secs(61));
    assert_eq!(step(&mut second).await, (500, None));
    while second.step().await.expect("a step").more {}
    assert_eq!(api.books.count("SELECT COUNT(*) FROM outbox").await, 0);
    // Then the pass is complete for all, for an hour
    add_old_events(&api.books, 10).await;
    let mut third = purger(&api.books, &clock).await;
    third.set_insists(false);
    assert_eq!(step(&mut third).await, (0, Some(HeldBack::ByAnother)));
    assert_eq!(step(&mut second).await, (0, Some(HeldBack::ByAnother)));
    clock.advance(Duration::from_secs(3_601));
    assert_eq!(step(&mut third).await, (10, None));
    // And a purger that insists, such as that of an operator, needs not wait for the hour, only for its turn
    let mut insists = purger(&api.books, &clock).await;
    assert_eq!(step(&mut insists).await, (0, Some(HeldBack::ByAnother)));
    while third.step().await.expect("a step").more {}
    add_old_events(&api.books, 10).await;
    assert_eq!(step(&mut insists).await, (10, None));
}

/// The kinds of records that are purged, apart from reservations.
const OTHERS: usize = 6;

/// COMMITTED reservations are never purged, and a pass does not read all of them again.
async fn a_pass_leaves_out_what_only_has_committed_reservations(books: Books) {
    let clock = FixedClock::new("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::at(books, &clock).await;
    let rows: Vec<_> = (0..2_200)
        .map(|n| format!("(x'{n:032x}', 0, 'seat', 1, 'COMMITTED', 2, 1, 1, 1, 'key-{n}', x'{n:032x}')"))
        .collect();
    let columns =
        "token, item_no, resource_id, quantity, status, version, created_at, expires_at, updated_at,
        idempotency_key, fingerprint";
    api.books.expect_damage();
    api.books.tamper(&format!("INSERT INTO reservations ({columns}) VALUES {}", rows.join(", "))).await;
    let mut purger = purger(&api.books, &clock).await;
    let mut steps = async || {
        let mut steps: usize = 1;
        while purger.step().await.expect("purged").more {
            steps += 1;
        }
        steps
    };
    assert_eq!(steps().await, OTHERS + 5, "each other kind takes a step, and the reservations five");
    assert_eq!(steps().await, OTHERS + 1, "the last page alone is read again");
    assert_eq!(api.books.count("SELECT COUNT(*) FROM reservations").await, 2_200);
}
