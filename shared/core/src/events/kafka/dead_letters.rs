//! Dead letters in a topic beside the topic of events: the original record and its headers, with the reason.
//!
//! Single records of a topic cannot be deleted, so the database records which dead letters were replayed or dropped.
//! Headers that are added: `dlq_reason`, `dlq_topic`, `dlq_partition`, `dlq_offset`, `dlq_attempts`, `dlq_time`. If
//! the record is too large for the topic, only these and `dlq_omitted` are stored, and the original is read from the
//! topic of events.

use std::{collections::HashSet, ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use rdkafka::{error::KafkaError, producer::FutureProducer};

use super::{
    connect::Context,
    publish::{is_fault_of_record, producer, send},
    read_topic,
};
use crate::{
    engine::Timestamp,
    envelope::{Origin, Record},
    events::{
        KafkaOptions,
        dead_letter::{DeadLetterError, DeadLetterQueue, DeadLetterSink},
    },
    store::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter},
};

/// The longest reason that is stored, in characters.
const REASON_CHARACTERS_MAX: usize = 1_000;

const REASON: &str = "dlq_reason";
const TOPIC: &str = "dlq_topic";
const PARTITION: &str = "dlq_partition";
const OFFSET: &str = "dlq_offset";
const ATTEMPTS: &str = "dlq_attempts";
const KEPT_AT: &str = "dlq_time";
const OMITTED: &str = "dlq_omitted";

/// Dead letters in a topic.
pub struct TopicDeadLetters {
    config: KafkaOptions,
    store: Arc<dyn DeadLetterStore>,
    producer: FutureProducer<Context>,
}

impl TopicDeadLetters {
    /// The dead letters of a topic of events. `store` records their resolutions.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &KafkaOptions, store: Arc<dyn DeadLetterStore>) -> Result<Self, KafkaError> {
        Ok(Self { config: config.clone(), store, producer: producer(config)? })
    }

    async fn read(
        &self,
        topic: String,
        from: impl Fn(i32) -> Option<i64> + Send + 'static,
        mut wanted: impl FnMut(&Record) -> ControlFlow<(), bool> + Send + 'static,
    ) -> Result<Vec<Record>, DeadLetterError> {
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            let visit = |record: Record| {
                match wanted(&record) {
                    ControlFlow::Continue(true) => found.push(record),
                    ControlFlow::Continue(false) => {}
                    ControlFlow::Break(()) => return ControlFlow::Break(()),
                }
                ControlFlow::Continue(())
            };
            read_topic(&config, &topic, from, visit).map(|()| found)
        });
        match read.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(DeadLetterError::Unavailable(error.to_string())),
            Err(_) => Err(DeadLetterError::Unavailable("reading the topic panicked".to_owned())),
        }
    }

    /// Reads one record of a topic.
    async fn record_at(&self, topic: &str, id: DeadLetterId) -> Result<Option<Record>, DeadLetterError> {
        let only = move |record: &Record| {
            if record.origin.offset > id.offset {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(record.origin.offset == id.offset)
        };
        let there = move |partition| (partition == id.partition).then_some(id.offset);
        Ok(self.read(topic.to_owned(), there, only).await?.into_iter().next())
    }

    async fn resolve(&self, id: DeadLetterId, resolution: Resolution) -> Result<(), DeadLetterError> {
        let topic = self.config.dead_letter_topic();
        if self.store.resolve_dead_letter(&topic, id, resolution).await? {
            Ok(())
        } else {
            Err(DeadLetterError::Unknown(id))
        }
    }
}

#[async_trait]
impl DeadLetterSink for TopicDeadLetters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let topic = self.config.dead_letter_topic();
        for letter in letters {
            let mut record = to_record(letter, Timestamp::now());
            let kept = match send(&self.producer, &topic, &record).await {
                Err(error) if is_fault_of_record(&error) => {
                    // Too large for this topic as well: store a reference to the original instead.
                    let bytes = record.value.take().map_or(0, |value| value.len());
                    record.key = None;
                    record.headers.retain(|(name, _)| name.starts_with("dlq_"));
                    record.headers.push((OMITTED.to_owned(), bytes.to_string().into_bytes()));
                    send(&self.producer, &topic, &record).await
                }
                sent => sent,
            };
            kept.map_err(|error| DeadLetterError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }
}

