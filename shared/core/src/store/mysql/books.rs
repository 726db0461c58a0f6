//! The port of the books on MySQL: each call goes to the file that has its statements.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;

use super::{
    Guard, MysqlStore, StoreError, audit,
    connect::{self, Purpose},
    purge, read,
    round_trip::TrackedConnection,
    schema, session,
    sql::{Script, Sql},
};
use crate::{
    engine::{IdempotencyKey, ReportedStock, Reservation, Resource, ResourceId, Timestamp, Token, Traced},
    store::{
        Audit, CommitMode, Due, Executed, Page, PoolUse, Purged, Store, batch, damaged::DamagedHolds,
        purge::before,
    },
};

impl batch::Backend for MysqlStore {
    type Session = session::MysqlSession;

    fn guard(&self) -> Guard {
        self.options.guard
    }

    fn damaged(&self) -> &DamagedHolds {
        &self.damaged
    }

    fn reported_stock(&self) -> ReportedStock {
        self.options.reported_stock
    }

    async fn begin(&self) -> Result<Self::Session, StoreError> {
        session::MysqlSession::begin(&self.writers, self.options.clock.clone()).await
    }
}

#[async_trait]
impl Store for MysqlStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        let connect = self.writers.connections().connect_options().as_ref().clone();
        // One connection holds the lock, and the other migrates.
        let pool = connect::writers(connect, Purpose::Migrating, 2);
        let migrated = schema::migrate(&pool).await;
        pool.close().await;
        migrated
    }

    async fn execute_traced(&self, commands: &[Traced], mode: CommitMode) -> Result<Executed, StoreError> {
        batch::execute(self, commands, mode).await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        read::resource(&self.readers.views, id, &self.options.clock).await
    }

    async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError> {
        read::resources(&self.readers.views, page, &self.options.clock).await
    }

    async fn reservation(&self, token: Token) -> Result<Option<Reservation>, StoreError> {
        read::reservation(&self.readers.views, token, &self.options.clock).await
    }

    // Commands wait for these two reads, so they use the writers' pool, which a crowd of readers cannot exhaust.
    async fn by_keys(&self, keys: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
        read::by_keys(&self.writers, keys, &self.options.clock).await
    }

    async fn first_resources(&self, tokens: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError> {
        read::first_resources(&self.writers, tokens).await
    }

    async fn due(&self, limit: u32) -> Result<Due, StoreError> {
        read::due(&self.readers.background, limit, &self.options.clock).await
    }

    async fn purge_events(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        let now = read::now(&self.readers.background, &self.options.clock).await?;
        purge::events((&self.writers, &self.readers.background), before(now, kept_for), limit).await
    }

    async fn purge_reservations(
        &self,
        kept_for: Duration,
        after: Option<Token>,
        limit: u32,
    ) -> Result<Purged, StoreError> {
        let now = read::now(&self.readers.background, &self.options.clock).await?;
        purge::reservations((&self.writers, &self.readers.background), before(now, kept_for), after, limit)
            .await
    }

    async fn audit(&self) -> Result<Audit, StoreError> {
        audit::audit(&self.readers.views, self.options.reported_stock).await
    }

    fn pools(&self) -> Vec<PoolUse> {
        std::iter::once(self.writers.in_use()).chain(self.readers.in_use()).collect()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        batch::with_retries(|_| async {
            let mut connection = TrackedConnection::open(&self.writers).await?;
            let mut script = Script::default();
            // There is no such resource, but a server that is read-only reports that nevertheless.
            script.add(Sql::new("UPDATE resources SET version = version WHERE id = ''"));
            connection.run(script).await?;
            connection.mark_clean();
            Ok(())
        })
        .await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}
