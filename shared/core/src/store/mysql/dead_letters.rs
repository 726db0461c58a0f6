//! Dead letters in the table, and the resolutions of those in a topic.

use async_trait::async_trait;

use super::{
    MysqlStore, StoreError,
    round_trip::{affected, in_transaction, read, rows},
    sql::{Script, Sql},
    statements::instant,
};
use crate::store::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter, batch, decode};

const KEEP: &str = "INSERT INTO dead_letters
    (source, part, position, event_key, headers, value, reason, attempts, created_at) VALUES";

#[async_trait]
impl DeadLetterStore for MysqlStore {
    async fn store_dead_letters(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        batch::with_retries(|_| async {
            let mut script = Script::default();
            script.add_rows(letters, |sql, letter| self.letter(sql, letter), KEEP);
            in_transaction(&self.writers, script).await.map(drop)
        })
        .await
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let mut script = Script::default();
        let select = Sql::new(
            "SELECT id, source, part, position, event_key, headers, value, reason, attempts, created_at
            FROM dead_letters WHERE id > ",
        );
        let select = select.integer(after).push(" ORDER BY id LIMIT ").integer(i64::from(limit));
        let place = script.add(select);
        rows(&read(&self.readers.views, script).await?, place).iter().map(decode::dead_letter).collect()
    }

    async fn delete_dead_letter(&self, number: i64) -> Result<bool, StoreError> {
        let mut script = Script::default();
        let place = script.add(Sql::new("DELETE FROM dead_letters WHERE id = ").integer(number));
        Ok(affected(&in_transaction(&self.writers, script).await?, place) == 1)
    }

    async fn resolve_dead_letter(
        &self,
        topic: &str,
        id: DeadLetterId,
        resolution: Resolution,
    ) -> Result<bool, StoreError> {
        let insert = Sql::new(
            "INSERT INTO dead_letters_settled (topic, part, position, settled, settled_at) VALUES (",
        )
        .text(topic)
        .push(", ")
        .integer(i64::from(id.partition))
        .push(", ")
        .integer(id.offset)
        .push(", ")
        .text(resolution.as_str())
        .push(", ");
        let mut script = Script::default();
        script.add(instant(insert, &self.options.clock).push(")"));
        match in_transaction(&self.writers, script).await {
            Ok(_) => Ok(true),
            Err(StoreError::Contended { by: crate::store::Contention::DuplicateKey, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn resolved_dead_letters(&self, topic: &str) -> Result<Vec<DeadLetterId>, StoreError> {
        let mut script = Script::default();
        let select = Sql::new("SELECT part, position FROM dead_letters_settled WHERE topic = ").text(topic);
        let place = script.add(select);
        rows(&read(&self.readers.views, script).await?, place).iter().map(decode::dead_letter_id).collect()
    }
}

impl MysqlStore {
    fn letter(&self, sql: Sql, letter: &DeadLetter) -> Sql {
        let DeadLetter { record, reason, attempts } = letter;
        let sql = sql
            .text(&record.origin.topic)
            .push(", ")
            .integer(i64::from(record.origin.partition))
            .push(", ")
            .integer(record.origin.offset)
            .push(", ");
        let sql = optional_bytes(sql, record.key.as_deref()).push(", ").text(&decode::headers_text(record));
        let sql = optional_bytes(sql.push(", "), record.value.as_deref());
        // The column has this length; a reader needs no more of a reason.
        let reason: String = reason.chars().take(1_000).collect();
        let sql = sql.push(", ").text(&reason).push(", ").integer(i64::from(*attempts)).push(", ");
        instant(sql, &self.options.clock)
    }
}

fn optional_bytes(sql: Sql, bytes: Option<&[u8]>) -> Sql {
    match bytes {
        Some(bytes) => sql.bytes(bytes),
        None => sql.push("NULL"),
    }
}
