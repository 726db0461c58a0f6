//! Tests of the hints between processes: a hint may arrive late, twice or in any order without causing a wrong
//! refusal.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::*;
use crate::engine::{
    Accepted, IdempotencyKey, Item, Items, Limits, Quantity, ReserveDraft, Resource, ResourceChange, Token,
};

/// An instant of the database's clock.
fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).expect("an instant")
}

fn room() -> ResourceId {
    ResourceId::new("id", "room").expect("an id")
}

fn hold(units: u64) -> Reserve {
    let limits = Limits::default();
    let quantity = Quantity::new("quantity", units).expect("a quantity");
    let items = Items::new(vec![Item { resource_id: room(), quantity }], &limits).expect("items");
    let ttl = limits.ttl("ttl", Some(60)).expect("a TTL");
    let key = IdempotencyKey::new("key").expect("a key");
    let draft = ReserveDraft { items, ttl, holder: None, metadata: None, key };
    draft.with_token(Token::from_uuid(Uuid::from_u128(1)))
}

fn short(version: u64, as_of: Timestamp) -> StockHint {
    let found = Finding::Short { available: 0, as_of, next_release_at: None };
    StockHint { resource: room(), version, found }
}

fn given_back(version: u64) -> StockHint {
    StockHint { resource: room(), version, found: Finding::GivenBack }
}

fn executed(outcome: Outcome, version: u64, now: Timestamp) -> Executed {
    let versions = vec![(room(), version)];
    Executed {
        outcomes: vec![outcome],
        expired_on_demand: 0,
        events: 0,
        round_trips: 0,
        read_at: Instant::now(),
        now,
        versions,
    }
}

fn found_short(version: u64, now: Timestamp) -> Executed {
    let refusal =
        Refusal::OutOfStock { resource_id: room(), requested: 1, available: 0, next_release_at: None };
    executed(Err(refusal), version, now)
}

fn gave_back(version: u64, now: Timestamp) -> Executed {
    let resource = Resource {
        id: room(),
        total: 1,
        available: 1,
        version,
        fulfilment: crate::engine::Fulfilment::None,
        created_at: now,
        updated_at: now,
    };
    executed(Ok(Accepted::Resource { resource, change: ResourceChange::Unchanged }), version, now)
}

fn refuses(memory: &SoldOutMemory, now: Timestamp) -> bool {
    memory.refusal(&hold(1), now).is_some()
}

#[test]
fn a_finding_of_another_process_is_valid_for_fifty_milliseconds_by_the_database_s_clock() {
    for (at_millis, refused) in [(0, true), (49, true), (50, false), (5_000, false)] {
        let memory = SoldOutMemory::default();
        memory.learn(short(3, at(0)));
        assert!(memory.covers(&hold(1)), "it arrived just now");
        assert_eq!(refuses(&memory, at(at_millis)), refused, "{at_millis} ms later");
    }
}

#[test]
fn a_hint_that_arrives_too_late_is_not_learnt() {
    let memory = SoldOutMemory::default();
    memory.observe(&found_short(1, at(1_000)));
    memory.observe(&gave_back(2, at(1_001)));
    memory.learn(short(9, at(900)));
    assert!(!memory.covers(&hold(1)));
}

#[test]
fn an_older_version_never_undoes_a_give_back_and_a_newer_one_does() {
    // Units were given back by this process, or by another one.
    for here in [true, false] {
        let memory = SoldOutMemory::default();
        if here {
            memory.observe(&gave_back(5, at(0)));
        } else {
            memory.learn(short(4, at(0)));
            memory.learn(given_back(5));
        }
        assert!(!refuses(&memory, at(1)));
        memory.learn(short(4, at(1)));
        assert!(!refuses(&memory, at(1)), "an older finding that arrives later");
        memory.learn(short(5, at(2)));
        assert!(refuses(&memory, at(2)), "a newer finding");
        memory.learn(given_back(5));
        assert!(refuses(&memory, at(2)), "that give-back is known already");
        memory.learn(given_back(6));
        assert!(!refuses(&memory, at(2)));
    }
}

#[test]
fn a_finding_never_outlives_the_next_hold() {
    let memory = SoldOutMemory::default();
    let found = Finding::Short { available: 0, as_of: at(0), next_release_at: Some(at(10)) };
    memory.learn(StockHint { resource: room(), version: 1, found });
    assert!(refuses(&memory, at(9)));
    assert!(!refuses(&memory, at(10)));
}

