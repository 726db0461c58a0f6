//! The rules of effects: the result of each order of events.

use std::collections::HashSet;

use uuid::Uuid;

use super::*;
use crate::engine::{EventType, Timestamp};

const NOW: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn car() -> ResourceId {
    ResourceId::new("id", "car").unwrap()
}

fn token() -> Token {
    Token::from_uuid(Uuid::from_u128(7))
}

fn event(kind: EventType, version: u64) -> Incoming {
    Incoming {
        event_id: Uuid::from_u128(u128::from(version)),
        kind,
        at: now(),
        subject: Subject::Reservation { token: token(), resources: vec![car()] },
        version,
        source: "test".into(),
        payload: "{}".into(),
        trace: None,
    }
}

/// Bytes that differ from event to event, in place of random ones.
fn random_of(event: &Incoming) -> [u8; 16] {
    *blake3::hash(event.event_id.as_bytes()).as_bytes().first_chunk().unwrap()
}

/// Applies a batch; `opened` says whether the car has a smart lock, `known` is the key that was there before.
fn after(opened: bool, known: Option<SmartKey>, events: &[Incoming]) -> (EffectChanges, Vec<EffectOutcome>) {
    let opened = opened.then(car).into_iter().collect();
    let mut set = EffectSet::new(now(), opened, known.into_iter().collect(), Vec::new());
    let outcomes = events.iter().map(|event| apply(event, random_of(event), &mut set)).collect();
    (set.into_changes(), outcomes)
}

#[test]
fn a_commit_issues_a_key_once_and_a_cancel_revokes_it() {
    let (changes, _) = after(true, None, &[event(EventType::Held, 1), event(EventType::Committed, 2)]);
    let [key] = &changes.created_keys[..] else { panic!("{changes:?}") };
    assert_eq!(key.code().map(|code| code.len()), Some(32));
    assert_eq!((key.version, key.revoked_at), (2, None));
    assert!(!format!("{key:?}").contains(&key.code().unwrap()), "a log must not show the code");
    let (changes, _) = after(true, Some(key.clone()), &[event(EventType::Cancelled, 3)]);
    let [revoked] = &changes.updated_keys[..] else { panic!("{changes:?}") };
    assert_eq!((revoked.issued, revoked.revoked_at), (key.issued, Some(now())));
}

#[test]
fn a_late_commit_issues_nothing_after_its_cancel() {
    let (changes, _) = after(true, None, &[event(EventType::Cancelled, 3)]);
    let [cancelled] = &changes.created_keys[..] else { panic!("{changes:?}") };
    assert_eq!((cancelled.issued, cancelled.version), (None, 3));
    let (changes, outcomes) = after(true, Some(cancelled.clone()), &[event(EventType::Committed, 2)]);
    assert_eq!(
        (outcomes, changes.updated_keys, changes.created_keys),
        (vec![EffectOutcome::Stale], vec![], vec![])
    );
}

#[test]
fn a_resource_without_a_smart_lock_gets_no_key() {
    let (changes, outcomes) = after(false, None, &[event(EventType::Committed, 2)]);
    assert_eq!((outcomes, changes.created_keys), (vec![EffectOutcome::Done], vec![]));
}

#[test]
fn a_code_is_the_random_bytes_that_were_drawn_for_its_event() {
    let issuing = event(EventType::Committed, 2);
    let (changes, _) = after(true, None, &[event(EventType::Held, 1), issuing.clone()]);
    let issued = changes.created_keys[0].issued.unwrap();
    assert_eq!(issued, (random_of(&issuing), now()));
}

#[test]
fn an_endpoint_gets_the_events_of_its_filter_in_their_formats() {
    let subscription = |n, filter| Subscription {
        endpoint_id: Uuid::from_u128(n),
        filter: crate::webhooks::EventFilter::parse(filter).unwrap(),
        is_full: n == 9,
    };
    let mut set = EffectSet::new(
        now(),
        HashSet::new(),
        Vec::new(),
        vec![
            subscription(1, ""),
            subscription(2, "bespeak.stock.*"),
            subscription(3, "bespeak.reservation.held.v1"),
        ],
    );
    let depleted =
        Incoming { subject: Subject::Resource { id: car(), available: 0 }, ..event(EventType::Depleted, 4) };
    apply(&event(EventType::Held, 1), [0; 16], &mut set);
    apply(&depleted, [0; 16], &mut set);
    let deliveries = set.into_changes().deliveries;
    let enqueued: Vec<_> = deliveries.iter().map(|new| (new.endpoint_id.as_u128(), new.kind)).collect();
    let (held, depleted) = (EventType::Held, EventType::Depleted);
    assert_eq!(enqueued, [(1, held), (3, held), (1, depleted), (2, depleted)]);
    assert_eq!(
        &*deliveries[3].body,
        concat!(
            r#"{"type":"STOCK_DEPLETED","resourceId":"car","value":0,"timestamp":"2026-01-01T00:00:00Z","#,
            r#""version":4,"eventId":"00000000-0000-0000-0000-000000000004"}"#
        )
    );
    let body: serde_json::Value = serde_json::from_str(&deliveries[0].body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]),
        (&"bespeak.reservation.held.v1".into(), &serde_json::json!({}))
    );
}

#[test]
fn a_key_is_revoked_even_if_its_resource_lost_its_smart_lock() {
    let (changes, _) = after(true, None, &[event(EventType::Committed, 2)]);
    let key = changes.created_keys[0].clone();
    let (changes, _) = after(false, Some(key), &[event(EventType::Cancelled, 3)]);
    assert_eq!(changes.updated_keys[0].revoked_at, Some(now()));
}
