//! Dead letters in the table, and the resolutions of those in a topic.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

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

    async fn delete_dead_letter(&self, number: i64) -> Result<bool, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let delete = sqlx::query("DELETE FROM dead_letters WHERE id = ?1").bind(number);
        let deleted = delete.execute(session.connection()).await.map_err(failed)?.rows_affected();
        session.commit().await?;
        Ok(deleted == 1)
    }

    async fn resolve_dead_letter(
        &self,
        topic: &str,
        id: DeadLetterId,
        resolution: Resolution,
    ) -> Result<bool, StoreError> {
        let mut session = SqliteSession::begin(&self.writer, self.clock.clone()).await?;
        let resolve = sqlx::query(RESOLVE)
            .bind(topic)
            .bind(id.partition)
            .bind(id.offset)
            .bind(resolution.as_str())
            .bind(self.now().as_microsecond());
        let inserted = resolve.execute(session.connection()).await.map_err(failed)?.rows_affected();
        session.commit().await?;
        Ok(inserted == 1)
    }

    async fn resolved_dead_letters(&self, topic: &str) -> Result<Vec<DeadLetterId>, StoreError> {
        let query =
            sqlx::query("SELECT part, position FROM dead_letters_settled WHERE topic = ?1").bind(topic);
        let rows: Vec<SqliteRow> =
            query.fetch_all(&mut *self.readers.views.acquire().await?).await.map_err(failed)?;
        rows.iter().map(decode::dead_letter_id).collect()
    }
}
