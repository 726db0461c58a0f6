//! Dead letters in a topic beside the topic of events: the original record and its headers, with the reason.
//!
//! Headers that are added: `dlq_reason`, `dlq_topic`, `dlq_partition`, `dlq_offset`, `dlq_attempts`, `dlq_time`. The
//! record of a stranger may have headers of these names; they are left out. If the record is too large for the topic,
//! only the added headers and `dlq_omitted` are stored, and the original is read from the topic of events.
//!
//! Single records of a topic cannot be deleted, so the database records which dead letters were replayed or dropped.
//! Once the oldest ones all were, they are deleted from both. Never: a record that is published to any topic but the
//! two.

use std::{collections::HashSet, ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rdkafka::{error::KafkaError, producer::FutureProducer};
use uuid::Uuid;

use super::{
    connect::Context,
    producer::{ReplaceableProducer, is_fault_of_record, send},
    read::{delete_records, first_offset, last_offset, read_topic},
};
use crate::{
    engine::Timestamp,
    envelope::{Origin, Record},
    events::{
        KafkaOptions,
        dead_letter::{DeadLetterError, DeadLetterQueue, DeadLetterSink, Replayed},
    },
    store::{DeadLetter, DeadLetterId, DeadLetterStore, Resolution, StoredDeadLetter},
};

/// The longest reason that is stored, in characters.
const REASON_CHARACTERS_MAX: usize = 1_000;
/// The time-out for the acknowledgement of a dead letter.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Records that are read from the topic at a time, and sent side by side. They are sent in their order.
const PAGE: usize = 500;

/// The beginning of the names of headers that dead letters add.
const ADDED: &str = "dlq_";
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
    topic: String,
    store: Arc<dyn DeadLetterStore>,
    producer: ReplaceableProducer,
}

/// A dead letter as it is in the topic.
struct TopicLetter {
    kept: StoredDeadLetter,
    /// Whether its value was too large, so that the original must be read.
    omitted: bool,
}

