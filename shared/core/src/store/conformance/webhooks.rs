//! Webhooks: endpoints, claims of one dispatcher at a time, and the records of deliveries.

use std::{collections::HashMap, pin::Pin};

use super::*;
use crate::{
    engine::Timestamp,
    store::webhooks::{
        Attempt, AttemptOutcome, ClaimCapacity, Claimed, Deletion, DeliveryPage, EndpointPage, Recorded,
        ReplayPage, Replayed,
    },
    webhooks::{
        CustomHeaders, Delivery, DeliveryStatus, Endpoint, EndpointChange, EndpointId, EndpointUrl,
        EventFilter, NewEndpoint, Observation, Secret, Sign, WebhookRefusal,
    },
};

/// A delivery to enqueue.
#[derive(Clone, Debug)]
pub struct Enqueued {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The id of the event.
    pub event_id: Uuid,
    /// The instant of the event.
    pub event_at: Timestamp,
    /// When the first attempt is due.
    pub due: Timestamp,
}

/// A function that enqueues a delivery.
pub type Enqueue = Box<dyn Fn(Enqueued) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub(super) const LEASE: Duration = Duration::from_secs(2);
pub(super) const DISABLE_AFTER: Duration = Duration::from_secs(60 * 60);

impl Subject {
    pub(super) async fn endpoint(&self, secret: u8) -> Endpoint {
        let new = NewEndpoint {
            id: EndpointId::from_uuid(Uuid::now_v7()),
            url: url("https://example.com/hooks"),
            filter: EventFilter::parse("bespeak.stock.*").expect("valid"),
            headers: CustomHeaders::default(),
            secret: key(secret),
            request: None,
        };
        let created = self.webhooks[0].create_endpoint(&new, 100).await.expect("made");
        created.expect("accepted").endpoint
    }

    /// Enqueues due deliveries of events a second apart; the first event is at `self.now()`.
    pub(super) async fn enqueued(&self, endpoint: &Endpoint, count: u32) -> Timestamp {
        let now = self.now().await;
        for n in 0..count {
            let event_at = now.checked_add(Duration::from_secs(n.into())).expect("in range");
            (self.enqueue)(Enqueued { endpoint: endpoint.id, event_id: Uuid::now_v7(), event_at, due: now })
                .await;
        }
        now
    }

    pub(super) async fn claims(&self, handle: usize, in_all: u32) -> Vec<Claimed> {
        self.webhooks[handle].claim_deliveries(&room(in_all), LEASE).await.expect("claimed")
    }

    /// Claims one delivery, and records the outcome of its attempt.
    pub(super) async fn attempted(&self, outcome: AttemptOutcome, status: Option<u16>) -> Claimed {
        let claimed = self.claims(0, 1).await.pop().expect("one is due");
        assert_eq!(self.record(&claimed, outcome, status).await.recorded, 1);
        claimed
    }

    pub(super) async fn record(
        &self,
        claimed: &Claimed,
        outcome: AttemptOutcome,
        status: Option<u16>,
    ) -> Recorded {
        let attempt = ended(claimed, outcome, status);
        self.webhooks[0].record_attempts(&[attempt], DISABLE_AFTER).await.expect("recorded")
    }

    pub(super) async fn listed(&self, endpoint: &Endpoint) -> Vec<Delivery> {
        let page = DeliveryPage { endpoint: endpoint.id, status: None, after: None, limit: 1_000 };
        self.webhooks[1].deliveries(page).await.expect("read")
    }

    pub(super) async fn change(&self, endpoint: &Endpoint, change: EndpointChange) -> Endpoint {
        self.webhooks[0].change_endpoint(endpoint.id, &change).await.expect("changed").expect("accepted")
    }
}

pub(super) fn url(text: &str) -> EndpointUrl {
    EndpointUrl::parse("url", text).expect("a URL")
}

pub(super) fn key(byte: u8) -> Secret {
    Secret::from_key([byte; Secret::KEY_BYTES])
}

