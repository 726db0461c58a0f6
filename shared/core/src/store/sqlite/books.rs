//! The port of the books on SQLite: each call goes to the file that has its statements.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;

use super::{SqliteStore, StoreError, audit, purge, read, schema, session};
use crate::{
    engine::{IdempotencyKey, ReportedStock, Reservation, Resource, ResourceId, Timestamp, Token, Traced},
    store::{
        Audit, CommitMode, Due, Executed, Page, PoolUse, Purged, Store, batch, damaged::DamagedHolds,
        purge::before,
    },
};

impl batch::Backend for SqliteStore {
    type Session = session::SqliteSession;

    fn damaged(&self) -> &DamagedHolds {
        &self.damaged
    }

    fn reported_stock(&self) -> ReportedStock {
        self.reported_stock
    }

    async fn begin(&self) -> Result<Self::Session, StoreError> {
        session::SqliteSession::begin(&self.writer, self.clock.clone()).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        schema::migrate(self).await
    }

    async fn execute_traced(&self, commands: &[Traced], mode: CommitMode) -> Result<Executed, StoreError> {
        batch::execute(self, commands, mode).await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        read::resource(&self.readers.views, id, &self.clock).await
    }

    async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError> {
        read::resources(&self.readers.views, page, &self.clock).await
    }

    async fn reservation(&self, token: Token) -> Result<Option<Reservation>, StoreError> {
        read::reservation(&self.readers.views, token, &self.clock).await
    }

    // Commands wait for these two reads, so they use connections that a crowd of readers cannot exhaust.
    async fn by_keys(&self, keys: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
        read::by_keys(&self.readers.background, keys, &self.clock).await
    }

    async fn first_resources(&self, tokens: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError> {
        read::first_resources(&self.readers.background, tokens).await
    }

    async fn due(&self, limit: u32) -> Result<Due, StoreError> {
        read::due(&self.readers.background, limit, &self.clock).await
    }

    async fn purge_events(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        purge::events(&self.writer, self.clock.clone(), before(self.now(), kept_for), limit).await
    }

    async fn purge_reservations(
        &self,
        kept_for: Duration,
        after: Option<Token>,
        limit: u32,
    ) -> Result<Purged, StoreError> {
        let cutoff = before(self.now(), kept_for);
        purge::reservations(
            (&self.writer, &self.readers.background),
            self.clock.clone(),
            cutoff,
            after,
            limit,
        )
        .await
    }

    async fn audit(&self) -> Result<Audit, StoreError> {
        audit::audit(&self.readers.views, self.reported_stock).await
    }

    fn pools(&self) -> Vec<PoolUse> {
        std::iter::once(self.writer.in_use()).chain(self.readers.in_use()).collect()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        batch::Session::rollback(batch::Backend::begin(self).await?).await
    }

    async fn close(&self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
    }
}
