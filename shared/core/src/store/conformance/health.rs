//! The health of webhook endpoints: the circuit breaker, the reasons to disable an endpoint, and what is kept for it.

use super::{
    webhooks::{LEASE, room},
    *,
};
use crate::{
    effects::NewDelivery,
    engine::{EventType, Timestamp},
    store::webhooks::AttemptOutcome,
    webhooks::{
        Circuit, DeliveryStatus, Endpoint, EndpointChange, FAILURES_TO_OPEN, GONE_FOR, GONE_TO_DISABLE,
    },
};

const RETRY: AttemptOutcome = AttemptOutcome::Retry { after: Duration::ZERO };

impl Subject {
    async fn circuit(&self, endpoint: &Endpoint) -> Circuit {
        let report = self.webhooks[1].endpoint_health().await.expect("read");
        report.endpoints.get(&endpoint.id).copied().unwrap_or_default().circuit(report.now)
    }
}

/// After failures in a row nothing is sent to an endpoint for a while; then one delivery of all processes probes it,
/// and its result closes the circuit or opens it for longer.
pub async fn a_failing_endpoint_is_paused_and_probed(subject: &Subject) {
    let (failing, healthy) = (subject.endpoint(1).await, subject.endpoint(2).await);
    subject.enqueued(&failing, 9).await;
    for n in 1..FAILURES_TO_OPEN {
        subject.attempted(RETRY, None).await;
        assert_eq!(subject.circuit(&failing).await, Circuit::Closed, "after {n} failures");
    }
    let last = subject.claims(0, 1).await.pop().expect("due");
    let recorded = subject.record(&last, RETRY, Some(503)).await;
    assert_eq!(recorded.opened, [failing.id]);
    assert!(matches!(subject.circuit(&failing).await, Circuit::Open(_)));
    subject.enqueued(&healthy, 1).await;
    let claimed = subject.claims(0, 9).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.to.endpoint).collect::<Vec<_>>(), [healthy.id]);

    subject.pass(Duration::from_secs(5)).await;
    assert_eq!(subject.circuit(&failing).await, Circuit::HalfOpen);
    let probes = [subject.claims(0, 9).await, subject.claims(1, 9).await].concat();
    let probes: Vec<_> = probes.iter().filter(|claimed| claimed.to.endpoint == failing.id).collect();
    assert!(probes.len() == 1 && probes[0].is_probe, "one probe of all processes: {probes:?}");
    subject.record(probes[0], RETRY, None).await;
    subject.pass(Duration::from_secs(6)).await;
    assert!(matches!(subject.circuit(&failing).await, Circuit::Open(_)), "for longer than before");
    subject.pass(Duration::from_secs(5)).await;
    let probe = subject.claims(1, 9).await;
    let probe = probe.iter().find(|claimed| claimed.to.endpoint == failing.id).expect("half open");
    subject.record(probe, AttemptOutcome::Delivered, Some(200)).await;
    assert_eq!(subject.circuit(&failing).await, Circuit::Closed);
    let rest = subject.claims(0, 99).await;
    assert_eq!(rest.iter().filter(|claimed| claimed.to.endpoint == failing.id).count(), 8, "all go on");
}

/// However many dispatchers look at the same time, one of them probes an endpoint.
pub async fn dispatchers_at_the_same_time_make_one_probe(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    subject.enqueued(&endpoint, 9).await;
    for _ in 0..FAILURES_TO_OPEN {
        subject.attempted(RETRY, None).await;
    }
    subject.pass(Duration::from_secs(5)).await;
    let claims: Vec<_> = (0..8)
        .map(|n| {
            let store = subject.webhooks[n % 2].clone();
            let lease = Duration::from_secs(600);
            tokio::spawn(async move { store.claim_deliveries(&room(9), lease).await.expect("claimed").len() })
        })
        .collect();
    let mut probes = 0;
    for claim in claims {
        probes += claim.await.expect("no panic");
    }
    assert_eq!(probes, 1);
}

/// A dispatcher that dies during its probe keeps no other from probing, and an endpoint that is enabled or moves is not
/// held back by earlier failures.
pub async fn a_lost_probe_is_repeated(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    subject.enqueued(&endpoint, 9).await;
    for _ in 0..FAILURES_TO_OPEN {
        subject.attempted(RETRY, None).await;
    }
    subject.pass(Duration::from_secs(5)).await;
    assert_eq!(subject.claims(0, 9).await.len(), 1);
    assert_eq!(subject.claims(1, 9).await.len(), 0);
    subject.pass(LEASE).await;
    assert_eq!(subject.claims(1, 9).await.len(), 1, "the first probe has no result");
    subject.change(&endpoint, EndpointChange::Disable { reason: "test".to_owned() }).await;
    subject.change(&endpoint, EndpointChange::Enable).await;
    assert_eq!(subject.circuit(&endpoint).await, Circuit::Closed);
    assert!(subject.claims(0, 99).await.len() > 1);
}

