//! Webhooks on MySQL. Next: `endpoints.rs` for endpoints, `claims.rs` for what a dispatcher does, `health.rs` for what
//! it learned about receivers, `deliveries.rs` for operators and the purge.

mod claims;
mod deliveries;
mod endpoints;
mod health;

use std::time::Duration;

use async_trait::async_trait;

use super::{MysqlStore, StoreError, read, sql::Sql};
use crate::{
    effects::NewDelivery,
    store::{
        batch::with_retries,
        purge::before,
        webhooks::{
            Attempt, ClaimCapacity, Claimed, CreatedEndpoint, Deletion, DeliveryPage, EndpointPage,
            HealthReport, PendingDeliveries, Recorded, ReplayPage, Replayed, WebhookStore,
        },
    },
    webhooks::{
        Configured, Delivery, DeliveryId, Endpoint, EndpointChange, EndpointId, NewEndpoint, WebhookRefusal,
    },
};

#[async_trait]
impl WebhookStore for MysqlStore {
    async fn create_endpoint(
        &self,
        new: &NewEndpoint,
        max: u32,
    ) -> Result<Result<CreatedEndpoint, WebhookRefusal>, StoreError> {
        // If the result of the COMMIT was lost, the endpoint is found under its id.
        with_retries(|_| endpoints::create(&self.writers, new, max, &self.options.clock)).await
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
    ) -> Result<Result<Endpoint, WebhookRefusal>, StoreError> {
        // A change that is in force already alters nothing.
        with_retries(|_| endpoints::change(&self.writers, id, change, &self.options.clock)).await
    }

    async fn endpoint_health(&self) -> Result<HealthReport, StoreError> {
        health::report(&self.readers.views, &self.options.clock).await
    }

    async fn review_endpoints(&self, pending_max: u32) -> Result<u64, StoreError> {
        health::review((&self.writers, &self.readers.background), pending_max).await
    }

    async fn configure_endpoint(&self, wanted: Option<&Configured>) -> Result<(), StoreError> {
        with_retries(|_| endpoints::configure(&self.writers, wanted, &self.options.clock)).await
    }

    async fn delete_endpoint(&self, id: EndpointId, limit: u32) -> Result<Deletion, StoreError> {
        endpoints::delete(&self.writers, id, limit, &self.options.clock).await
    }

    async fn continue_deletion(&self, limit: u32) -> Result<u64, StoreError> {
        endpoints::continue_deletion((&self.writers, &self.readers.background), limit).await
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

    async fn record_attempts(
        &self,
        attempts: &[Attempt],
        disable_after: Duration,
    ) -> Result<Recorded, StoreError> {
        // If the result of the COMMIT was lost, the claims have ended, and recording again changes nothing.
        with_retries(|_| claims::record(&self.writers, attempts, disable_after, &self.options.clock)).await
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

    async fn backfill(&self, endpoint: EndpointId, new: &[NewDelivery]) -> Result<u64, StoreError> {
        with_retries(|_| deliveries::backfill(&self.writers, endpoint, new, &self.options.clock)).await
    }

    async fn purge_disabled(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError> {
        let now = read::now(&self.readers.background, &self.options.clock).await?;
        deliveries::purge_disabled((&self.writers, &self.readers.background), before(now, kept_for), limit)
            .await
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