pub(super) fn room(in_all: u32) -> ClaimCapacity {
    ClaimCapacity {
        in_all,
        per_endpoint: 100,
        at_first: 100,
        windows: HashMap::new(),
        under_way: HashMap::new(),
        idle: 0,
    }
}

pub(super) fn ended(claimed: &Claimed, outcome: AttemptOutcome, status: Option<u16>) -> Attempt {
    let sign = match (outcome, status) {
        (AttemptOutcome::Delivered, _) => Sign::Delivered,
        (_, Some(410)) => Sign::Gone,
        (_, Some(400..=499)) => Sign::Refused,
        _ => Sign::Failed,
    };
    Attempt {
        delivery: claimed.delivery,
        claim: claimed.claim,
        endpoint: claimed.to.endpoint,
        status,
        error: (outcome != AttemptOutcome::Delivered).then(|| "it's \"broken\" \\ 東京".to_owned()),
        outcome,
        observed: Observation { sign, is_probe: claimed.is_probe, random: 0.0 },
        was_healthy: claimed.is_healthy,
    }
}

/// However many processes claim at the same time, each delivery is claimed once, by one of them.
pub async fn a_delivery_is_claimed_by_one_dispatcher(subject: &Subject) {
    let endpoints = [subject.endpoint(1).await, subject.endpoint(2).await];
    for endpoint in &endpoints {
        subject.enqueued(endpoint, 30).await;
    }
    let mut tasks = Vec::new();
    for n in 0..6 {
        let store = subject.webhooks[n % 2].clone();
        tasks.push(tokio::spawn(async move {
            let mut claimed = Vec::new();
            // A claim that meets others may find nothing although deliveries are due.
            for _ in 0..20 {
                let lease = Duration::from_secs(600);
                claimed.extend(store.claim_deliveries(&room(4), lease).await.expect("claimed"));
            }
            claimed
        }));
    }
    let mut seen = std::collections::HashSet::new();
    for task in tasks {
        for claimed in task.await.expect("no panic") {
            assert!(seen.insert(claimed.delivery), "{} was claimed twice", claimed.delivery);
        }
    }
    assert_eq!(seen.len(), 60);
}

