//! I8 to I10, as far as the store upholds them: leases and fencing, the order of the outbox, effects once, dead
//! letters.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::{
    engine::EventType,
    envelope::{Incoming, Origin, OutboxEvent, Record},
    store::{Applied, Blocked, DeadLetter, KeyMismatch, OutboxFilter, OutboxRead, OutboxState, Sent},
};

const LEASE: Duration = Duration::from_secs(3);

impl Subject {
    /// Marks every event as published.
    async fn publish_all(&self) {
        let relay = Uuid::now_v7();
        let lease = self.store.lease(relay, None, Duration::from_secs(60)).await.expect("leased");
        let sent = Sent { published: self.waiting().await.iter().map(good).collect(), ..Sent::default() };
        self.store.record_results(relay, lease.fencing, &sent).await.expect("recorded");
        self.store.leave(relay).await.expect("left");
    }

    async fn waiting(&self) -> Vec<OutboxEvent> {
        self.store.unpublished(&OutboxRead::oldest(&all(), 10_000)).await.expect("read").events
    }

    async fn state_of(&self, event: &OutboxEvent) -> OutboxState {
        let filter = OutboxFilter { event_id: Some(event.event_id), limit: 10, ..OutboxFilter::default() };
        let rows = self.store.outbox_rows(&filter).await.expect("read");
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((&row.event.key, row.event.id), (&event.key, event.id));
        row.state
    }
}

/// Every shard.
fn all() -> Vec<u8> {
    (0..64).collect()
}

fn good(event: &OutboxEvent) -> (i64, u8) {
    (event.id, event.shard)
}

fn failed(event: &OutboxEvent, retry_after: Option<Duration>) -> Blocked {
    Blocked {
        id: event.id,
        key: event.key.clone(),
        shard: event.shard,
        event_id: event.event_id,
        attempts: event.attempts + 1,
        reason: "it's too large".to_owned(),
        retry_after,
    }
}

/// I8: relays share the shards. A relay that renews too late gets another fencing number, and results under the old
/// one are refused.
pub async fn leases_are_shared_and_fenced(subject: &Subject) {
    subject.stock("seat", 10).await;
    subject.held(&[("seat", 1)]).await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let first = subject.store.lease(one, None, LEASE).await.expect("leased");
    assert_eq!((first.shards.len(), first.relays), (64, 1));
    let second = subject.other.lease(two, None, LEASE).await.expect("leased");
    assert_eq!((second.shards.len(), second.held_by_others), (0, 64), "held shards are not taken over");
    let first = subject.store.lease(one, Some(first.fencing), LEASE).await.expect("renewed");
    let second = subject.other.lease(two, Some(second.fencing), LEASE).await.expect("renewed");
    let mut shards = [first.shards.clone(), second.shards.clone()].concat();
    shards.sort_unstable();
    assert_eq!((first.shards.len(), second.shards.len(), shards), (32, 32, all()));

    let waiting = subject.waiting().await;
    let sent = Sent { published: waiting.iter().map(good).collect(), ..Sent::default() };
    let mine = waiting.iter().filter(|event| first.shards.contains(&event.shard)).count() as u64;
    let marked = subject.store.record_results(one, first.fencing, &sent).await.expect("recorded");
    assert_eq!(marked, mine, "marks of shards that it holds");

    // The first relay freezes, and the second one continues alone.
    subject.pass(LEASE).await;
    let again = subject.other.lease(two, Some(second.fencing), LEASE).await.expect("leased");
    assert_eq!((again.shards.len(), again.relays), (64, 1));
    subject.held(&[("seat", 1)]).await;
    let waiting = subject.waiting().await;
    let sent = Sent {
        published: waiting.iter().map(good).collect(),
        blocked: waiting.iter().map(|event| failed(event, None)).collect(),
        ..Sent::default()
    };
    assert_eq!(subject.store.record_results(one, first.fencing, &sent).await.expect("refused"), 0);
    assert_eq!(subject.waiting().await, waiting, "neither marks nor blocks of a frozen relay count");
    let late = subject.store.lease(one, Some(first.fencing), LEASE).await.expect("leased");
    assert!(late.fencing > again.fencing && late.shards.is_empty(), "{late:?}");
    subject.other.leave(two).await.expect("left");
    let alone = subject.store.lease(one, Some(late.fencing), LEASE).await.expect("leased");
    assert_eq!(alone.shards.len(), 64, "released shards are free at once");
}

