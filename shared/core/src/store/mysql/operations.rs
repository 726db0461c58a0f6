//! The schema floor, the clock, and the result of the last audit.

use async_trait::async_trait;

use super::{
    MysqlStore, StoreError, read,
    round_trip::{self, clock_of, commit_with_retries, rows},
    sql::{Script, Sql},
    statements::{CLOCK, instant},
};
use crate::{
    engine::Timestamp,
    store::{
        OperationsStore, Verification,
        decode::{self, Columns},
    },
};

/// Whether there is a schema floor that this account may read: the server shows no other table.
pub(super) const HAS_FLOOR: &str = "SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'schema_floor'";
pub(super) const FLOOR: &str = "SELECT version FROM schema_floor";

#[async_trait]
impl OperationsStore for MysqlStore {
    async fn schema_floor(&self) -> Result<Option<String>, StoreError> {
        let mut script = Script::default();
        let has_floor = script.add(Sql::new(HAS_FLOOR));
        let results = round_trip::read(&self.readers.background, script).await?;
        if rows(&results, has_floor).first().map_or(Ok(0), |row| row.integer(0))? == 0 {
            return Ok(None);
        }
        let mut script = Script::default();
        let floor = script.add(Sql::new(FLOOR));
        let results = round_trip::read(&self.readers.background, script).await?;
        rows(&results, floor).first().map(|row| row.text(0).map(str::to_owned)).transpose()
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        read::now(&self.readers.background, &self.options.clock).await
    }

    async fn record_verification(&self, findings: u64) -> Result<(), StoreError> {
        let mut script = Script::default();
        script.add(Sql::new("START TRANSACTION READ WRITE"));
        let insert = Sql::new("INSERT INTO verifications (one, verified_at, findings) VALUES (1, ");
        let insert = instant(insert, &self.options.clock).push(", ").unsigned(findings);
        let change =
            ") ON DUPLICATE KEY UPDATE verified_at = VALUES(verified_at), findings = VALUES(findings)";
        script.add(insert.push(change));
        commit_with_retries(&self.writers, script, &[]).await.map(drop)
    }

    async fn last_verification(&self) -> Result<Option<Verification>, StoreError> {
        let mut script = Script::default();
        let now = script.add(Sql::new(CLOCK));
        let last = script.add(Sql::new("SELECT verified_at, findings FROM verifications"));
        let results = round_trip::read(&self.readers.metrics, script).await?;
        let now = clock_of(&results, now, &self.options.clock)?;
        let Some(row) = rows(&results, last).first() else { return Ok(None) };
        Ok(Some(Verification { at: decode::timestamp(row, 0)?, findings: decode::unsigned(row, 1)?, now }))
    }
}
