//! The rules of effects: what each order of events leads to.

use super::*;
use uuid::Uuid;

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

/// What a batch leads to, where `opened` says whether a key opens the car, from what was known before.
fn after(opened: bool, known: Option<SmartKey>, events: &[Incoming]) -> (EffectChanges, Vec<Effected>) {
    let opened = opened.then(car).into_iter().collect();
    let mut set = EffectSet::new(now(), opened, known.into_iter().collect(), Vec::new());
    let became = events.iter().map(|event| set.apply(event)).collect();
    (set.into_changes(), became)
}

#[test]
fn a_commit_issues_a_key_once_and_a_cancel_revokes_it() {
    let (changes, _) = after(true, None, &[event(EventType::Held, 1), event(EventType::Committed, 2)]);
    let [key] = &changes.created_keys[..] else { panic!("{changes:?}") };
    assert_eq!(key.code().map(|code| code.len()), Some(32));
    assert_eq!((key.version, key.revoked_at), (2, None));
    assert!(!format!("{key:?}").contains(&key.code().unwrap()), "a log must not show it");
    let (changes, _) = after(true, Some(key.clone()), &[event(EventType::Cancelled, 3)]);
    let [revoked] = &changes.updated_keys[..] else { panic!("{changes:?}") };
    assert_eq!((revoked.issued, revoked.revoked_at), (key.issued, Some(now())));
}

#[test]
fn a_late_commit_issues_nothing_after_its_cancel() {
    let (changes, _) = after(true, None, &[event(EventType::Cancelled, 3)]);
    let [cancelled] = &changes.created_keys[..] else { panic!("{changes:?}") };
    assert_eq!((cancelled.issued, cancelled.version), (None, 3));
    let (changes, became) = after(true, Some(cancelled.clone()), &[event(EventType::Committed, 2)]);
    assert_eq!((became, changes.updated_keys, changes.created_keys), (vec![Effected::Stale], vec![], vec![]));
}

#[test]
fn what_no_key_opens_gets_none() {
    let (changes, became) = after(false, None, &[event(EventType::Committed, 2)]);
    assert_eq!((became, changes.created_keys), (vec![Effected::Done], vec![]));
}

#[test]
fn keys_differ() {
    let code = || {
        let (changes, _) = after(true, None, &[event(EventType::Committed, 2)]);
        changes.created_keys[0].code().unwrap()
    };
    let codes: HashSet<String> = (0..1_000).map(|_| code()).collect();
    assert_eq!(codes.len(), 1_000);
}

#[test]
fn an_endpoint_is_told_what_it_wants_and_how() {
    let wants = |n, filter| Subscription {
        endpoint_id: Uuid::from_u128(n),
        filter: crate::webhooks::EventFilter::parse(filter).unwrap(),
    };
    let mut set = EffectSet::new(
        now(),
        HashSet::new(),
        Vec::new(),
        vec![wants(1, ""), wants(2, "bespeak.stock.*"), wants(3, "bespeak.reservation.held.v1")],
    );
    let depleted =
        Incoming { subject: Subject::Resource { id: car(), available: 0 }, ..event(EventType::Depleted, 4) };
    set.apply(&event(EventType::Held, 1));
    set.apply(&depleted);
    let deliveries = set.into_changes().deliveries;
    let told: Vec<_> = deliveries.iter().map(|new| (new.endpoint_id.as_u128(), new.kind)).collect();
    let (held, depleted) = (EventType::Held, EventType::Depleted);
    assert_eq!(told, [(1, held), (3, held), (1, depleted), (2, depleted)]);
    assert_eq!(
        &*deliveries[3].body,
        r#"{"type":"STOCK_DEPLETED","resourceId":"car","value":0,"timestamp":"2026-01-01T00:00:00Z"}"#
    );
    let body: serde_json::Value = serde_json::from_str(&deliveries[0].body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]),
        (&"bespeak.reservation.held.v1".into(), &serde_json::json!({}))
    );
}

#[test]
fn a_key_is_revoked_whatever_its_resource_became() {
    let (changes, _) = after(true, None, &[event(EventType::Committed, 2)]);
    let key = changes.created_keys[0].clone();
    let (changes, _) = after(false, Some(key), &[event(EventType::Cancelled, 3)]);
    assert_eq!(changes.updated_keys[0].revoked_at, Some(now()));
}
