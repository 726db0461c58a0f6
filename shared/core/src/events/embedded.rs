//! The event log of a process that has none: events go from the outbox to the consumer beside it.
//!
//! An event counts as published only after the consumer's commit, so it is delivered at least once here too. What cannot be
//! applied goes to a table.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    PublishError, Publisher,
    consume::{Consumer, StopReason},
    dead_letter::{DeadLetterError, DeadLetterQueue, DeadLetterSink},
};
use crate::{
    envelope::{OutboxEvent, Record, record},
    store::{Database, DeadLetter, DeadLetterId, DeadLetterStore, InboxStore, StoredDeadLetter},
    telemetry,
};

/// The consumer's name in the inbox.
pub const CONSUMER: &str = "bespeak";

/// Records that one transaction takes at the most.
const PART: usize = 512;

/// Hands events to a consumer in this process.
pub struct Embedded {
    consumer: Consumer,
    source: String,
}

impl Embedded {
    /// A way to the consumer of these books.
    pub fn new(store: Arc<dyn Database>, source: &str, deliveries: Arc<Notify>) -> Self {
        let letters = Arc::new(Letters::new(store.clone(), deliveries.clone()));
        Self { consumer: Consumer::new(store, CONSUMER, letters, deliveries), source: source.to_owned() }
    }
}

#[async_trait]
impl Publisher for Embedded {
    async fn publish(&self, events: &[OutboxEvent]) -> Vec<Result<(), PublishError>> {
        let records: Vec<Record> = events.iter().map(|event| record(event, &self.source)).collect();
        let (mut done, mut why) = (0, String::new());
        // In parts, so that no transaction is long.
        for part in records.chunks(PART) {
            match self.consumer.consume(part).await {
                Ok(_) => done += part.len(),
                Err(stopped) => {
                    done += stopped.done;
                    why = telemetry::chain(&stopped.why);
                    break;
                }
            }
        }
        let became = |at| if at < done { Ok(()) } else { Err(PublishError::Unavailable(why.clone())) };
        (0..events.len()).map(became).collect()
    }
}

/// Dead letters in a table of the books.
pub struct Letters {
    letters: Arc<dyn DeadLetterStore>,
    inbox: Arc<dyn InboxStore>,
    deliveries: Arc<Notify>,
}

impl Letters {
    /// Those of these books.
    pub fn new(store: Arc<dyn Database>, deliveries: Arc<Notify>) -> Self {
        Self { letters: store.clone(), inbox: store, deliveries }
    }
}

#[async_trait]
impl DeadLetterSink for Letters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        Ok(self.letters.keep_letters(letters).await?)
    }
}

#[async_trait]
impl DeadLetterQueue for Letters {
    async fn list(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Ok(self.letters.letters(after.map_or(0, |id| id.offset), limit).await?)
    }

    async fn get(&self, id: DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let next = self.letters.letters(id.offset - 1, 1).await?.into_iter().next();
        next.filter(|kept| kept.id == id).ok_or(DeadLetterError::Unknown(id))
    }

    async fn replay(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        let kept = self.get(id).await?;
        let again = Self {
            letters: self.letters.clone(),
            inbox: self.inbox.clone(),
            deliveries: self.deliveries.clone(),
        };
        let consumer = Consumer::new(self.inbox.clone(), CONSUMER, Arc::new(again), self.deliveries.clone());
        consumer.consume(&[kept.letter.record]).await.map_err(|stopped| match stopped.why {
            StopReason::Store(error) => DeadLetterError::Store(error),
            StopReason::DeadLetters(error) => error,
        })?;
        self.drop_letter(id).await
    }

    async fn drop_letter(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        if self.letters.forget_letter(id.offset).await? { Ok(()) } else { Err(DeadLetterError::Unknown(id)) }
    }
}