#[test]
fn a_hold_of_no_more_units_than_are_available_is_not_refused() {
    let memory = SoldOutMemory::default();
    let found = Finding::Short { available: 2, as_of: at(0), next_release_at: None };
    memory.learn(StockHint { resource: room(), version: 1, found });
    assert!(memory.refusal(&hold(2), at(0)).is_none());
    let remembered = memory.refusal(&hold(3), at(0)).expect("refused");
    assert!(remembered.from_elsewhere);
    assert!(matches!(remembered.refusal, Refusal::OutOfStock { requested: 3, available: 2, .. }));
}

#[test]
fn a_shortage_and_its_end_are_each_announced_once() {
    let memory = SoldOutMemory::default();
    let (sender, mut announced) = mpsc::channel(8);
    memory.announce_to(sender);
    memory.observe(&gave_back(1, at(0)));
    assert!(announced.try_recv().is_err(), "no process remembers a shortage");
    memory.observe(&found_short(2, at(1)));
    memory.observe(&found_short(2, at(2)));
    assert_eq!(announced.try_recv(), Ok(short(2, at(1))));
    assert!(announced.try_recv().is_err(), "the same finding again, too soon");
    memory.observe(&gave_back(3, at(3)));
    memory.observe(&gave_back(4, at(4)));
    assert_eq!(announced.try_recv(), Ok(given_back(3)));
    assert!(announced.try_recv().is_err());
}

#[test]
fn a_process_that_learnt_of_a_shortage_announces_the_give_back() {
    let memory = SoldOutMemory::default();
    let (sender, mut announced) = mpsc::channel(8);
    memory.announce_to(sender);
    memory.learn(short(2, at(0)));
    memory.observe(&gave_back(3, at(1)));
    assert_eq!(announced.try_recv(), Ok(given_back(3)));
}

#[test]
fn an_announcement_that_does_not_fit_the_queue_is_dropped() {
    let memory = SoldOutMemory::default();
    let (sender, mut announced) = mpsc::channel(1);
    memory.announce_to(sender);
    memory.observe(&found_short(2, at(1)));
    memory.observe(&gave_back(3, at(2)));
    assert_eq!(announced.try_recv(), Ok(short(2, at(1))));
    assert!(announced.try_recv().is_err(), "the queue was full");
    assert!(!refuses(&memory, at(3)), "this process knows it all the same");
}

#[test]
fn a_process_that_announces_queries_the_database_before_the_others_forget() {
    let (alone, shared) = (SoldOutMemory::default(), SoldOutMemory::default());
    let (sender, _announced) = mpsc::channel(1);
    shared.announce_to(sender);
    let ago = RENEWED_AFTER + Duration::from_millis(1);
    let read_at = Instant::now().checked_sub(ago).expect("the clock is older");
    for memory in [&alone, &shared] {
        memory.observe(&Executed { read_at, ..found_short(1, at(0)) });
    }
    assert!(!shared.covers(&hold(1)));
    // Unless this machine has just been paused.
    assert_eq!(alone.covers(&hold(1)), read_at.elapsed() < REMEMBERED_FOR);
}

/// A forged hint, or the memory of a database that was restored since, may name a version above every real one. It
/// counts no longer than twice the time for which a shortage is remembered.
#[test]
fn a_version_that_is_too_high_is_soon_forgotten() {
    let forged = || {
        let found = Finding::Short { available: 9, as_of: Timestamp::MAX, next_release_at: None };
        [given_back(u64::MAX), StockHint { resource: room(), version: u64::MAX, found }]
    };
    for hint in forged() {
        let memory = SoldOutMemory::default();
        let forged_at = Instant::now();
        memory.learn(hint.clone());
        let deadline = forged_at + Duration::from_secs(10);
        // This process finds the resource sold out each time, until it remembers that.
        loop {
            memory.observe(&found_short(3, at(1_000)));
            if memory.covers(&hold(1)) {
                break;
            }
            assert!(Instant::now() < deadline, "{hint:?} still counts");
            std::thread::yield_now();
        }
        assert!(forged_at.elapsed() >= COUNTS_FOR, "{hint:?} counted for {:?}", forged_at.elapsed());
    }
    // A finding of another process is learnt again, too
    for hint in forged() {
        let memory = SoldOutMemory::default();
        memory.learn(hint);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !memory.covers(&hold(1)) {
            memory.learn(short(3, at(1_000)));
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
