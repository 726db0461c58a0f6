//! The port of webhooks: endpoints and their deliveries. Each method is one whole transaction.
//!
//! A consumer enqueues deliveries in the transaction of its event. Here they are claimed, recorded, listed, repeated
//! and purged. The database's clock decides.

mod capacity;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

pub use capacity::{ClaimCapacity, DueEndpoint};

use super::StoreError;
use crate::{
    effects::NewDelivery,
    engine::Timestamp,
    trace::TraceContext,
    webhooks::{
        Configured, Delivery, DeliveryId, DeliveryStatus, Endpoint, EndpointChange, EndpointHealth,
        EndpointId, NewEndpoint, Observation, Receiver, Sign, WebhookRefusal,
    },
};

/// A page of endpoints in id order.
#[derive(Clone, Copy, Debug)]
pub struct EndpointPage {
    /// The page starts after this id.
    pub after: Option<EndpointId>,
    /// The largest number of endpoints on the page.
    pub limit: u32,
}

/// A page of the deliveries of an endpoint, the newest first.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryPage {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Only deliveries in this status.
    pub status: Option<DeliveryStatus>,
    /// Only deliveries older than this one.
    pub after: Option<DeliveryId>,
    /// The largest number of deliveries on the page.
    pub limit: u32,
}

/// A delivery that this dispatcher may attempt until its claim expires.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The number of the claim; a later claim invalidates it.
    pub claim: i64,
    /// The receiver.
    pub to: Arc<Receiver>,
    /// The id of the event.
    pub event_id: Uuid,
    /// The exact body.
    pub payload: String,
    /// The number of attempts whose end is recorded.
    pub attempts: u32,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceContext>,
    /// Whether the attempt probes an endpoint whose circuit is half open.
    pub is_probe: bool,
    /// Whether no failure of the endpoint is on record, so that a success changes nothing about its health.
    pub is_healthy: bool,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The delivery is complete.
    Delivered,
    /// The attempt failed, and another one follows.
    Retry {
        /// The wait, counted from now.
        after: Duration,
    },
    /// The attempt failed, and the delivery is given up.
    GivenUp,
}

/// A finished attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The claim under which the attempt was made.
    pub claim: i64,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// The error, in at most 250 characters.
    pub error: Option<String>,
    /// What happens to the delivery.
    pub outcome: AttemptOutcome,
    /// What the result says about the health of the endpoint.
    pub observed: Observation,
    /// Whether no failure of the endpoint was on record when the delivery was claimed.
    pub was_healthy: bool,
}

impl Attempt {
    /// Whether the record of the endpoint's health may change.
    pub(super) fn changes_health(&self) -> bool {
        !self.was_healthy || self.observed.sign != Sign::Delivered
    }
}

/// The result of recording attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Attempts whose claim was still valid.
    pub recorded: u64,
    /// Endpoints that were disabled, with the reason.
    pub disabled: Vec<(EndpointId, String)>,
    /// Endpoints whose circuit opened.
    pub opened: Vec<EndpointId>,
}

/// The result of a step of deleting an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The endpoint does not exist.
    Unknown,
    /// The endpoint is disabled, and has deliveries left.
    More,
    /// The endpoint and all its deliveries are deleted.
    Done,
}

/// Deliveries of an endpoint whose events happened in a span of time.
#[derive(Clone, Copy, Debug)]
pub struct ReplayPage {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Events at this instant and later.
    pub from: Timestamp,
    /// Events before this instant.
    pub to: Timestamp,
    /// The page starts after this event time and delivery.
    pub after: Option<(Timestamp, DeliveryId)>,
    /// The largest number of deliveries in one step.
    pub limit: u32,
}

/// The result of a step of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Deliveries that are pending again.
    pub deliveries: u64,
    /// Where the next step starts; `None` at the end.
    pub next: Option<(Timestamp, DeliveryId)>,
}

/// An endpoint that was created, or that an earlier request with the same idempotency key created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether an earlier request created it.
    pub is_replayed: bool,
}

/// The health of endpoints. An endpoint that is missing here is healthy.
#[derive(Clone, Debug, Default)]
pub struct HealthReport {
    /// The time of the report.
    pub now: Timestamp,
    /// The endpoints that failed recently.
    pub endpoints: HashMap<EndpointId, EndpointHealth>,
}

/// What follows from attempts for the health of their endpoint.
#[derive(Clone, Debug)]
pub(super) struct HealthUpdate {
    pub(super) endpoint: EndpointId,
    pub(super) health: EndpointHealth,
    /// The reason to disable the endpoint.
    pub(super) disabled: Option<String>,
    /// Whether the circuit was closed before and is open now.
    pub(super) opened: bool,
}

/// Applies attempts that were recorded to the health of their endpoints, in the order of the attempts.
pub(super) fn health_after(
    stored: &HashMap<EndpointId, EndpointHealth>,
    attempts: &[&Attempt],
    now: Timestamp,
    disable_after: Duration,
) -> Vec<HealthUpdate> {
    let mut updates: Vec<HealthUpdate> = Vec::new();
    for attempt in attempts {
        let at = updates.iter().position(|update| update.endpoint == attempt.endpoint).unwrap_or_else(|| {
            let health = stored.get(&attempt.endpoint).copied().unwrap_or_default();
            updates.push(HealthUpdate { endpoint: attempt.endpoint, health, disabled: None, opened: false });
            updates.len() - 1
        });
        let Some(update) = updates.get_mut(at) else { continue };
        let was_closed = update.health.paused_until.is_none();
        let (health, reason) = update.health.after(&attempt.observed, now, disable_after);
        update.opened = (update.opened || was_closed) && health.paused_until.is_some();
        update.health = health;
        update.disabled = update.disabled.take().or(reason);
    }
    updates
}

