//! The event log of a process without Kafka: the relay passes events from the outbox directly to a consumer.
//!
//! An event counts as published only after the consumer's commit, so it is delivered at least once here too. Records
//! that cannot be applied are stored in a table of the database.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    PublishError, Publisher,
    consume::{ConsumeFailure, Consumer},
    dead_letter::{DeadLetterError, DeadLetterQueue, DeadLetterSink, Replayed},
};
use crate::{
    envelope::{OutboxEvent, Record, record},
    store::{Database, DeadLetter, DeadLetterId, DeadLetterStore, InboxStore, StoredDeadLetter},
    telemetry,
};

/// The name of the embedded consumer in the inbox.
pub const CONSUMER: &str = "bespeak";

/// The most records in one transaction.
const PART: usize = 512;
/// The most dead letters that are read and replayed at a time.
const PAGE: u32 = 500;

/// A publisher that passes events to a consumer in this process.
pub struct Embedded {
    consumer: Consumer,
    source: String,
}

impl Embedded {
    /// Passes events to a consumer of this database. `source` is the CloudEvents source; `deliveries` wakes the webhook
    /// dispatcher.
    pub fn new(store: Arc<dyn Database>, source: &str, deliveries: Arc<Notify>) -> Self {
        let letters = Arc::new(DatabaseDeadLetters::new(store.clone(), deliveries.clone()));
        Self { consumer: Consumer::new(store, CONSUMER, letters, deliveries), source: source.to_owned() }
    }
}

#[async_trait]
impl Publisher for Embedded {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        let records: Vec<Record> = events.iter().map(|event| record(event, &self.source)).collect();
        let (mut done, mut reason) = (0, String::new());
        // In parts, so that no transaction takes long.
        for part in records.chunks(PART) {
            match self.consumer.consume(part).await {
                Ok(_) => done += part.len(),
                Err(stopped) => {
                    done += stopped.done;
                    reason = telemetry::chain(&stopped.cause);
                    break;
                }
            }
        }
        let result = |at| if at < done { Ok(()) } else { Err(PublishError::Unavailable(reason.clone())) };
        (0..events.len()).map(result).collect()
    }
}

/// Dead letters in a table of the database.
pub struct DatabaseDeadLetters {
    letters: Arc<dyn DeadLetterStore>,
    inbox: Arc<dyn InboxStore>,
    deliveries: Arc<Notify>,
}

impl DatabaseDeadLetters {
    /// The dead letters of this database. `deliveries` wakes the webhook dispatcher after a replay.
    pub fn new(store: Arc<dyn Database>, deliveries: Arc<Notify>) -> Self {
        Self { letters: store.clone(), inbox: store, deliveries }
    }
}

impl DatabaseDeadLetters {
    /// Passes dead letters to the consumer again, and deletes them; returns them.
    async fn consume(&self, page: Vec<StoredDeadLetter>) -> Result<Vec<DeadLetterId>, DeadLetterError> {
        // A record that fails again becomes a new dead letter, through another handle to the same table.
        let sink = Self {
            letters: self.letters.clone(),
            inbox: self.inbox.clone(),
            deliveries: self.deliveries.clone(),
        };
        let consumer = Consumer::new(self.inbox.clone(), CONSUMER, Arc::new(sink), self.deliveries.clone());
        let mut ids: Vec<DeadLetterId> = page.iter().map(|kept| kept.id).collect();
        let records: Vec<Record> = page.into_iter().map(|kept| kept.letter.record).collect();
        let consumed = consumer.consume(&records).await;
        if let Err(stopped) = &consumed {
            ids.truncate(stopped.done);
        }
        let numbers: Vec<i64> = ids.iter().map(|id| id.offset).collect();
        self.letters.delete_dead_letters(&numbers, &[]).await?;
        match consumed.map_err(|stopped| stopped.cause) {
            Ok(_) => Ok(ids),
            Err(ConsumeFailure::Store(error)) => Err(DeadLetterError::Store(error)),
            Err(ConsumeFailure::DeadLetters(error)) => Err(error),
        }
    }
}

#[async_trait]
impl DeadLetterSink for DatabaseDeadLetters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        Ok(self.letters.store_dead_letters(letters).await?)
    }
}

#[async_trait]
impl DeadLetterQueue for DatabaseDeadLetters {
    async fn list(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Ok(self.letters.dead_letters(after.map_or(0, |id| id.offset), limit).await?)
    }

    async fn get(&self, id: DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let next = self.letters.dead_letters(id.offset - 1, 1).await?.into_iter().next();
        next.filter(|kept| kept.id == id).ok_or(DeadLetterError::Unknown(id))
    }

    async fn replay(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        let kept = self.get(id).await?;
        self.consume(vec![kept]).await.map(drop)
    }

    async fn replay_all(&self) -> Result<Replayed, DeadLetterError> {
        // A record that fails again becomes a new dead letter, with a higher number, so the replay ends here.
        let mut end = 0;
        while let Some(last) = self.letters.dead_letters(end, PAGE).await?.last() {
            end = last.id.offset;
        }
        let (mut replayed, mut after) = (Vec::new(), 0);
        loop {
            let mut page = self.letters.dead_letters(after, PAGE).await?;
            page.retain(|kept| kept.id.offset <= end);
            let Some(last) = page.last() else { break };
            after = last.id.offset;
            replayed.extend(self.consume(page).await?);
        }
        Ok(Replayed { replayed, refused: Vec::new() })
    }

    async fn drop_letter(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        let given_up = self.get(id).await?.letter.record.event_id();
        if self.letters.delete_dead_letters(&[id.offset], given_up.as_slice()).await? == 1 {
            Ok(())
        } else {
            Err(DeadLetterError::Unknown(id))
        }
    }
}