impl TopicDeadLetters {
    /// The dead letters of a topic of events. `store` records their resolutions.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &KafkaOptions, store: Arc<dyn DeadLetterStore>) -> Result<Self, KafkaError> {
        let producer = ReplaceableProducer::new(config, DELIVERY_TIMEOUT)?;
        Ok(Self { config: config.clone(), topic: config.dead_letter_topic(), store, producer })
    }

    async fn read(
        &self,
        topic: String,
        from: impl Fn(i32) -> Option<i64> + Send + 'static,
        mut wanted: impl FnMut(&Record) -> ControlFlow<(), bool> + Send + 'static,
    ) -> Result<Vec<Record>, DeadLetterError> {
        let config = self.config.clone();
        let read = move || {
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
        };
        blocking(read).await
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

    /// Reads at most [`PAGE`] records after an id, whether or not they were resolved. The topic has one partition, so
    /// the order of ids is the order of the topic.
    async fn page(&self, after: Option<DeadLetterId>) -> Result<Vec<TopicLetter>, DeadLetterError> {
        let from = move |_| Some(after.map_or(0, |id| id.offset + 1));
        let mut left = PAGE;
        let wanted = move |_: &Record| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            ControlFlow::Continue(true)
        };
        Ok(self.read(self.topic.clone(), from, wanted).await?.into_iter().map(decode).collect())
    }

    /// Those of a page that have no resolution.
    async fn open(&self, page: Vec<TopicLetter>) -> Result<Vec<TopicLetter>, DeadLetterError> {
        let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(page) };
        let offsets = first.kept.id.offset..=last.kept.id.offset;
        let resolved = self.store.resolved_dead_letters(&self.topic, offsets).await?;
        let resolved: HashSet<_> = resolved.iter().map(|id| (id.partition, id.offset)).collect();
        let is_open =
            |letter: &TopicLetter| !resolved.contains(&(letter.kept.id.partition, letter.kept.id.offset));
        Ok(page.into_iter().filter(is_open).collect())
    }

    /// The record to publish again. Reads it from its origin if its value was omitted.
    async fn record_to_replay(&self, letter: TopicLetter) -> Result<Record, DeadLetterError> {
        let TopicLetter { kept: StoredDeadLetter { id, letter, .. }, omitted } = letter;
        let origin = &letter.record.origin;
        if *origin.topic != *self.config.topic {
            let (topic, expected) = (origin.topic.to_string(), self.config.topic.clone());
            return Err(DeadLetterError::ForeignTopic { id, topic, expected });
        }
        if !omitted {
            return Ok(letter.record);
        }
        let at = DeadLetterId { partition: origin.partition, offset: origin.offset };
        let original = self.record_at(&self.config.topic, at).await?;
        original.ok_or(DeadLetterError::ValueGone(id))
    }

    /// Publishes records to the topic of events, side by side and in their order, and records that their dead letters
    /// were replayed. Returns those that were.
    async fn publish(
        &self,
        records: Vec<(DeadLetterId, Record)>,
    ) -> Result<Vec<DeadLetterId>, DeadLetterError> {
        let producer = self.producer.current();
        let publish = async |(id, record): (DeadLetterId, Record)| {
            let record = without_added(record);
            send(&producer, &self.config.topic, &record).await.map(|()| id)
        };
        let sent: Vec<_> = stream::iter(records).map(publish).buffered(PAGE).collect().await;
        let failed = sent.iter().find_map(|sent| sent.as_ref().err().map(ToString::to_string));
        let replayed: Vec<DeadLetterId> = sent.into_iter().filter_map(Result::ok).collect();
        self.producer.replace_if_broken(&producer, failed.is_some() && replayed.is_empty());
        self.store.resolve_dead_letters(&self.topic, &replayed, Resolution::Replayed, &[]).await?;
        match failed {
            None => Ok(replayed),
            Some(reason) => Err(DeadLetterError::Unavailable(reason)),
        }
    }

    /// The open dead letter of an id.
    async fn find(&self, id: DeadLetterId) -> Result<TopicLetter, DeadLetterError> {
        let record = self.record_at(&self.topic, id).await?.ok_or(DeadLetterError::Unknown(id))?;
        let open = self.open(vec![decode(record)]).await?;
        open.into_iter().next().ok_or(DeadLetterError::Unknown(id))
    }

    /// Deletes the oldest records of the topic, as far as all of them are resolved, and what the database knows of
    /// records that are gone. Only saves space, so a failure has no consequence: a broker may not support it, or not
    /// allow it.
    async fn tidy(&self) {
        if let Err(error) = self.try_tidy().await {
            tracing::debug!(%error, "resolved dead letters remain in their topic");
        }
    }

    async fn try_tidy(&self) -> Result<(), DeadLetterError> {
        let (config, topic) = (self.config.clone(), self.topic.clone());
        let first = blocking(move || first_offset(&config, &topic)).await?;
        let mut end = first;
        loop {
            let offsets = end..=end.saturating_add(i64::try_from(PAGE).unwrap_or(i64::MAX)) - 1;
            let mut resolved = self.store.resolved_dead_letters(&self.topic, offsets.clone()).await?;
            resolved.retain(|id| id.partition == 0);
            resolved.sort_unstable();
            let run = resolved.iter().zip(offsets).take_while(|(id, offset)| id.offset == *offset).count();
            end += i64::try_from(run).unwrap_or(0);
            if run < PAGE {
                break;
            }
        }
        if end > first {
            delete_records(&self.config, &self.topic, end)
                .await
                .map_err(|error| DeadLetterError::Unavailable(error.to_string()))?;
        }
        Ok(self.store.forget_resolved_dead_letters(&self.topic, end).await?)
    }
}

/// Runs calls of librdkafka that block their thread.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, DeadLetterError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done.map_err(|error| DeadLetterError::Unavailable(error.to_string())),
        Err(_) => Err(DeadLetterError::Unavailable("reading the topic panicked".to_owned())),
    }
}

/// Stores one dead letter; without its value if it is too large for the topic.
async fn store(
    producer: &FutureProducer<Context>,
    topic: &str,
    letter: &DeadLetter,
) -> Result<(), KafkaError> {
    let mut record = encode(letter, Timestamp::now());
    match send(producer, topic, &record).await {
        Err(error) if is_fault_of_record(&error) => {
            let bytes = record.value.take().map_or(0, |value| value.len());
            record.key = None;
            record.headers.retain(|(name, _)| name.starts_with(ADDED));
            record.headers.push((OMITTED.to_owned(), bytes.to_string().into_bytes()));
            send(producer, topic, &record).await
        }
        sent => sent,
    }
}

