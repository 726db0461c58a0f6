//! What is learnt from other processes, and what they are told: whatever comes, in whatever order, however late.

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

fn refuses(memory: &SoldOut, now: Timestamp) -> bool {
    memory.refusal(&hold(1), now).is_some()
}

#[test]
fn what_another_found_is_good_until_fifty_milliseconds_after_it_was_so_by_the_database_s_clock() {
    for (asked_at, refused) in [(0, true), (49, true), (50, false), (5_000, false)] {
        let memory = SoldOut::default();
        memory.learn(short(3, at(0)));
        assert!(memory.covers(&hold(1)), "it came just now");
        assert_eq!(refuses(&memory, at(asked_at)), refused, "{asked_at} ms later");
    }
}

#[test]
fn what_comes_too_late_is_not_even_learnt() {
    let memory = SoldOut::default();
    memory.observe(&found_short(1, at(1_000)));
    memory.observe(&gave_back(2, at(1_001)));
    memory.learn(short(9, at(900)));
    assert!(!memory.covers(&hold(1)));
}

#[test]
fn an_older_version_never_undoes_a_give_back_and_a_newer_one_does() {
    // Whether units were given back here, or elsewhere
    for here in [true, false] {
        let memory = SoldOut::default();
        if here {
            memory.observe(&gave_back(5, at(0)));
        } else {
            memory.learn(short(4, at(0)));
            memory.learn(given_back(5));
        }
        assert!(!refuses(&memory, at(1)));
        memory.learn(short(4, at(1)));
        assert!(!refuses(&memory, at(1)), "it was so before, and comes after");
        memory.learn(short(5, at(2)));
        assert!(refuses(&memory, at(2)), "it was so after");
        memory.learn(given_back(5));
        assert!(refuses(&memory, at(2)), "that give-back is known");
        memory.learn(given_back(6));
        assert!(!refuses(&memory, at(2)));
    }
}

#[test]
fn it_never_outlives_the_next_hold() {
    let memory = SoldOut::default();
    let found = Finding::Short { available: 0, as_of: at(0), next_release_at: Some(at(10)) };
    memory.learn(StockHint { resource: room(), version: 1, found });
    assert!(refuses(&memory, at(9)));
    assert!(!refuses(&memory, at(10)));
}

#[test]
fn fewer_units_than_are_there_are_not_refused() {
    let memory = SoldOut::default();
    let found = Finding::Short { available: 2, as_of: at(0), next_release_at: None };
    memory.learn(StockHint { resource: room(), version: 1, found });
    assert!(memory.refusal(&hold(2), at(0)).is_none());
    let remembered = memory.refusal(&hold(3), at(0)).expect("refused");
    assert!(remembered.from_elsewhere);
    assert!(matches!(remembered.refusal, Refusal::OutOfStock { requested: 3, available: 2, .. }));
}

#[test]
fn others_are_told_once_that_it_is_short_and_once_that_it_is_not() {
    let memory = SoldOut::default();
    let (sender, mut told) = mpsc::channel(8);
    memory.tell(sender);
    memory.observe(&gave_back(1, at(0)));
    assert!(told.try_recv().is_err(), "nobody remembers it as short");
    memory.observe(&found_short(2, at(1)));
    memory.observe(&found_short(2, at(2)));
    assert_eq!(told.try_recv(), Ok(short(2, at(1))));
    assert!(told.try_recv().is_err(), "that again so soon is no news");
    memory.observe(&gave_back(3, at(3)));
    memory.observe(&gave_back(4, at(4)));
    assert_eq!(told.try_recv(), Ok(given_back(3)));
    assert!(told.try_recv().is_err());
}

#[test]
fn who_learnt_it_tells_that_units_were_given_back() {
    let memory = SoldOut::default();
    let (sender, mut told) = mpsc::channel(8);
    memory.tell(sender);
    memory.learn(short(2, at(0)));
    memory.observe(&gave_back(3, at(1)));
    assert_eq!(told.try_recv(), Ok(given_back(3)));
}

#[test]
fn what_does_not_fit_the_queue_is_dropped() {
    let memory = SoldOut::default();
    let (sender, mut told) = mpsc::channel(1);
    memory.tell(sender);
    memory.observe(&found_short(2, at(1)));
    memory.observe(&gave_back(3, at(2)));
    assert_eq!(told.try_recv(), Ok(short(2, at(1))));
    assert!(told.try_recv().is_err(), "there was no place for it");
    assert!(!refuses(&memory, at(3)), "here it is known all the same");
}

#[test]
fn where_others_are_told_the_database_is_asked_again_before_they_forget() {
    let (alone, in_fleet) = (SoldOut::default(), SoldOut::default());
    let (sender, _told) = mpsc::channel(1);
    in_fleet.tell(sender);
    let ago = RENEWED_AFTER + Duration::from_millis(1);
    let read_at = Instant::now().checked_sub(ago).expect("the clock is older");
    for memory in [&alone, &in_fleet] {
        memory.observe(&Executed { read_at, ..found_short(1, at(0)) });
    }
    assert!(!in_fleet.covers(&hold(1)));
    // Unless this machine has just stood still.
    assert_eq!(alone.covers(&hold(1)), read_at.elapsed() < REMEMBERED_FOR);
}
