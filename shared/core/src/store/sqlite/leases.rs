//! Leases, in one `BEGIN IMMEDIATE` transaction each.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{SqliteStore, StoreError, error::failed, number::integer, session::SqliteSession};
use crate::store::{LeaseStore, PurgedLeases, batch::Session, decode, leases, purge::before};

const LEASE: &str = "SELECT name, owner, fencing, expires_at FROM leases WHERE name = ?1";
const WRITE: &str = "INSERT INTO leases (name, owner, fencing, expires_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (name) DO UPDATE SET owner = ?2, fencing = ?3, expires_at = ?4";
const ENDED: &str =
    "SELECT name FROM leases WHERE name > ?1 AND name < ?2 AND expires_at < ?3 ORDER BY name LIMIT ?4";
const PURGE: &str =
    "DELETE FROM leases WHERE name IN (SELECT j.value FROM json_each(?1) j) AND expires_at < ?2";

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn take_lease(
        &self,
        name: &str,
        owner: Uuid,
        lease_for: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let name = leases::row_name(name);
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let row = read(session.connection(), &name).await?;
        let taken = leases::take(row, &name, owner, self.now(), lease_for);
        let fencing = taken.as_ref().map(|row| row.fencing);
        write_or_roll_back(session, taken).await?;
        Ok(fencing)
    }

    async fn end_lease_in(
        &self,
        name: &str,
        owner: Uuid,
        fencing: u64,
        ends_in: Duration,
    ) -> Result<bool, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let row = read(session.connection(), &leases::row_name(name)).await?;
        let ended = leases::end_in(row, owner, fencing, self.now(), ends_in);
        let held = ended.is_some();
        write_or_roll_back(session, ended).await?;
        Ok(held)
    }

    async fn purge_leases(
        &self,
        ended_for: Duration,
        after: Option<&str>,
        limit: u32,
    ) -> Result<PurgedLeases, StoreError> {
        let (first, last) = leases::LOCKS;
        let cutoff = before(self.now(), ended_for).as_microsecond();
        let names: Vec<String> = sqlx::query_scalar(ENDED)
            .bind(after.unwrap_or(first))
            .bind(last)
            .bind(cutoff)
            .bind(limit)
            .fetch_all(&mut *self.readers.background.acquire().await?)
            .await
            .map_err(failed)?;
        if names.is_empty() {
            return Ok(PurgedLeases::default());
        }
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let purge = sqlx::query(PURGE).bind(serde_json::json!(names).to_string()).bind(cutoff);
        let deleted = purge.execute(session.connection()).await.map_err(failed)?.rows_affected();
        session.commit().await?;
        Ok(leases::purged(names, deleted, limit))
    }
}

async fn read(connection: &mut SqliteConnection, name: &str) -> Result<Option<leases::LeaseRow>, StoreError> {
    let row = sqlx::query(LEASE).bind(name).fetch_optional(connection).await.map_err(failed)?;
    row.map(|row| decode::lease(&row)).transpose()
}

async fn write_or_roll_back(
    mut session: SqliteSession,
    row: Option<leases::LeaseRow>,
) -> Result<(), StoreError> {
    let Some(row) = row else { return session.rollback().await };
    write(session.connection(), &row).await?;
    session.commit().await
}

/// Inserts a row, or overwrites it.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    row: &leases::LeaseRow,
) -> Result<(), StoreError> {
    sqlx::query(WRITE)
        .bind(&row.name)
        .bind(row.owner.map(|owner| owner.as_bytes().to_vec()))
        .bind(integer(row.fencing))
        .bind(row.expires_at.as_microsecond())
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}