#[async_trait]
impl DeadLetterQueue for TopicDeadLetters {
    async fn list(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let topic = self.config.dead_letter_topic();
        let resolved: HashSet<_> =
            self.store.resolved_dead_letters(&topic).await?.iter().map(place).collect();
        // The topic has one partition, so the order of ids is the order of the topic.
        let from = move |_| Some(after.map_or(0, |id| id.offset + 1));
        let mut left = limit;
        let wanted = move |record: &Record| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            let open = !resolved.contains(&(record.origin.partition, record.origin.offset));
            left -= usize::from(open);
            ControlFlow::Continue(open)
        };
        Ok(self.read(topic, from, wanted).await?.into_iter().map(kept).collect())
    }

    async fn get(&self, id: DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let topic = self.config.dead_letter_topic();
        let resolved = self.store.resolved_dead_letters(&topic).await?;
        if resolved.contains(&id) {
            return Err(DeadLetterError::Unknown(id));
        }
        let record = self.record_at(&topic, id).await?.ok_or(DeadLetterError::Unknown(id))?;
        let omitted = record.header(OMITTED).is_some();
        let mut kept = kept(record);
        if omitted {
            let origin = &kept.letter.record.origin;
            let at = DeadLetterId { partition: origin.partition, offset: origin.offset };
            let original = self.record_at(&origin.topic.clone(), at).await?;
            kept.letter.record = original.ok_or(DeadLetterError::ValueGone(id))?;
        }
        Ok(kept)
    }

    async fn replay(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        let kept = self.get(id).await?;
        let record = kept.letter.record;
        send(&self.producer, &record.origin.topic, &record)
            .await
            .map_err(|error| DeadLetterError::Unavailable(error.to_string()))?;
        self.resolve(id, Resolution::Replayed).await
    }

    async fn drop_letter(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        self.get(id).await?;
        self.resolve(id, Resolution::Dropped).await
    }
}

fn place(id: &DeadLetterId) -> (i32, i64) {
    (id.partition, id.offset)
}

/// Encodes a dead letter: the original record with the `dlq_` headers.
fn to_record(letter: &DeadLetter, now: Timestamp) -> Record {
    let DeadLetter { record, reason, attempts } = letter;
    let mut record = record.clone();
    let origin = &record.origin;
    let added = [
        (REASON, reason.chars().take(REASON_CHARACTERS_MAX).collect()),
        (TOPIC, origin.topic.to_string()),
        (PARTITION, origin.partition.to_string()),
        (OFFSET, origin.offset.to_string()),
        (ATTEMPTS, attempts.to_string()),
        (KEPT_AT, now.to_string()),
    ];
    record.headers.extend(added.map(|(name, value)| (name.to_owned(), value.into_bytes())));
    record
}

/// Decodes a dead letter: the record without the `dlq_` headers.
fn kept(mut record: Record) -> StoredDeadLetter {
    let id = DeadLetterId { partition: record.origin.partition, offset: record.origin.offset };
    let text = |name| record.header(name).unwrap_or_default();
    let origin = Origin {
        topic: text(TOPIC).into(),
        partition: text(PARTITION).parse().unwrap_or(-1),
        offset: text(OFFSET).parse().unwrap_or(-1),
    };
    let (reason, attempts) = (text(REASON), text(ATTEMPTS).parse().unwrap_or(1));
    let created_at = text(KEPT_AT).parse().unwrap_or(Timestamp::UNIX_EPOCH);
    record.origin = origin;
    record.headers.retain(|(name, _)| !name.starts_with("dlq_"));
    StoredDeadLetter { id, letter: DeadLetter { record, reason, attempts }, created_at }
}
