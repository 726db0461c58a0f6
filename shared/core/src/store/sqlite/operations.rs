//! The schema floor, the clock, the result of the last audit, and the checkpoints.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use tokio_util::sync::CancellationToken;

use super::{SqliteStore, StoreError, error::failed, number::integer, session::SqliteSession};
use crate::{
    engine::Timestamp,
    store::{
        OperationsStore, Verification,
        batch::Session,
        decode::{self, Columns},
    },
};

const HAS_FLOOR: &str = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_floor'";
const FLOOR: &str = "SELECT version FROM schema_floor";
const RECORD: &str = "INSERT INTO verifications (one, verified_at, findings) VALUES (1, ?1, ?2)
    ON CONFLICT (one) DO UPDATE SET verified_at = ?1, findings = ?2";
const LAST: &str = "SELECT verified_at, findings FROM verifications";

#[async_trait]
impl OperationsStore for SqliteStore {
    async fn schema_floor(&self) -> Result<Option<String>, StoreError> {
        floor(&mut *self.readers.background.acquire().await?).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(SqliteStore::now(self))
    }

    async fn record_verification(&self, findings: u64) -> Result<(), StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let record =
            sqlx::query(RECORD).bind(SqliteStore::now(self).as_microsecond()).bind(integer(findings));
        record.execute(session.connection()).await.map_err(failed)?;
        session.commit().await
    }

    async fn last_verification(&self) -> Result<Option<Verification>, StoreError> {
        let row = sqlx::query(LAST)
            .fetch_optional(&mut *self.readers.metrics.acquire().await?)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let findings = decode::unsigned(&row, 1)?;
        Ok(Some(Verification { at: decode::timestamp(&row, 0)?, findings, now: SqliteStore::now(self) }))
    }

    async fn upkeep(&self, stop: CancellationToken) {
        match &self.checkpoints {
            Some(checkpoints) => checkpoints.run(stop).await,
            None => stop.cancelled().await,
        }
    }
}

/// The schema floor, if the schema has one.
pub(super) async fn floor(connection: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let has_floor: i64 = sqlx::query_scalar(HAS_FLOOR).fetch_one(&mut *connection).await.map_err(failed)?;
    if has_floor == 0 {
        return Ok(None);
    }
    let row = sqlx::query(FLOOR).fetch_optional(connection).await.map_err(failed)?;
    row.map(|row| row.text(0).map(str::to_owned)).transpose()
}