/// Claims stay within the capacity, of each endpoint and in total; only due deliveries are claimed, the oldest first.
pub async fn a_claim_takes_no_more_than_the_free_room(subject: &Subject) {
    let (busy, idle) = (subject.endpoint(1).await, subject.endpoint(2).await);
    let now = subject.enqueued(&busy, 10).await;
    subject.enqueued(&idle, 2).await;
    let later = now.checked_add(Duration::from_secs(3_600)).expect("in range");
    let event_id = Uuid::now_v7();
    (subject.enqueue)(Enqueued { endpoint: idle.id, event_id, event_at: now, due: later }).await;
    let under_way = HashMap::from([(busy.id, 1)]);
    let room = ClaimCapacity { per_endpoint: 3, under_way, ..room(6) };
    let claimed = subject.webhooks[0].claim_deliveries(&room, LEASE).await.expect("claimed");
    let of =
        |endpoint: &Endpoint| claimed.iter().filter(|claimed| claimed.to.endpoint == endpoint.id).count();
    assert_eq!((of(&busy), of(&idle)), (2, 2));
    assert_eq!(claimed[0].attempts, 0);
    assert!(
        claimed.iter().all(|claimed| claimed.payload == r#"{"it's":"a \"payload\" 東京 \\"}"#),
        "{claimed:?}"
    );
    let none = ClaimCapacity { in_all: 0, ..room };
    assert!(subject.webhooks[0].claim_deliveries(&none, LEASE).await.expect("claimed").is_empty());
    let pending = subject.webhooks[1].pending_deliveries().await.expect("counted");
    assert_eq!((pending.waiting, pending.stopped), (13, 0));
}

/// A dispatcher that was frozen past its claim cannot overwrite a newer one, and disables nothing; one whose claim
/// merely expired still records.
pub async fn an_expired_claim_cannot_record_attempts(subject: &Subject) {
    let [store, other] = &subject.webhooks;
    let endpoint = subject.endpoint(1).await;
    subject.enqueued(&endpoint, 1).await;
    let frozen = subject.claims(0, 1).await.pop().expect("claimed");
    assert!(subject.claims(1, 1).await.is_empty(), "it is claimed");
    subject.pass(LEASE).await;
    let newer = subject.claims(1, 1).await.pop().expect("the claim expired");
    assert_eq!((newer.delivery, newer.event_id), (frozen.delivery, frozen.event_id));
    let late =
        store.record_attempts(&[ended(&frozen, AttemptOutcome::GivenUp, Some(410))], Duration::ZERO).await;
    assert_eq!(late.expect("recorded"), Recorded::default());
    assert_eq!(store.endpoint(endpoint.id).await.expect("read").and_then(|endpoint| endpoint.disabled), None);
    assert!(
        store.endpoint_health().await.expect("read").endpoints.is_empty(),
        "and says nothing of its health"
    );
    subject.pass(LEASE).await;
    let slow = other.record_attempts(&[ended(&newer, AttemptOutcome::Delivered, Some(200))], LEASE).await;
    assert_eq!(slow.expect("recorded").recorded, 1, "no other dispatcher has claimed it");
    assert_eq!(subject.listed(&endpoint).await[0].status, DeliveryStatus::Delivered);
    let twice = store.record_attempts(&[ended(&newer, AttemptOutcome::GivenUp, None)], LEASE).await;
    assert_eq!(twice.expect("recorded").recorded, 0, "it is complete");
}

/// A delivery that was delivered or given up is not claimed again; one that failed is, when it is due. A claim that
/// is given back is due at once, and does not count as an attempt.
pub async fn attempts_end_as_recorded(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    subject.enqueued(&endpoint, 1).await;
    let claimed = subject.claims(0, 1).await.pop().expect("claimed");
    subject.webhooks[0].give_back(&[(claimed.delivery, claimed.claim)]).await.expect("given back");
    let after = Duration::from_secs(3);
    let failed = subject.attempted(AttemptOutcome::Retry { after }, None).await;
    assert_eq!((failed.delivery, failed.attempts), (claimed.delivery, 0));
    let again = subject.record(&failed, AttemptOutcome::Retry { after }, None).await;
    assert_eq!(again.recorded, 0, "as after a COMMIT whose answer was lost");
    let listed = subject.listed(&endpoint).await.pop().expect("one");
    assert_eq!((listed.status, listed.attempts, listed.last_status), (DeliveryStatus::Pending, 1, None));
    assert_eq!(listed.last_error.as_deref(), Some("it's \"broken\" \\ 東京"));
    let waits = listed.next_attempt_at.expect("another attempt").duration_since(listed.updated_at);
    assert_eq!(waits.as_secs(), 3);
    assert!(subject.claims(0, 1).await.is_empty(), "it is not due");
    subject.pass(after).await;
    let again = subject.attempted(AttemptOutcome::GivenUp, Some(500)).await;
    assert_eq!(again.attempts, 1);
    let listed = subject.listed(&endpoint).await.pop().expect("one");
    assert_eq!((listed.status, listed.attempts, listed.last_status), (DeliveryStatus::Failed, 2, Some(500)));
    assert_eq!(listed.next_attempt_at, None);
    subject.enqueued(&endpoint, 1).await;
    subject.attempted(AttemptOutcome::Delivered, Some(204)).await;
    let listed = subject.listed(&endpoint).await.swap_remove(0);
    assert_eq!(
        (listed.status, listed.last_status, listed.last_error),
        (DeliveryStatus::Delivered, Some(204), None)
    );
    subject.pass(LEASE).await;
    assert!(subject.claims(0, 9).await.is_empty());
}

/// The deliveries of a disabled endpoint stay pending, and continue once it is enabled.
pub async fn a_disabled_endpoint_keeps_its_deliveries(subject: &Subject) {
    let (gone, other) = (subject.endpoint(1).await, subject.endpoint(2).await);
    subject.enqueued(&gone, 3).await;
    subject.change(&gone, EndpointChange::Disable { reason: "test".to_owned() }).await;
    subject.enqueued(&other, 1).await;
    let claimed = subject.claims(0, 9).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.to.endpoint).collect::<Vec<_>>(), [other.id]);
    let pending = subject.webhooks[1].pending_deliveries().await.expect("counted");
    assert_eq!((pending.waiting, pending.stopped), (1, 3));
    subject.change(&gone, EndpointChange::Enable).await;
    let claimed = subject.claims(0, 9).await;
    assert_eq!(claimed.len(), 3);
    assert!(claimed.iter().all(|claimed| claimed.to.endpoint == gone.id));
}

