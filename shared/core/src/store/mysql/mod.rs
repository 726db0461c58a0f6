//! MySQL 8 and MariaDB 10.6 or later: READ COMMITTED, text statements, few round trips, the database's clock.
//!
//! Nothing here is of one of the two alone, and nothing infers from a locked row what only its version proves. A
//! transaction lives in a task that nobody cancels. Next: `session.rs` for the write path, `read.rs` for views,
//! `connect.rs` for what a session is.

mod audit;
mod connect;
mod dead_letters;
mod error;
mod inbox;
mod leases;
mod outbox;
mod purge;
mod read;
mod row;
mod schema;
mod scratch;
mod session;
mod sql;
mod webhooks;
mod wire;
mod write;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;

use super::{
    Audit, Clock, CommitMode, Contention, Due, Executed, Guard, Page, PoolUse, Purged, Store, StoreError,
    batch, purge::before,
};
use crate::engine::{IdempotencyKey, Reservation, Resource, ResourceId, Timestamp, Token, Traced};
use connect::{For, Pool};
pub use schema::create_database;
use sql::{Script, Sql};
use wire::Wire;

pub use scratch::{Counted, Scratch, ScratchServer};

/// How to use a server.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    /// Connections that write, at most.
    pub writers: u32,
    /// Connections that read, at most.
    pub readers: u32,
    /// What keeps two transactions from selling the same unit.
    pub guard: Guard,
    /// Which clock decides.
    pub clock: Clock,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self { writers: 16, readers: 4, guard: Guard::RowLock, clock: Clock::Own }
    }
}

/// A database on a server.
#[derive(Debug)]
pub struct MysqlStore {
    writers: Pool,
    readers: Pool,
    options: MysqlOptions,
}

impl MysqlStore {
    /// Makes the pools for the database that a URL such as `mysql://user:password@host:3306/bespeak` names. Connects when
    /// first asked; does not migrate.
    ///
    /// # Errors
    /// The URL is not understood.
    pub fn new(url: &str, options: MysqlOptions) -> Result<Self, StoreError> {
        let connect = connect::options(url)?;
        Ok(Self {
            writers: connect::pool(connect.clone(), For::Writing, options.writers),
            readers: connect::pool(connect, For::Reading, options.readers),
            options,
        })
    }
}

impl batch::Backend for MysqlStore {
    type Session = session::MysqlSession;

    fn guard(&self) -> Guard {
        self.options.guard
    }

    async fn begin(&self) -> Result<Self::Session, StoreError> {
        session::MysqlSession::begin(&self.writers, self.options.clock.clone()).await
    }
}

#[async_trait]
impl Store for MysqlStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        let connect = self.writers.connections().connect_options().as_ref().clone();
        // One connection holds the lock, the other migrates.
        let pool = connect::pool(connect, For::Migrating, 2);
        let migrated = schema::migrate(&pool).await;
        pool.close().await;
        migrated
    }

    async fn execute_traced(&self, commands: &[Traced], mode: CommitMode) -> Result<Executed, StoreError> {
        batch::execute(self, commands, mode).await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        read::resource(&self.readers, id, &self.options.clock).await
    }

    async fn resources(&self, page: &Page) -> Result<Vec<Resource>, StoreError> {
        read::resources(&self.readers, page, &self.options.clock).await
    }

    async fn reservation(&self, token: Token) -> Result<Option<Reservation>, StoreError> {
        read::reservation(&self.readers, token, &self.options.clock).await
    }

    // These two are on the way of commands: a crowd of readers must not hold them up.
    async fn by_keys(&self, keys: &[IdempotencyKey]) -> Result<(Vec<Reservation>, Timestamp), StoreError> {
        read::by_keys(&self.writers, keys, &self.options.clock).await
    }

    async fn first_resources(&self, tokens: &[Token]) -> Result<HashMap<Token, ResourceId>, StoreError> {
        read::first_resources(&self.writers, tokens).await
    }

    async fn due(&self, limit: u32) -> Result<Due, StoreError> {
        read::due(&self.readers, limit, &self.options.clock).await
    }

    async fn purge_events(&self, kept_for: Duration, limit: u32) -> Result<Purged, StoreError> {
        let now = read::now(&self.readers, &self.options.clock).await?;
        purge::events((&self.writers, &self.readers), before(now, kept_for), limit).await
    }

    async fn purge_reservations(
        &self,
        kept_for: Duration,
        after: Option<Token>,
        limit: u32,
    ) -> Result<Purged, StoreError> {
        let now = read::now(&self.readers, &self.options.clock).await?;
        purge::reservations((&self.writers, &self.readers), before(now, kept_for), after, limit).await
    }

    async fn audit(&self) -> Result<Audit, StoreError> {
        audit::audit(&self.readers).await
    }

    fn pools(&self) -> Vec<PoolUse> {
        vec![self.writers.in_use(), self.readers.in_use()]
    }

    async fn ping(&self) -> Result<(), StoreError> {
        batch::with_retries(|_| async {
            let mut wire = Wire::open(&self.writers).await?;
            let mut script = Script::default();
            // There is no such resource; a server that is read-only says so all the same.
            script.add(Sql::new("UPDATE resources SET version = version WHERE id = ''"));
            wire.ask(script).await?;
            wire.mark_clean();
            Ok(())
        })
        .await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}
