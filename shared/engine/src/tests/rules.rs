//! Rules that a random sequence rarely reaches, each as a story.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::*;

fn id(id: &str) -> ResourceId {
    ResourceId::new("id", id).expect("valid")
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn resource(name: &str, total: u64, available: u64) -> Resource {
    Resource {
        id: id(name),
        total,
        available,
        version: 1,
        fulfilment: Fulfilment::None,
        created_at: start(),
        updated_at: start(),
    }
}

fn reserve(key: &str, items: &[(&str, u64)]) -> Reserve {
    let items = items
        .iter()
        .map(|(name, units)| Item {
            resource_id: id(name),
            quantity: Quantity::new("q", *units).expect("valid"),
        })
        .collect();
    let limits = Limits::default();
    ReserveDraft {
        items: Items::new(items, &limits).expect("valid"),
        ttl: Ttl::new("ttl", 10).expect("valid"),
        holder: None,
        metadata: None,
        key: IdempotencyKey::new(key).expect("valid"),
    }
    .with_token(Token::from_uuid(Uuid::now_v7()))
}

/// A hold as it is stored, made at the start.
fn held(key: &str, items: &[(&str, u64)]) -> Reservation {
    let Reserve { token, items, ttl, key, fingerprint, .. } = reserve(key, items);
    Reservation {
        token,
        items,
        status: Status::Held,
        holder: None,
        metadata: None,
        key,
        fingerprint,
        version: 1,
        created_at: start(),
        expires_at: start() + ttl.duration(),
        updated_at: start(),
    }
}

fn kinds(changes: &Changes) -> Vec<EventType> {
    changes.events.iter().map(|event| event.kind).collect()
}

#[test]
fn a_hold_that_takes_the_last_unit_is_held_then_depleted() {
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 1, 1));
    apply(&mut set, &Command::Reserve(reserve("k", &[("room", 1)])), start()).expect("accepted");
    let changes = set.into_changes();
    assert_eq!(kinds(&changes), [EventType::Held, EventType::Depleted]);
    assert_eq!(changes.events[1].version, changes.updated_resources[0].resource.version);
}

#[test]
fn all_or_nothing_one_short_item_refuses_the_whole_and_names_the_first_short_one() {
    let mut set = WorkingSet::new();
    set.add_resource(resource("a", 5, 5));
    set.add_resource(resource("b", 5, 1));
    set.add_resource(resource("c", 5, 0));
    let outcome = apply(&mut set, &Command::Reserve(reserve("k", &[("c", 1), ("b", 2), ("a", 1)])), start());
    let refusal =
        Refusal::OutOfStock { resource_id: id("b"), requested: 2, available: 1, next_release_at: None };
    assert_eq!(outcome, Err(refusal));
    assert_eq!(set.short().iter().collect::<Vec<_>>(), [&id("b"), &id("c")]);
    assert!(set.into_changes().is_empty());
}

#[test]
fn selling_an_overdue_unit_is_no_edge_and_expires_only_what_it_must() {
    let (first, second) = (held("1", &[("room", 1)]), held("2", &[("room", 1)]));
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 2, 0));
    for hold in [&first, &second] {
        set.add_reservation(hold.clone());
        set.offer_overdue(hold.token);
    }
    let later = start() + Duration::from_secs(10);
    apply(&mut set, &Command::Reserve(reserve("k", &[("room", 1)])), later)
        .expect("sellable at that instant");
    let statuses = [first, second].map(|hold| set.reservation(hold.token).expect("known").status);
    assert_eq!(statuses.iter().filter(|status| **status == Status::Expired).count(), 1);
    assert_eq!(kinds(&set.into_changes()), [EventType::Expired, EventType::Held]);
}

#[test]
fn an_expiry_whose_hold_is_refused_anyway_is_not_written() {
    let overdue = held("1", &[("room", 1)]);
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 1, 0));
    set.add_reservation(overdue.clone());
    set.offer_overdue(overdue.token);
    let later = start() + Duration::from_secs(10);
    let outcome = apply(&mut set, &Command::Reserve(reserve("k", &[("room", 2)])), later);
    let refusal =
        Refusal::OutOfStock { resource_id: id("room"), requested: 2, available: 1, next_release_at: None };
    assert_eq!(outcome, Err(refusal), "the overdue unit counts as available");
    assert!(set.into_changes().is_empty());
}

#[test]
fn a_hold_ends_at_its_instant_and_not_a_microsecond_earlier() {
    let hold = held("1", &[("room", 1)]);
    for (micros_early, ends) in [(1, false), (0, true)] {
        let mut set = WorkingSet::new();
        set.add_resource(resource("room", 1, 0));
        set.add_reservation(hold.clone());
        let now = hold.expires_at - Duration::from_micros(micros_early);
        let outcome = apply(&mut set, &Command::Commit(hold.token), now);
        assert_eq!(outcome.is_err(), ends, "{micros_early} microseconds early");
    }
}

#[test]
fn lowering_a_total_gives_overdue_holds_back_first() {
    let overdue = held("1", &[("room", 2)]);
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 3, 1));
    set.add_reservation(overdue.clone());
    set.offer_overdue(overdue.token);
    let define = Command::Define(Define { resource_id: id("room"), total: 1, fulfilment: None });
    assert_eq!(
        apply(&mut set, &define, start()),
        Err(Refusal::StockInUse { resource_id: id("room"), requested_total: 1, in_use: 2 })
    );
    let Ok(Accepted::Resource { resource, change }) =
        apply(&mut set, &define, start() + Duration::from_secs(10))
    else {
        panic!("the overdue units are free");
    };
    assert_eq!((resource.total, resource.available), (1, 1));
    assert_eq!(change, ResourceChange::Changed { previous_total: 3 });
}