/// Pages are complete, without repetition, and of the requested endpoint and status.
pub async fn deliveries_are_listed_newest_first(subject: &Subject) {
    let (endpoint, other) = (subject.endpoint(1).await, subject.endpoint(2).await);
    subject.enqueued(&other, 2).await;
    subject.change(&other, EndpointChange::Disable { reason: "test".to_owned() }).await;
    subject.enqueued(&endpoint, 9).await;
    subject.attempted(AttemptOutcome::Delivered, Some(200)).await;
    subject.attempted(AttemptOutcome::GivenUp, Some(500)).await;
    let page = async |status, after, limit| {
        let page = DeliveryPage { endpoint: endpoint.id, status, after, limit };
        subject.webhooks[0].deliveries(page).await.expect("read")
    };
    let mut seen: Vec<Delivery> = Vec::new();
    loop {
        let next = page(None, seen.last().map(|last| last.id), 4).await;
        if next.is_empty() {
            break;
        }
        seen.extend(next);
    }
    assert_eq!(seen.len(), 9);
    assert!(seen.is_sorted_by(|one, next| one.id > next.id), "{seen:?}");
    for (status, count) in
        [(DeliveryStatus::Pending, 7), (DeliveryStatus::Delivered, 1), (DeliveryStatus::Failed, 1)]
    {
        let found = page(Some(status), None, 100).await;
        assert_eq!(found.len(), count);
        assert!(found.iter().all(|delivery| delivery.status == status), "{found:?}");
    }
    assert_eq!(page(Some(DeliveryStatus::Pending), None, 2).await.len(), 2);
}

/// An operator can make a delivery pending again, with all its attempts ahead of it, and an attempt in flight may
/// then not record.
pub async fn a_delivery_is_redelivered(subject: &Subject) {
    let (endpoint, other) = (subject.endpoint(1).await, subject.endpoint(2).await);
    subject.enqueued(&endpoint, 1).await;
    for (outcome, status) in [(AttemptOutcome::Delivered, 200), (AttemptOutcome::GivenUp, 500)] {
        let claimed = subject.attempted(outcome, Some(status)).await;
        let foreign = subject.webhooks[0].redeliver(other.id, claimed.delivery).await.expect("redelivered");
        assert_eq!(foreign, None, "it belongs to another endpoint");
        let again = subject.webhooks[0].redeliver(endpoint.id, claimed.delivery).await.expect("redelivered");
        let again = again.expect("known");
        assert_eq!((again.status, again.attempts), (DeliveryStatus::Pending, 0));
    }
    let under_way = subject.claims(0, 1).await.pop().expect("due");
    assert_eq!(under_way.attempts, 0);
    subject.webhooks[1]
        .redeliver(endpoint.id, under_way.delivery)
        .await
        .expect("redelivered")
        .expect("known");
    assert_eq!(subject.record(&under_way, AttemptOutcome::Delivered, Some(200)).await.recorded, 0);
    assert_eq!(subject.claims(0, 9).await.len(), 1, "it is due again");
}

