//! The port of webhooks: endpoints and their deliveries. Each method is one whole transaction.
//!
//! A consumer enqueues deliveries in the transaction of its event. Here they are claimed, recorded, listed, repeated
//! and purged. The database's clock decides.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::{
    engine::Timestamp,
    trace::TraceContext,
    webhooks::{
        Configured, Delivery, DeliveryId, DeliveryStatus, Endpoint, EndpointChange, EndpointId, NewEndpoint,
        Receiver,
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

/// How many attempts a dispatcher can begin.
#[derive(Clone, Debug)]
pub struct ClaimCapacity {
    /// The attempts that it can begin in total.
    pub in_all: u32,
    /// The attempts that it makes at the same time to one endpoint.
    pub per_endpoint: u32,
    /// The attempts in flight, by endpoint.
    pub under_way: HashMap<EndpointId, u32>,
}

impl ClaimCapacity {
    /// How many deliveries to claim of each endpoint that has any due (`due` has the time since when). Assigns one at
    /// a time to the endpoint with the fewest in flight, so that no backlog of one endpoint, however old, delays the
    /// others.
    pub(super) fn allot(&self, mut due: Vec<(EndpointId, Timestamp)>) -> Vec<(EndpointId, u32)> {
        due.sort_by_key(|(_, since)| *since);
        let busy = |endpoint: &EndpointId| self.under_way.get(endpoint).copied().unwrap_or(0);
        let mut allotted: Vec<(EndpointId, u32)> = due.into_iter().map(|(id, _)| (id, 0)).collect();
        for _ in 0..self.in_all {
            let next = allotted
                .iter_mut()
                .filter(|(endpoint, count)| busy(endpoint) + count < self.per_endpoint)
                .min_by_key(|(endpoint, count)| busy(endpoint) + count);
            let Some((_, count)) = next else { break };
            *count += 1;
        }
        allotted.retain(|(_, count)| *count > 0);
        allotted
    }
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
    /// Why the endpoint is disabled, if its response demands that.
    pub disables: Option<&'static str>,
}

/// The result of recording attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Attempts whose claim was still valid.
    pub recorded: u64,
    /// Endpoints that were disabled.
    pub disabled: u64,
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
    /// Adds an endpoint.
    async fn create_endpoint(&self, new: &NewEndpoint) -> Result<Endpoint, StoreError>;

    /// Reads a page of endpoints. Cancel-safe.
    async fn endpoints(&self, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError>;

    /// Reads an endpoint. Cancel-safe.
    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError>;

    /// Changes an endpoint, and returns it as it is afterwards.
    async fn change_endpoint(
        &self,
        id: EndpointId,
        change: &EndpointChange,
    ) -> Result<Option<Endpoint>, StoreError>;

    /// Stores the endpoint of the environment as configured; disables it if the configuration has none.
    async fn configure_endpoint(&self, wanted: Option<&Configured>) -> Result<(), StoreError>;

    /// Disables an endpoint and deletes at most `limit` of its deliveries; deletes the endpoint with the last of
    /// them.
    async fn delete_endpoint(&self, id: EndpointId, limit: u32) -> Result<Deletion, StoreError>;

    /// Claims due deliveries of enabled endpoints, as many as `room` allows. No other dispatcher gets them until
    /// `lease` has passed. Rows that another dispatcher has locked are skipped, not waited for.
    async fn claim_deliveries(
        &self,
        room: &ClaimCapacity,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// Records the outcomes of attempts, all in one transaction. An attempt whose delivery has been claimed again
    /// since changes nothing, and does not disable its endpoint.
    async fn record_attempts(&self, attempts: &[Attempt]) -> Result<Recorded, StoreError>;

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

    /// Deletes deliveries that ended longer than `kept_for` ago, at most `limit` of them, and returns how many.
    async fn purge_deliveries(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Counts the deliveries that await an attempt. Cancel-safe.
    async fn pending_deliveries(&self) -> Result<PendingDeliveries, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> EndpointId {
        EndpointId::from_uuid(Uuid::from_u128(n))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn room(in_all: u32, under_way: &[(u128, u32)]) -> ClaimCapacity {
        let under_way = under_way.iter().map(|(endpoint, count)| (id(*endpoint), *count)).collect();
        ClaimCapacity { in_all, per_endpoint: 8, under_way }
    }

    #[test]
    fn an_old_backlog_does_not_stand_in_the_way_of_others() {
        let due = vec![(id(2), at(2)), (id(1), at(1)), (id(3), at(3))];
        assert_eq!(room(3, &[(1, 7), (2, 7)]).allot(due.clone()), [(id(3), 3)]);
        assert_eq!(room(1, &[]).allot(due.clone()), [(id(1), 1)], "the oldest first");
        assert_eq!(room(64, &[(3, 8)]).allot(due.clone()), [(id(1), 8), (id(2), 8)]);
        assert_eq!(room(5, &[]).allot(due.clone()), [(id(1), 2), (id(2), 2), (id(3), 1)]);
        assert_eq!(room(0, &[]).allot(due), []);
    }
}