#[test]
fn a_replay_finds_its_reservation_as_it_is_now_even_when_sold_out() {
    let hold = held("k", &[("room", 1)]);
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 1, 0));
    set.add_reservation(hold.clone());
    let again = Command::Reserve(reserve("k", &[("room", 1)]));
    let last_instant = hold.expires_at - Duration::from_micros(1);
    let Ok(Accepted::Reservation { reservation, change }) = apply(&mut set, &again, last_instant) else {
        panic!("a replay finds its reservation");
    };
    assert_eq!((reservation.token, reservation.status, change), (hold.token, Status::Held, Change::Replayed));
    let expired = Reservation { status: Status::Expired, ..hold.clone() };
    assert_eq!(
        apply(&mut set, &again, hold.expires_at),
        Err(Refusal::ReservationEnded { reservation: Box::new(expired) }),
        "a client must not charge for a hold that has ended"
    );
    let other = Command::Reserve(reserve("k", &[("room", 2)]));
    assert_eq!(apply(&mut set, &other, start()), Err(Refusal::KeyReused));
    assert!(set.into_changes().is_empty());
}

/// Also for the very command that made the reservation, if it runs again because its COMMIT was not answered.
#[test]
fn no_retry_of_an_ended_reservation_is_accepted() {
    let made = held("k", &[("room", 1)]);
    for status in [Status::Held, Status::Committed, Status::Released, Status::Expired, Status::Cancelled] {
        let mut command = reserve("k", &[("room", 1)]);
        for token in [command.token, made.token] {
            command.token = token;
            let mut set = WorkingSet::new();
            set.add_resource(resource("room", 1, u64::from(!status.takes_stock())));
            set.add_reservation(Reservation { status, ..made.clone() });
            let outcome = apply(&mut set, &Command::Reserve(command.clone()), start());
            if status.takes_stock() {
                assert!(outcome.is_ok(), "{status}: {outcome:?}");
            } else {
                let refusal = outcome.expect_err("its units are gone");
                assert_eq!(
                    (refusal.slug(), refusal.reservation_status()),
                    ("reservation-ended", Some(status))
                );
            }
            assert!(set.into_changes().is_empty(), "{status}");
        }
    }
}

#[test]
fn two_requests_of_one_key_in_one_batch_make_one_reservation() {
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 5, 5));
    let tokens: Vec<_> = (0..2)
        .map(|_| match apply(&mut set, &Command::Reserve(reserve("k", &[("room", 1)])), start()) {
            Ok(Accepted::Reservation { reservation, .. }) => reservation.token,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(set.into_changes().created_reservations.len(), 1);
}

#[test]
fn an_event_carries_the_data_of_its_reservation() {
    let limits = Limits::default();
    let mut command = reserve("k", &[("room", 1)]);
    command.holder = Some(Holder::new("ann").expect("valid"));
    let metadata = serde_json::json!({"b": 1, "a": {"d": 1, "c": 2}});
    let metadata = serde_json::value::to_raw_value(&metadata).expect("JSON");
    command.metadata = Some(Arc::new(Metadata::new(&metadata, &limits).expect("valid")));
    let mut set = WorkingSet::new();
    set.add_resource(resource("room", 1, 1));
    apply(&mut set, &Command::Reserve(command.clone()), start()).expect("accepted");
    let payload = serde_json::to_value(&set.into_changes().events[0].payload).expect("JSON");
    assert_eq!(
        payload,
        serde_json::json!({
            "token": command.token, "version": 1, "status": "HELD", "holder": "ann",
            "items": [{"resourceId": "room", "quantity": 1}], "metadata": {"a": {"c": 2, "d": 1}, "b": 1},
            "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:00:10Z",
        })
    );
}

/// OpenReserve tells of every give-back. What is sold again by the same command was not given back.
#[test]
fn every_give_back_is_an_event_if_that_is_chosen() {
    for (reported, expected) in [(ReportedStock::Edges, 0), (ReportedStock::EveryGiveBack, 1)] {
        let hold = held("1", &[("room", 2)]);
        let mut set = WorkingSet::new();
        set.report_stock(reported);
        set.add_resource(resource("room", 9, 3));
        set.add_reservation(hold.clone());
        apply(&mut set, &Command::Release(hold.token), start()).expect("released");
        apply(&mut set, &Command::Reserve(reserve("2", &[("room", 1)])), start()).expect("held");
        let events = set.into_changes().events;
        let of_stock: Vec<_> = events.iter().filter(|event| event.kind == EventType::Restored).collect();
        assert_eq!(of_stock.len(), expected, "{reported:?}: {events:?}");
        for event in of_stock {
            assert!(matches!(event.payload, Payload::Resource { available_stock: 5, .. }), "{event:?}");
        }
    }
}

#[test]
fn an_overdue_unit_that_is_sold_again_at_once_is_no_give_back() {
    let overdue = held("1", &[("room", 1)]);
    let mut set = WorkingSet::new();
    set.report_stock(ReportedStock::EveryGiveBack);
    set.add_resource(resource("room", 1, 0));
    set.add_reservation(overdue.clone());
    set.offer_overdue(overdue.token);
    apply(&mut set, &Command::Reserve(reserve("2", &[("room", 1)])), overdue.expires_at).expect("held");
    let kinds: Vec<_> = set.into_changes().events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventType::Expired, EventType::Held]);
}