/// All deliveries of a span of time are made pending again, page by page: its beginning is included, and its end is
/// not.
pub async fn deliveries_of_a_time_range_are_replayed(subject: &Subject) {
    let (endpoint, other) = (subject.endpoint(1).await, subject.endpoint(2).await);
    let start = subject.enqueued(&endpoint, 10).await;
    // A second event at the time at which a page ends.
    let at = start.checked_add(Duration::from_secs(3)).expect("in range");
    let (event_id, due) = (Uuid::now_v7(), start);
    (subject.enqueue)(Enqueued { endpoint: endpoint.id, event_id, event_at: at, due }).await;
    for _ in 0..11 {
        subject.attempted(AttemptOutcome::Delivered, Some(200)).await;
    }
    subject.enqueued(&other, 10).await;
    let second = |n: u64| start.checked_add(Duration::from_secs(n)).expect("in range");
    let mut page =
        ReplayPage { endpoint: endpoint.id, from: second(2), to: second(8), after: None, limit: 2 };
    let mut deliveries = 0;
    loop {
        let Replayed { deliveries: count, next } = subject.webhooks[0].replay(page).await.expect("replayed");
        assert!(count <= 2);
        deliveries += count;
        let Some(next) = next else { break };
        page.after = Some(next);
    }
    assert_eq!(deliveries, 7);
    for delivery in subject.listed(&endpoint).await {
        let within = (second(2)..second(8)).contains(&delivery.event_at);
        assert_eq!(delivery.status == DeliveryStatus::Pending, within, "{delivery:?}");
        assert_eq!(delivery.attempts, u32::from(!within), "{delivery:?}");
    }
}

/// Finished deliveries are purged once they are old; pending ones are kept, however old they are.
pub async fn old_deliveries_are_purged(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    subject.enqueued(&endpoint, 6).await;
    for outcome in [AttemptOutcome::Delivered, AttemptOutcome::GivenUp, AttemptOutcome::Delivered] {
        subject.attempted(outcome, Some(200)).await;
    }
    let kept = Duration::from_secs(2);
    assert_eq!(subject.webhooks[0].purge_deliveries(kept, 10).await.expect("purged"), 0);
    subject.pass(kept + Duration::from_millis(1)).await;
    assert_eq!(subject.webhooks[0].purge_deliveries(kept, 2).await.expect("purged"), 2, "up to the limit");
    assert_eq!(subject.webhooks[0].purge_deliveries(kept, 2).await.expect("purged"), 1);
    assert_eq!(subject.webhooks[0].purge_deliveries(kept, 2).await.expect("purged"), 0);
    assert_eq!(subject.listed(&endpoint).await.len(), 3);
}

/// An endpoint is deleted step by step: disabled at once, and deleted with the last of its deliveries.
pub async fn deleting_an_endpoint_deletes_its_deliveries(subject: &Subject) {
    let (endpoint, other) = (subject.endpoint(1).await, subject.endpoint(2).await);
    subject.enqueued(&endpoint, 5).await;
    subject.enqueued(&other, 1).await;
    let delete =
        async |limit| subject.webhooks[0].delete_endpoint(endpoint.id, limit).await.expect("deleted");
    assert_eq!(delete(3).await, Deletion::More);
    let page = EndpointPage { after: None, limit: 9 };
    assert_eq!(
        subject.webhooks[1].endpoint(endpoint.id).await.expect("read"),
        None,
        "it is gone for clients"
    );
    assert_eq!(subject.webhooks[1].endpoints(page).await.expect("read"), std::slice::from_ref(&other));
    let enable = subject.webhooks[1].change_endpoint(endpoint.id, &EndpointChange::Enable).await;
    assert_eq!(enable.expect("read"), Err(WebhookRefusal::NoEndpoint));
    assert_eq!(subject.claims(1, 9).await.len(), 1, "only that of the other endpoint");
    assert_eq!(subject.webhooks[1].continue_deletion(1).await.expect("deleted"), 1);
    assert_eq!(delete(3).await, Deletion::Done);
    assert_eq!(delete(3).await, Deletion::Unknown);
    assert_eq!(subject.webhooks[1].continue_deletion(1).await.expect("deleted"), 0);
    assert_eq!(subject.webhooks[1].endpoint(endpoint.id).await.expect("read"), None);
    assert!(subject.listed(&endpoint).await.is_empty());
    assert_eq!(subject.listed(&other).await.len(), 1);
}
