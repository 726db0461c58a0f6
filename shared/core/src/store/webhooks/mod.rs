//! The port of webhooks: who is told, and what of it was done. A method is one whole transaction.
//!
//! Deliveries are enqueued in the transaction of the consumer that met the event; here they are claimed, recorded, listed,
//! sent again and forgotten. The database's clock decides.

pub(super) mod decode;

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
    /// Start after this id.
    pub after: Option<EndpointId>,
    /// At most so many.
    pub limit: u32,
}

/// A page of an endpoint's deliveries, the newest first.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryPage {
    /// Whose.
    pub endpoint: EndpointId,
    /// Only those in this status.
    pub status: Option<DeliveryStatus>,
    /// Start after this id: only older ones.
    pub after: Option<DeliveryId>,
    /// At most so many.
    pub limit: u32,
}

/// What a dispatcher has room for.
#[derive(Clone, Debug)]
pub struct Room {
    /// Attempts that it can begin.
    pub in_all: u32,
    /// Attempts of one endpoint that it makes at the same time.
    pub per_endpoint: u32,
    /// Attempts that it makes now.
    pub under_way: HashMap<EndpointId, u32>,
}

impl Room {
    /// How many deliveries to claim of each endpoint that has any due (given with when its first one was): one at a time
    /// to whoever has fewest under way, so that nobody's backlog, however old, stands in the way of others.
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

/// A delivery that is ours to attempt until its claim runs out.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which.
    pub delivery: DeliveryId,
    /// The number of the claim; a later one takes the right to record away.
    pub claim: i64,
    /// Where to.
    pub to: Arc<Receiver>,
    /// The event's id.
    pub event_id: Uuid,
    /// The exact body.
    pub payload: String,
    /// Attempts whose end is known.
    pub attempts: u32,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceContext>,
}

/// What comes after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing: it was delivered.
    Delivered,
    /// Another attempt.
    Again {
        /// Counted from now.
        after: Duration,
    },
    /// Nothing: it is given up.
    GivenUp,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// Under which claim.
    pub claim: i64,
    /// To whom.
    pub endpoint: EndpointId,
    /// What was answered, where there was an answer.
    pub status: Option<u16>,
    /// What was wrong, in at most 250 characters.
    pub error: Option<String>,
    /// What comes after it.
    pub then: Then,
    /// Why the endpoint wants nothing more, where it said so.
    pub disables: Option<&'static str>,
}

/// What became of attempts that were recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Attempts that count.
    pub recorded: u64,
    /// Endpoints that were disabled.
    pub disabled: u64,
}

/// What a step of deleting an endpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// There was no such endpoint.
    Unknown,
    /// It is disabled, and has deliveries left.
    More,
    /// It is gone, and all its deliveries.
    Done,
}

/// Deliveries of an endpoint whose events happened in a span of time.
#[derive(Clone, Copy, Debug)]
pub struct ReplayPage {
    /// Whose.
    pub endpoint: EndpointId,
    /// Events from then on, that instant included.
    pub from: Timestamp,
    /// Events until then, that instant not included.
    pub to: Timestamp,
    /// Start after this event and delivery.
    pub after: Option<(Timestamp, DeliveryId)>,
    /// At most so many.
    pub limit: u32,
}

/// What a step of a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Deliveries that are pending again.
    pub deliveries: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<(Timestamp, DeliveryId)>,
}

/// Deliveries that await an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingDeliveries {
    /// Of endpoints that are enabled.
    pub waiting: u64,
    /// Of endpoints that are disabled.
    pub stopped: u64,
    /// For how long the first of those that wait has been due; zero where none is.
    pub overdue: Duration,
}

impl PendingDeliveries {
    /// Sums up rows of `disabled, count, first due`.
    pub(super) fn of(rows: impl IntoIterator<Item = (bool, u64, Option<Timestamp>)>, now: Timestamp) -> Self {
        let mut pending = Self::default();
        for (disabled, count, first) in rows {
            if disabled {
                pending.stopped += count;
            } else {
                pending.waiting += count;
                let overdue = first.map(|first| now.duration_since(first)).unwrap_or_default();
                pending.overdue = Duration::try_from(overdue).unwrap_or_default();
            }
        }
        pending
    }
}

/// Webhooks, durably kept.
///
/// No method is cancel-safe unless it says so: a caller that may go away must spawn it.
#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    /// Adds an endpoint.
    async fn create_endpoint(&self, new: &NewEndpoint) -> Result<Endpoint, StoreError>;

    /// A page of endpoints. Cancel-safe.
    async fn endpoints(&self, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError>;

    /// An endpoint. Cancel-safe.
    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError>;

    /// Changes an endpoint; gives it as it is afterwards.
    async fn change_endpoint(
        &self,
        id: EndpointId,
        change: &EndpointChange,
    ) -> Result<Option<Endpoint>, StoreError>;

    /// Makes the endpoint of the environment as the configuration has it; disables it where that names none.
    async fn configure_endpoint(&self, wanted: Option<&Configured>) -> Result<(), StoreError>;

    /// Disables an endpoint and deletes at most `limit` of its deliveries; the endpoint goes with the last of them.
    async fn delete_endpoint(&self, id: EndpointId, limit: u32) -> Result<Deletion, StoreError>;

    /// Claims deliveries that are due, of endpoints that are enabled, as many as there is room for. Nobody else gets them
    /// until `lease` is over. Claims of others are passed over, not waited for.
    async fn claim_deliveries(&self, room: &Room, lease: Duration) -> Result<Vec<Claimed>, StoreError>;

    /// Records how attempts ended, all in one transaction. One that another claim has taken over since changes nothing, nor
    /// does it disable its endpoint.
    async fn record_attempts(&self, attempts: &[Attempt]) -> Result<Recorded, StoreError>;

    /// Gives claims back whose attempts were not made: they are due now.
    async fn give_back(&self, claims: &[(DeliveryId, i64)]) -> Result<(), StoreError>;

    /// A page of an endpoint's deliveries. Cancel-safe.
    async fn deliveries(&self, page: DeliveryPage) -> Result<Vec<Delivery>, StoreError>;

    /// Makes a delivery pending again, whatever it was, with all its attempts before it; gives it as it is afterwards.
    async fn redeliver(
        &self,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Makes the next deliveries of a span of time pending again, whatever they were.
    async fn replay(&self, page: ReplayPage) -> Result<Replayed, StoreError>;

    /// Forgets deliveries that ended longer than `kept_for` ago: at most `limit` of them. Says how many.
    async fn purge_deliveries(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Counts what awaits an attempt. Cancel-safe.
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

    fn room(in_all: u32, under_way: &[(u128, u32)]) -> Room {
        let under_way = under_way.iter().map(|(endpoint, count)| (id(*endpoint), *count)).collect();
        Room { in_all, per_endpoint: 8, under_way }
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
