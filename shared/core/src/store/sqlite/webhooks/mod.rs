//! Webhooks on SQLite. Next: `endpoints.rs` for endpoints, `claims.rs` for what a dispatcher does, `health.rs` for what
//! it learned about receivers, `deliveries.rs` for operators and the purge.

mod claims;
mod deliveries;
mod endpoints;
mod health;

use std::time::Duration;

use async_trait::async_trait;

use super::{SqliteStore, StoreError};
use crate::{
    effects::NewDelivery,
    store::{
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
impl WebhookStore for SqliteStore {
    async fn create_endpoint(
        &self,
        new: &NewEndpoint,
        max: u32,
    ) -> Result<Result<CreatedEndpoint, WebhookRefusal>, StoreError> {
        endpoints::create(self, new, max).await
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
        endpoints::change(self, id, change).await
    }

    async fn endpoint_health(&self) -> Result<HealthReport, StoreError> {
        let endpoints = health::read(&mut *self.readers.views.acquire().await?).await?;
        Ok(HealthReport { now: self.now(), endpoints })
    }

    async fn review_endpoints(&self, pending_max: u32) -> Result<u64, StoreError> {
        health::review(self, pending_max).await
    }

    async fn configure_endpoint(&self, wanted: Option<&Configured>) -> Result<(), StoreError> {
        endpoints::configure(self, wanted).await
    }

    async fn delete_endpoint(&self, id: EndpointId, limit: u32) -> Result<Deletion, StoreError> {
        endpoints::delete(self, id, limit).await
    }

    async fn continue_deletion(&self, limit: u32) -> Result<u64, StoreError> {
        endpoints::continue_deletion(self, limit).await
    }

    async fn claim_deliveries(
        &self,
        room: &ClaimCapacity,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        claims::claim(self, room, lease).await
    }

    async fn record_attempts(
        &self,
        attempts: &[Attempt],
        disable_after: Duration,
    ) -> Result<Recorded, StoreError> {
        claims::record(self, attempts, disable_after).await
    }

    async fn give_back(&self, claims: &[(DeliveryId, i64)]) -> Result<(), StoreError> {
        claims::give_back(self, claims).await
    }

    async fn deliveries(&self, page: DeliveryPage) -> Result<Vec<Delivery>, StoreError> {
        deliveries::page(&self.readers.views, page).await
    }

    async fn redeliver(
        &self,
        endpoint: EndpointId,
        delivery: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        deliveries::redeliver(self, endpoint, delivery).await
    }

    async fn replay(&self, page: ReplayPage) -> Result<Replayed, StoreError> {
        deliveries::replay(self, page).await
    }

    async fn backfill(&self, endpoint: EndpointId, new: &[NewDelivery]) -> Result<u64, StoreError> {
        deliveries::backfill(self, endpoint, new).await
    }

    async fn purge_disabled(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError> {
        deliveries::purge_disabled(self, before(self.now(), kept_for), limit).await
    }

    async fn purge_deliveries(&self, kept_for: Duration, limit: u32) -> Result<u64, StoreError> {
        deliveries::purge(self, before(self.now(), kept_for), limit).await
    }

    async fn pending_deliveries(&self) -> Result<PendingDeliveries, StoreError> {
        deliveries::pending(&self.readers.metrics, self.now()).await
    }
}

fn bytes(id: EndpointId) -> Vec<u8> {
    id.uuid().as_bytes().to_vec()
}

/// Converts a duration to microseconds.
fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}