/// I8, I10: the events of a key are in order. A failure blocks its key and no other, for a time or until an operator
/// acts.
pub async fn a_failure_blocks_only_its_own_key(subject: &Subject) {
    subject.stock("seat", 10).await;
    let (one, two) = (subject.held(&[("seat", 1)]).await, subject.held(&[("seat", 1)]).await);
    for token in [one.token, two.token] {
        accepted(subject.one(Command::Commit(token)).await);
    }
    let relay = Uuid::now_v7();
    let fencing = subject.store.lease(relay, None, Duration::from_secs(60)).await.expect("leased").fencing;
    let waiting = subject.waiting().await;
    let of = |token: Token| -> Vec<&OutboxEvent> {
        waiting.iter().filter(|event| event.key == token.to_string()).collect()
    };
    let versions: Vec<u64> = of(one.token).iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2]);
    let (poison, behind) = (of(one.token)[0], of(one.token)[1]);
    let note = |sent: Sent| async move {
        subject.store.record_results(relay, fencing, &sent).await.expect("recorded")
    };

    note(Sent { blocked: vec![failed(poison, Some(LEASE))], ..Sent::default() }).await;
    assert_eq!(
        subject.waiting().await.iter().collect::<Vec<_>>(),
        of(two.token),
        "the key is blocked, and no other is"
    );
    assert_eq!(subject.state_of(behind).await, OutboxState::Blocked);
    assert_eq!(subject.store.backlog().await.expect("counted").blocked, 1);
    subject.pass(LEASE).await;
    let again = subject.waiting().await;
    assert_eq!((again.len(), again[0].attempts), (4, 1), "the block has ended");

    note(Sent { blocked: vec![failed(&again[0], None)], ..Sent::default() }).await;
    subject.pass(LEASE).await;
    assert_eq!(subject.waiting().await.len(), 2, "a parked key waits for an operator");
    assert_eq!(subject.state_of(poison).await, OutboxState::Parked);
    let backlog = subject.store.backlog().await.expect("counted");
    assert_eq!((backlog.unpublished, backlog.blocked, backlog.parked), (4, 0, 1));
    assert_eq!(subject.store.retry_blocked(Some("unknown")).await.expect("unblocked"), 0);
    assert_eq!(subject.store.retry_blocked(Some(&poison.key)).await.expect("unblocked"), 1);
    assert_eq!(subject.waiting().await.len(), 4);

    note(Sent { blocked: vec![failed(poison, None)], ..Sent::default() }).await;
    assert!(subject.store.skip(poison).await.expect("skipped"));
    assert!(!subject.store.skip(poison).await.expect("skipped"), "it is skipped already");
    let next: Vec<_> = subject.waiting().await.into_iter().filter(|event| event.key == poison.key).collect();
    assert_eq!(next.iter().map(|event| event.version).collect::<Vec<_>>(), [2], "the key continues");
}

/// Published events can be published again, selected by when they happened.
pub async fn published_events_can_be_sent_again(subject: &Subject) {
    subject.stock("seat", 10).await;
    subject.held(&[("seat", 1)]).await;
    let relay = Uuid::now_v7();
    let fencing = subject.store.lease(relay, None, Duration::from_secs(60)).await.expect("leased").fencing;
    let waiting = subject.waiting().await;
    let sent = Sent { published: waiting.iter().map(good).collect(), ..Sent::default() };
    assert_eq!(subject.store.record_results(relay, fencing, &sent).await.expect("recorded"), 1);
    assert_eq!(
        subject.store.record_results(relay, fencing, &sent).await.expect("recorded"),
        0,
        "marked once"
    );
    assert_eq!(subject.store.backlog().await.expect("counted").oldest, None);
    let at = waiting[0].created_at;
    let later = at + Duration::from_secs(1);
    let none = subject.store.republish(later, later + LEASE, 0, 100).await.expect("read");
    assert_eq!((none.events, none.next, subject.unpublished().await), (0, None, 0));
    let one = subject.store.republish(at, later, 0, 1).await.expect("recorded");
    assert_eq!((one.events, one.next), (1, Some(waiting[0].id)), "the page is full: there may be more");
    assert_eq!(subject.waiting().await, waiting, "the same event, with the same id");
}

