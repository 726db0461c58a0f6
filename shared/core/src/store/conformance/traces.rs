//! The trace of each event, whatever else shared its transaction.

use std::num::{NonZeroU64, NonZeroU128};

use uuid::Uuid;

use super::{
    HELD, Subject, accepted, id, random_key, reserve,
    webhooks::{LEASE, room},
};
use crate::{
    engine::{Command, EventType, Traced},
    envelope::Incoming,
    store::{CommitMode, OutboxFilter, OutboxRead},
    trace::TraceContext,
};

/// The context of a request, by its number.
fn trace(n: u64) -> TraceContext {
    let span = NonZeroU64::new(n).expect("not 0");
    TraceContext::new(NonZeroU128::from(span), span, n % 2 == 1)
}

fn given(command: Command, n: Option<u64>) -> Traced {
    Traced { command, trace: n.map(trace) }
}

impl Subject {
    /// The key, type and trace of each event, in order, as relays and operators read them.
    async fn traced(&self) -> Vec<(String, String, Option<TraceContext>)> {
        let shards: Vec<u8> = (0..64).collect();
        let waiting = self.store.unpublished(&OutboxRead::oldest(&shards, 1_000)).await.expect("read").events;
        let filter = OutboxFilter { limit: 1_000, ..OutboxFilter::default() };
        let shown = self.other.outbox_rows(&filter).await.expect("read");
        assert_eq!(waiting, shown.into_iter().map(|row| row.event).collect::<Vec<_>>());
        waiting.into_iter().map(|event| (event.key, event.kind, event.trace)).collect()
    }
}

/// Commands of many requests share a transaction, and each event carries the trace of the request that caused it, or
/// none.
pub async fn events_carry_the_traces_of_their_requests(subject: &Subject) {
    subject.stock("seat", 3).await;
    let holds: Vec<_> = (0..3).map(|_| reserve(&random_key(), &[("seat", 1)], HELD.as_secs())).collect();
    let reserve_for = |n: usize| Command::Reserve(holds[n].clone());
    let tokens: Vec<String> = holds.iter().map(|hold| hold.token.to_string()).collect();
    let sold_out = Command::Reserve(reserve(&random_key(), &[("seat", 1)], 10));
    let batch = [
        given(reserve_for(0), Some(11)),
        given(reserve_for(1), None),
        given(Command::Commit(holds[1].token), Some(12)),
        given(reserve_for(2), Some(13)),
        given(sold_out, Some(14)),
    ];
    let executed = subject.store.execute_traced(&batch, CommitMode::Commit).await.expect("executed");
    assert!(executed.outcomes[..4].iter().all(Result::is_ok) && executed.outcomes[4].is_err());
    let event =
        |key: &str, kind: EventType, n: Option<u64>| (key.to_owned(), kind.as_str().to_owned(), n.map(trace));
    let mut expected = vec![
        event(&tokens[0], EventType::Held, Some(11)),
        event(&tokens[1], EventType::Held, None),
        event(&tokens[1], EventType::Committed, Some(12)),
        event(&tokens[2], EventType::Held, Some(13)),
        event("seat", EventType::Depleted, Some(13)),
    ];
    assert_eq!(subject.traced().await, expected);
    // The expiries on demand are caused by the hold that takes their units.
    subject.pass(HELD).await;
    let next = reserve(&random_key(), &[("seat", 2)], 60);
    let made = [given(Command::Reserve(next.clone()), Some(15))];
    let executed = subject.store.execute_traced(&made, CommitMode::Commit).await.expect("executed");
    accepted(executed.outcomes.into_iter().next().expect("one"));
    let all = subject.traced().await;
    let mut then: Vec<_> = all[expected.len()..].to_vec();
    // Both were due at the same time, so their order is not fixed.
    then.sort_by_key(|(key, ..)| tokens.iter().position(|token| token == key));
    expected = vec![
        event(&next.token.to_string(), EventType::Held, Some(15)),
        event(&tokens[0], EventType::Expired, Some(15)),
        event(&tokens[2], EventType::Expired, Some(15)),
    ];
    assert_eq!(then, expected);
    subject.assert_consistent().await;
}

/// A delivery carries the trace of its event at each attempt.
pub async fn a_delivery_carries_the_trace_of_its_event(subject: &Subject) {
    subject.endpoint(1).await;
    let now = subject.now().await;
    let depleted = |version, trace| Incoming {
        event_id: Uuid::now_v7(),
        kind: EventType::Depleted,
        at: now,
        subject: crate::envelope::Subject::Resource { id: id("seat"), available: 0 },
        version,
        source: "/test".into(),
        payload: "{}".into(),
        trace,
    };
    // The books confirm events of a version that the resource has.
    subject.stock("seat", 1).await;
    let events = [depleted(1, Some(trace(21))), depleted(1, None), depleted(1, Some(trace(22)))];
    subject.store.apply("traces", &events).await.expect("applied");
    for _ in 0..2 {
        let claimed = subject.webhooks[0].claim_deliveries(&room(8), LEASE).await.expect("claimed");
        let mut found: Vec<_> = claimed.iter().map(|claimed| (claimed.event_id, claimed.trace)).collect();
        let mut expected: Vec<_> = events.iter().map(|event| (event.event_id, event.trace)).collect();
        found.sort_by_key(|(event, _)| *event);
        expected.sort_by_key(|(event, _)| *event);
        assert_eq!(found, expected);
        let claims: Vec<_> = claimed.iter().map(|claimed| (claimed.delivery, claimed.claim)).collect();
        subject.webhooks[0].give_back(&claims).await.expect("given back");
    }
}
