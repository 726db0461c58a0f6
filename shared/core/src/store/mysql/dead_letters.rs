//! Dead letters in the table, and the resolutions of those in a topic.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    MysqlStore, StoreError,
    round_trip::{affected, in_transaction, read, rows},
    sql::{Script, Sql},
    statements::instant,
};
use crate::store::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter, batch, decode};

const KEEP: &str = "INSERT INTO dead_letters
    (source, part, position, event_key, headers, value, reason, attempts, created_at) VALUES";

const RESOLVE: &str = "INSERT IGNORE INTO dead_letters_settled
    (topic, part, position, settled, settled_at) VALUES";

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

    async fn delete_dead_letters(&self, numbers: &[i64], given_up: &[Uuid]) -> Result<u64, StoreError> {
        let mut script = Script::default();
        let head = || Sql::new("DELETE FROM dead_letters WHERE id IN ");
        let places = script.add_lists(numbers, |sql, number| sql.integer(*number), head, "");
        self.give_up(&mut script, given_up);
        let results = in_transaction(&self.writers, script).await?;
        Ok(places.iter().map(|place| affected(&results, *place)).sum())
    }

    async fn resolve_dead_letters(
        &self,
        topic: &str,
        ids: &[DeadLetterId],
        resolution: Resolution,
        given_up: &[Uuid],
    ) -> Result<u64, StoreError> {
        let row = |sql: Sql, id: &DeadLetterId| {
            let sql =
                sql.text(topic).push(", ").integer(i64::from(id.partition)).push(", ").integer(id.offset);
            let sql = sql.push(", ").text(resolution.as_str()).push(", ");
            instant(sql, &self.options.clock)
        };
        let mut script = Script::default();
        let places = script.add_rows(ids, row, RESOLVE);
        self.give_up(&mut script, given_up);
        let results = in_transaction(&self.writers, script).await?;
        Ok(places.iter().map(|(place, _)| affected(&results, *place)).sum())
    }

    async fn resolved_dead_letters(
        &self,
        topic: &str,
        offsets: RangeInclusive<i64>,
    ) -> Result<Vec<DeadLetterId>, StoreError> {
        let mut script = Script::default();
        let select = Sql::new("SELECT part, position FROM dead_letters_settled WHERE topic = ").text(topic);
        let select = select.push(" AND position BETWEEN ").integer(*offsets.start());
        let place = script.add(select.push(" AND ").integer(*offsets.end()));
        rows(&read(&self.readers.views, script).await?, place).iter().map(decode::dead_letter_id).collect()
    }

    async fn forget_resolved_dead_letters(&self, topic: &str, before: i64) -> Result<(), StoreError> {
        let mut script = Script::default();
        let delete = Sql::new("DELETE FROM dead_letters_settled WHERE topic = ").text(topic);
        script.add(delete.push(" AND part = 0 AND position < ").integer(before));
        in_transaction(&self.writers, script).await.map(drop)
    }
}

impl MysqlStore {
    /// Records that events count as skipped.
    fn give_up(&self, script: &mut Script, events: &[Uuid]) {
        let row = |sql: Sql, id: &Uuid| instant(sql.bytes(id.as_bytes()).push(", "), &self.options.clock);
        script.add_rows(events, row, "INSERT IGNORE INTO outbox_skipped (event_id, skipped_at) VALUES");
    }

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