/// An event about the stock of a resource, at the beginning of time.
pub(super) fn depleted(resource: &str, version: u64) -> Incoming {
    Incoming {
        event_id: Uuid::now_v7(),
        kind: EventType::Depleted,
        at: crate::engine::Timestamp::UNIX_EPOCH,
        subject: crate::envelope::Subject::Resource { id: id(resource), available: 0 },
        version,
        source: "/test".into(),
        payload: "{}".into(),
        trace: None,
    }
}

fn event(reservation: &Reservation, kind: EventType, version: u64) -> Incoming {
    Incoming {
        event_id: Uuid::now_v7(),
        kind,
        at: reservation.created_at,
        subject: crate::envelope::Subject::Reservation {
            token: reservation.token,
            resources: reservation.items.iter().map(|item| item.resource_id.clone()).collect(),
        },
        version,
        source: "/test".into(),
        payload: "{}".into(),
        trace: None,
    }
}

impl Subject {
    /// Commits a reservation of a resource that issues a SmartKey.
    async fn car(&self) -> Reservation {
        let define = Define {
            resource_id: id("car"),
            total: 10,
            fulfilment: Some(crate::engine::Fulfilment::SmartKey),
        };
        self.one(Command::Define(define)).await.expect("defined");
        let held = self.held(&[("car", 1)]).await;
        accepted(self.one(Command::Commit(held.token)).await).0
    }
}

/// I9: however often, and by however many consumers at once, an event is delivered, it takes effect once.
pub async fn an_event_takes_effect_once(subject: &Subject) {
    let car = subject.car().await;
    assert_eq!(subject.store.key_mismatches().await.expect("read"), [(car.token, KeyMismatch::Missing)]);
    let committed = event(&car, EventType::Committed, 2);
    let mut tasks = Vec::new();
    for n in 0..100 {
        let store = if n % 2 == 0 { subject.store.clone() } else { subject.other.clone() };
        let committed = committed.clone();
        tasks.push(tokio::spawn(async move {
            let patience = Instant::now() + PATIENCE;
            loop {
                match store.apply("test", &[committed.clone(), committed.clone()]).await {
                    Err(error) if error.is_retryable() && Instant::now() < patience => {}
                    applied => return applied.expect("applied"),
                }
            }
        }));
    }
    let mut all = Applied::default();
    for task in tasks {
        all += task.await.expect("no panic");
    }
    assert_eq!(all, Applied { applied: 1, duplicates: 199, ..Applied::default() });
    let key = subject.store.smart_key(car.token).await.expect("read").expect("issued");
    assert_eq!((key.version, key.revoked_at, key.code().map(|code| code.len())), (2, None, Some(32)));
    assert_eq!(subject.store.key_mismatches().await.expect("read"), []);
    // The code of each reservation is drawn for it.
    let second = subject.car().await;
    subject.store.apply("test", &[event(&second, EventType::Committed, 2)]).await.expect("applied");
    let second = subject.store.smart_key(second.token).await.expect("read").expect("issued");
    assert_ne!(second.code(), key.code());
    // Another consumer has its own inbox, and a SmartKey of the same version or a newer one is not issued again.
    let other = subject.store.apply("another", &[committed]).await.expect("applied");
    assert_eq!((other.applied, other.stale), (0, 1));
    assert_eq!(subject.store.smart_key(car.token).await.expect("read"), Some(key.clone()));

    accepted(subject.one(Command::Cancel(car.token)).await);
    let cancelled = event(&car, EventType::Cancelled, 3);
    subject.other.apply("test", &[cancelled]).await.expect("applied");
    let revoked = subject.store.smart_key(car.token).await.expect("read").expect("kept");
    assert_eq!((revoked.issued, revoked.revoked_at.is_some()), (key.issued, true));
}