#[async_trait]
impl DeadLetterSink for TopicDeadLetters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), DeadLetterError> {
        let producer = self.producer.current();
        let storing: Vec<_> = letters.iter().map(|letter| store(&producer, &self.topic, letter)).collect();
        let stored: Vec<_> = stream::iter(storing).buffered(PAGE).collect().await;
        let any = stored.iter().any(Result::is_ok);
        let failed = stored.into_iter().find_map(Result::err);
        self.producer.replace_if_broken(&producer, failed.is_some() && !any);
        failed.map_or(Ok(()), |error| Err(DeadLetterError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl DeadLetterQueue for TopicDeadLetters {
    async fn list(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let mut found = Vec::new();
        let mut after = after;
        while found.len() < limit {
            let page = self.page(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.kept.id);
            let is_last = page.len() < PAGE;
            found.extend(self.open(page).await?.into_iter().map(|letter| letter.kept));
            if is_last {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn get(&self, id: DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let letter = self.find(id).await?;
        let mut kept = letter.kept.clone();
        if letter.omitted {
            kept.letter.record = self.record_to_replay(letter).await?;
        }
        Ok(kept)
    }

    async fn replay(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        let record = self.record_to_replay(self.find(id).await?).await?;
        self.publish(vec![(id, record)]).await?;
        self.tidy().await;
        Ok(())
    }

    async fn replay_all(&self) -> Result<Replayed, DeadLetterError> {
        // A record that fails again becomes a new dead letter behind this one, so the replay ends here.
        let (config, topic) = (self.config.clone(), self.topic.clone());
        let Some(end) = blocking(move || last_offset(&config, &topic)).await? else {
            return Ok(Replayed::default());
        };
        let mut done = Replayed::default();
        let mut after: Option<DeadLetterId> = None;
        while after.is_none_or(|id| id.offset < end) {
            let mut page = self.page(after).await?;
            page.retain(|letter| letter.kept.id.offset <= end);
            let Some(last) = page.last() else { break };
            after = Some(last.kept.id);
            let mut records = Vec::new();
            for letter in self.open(page).await? {
                let id = letter.kept.id;
                match self.record_to_replay(letter).await {
                    Ok(record) => records.push((id, record)),
                    Err(error @ (DeadLetterError::ForeignTopic { .. } | DeadLetterError::ValueGone(_))) => {
                        done.refused.push((id, error));
                    }
                    Err(error) => return Err(error),
                }
            }
            done.replayed.extend(self.publish(records).await?);
        }
        self.tidy().await;
        Ok(done)
    }

    async fn drop_letter(&self, id: DeadLetterId) -> Result<(), DeadLetterError> {
        let kept = self.find(id).await?.kept;
        let given_up: Vec<Uuid> = kept.letter.record.event_id().into_iter().collect();
        self.store.resolve_dead_letters(&self.topic, &[id], Resolution::Dropped, &given_up).await?;
        self.tidy().await;
        Ok(())
    }
}

/// A record without the headers that dead letters add.
fn without_added(mut record: Record) -> Record {
    record.headers.retain(|(name, _)| !name.starts_with(ADDED));
    record
}

/// Encodes a dead letter: the original record with the `dlq_` headers.
fn encode(letter: &DeadLetter, now: Timestamp) -> Record {
    let DeadLetter { record, reason, attempts } = letter;
    let mut record = without_added(record.clone());
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

/// Decodes a dead letter: the record without the `dlq_` headers. The last header of a name counts: versions before
/// 0.3 added theirs behind those that the record had.
fn decode(record: Record) -> TopicLetter {
    let id = DeadLetterId { partition: record.origin.partition, offset: record.origin.offset };
    let last = |name| record.headers.iter().rev().find(|(found, _)| found == name);
    let text = |name| last(name).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let text = |name| text(name).unwrap_or_default();
    let origin = Origin {
        topic: text(TOPIC).into(),
        partition: text(PARTITION).parse().unwrap_or(-1),
        offset: text(OFFSET).parse().unwrap_or(-1),
    };
    let (reason, attempts) = (text(REASON), text(ATTEMPTS).parse().unwrap_or(1));
    let created_at = text(KEPT_AT).parse().unwrap_or(Timestamp::UNIX_EPOCH);
    // A stranger's header of this name stood before the reason.
    let omitted = record.headers.last().is_some_and(|(name, _)| name == OMITTED);
    let record = Record { origin, ..without_added(record) };
    TopicLetter {
        kept: StoredDeadLetter { id, letter: DeadLetter { record, reason, attempts }, created_at },
        omitted,
    }
}
