//! Dead letters in the table, and the resolutions of those in a topic.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{SqliteStore, StoreError, error::failed, session::SqliteSession};
use crate::store::{
    DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter, batch::Session, decode,
};

const KEEP: &str = "INSERT INTO dead_letters
    (source, part, position, event_key, headers, value, reason, attempts, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const LETTERS: &str =
    "SELECT id, source, part, position, event_key, headers, value, reason, attempts, created_at
    FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2";
const RESOLVE: &str =
    "INSERT OR IGNORE INTO dead_letters_settled (topic, part, position, settled, settled_at)
    VALUES (?1, ?2, ?3, ?4, ?5)";

const DELETE: &str = "DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?1))";
const RESOLVED: &str = "SELECT part, position FROM dead_letters_settled
    WHERE topic = ?1 AND position BETWEEN ?2 AND ?3";
const FORGET: &str = "DELETE FROM dead_letters_settled WHERE topic = ?1 AND part = 0 AND position < ?2";
const GIVE_UP: &str = "INSERT OR IGNORE INTO outbox_skipped (event_id, skipped_at) VALUES (?1, ?2)";

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn store_dead_letters(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        for DeadLetter { record, reason, attempts } in letters {
            sqlx::query(KEEP)
                .bind(record.origin.topic.to_string())
                .bind(record.origin.partition)
                .bind(record.origin.offset)
                .bind(record.key.as_deref())
                .bind(decode::headers_text(record))
                .bind(record.value.as_deref())
                .bind(reason)
                .bind(attempts)
                .bind(self.now().as_microsecond())
                .execute(session.connection())
                .await
                .map_err(failed)?;
        }
        session.commit().await
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let query = sqlx::query(LETTERS).bind(after).bind(limit);
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().map(decode::dead_letter).collect()
    }

    async fn delete_dead_letters(&self, numbers: &[i64], given_up: &[Uuid]) -> Result<u64, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let delete = sqlx::query(DELETE).bind(json!(numbers).to_string());
        let deleted = delete.execute(session.connection()).await.map_err(failed)?.rows_affected();
        self.give_up(&mut session, given_up).await?;
        session.commit().await?;
        Ok(deleted)
    }

    async fn resolve_dead_letters(
        &self,
        topic: &str,
        ids: &[DeadLetterId],
        resolution: Resolution,
        given_up: &[Uuid],
    ) -> Result<u64, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let mut resolved = 0;
        for id in ids {
            let resolve = sqlx::query(RESOLVE)
                .bind(topic)
                .bind(id.partition)
                .bind(id.offset)
                .bind(resolution.as_str())
                .bind(self.now().as_microsecond());
            resolved += resolve.execute(session.connection()).await.map_err(failed)?.rows_affected();
        }
        self.give_up(&mut session, given_up).await?;
        session.commit().await?;
        Ok(resolved)
    }

    async fn resolved_dead_letters(
        &self,
        topic: &str,
        offsets: RangeInclusive<i64>,
    ) -> Result<Vec<DeadLetterId>, StoreError> {
        let query = sqlx::query(RESOLVED).bind(topic).bind(offsets.start()).bind(offsets.end());
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().map(decode::dead_letter_id).collect()
    }

    async fn forget_resolved_dead_letters(&self, topic: &str, before: i64) -> Result<(), StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let forget = sqlx::query(FORGET).bind(topic).bind(before);
        forget.execute(session.connection()).await.map_err(failed)?;
        session.commit().await
    }
}

impl SqliteStore {
    /// Records that events count as skipped.
    async fn give_up(&self, session: &mut SqliteSession, events: &[Uuid]) -> Result<(), StoreError> {
        for event_id in events {
            let record = sqlx::query(GIVE_UP).bind(event_id.as_bytes().to_vec());
            let record = record.bind(self.now().as_microsecond());
            record.execute(session.connection()).await.map_err(failed)?;
        }
        Ok(())
    }
}