/// I9: an event that arrives after a newer one of its reservation changes nothing, also if both arrive at once.
pub async fn a_late_event_changes_nothing(subject: &Subject) {
    for _ in 0..10 {
        let car = subject.car().await;
        accepted(subject.one(Command::Cancel(car.token)).await);
        let (committed, cancelled) =
            (event(&car, EventType::Committed, 2), event(&car, EventType::Cancelled, 3));
        let deliver = |store: Arc<dyn Database>, event: Incoming| async move {
            let patience = Instant::now() + PATIENCE;
            while let Err(error) = store.apply("test", std::slice::from_ref(&event)).await {
                assert!(error.is_retryable() && Instant::now() < patience, "{error}");
            }
        };
        tokio::join!(deliver(subject.store.clone(), cancelled), deliver(subject.other.clone(), committed));
        let key = subject.store.smart_key(car.token).await.expect("read").expect("recorded");
        assert_eq!(key.version, 3);
        assert!(key.revoked_at.is_some(), "no key opens a cancelled reservation");
    }
}

/// An event that the books do not know, or know otherwise, has no effect and is not recorded as applied. It does not
/// matter who wrote it.
pub async fn an_event_that_is_not_in_the_books_is_refused(subject: &Subject) {
    let car = subject.car().await;
    let refused = async |event: Incoming| {
        let applied = subject.store.apply("test", &[event]).await.expect("looked up");
        assert_eq!((applied.applied, applied.stale), (0, 0), "{applied:?}");
        let [refused] = &applied.refused[..] else { panic!("{applied:?}") };
        refused.reason.clone()
    };
    let newer = refused(event(&car, EventType::Cancelled, 1 << 62)).await;
    assert!(newer.contains("is at version 2"), "{newer}");
    let other = refused(event(&car, EventType::Cancelled, 2)).await;
    assert!(other.contains("version 2 of reservation"), "{other}");
    let early = refused(event(&car, EventType::Committed, 1)).await;
    assert!(early.contains("version 1 of reservation"), "{early}");
    let stranger = Reservation { token: Token::from_uuid(Uuid::now_v7()), ..car.clone() };
    let unknown = refused(event(&stranger, EventType::Committed, 2)).await;
    assert!(unknown.contains("is not in the books"), "{unknown}");
    let edge = |resource, version| Incoming {
        subject: crate::envelope::Subject::Resource { id: id(resource), available: 0 },
        ..event(&car, EventType::Depleted, version)
    };
    assert!(refused(edge("boat", 1)).await.contains("boat is not in the books"));
    assert!(refused(edge("car", 1 << 62)).await.contains("car is at version"));
    assert_eq!(subject.store.smart_key(car.token).await.expect("read"), None, "nothing took effect");
    // Valid events of the same batch take effect.
    let batch = [event(&stranger, EventType::Held, 1), event(&car, EventType::Committed, 2), edge("car", 1)];
    let applied = subject.store.apply("test", &batch).await.expect("applied");
    assert_eq!((applied.applied, applied.refused.len(), applied.refused[0].at), (2, 1, 0));
    assert!(subject.store.smart_key(car.token).await.expect("read").is_some());
}

/// An event of a reservation that was purged has no effect, and is no dead letter either, because an operator could
/// do nothing about it.
pub async fn an_event_of_a_purged_reservation_has_no_effect(subject: &Subject) {
    let car = subject.car().await;
    accepted(subject.one(Command::Cancel(car.token)).await);
    subject.publish_all().await;
    subject.pass(Duration::from_millis(100)).await;
    let purged = subject.store.purge_reservations(Duration::ZERO, None, 10).await.expect("purged");
    assert_eq!(purged.deleted, 1);
    let late = event(&car, EventType::Committed, 2);
    let applied = subject.store.apply("test", std::slice::from_ref(&late)).await.expect("applied");
    assert_eq!((applied.applied, applied.stale, applied.refused.len()), (0, 1, 0));
    assert_eq!(subject.store.smart_key(car.token).await.expect("read"), None);
    let again = subject.store.apply("test", &[late]).await.expect("applied");
    assert_eq!(again.duplicates, 1, "it is recorded");
}

