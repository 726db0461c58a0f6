//! Webhooks on MySQL. Next: `endpoints.rs` for endpoints, `claims.rs` for what a dispatcher does, `deliveries.rs` for
//! operators and the purge.

mod claims;
mod deliveries;
mod endpoints;

use std::time::Duration;

use async_trait::async_trait;

use super::{MysqlStore, StoreError, read, sql::Sql};
use crate::{
    store::{
        batch::with_retries,
        purge::before,
        webhooks::{
            Attempt, ClaimCapacity, Claimed, Deletion, DeliveryPage, EndpointPage, PendingDeliveries,
            Recorded, ReplayPage, Replayed, WebhookStore,
        },
    },
    webhooks::{Configured, Delivery, DeliveryId, Endpoint, EndpointChange, EndpointId, NewEndpoint},
};

#[async_trait]
impl WebhookStore for MysqlStore {
    async fn create_endpoint(&self, new: &NewEndpoint) -> Result<Endpoint, StoreError> {
        endpoints::create(&self.writers, new, &self.options.clock).await
    }

    async fn endpoints(&self, page: EndpointPage) -> Result<Vec<Endpoint>, StoreError> {
        endpoints::page(&self.readers.views, page).await
    }

    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        endpoints::one(&self.readers.views, id).await
    }

    async fn change_endpoint(
        &self,
        id: EndpointId,
        change: &EndpointChange,
    ) -> Result<Option<Endpoint>, StoreError> {
        endpoints::change(&self.writers, id, change, &self.options.clock).await
    }

    async fn configure_endpoint(&self, wanted: Option<&Configured>) -> Result<(), StoreError> {
        with_retries(|_| endpoints::configure(&self.writers, wanted, &self.options.clock)).await
    }

    async fn delete_endpoint(&self, id: EndpointId, limit: u32) -> Result<Deletion, StoreError> {
        endpoints::delete(&self.writers, id, limit, &self.options.clock).await
    }

    async fn claim_deliveries(
        &self,
        room: &ClaimCapacity,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        with_retries(|_| {
            claims::claim((&self.writers, &self.readers.background), room, lease, &self.options.clock)
        })
        .await
    }

    async fn record_attempts(&self, attempts: &[Attempt]) -> Result<Recorded, StoreError> {
        // If the result of the COMMIT was lost, recording again changes nothing for a delivery that is complete or was
        // claimed again; for one that still waits for its next attempt, the attempt is counted twice.
        with_retries(|_| claims::record(&self.writers, attempts, &self.options.clock)).await
    }

    async fn give_back(&self, claims: &[(DeliveryId, i64)]) -> Result<(), StoreError> {
        with_retries(|_| claims::give_back(&self.writers, claims, &self.options.clock)).await
    }

    async fn deliveries(&self, page: DeliveryPage) -> Result<Vec<Delivery>, StoreError> {
        deliveries::page(&self.readers.views, page).await
    }

    async fn redeliver(
        &self,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        deliveries::redeliver(&self.writers, endpoint, delivery, &self.options.clock).await
    }

    async fn replay(&self, page: ReplayPage) -> Result<Replayed, StoreError> {
        deliveries::replay((&self.writers, &self.readers.views), page, &self.options.clock).await
    }

    async fn purge_deliveries(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError> {
        let now = read::now(&self.readers.background, &self.options.clock).await?;
        deliveries::purge((&self.writers, &self.readers.background), before(now, kept_for), limit).await
    }

    async fn pending_deliveries(&self) -> Result<PendingDeliveries, StoreError> {
        deliveries::pending(&self.readers.metrics, &self.options.clock).await
    }
}

fn endpoint_id(sql: Sql, id: EndpointId) -> Sql {
    sql.bytes(id.uuid().as_bytes())
}

/// Writes a duration in microseconds, as an operand.
fn micros(sql: Sql, span: Duration) -> Sql {
    sql.integer(i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4))
}