/// Deliveries that await an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingDeliveries {
    /// Deliveries to enabled endpoints. Counting stops at 100,000 deliveries: it takes as long as there are rows.
    pub waiting: u64,
    /// Deliveries to disabled endpoints.
    pub stopped: u64,
    /// How long the first delivery to an enabled endpoint has been due; zero if none is.
    pub overdue: Duration,
}

impl PendingDeliveries {
    /// Sums up rows of `disabled, count, first due`: the counts, and when the first delivery of each endpoint is due.
    pub(super) fn of(rows: impl IntoIterator<Item = (bool, u64, Option<Timestamp>)>, now: Timestamp) -> Self {
        let mut pending = Self::default();
        for (disabled, count, first) in rows {
            if disabled {
                pending.stopped += count;
            } else {
                pending.waiting += count;
                let overdue = first.map(|first| now.duration_since(first)).unwrap_or_default();
                pending.overdue = pending.overdue.max(Duration::try_from(overdue).unwrap_or_default());
            }
        }
        pending
    }
}

/// Webhook endpoints and deliveries, durably stored.
///
/// A method is cancel-safe only if its documentation says so: a caller that may go away must spawn the call.
#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    /// Adds an endpoint, unless `max` exist already. If its id exists, it was derived from an idempotency key, and a
    /// retry gets the endpoint that the first request created.
    async fn create_endpoint(
        &self,
        new: &NewEndpoint,
        max: u32,
    ) -> Result<Result<CreatedEndpoint, WebhookRefusal>, StoreError>;

    /// Reads a page of endpoints. Cancel-safe.
    async fn endpoints(&self, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError>;

    /// Reads an endpoint. Cancel-safe.
    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError>;

    /// Changes an endpoint, and returns it as it is afterwards. To enable it, or to give it another URL, also forgets
    /// its failures.
    async fn change_endpoint(
        &self,
        id: EndpointId,
        change: &EndpointChange,
    ) -> Result<Result<Endpoint, WebhookRefusal>, StoreError>;

    /// Reads the health of all endpoints. Cancel-safe.
    async fn endpoint_health(&self) -> Result<HealthReport, StoreError>;

    /// Notes which endpoints have `pending_max` pending deliveries or more, and returns how many these are. Further
    /// events of these endpoints are enqueued as failed, until a later review finds fewer.
    async fn review_endpoints(&self, pending_max: u32) -> Result<u64, StoreError>;

    /// Stores the endpoint of the environment as configured; disables it if the configuration has none.
    async fn configure_endpoint(&self, wanted: Option<&Configured>) -> Result<(), StoreError>;

    /// Disables an endpoint and deletes at most `limit` of its deliveries; deletes the endpoint with the last of
    /// them.
    async fn delete_endpoint(&self, id: EndpointId, limit: u32) -> Result<Deletion, StoreError>;

    /// Goes on with a deletion that was begun and not finished: deletes at most `limit` deliveries, and returns how
    /// many.
    async fn continue_deletion(&self, limit: u32) -> Result<u64, StoreError>;

    /// Claims due deliveries of enabled endpoints, as many as `room` allows: none while the circuit of an endpoint is
    /// open, and one in all processes when it is half open. No other dispatcher gets them until `lease` has passed.
    /// Rows that another dispatcher has locked are skipped, not waited for.
    async fn claim_deliveries(
        &self,
        room: &ClaimCapacity,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// Records the outcomes of attempts and what they say about their endpoints, all in one transaction. An attempt
    /// whose delivery has been claimed again since, or that was recorded before, changes nothing. An endpoint is
    /// disabled after `disable_after` without any delivery.
    async fn record_attempts(
        &self,
        attempts: &[Attempt],
        disable_after: Duration,
    ) -> Result<Recorded, StoreError>;

    /// Gives back claims whose attempts were not made: their deliveries are due now.
    async fn give_back(&self, claims: &[(DeliveryId, i64)]) -> Result<(), StoreError>;

    /// Reads a page of the deliveries of an endpoint. Cancel-safe.
    async fn deliveries(&self, page: DeliveryPage) -> Result<Vec<Delivery>, StoreError>;

    /// Makes a delivery pending again, whatever its status, with all its attempts ahead of it; returns it as it is
    /// afterwards.
    async fn redeliver(
        &self,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Makes the next deliveries of a span of time pending again, whatever their status.
    async fn replay(&self, page: ReplayPage) -> Result<Replayed, StoreError>;

    /// Enqueues deliveries for an endpoint that has none for these events yet, due now; returns how many. If the
    /// endpoint was deleted meanwhile, nothing is enqueued.
    async fn backfill(&self, endpoint: EndpointId, new: &[NewDelivery]) -> Result<u64, StoreError>;

    /// Deletes pending deliveries of disabled endpoints whose event happened longer than `kept_for` ago, at most
    /// `limit` of them, and returns how many.
    async fn purge_disabled(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Deletes deliveries that ended longer than `kept_for` ago, at most `limit` of them, and returns how many.
    async fn purge_deliveries(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Counts the deliveries that await an attempt. Cancel-safe.
    async fn pending_deliveries(&self) -> Result<PendingDeliveries, StoreError>;
}