/// I9: the record of an applied event is kept as long as demanded, and no longer.
pub async fn old_inbox_rows_are_purged(subject: &Subject) {
    let car = subject.car().await;
    let events: Vec<Incoming> = (0..5).map(|_| event(&car, EventType::Held, 1)).collect();
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    subject.store.apply("test", &events).await.expect("applied");
    let applied = subject.store.applied("test", &ids).await.expect("read");
    assert_eq!(applied, ids.iter().copied().collect::<HashSet<_>>());
    assert!(subject.store.applied("another", &ids).await.expect("read").is_empty());
    let purge = |kept_for, limit| subject.store.purge_inbox(kept_for, limit);
    assert_eq!(purge(Duration::from_secs(3_600), 100).await.expect("purged").deleted, 0);
    subject.pass(Duration::from_millis(100)).await;
    assert_eq!(purge(Duration::ZERO, 3).await.expect("purged").deleted, 3);
    assert_eq!(purge(Duration::ZERO, 3).await.expect("purged").deleted, 2);
}

/// I10: a record that cannot be applied is stored unchanged until it is deleted.
pub async fn dead_letters_are_stored_unchanged(subject: &Subject) {
    let letter = |offset, value: Option<&[u8]>| DeadLetter {
        record: Record {
            key: Some(b"k'\\".to_vec()),
            headers: vec![("ce_id".to_owned(), b"it's".to_vec()), ("ce_id".to_owned(), b"twice".to_vec())],
            value: value.map(<[u8]>::to_vec),
            origin: Origin { topic: "bespeak.events".into(), partition: 3, offset },
        },
        reason: "no JSON: it's \"broken\"".to_owned(),
        attempts: 2,
    };
    let letters = [letter(7, None), letter(8, Some(b"\xff\x00'"))];
    subject.store.store_dead_letters(&letters).await.expect("kept");
    let kept = subject.other.dead_letters(0, 10).await.expect("read");
    assert_eq!(kept.iter().map(|kept| kept.letter.clone()).collect::<Vec<_>>(), letters);
    let ids: BTreeSet<_> = kept.iter().map(|kept| kept.id).collect();
    let after: Vec<_> = subject.store.dead_letters(kept[0].id.offset, 10).await.expect("read");
    assert_eq!((ids.len(), after.len(), after[0].id), (2, 1, kept[1].id));
    let given_up = Uuid::now_v7();
    for deleted in [1, 0] {
        let numbers = [kept[0].id.offset];
        let found = subject.store.delete_dead_letters(&numbers, &[given_up]).await.expect("deleted");
        assert_eq!(found, deleted);
    }
    let [one, two] = [2, 3].map(|offset| crate::store::DeadLetterId { partition: 0, offset });
    let dropped = crate::store::Resolution::Dropped;
    for is_new in [2, 0] {
        let resolved = subject.store.resolve_dead_letters("t.dlq", &[one, two], dropped, &[]).await;
        assert_eq!(resolved.expect("recorded"), is_new);
    }
    let resolved =
        async |topic, offsets| subject.store.resolved_dead_letters(topic, offsets).await.expect("read");
    assert_eq!(resolved("t.dlq", 0..=9).await, [one, two]);
    assert_eq!(resolved("t.dlq", 3..=3).await, [two]);
    assert_eq!(resolved("another", 0..=9).await, []);
    subject.store.forget_resolved_dead_letters("t.dlq", 3).await.expect("forgotten");
    assert_eq!(resolved("t.dlq", 0..=9).await, [two]);
    assert_eq!(
        subject.store.skipped().await.expect("read"),
        HashSet::from([given_up]),
        "as if it were skipped"
    );
}