/// An endpoint to which nothing was delivered for a long time is disabled, and so is one whose answer of 410 was
/// confirmed; a single one disables nothing. Refusals of single messages open no circuit.
pub async fn endpoints_are_disabled_for_a_confirmed_reason(subject: &Subject) {
    let Some(clock) = &subject.clock else { return };
    let endpoint = subject.endpoint(1).await;
    subject.enqueued(&endpoint, 1).await;
    for _ in 0..=FAILURES_TO_OPEN {
        subject.attempted(RETRY, Some(400)).await;
    }
    assert_eq!(subject.circuit(&endpoint).await, Circuit::Closed);
    clock.advance(Duration::from_secs(60 * 60 - 1));
    subject.attempted(RETRY, Some(400)).await;
    clock.advance(Duration::from_secs(1));
    let last = subject.claims(0, 1).await.pop().expect("due");
    let disabled = subject.record(&last, RETRY, Some(400)).await.disabled;
    assert_eq!(disabled, [(endpoint.id, "nothing was delivered for 1 hour".to_owned())]);
    let stored = subject.webhooks[1].endpoint(endpoint.id).await.expect("read").expect("known");
    assert_eq!(stored.disabled.map(|disabled| disabled.reason), Some(disabled[0].1.clone()));

    let gone = subject.endpoint(2).await;
    subject.enqueued(&gone, 1).await;
    for n in 1..=GONE_TO_DISABLE {
        let claimed = subject.claims(0, 1).await.pop().expect("due");
        let attempt = [super::webhooks::ended(&claimed, RETRY, Some(410))];
        let recorded = subject.webhooks[0].record_attempts(&attempt, 24 * GONE_FOR).await.expect("recorded");
        assert_eq!(recorded.disabled.len(), usize::from(n == GONE_TO_DISABLE), "after {n}");
        clock.advance(GONE_FOR / 2);
    }
    let stored = subject.webhooks[1].endpoint(gone.id).await.expect("read").expect("known");
    assert!(
        stored.disabled.is_some_and(|disabled| disabled.reason.starts_with("it answered 410 Gone 3 times"))
    );
}

/// Events are enqueued for disabled endpoints too; those for which too many deliveries are pending get them as failed.
pub async fn events_are_kept_for_endpoints_that_cannot_have_them(subject: &Subject) {
    let (disabled, full) = (subject.endpoint(1).await, subject.endpoint(2).await);
    // Consumers refuse events that the books contradict.
    subject.stock("seat", 1).await;
    subject.change(&disabled, EndpointChange::Disable { reason: "test".to_owned() }).await;
    subject.enqueued(&full, 3).await;
    assert_eq!(subject.webhooks[0].review_endpoints(4).await.expect("reviewed"), 0);
    assert_eq!(subject.webhooks[0].review_endpoints(3).await.expect("reviewed"), 1);
    let event = super::events::depleted("seat", 1);
    assert_eq!(subject.store.apply("c", std::slice::from_ref(&event)).await.expect("applied").deliveries, 2);
    let status_of = async |endpoint: &Endpoint| {
        let listed = subject.listed(endpoint).await;
        listed.into_iter().find(|delivery| delivery.event_id == event.event_id).expect("enqueued")
    };
    assert_eq!(status_of(&disabled).await.status, DeliveryStatus::Pending);
    let refused = status_of(&full).await;
    assert_eq!(
        (refused.status, refused.attempts, refused.next_attempt_at),
        (DeliveryStatus::Failed, 0, None)
    );
    assert!(refused.last_error.is_some_and(|reason| reason.contains("too many deliveries were pending")));
    subject.webhooks[1].redeliver(full.id, refused.id).await.expect("redelivered").expect("known");
    for _ in 0..4 {
        subject.attempted(AttemptOutcome::Delivered, Some(200)).await;
    }
    assert_eq!(subject.webhooks[1].review_endpoints(3).await.expect("reviewed"), 0);
    let event = super::events::depleted("seat", 1);
    subject.store.apply("c", std::slice::from_ref(&event)).await.expect("applied");
    assert_eq!(subject.claims(0, 9).await.len(), 1, "it is pending");

    let kept = Duration::from_secs(1);
    assert_eq!(subject.webhooks[0].purge_disabled(Duration::from_secs(600), 9).await.expect("purged"), 0);
    subject.pass(kept + Duration::from_millis(1)).await;
    assert_eq!(subject.webhooks[0].purge_disabled(kept, 1).await.expect("purged"), 1);
    assert_eq!(subject.webhooks[0].purge_disabled(kept, 9).await.expect("purged"), 1);
    assert_eq!(subject.listed(&disabled).await, []);
    assert_eq!(subject.listed(&full).await.len(), 5, "only those of disabled endpoints");
}

/// A backfill enqueues events once, and none for an endpoint that does not exist any more.
pub async fn missing_deliveries_are_backfilled_once(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    let now: Timestamp = subject.now().await;
    let new = |n: u128| NewDelivery {
        endpoint_id: endpoint.id.uuid(),
        event_id: Uuid::from_u128(n),
        kind: EventType::Depleted,
        event_at: now,
        body: "{}".into(),
        trace: None,
        refused: None,
    };
    let backfill = async |handle: usize, ids: &[u128]| {
        let new: Vec<_> = ids.iter().map(|n| new(*n)).collect();
        subject.webhooks[handle].backfill(endpoint.id, &new).await.expect("enqueued")
    };
    assert_eq!(backfill(0, &[1, 2]).await, 2);
    assert_eq!(backfill(1, &[1, 2, 3]).await, 1);
    let claimed = subject.webhooks[1].claim_deliveries(&room(9), LEASE).await.expect("claimed");
    assert_eq!(claimed.len(), 3);
    subject.webhooks[0].delete_endpoint(endpoint.id, 9).await.expect("deleted");
    assert_eq!(backfill(0, &[4]).await, 0);
    assert_eq!(subject.listed(&endpoint).await, []);
}
