//! The consumer: applies records in order, each event once, and turns records that it cannot apply into dead letters.
//!
//! A batch is one transaction. If the database refuses a batch, the batch is bisected until the single record at
//! fault is found (I10). If the database is unavailable, consumption stops at that record, and the caller retries
//! from there. Never: a record that is passed over without an inbox row or a dead letter. Next: `store/inbox.rs` for
//! the transaction, `effects/` for the consequences of an event.

use std::sync::Arc;

use tokio::sync::Notify;

use super::dead_letter::{DeadLetterError, DeadLetterSink};
use crate::{
    envelope::{Incoming, Record},
    store::{Applied, DeadLetter, InboxStore, StoreError},
    telemetry,
};

/// The longest reason that is logged and stored, in characters: it may quote the record.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// The counts of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// The records that are events, by outcome.
    pub applied: Applied,
    /// The records that became dead letters.
    pub dead_lettered: u64,
}

/// A batch that stopped before its end. The caller retries with the remaining records.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {done} records")]
pub struct ConsumeError {
    /// The number of records, from the first, that need no retry.
    pub done: usize,
    /// The reason.
    #[source]
    pub cause: ConsumeFailure,
}

/// The reason why a batch stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeFailure {
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be applied, and cannot be stored as a dead letter at present.
    #[error("a dead letter cannot be stored: {0}")]
    DeadLetters(#[from] DeadLetterError),
}

/// A record that cannot be applied.
struct PoisonRecord {
    /// Its position in the batch.
    at: usize,
    /// The label of the metric.
    class: &'static str,
    /// The reason for operators.
    reason: String,
}

/// A consumer. Consumers of the same name share an inbox.
pub struct Consumer {
    store: Arc<dyn InboxStore>,
    name: String,
    dead_letters: Arc<dyn DeadLetterSink>,
    deliveries: Arc<Notify>,
}

impl Consumer {
    /// A consumer of this name. `deliveries` is notified when webhook deliveries were enqueued.
    pub fn new(
        store: Arc<dyn InboxStore>,
        name: &str,
        dead_letters: Arc<dyn DeadLetterSink>,
        deliveries: Arc<Notify>,
    ) -> Self {
        Self { store, name: name.to_owned(), dead_letters, deliveries }
    }

    /// Applies records in order. Not cancel-safe.
    ///
    /// # Errors
    /// Consumption stopped at a record; the records before it are applied or stored as dead letters.
    pub async fn consume(&self, records: &[Record]) -> Result<Consumed, ConsumeError> {
        crate::failpoint::reach("consumer.begun").await;
        let mut events = Vec::with_capacity(records.len());
        let mut poison = Vec::new();
        for (at, record) in records.iter().enumerate() {
            match record.incoming() {
                Ok(event) => events.push((at, event)),
                Err(reason) => {
                    poison.push(PoisonRecord { at, class: reason.class(), reason: reason.to_string() });
                }
            }
        }
        let mut applied = Applied::default();
        let stopped = self.apply(&events, &mut applied, &mut poison).await.err();
        telemetry::count_consumed(applied.applied, applied.duplicates, applied.stale);
        if applied.deliveries > 0 {
            self.deliveries.notify_one();
        }
        // Dead letters come last. If storing them fails, the batch is retried and its events are recognised as
        // duplicates; in the other order, a failure in between could pass over a record.
        let end = stopped.as_ref().map_or(records.len(), |(at, _)| *at);
        poison.retain(|unfit| unfit.at < end);
        poison.sort_unstable_by_key(|unfit| unfit.at);
        self.store_dead_letters(records, &poison).await?;
        match stopped {
            None => Ok(Consumed { applied, dead_lettered: poison.len() as u64 }),
            Some((done, error)) => Err(ConsumeError { done, cause: error.into() }),
        }
    }

    /// Applies events, and adds those that cannot be applied to `poison`. An error names the record at which it
    /// stopped.
    async fn apply(
        &self,
        events: &[(usize, Incoming)],
        applied: &mut Applied,
        poison: &mut Vec<PoisonRecord>,
    ) -> Result<(), (usize, StoreError)> {
        let mut spans = vec![events];
        while let Some(span) = spans.pop() {
            let Some((first, _)) = span.first() else { continue };
            let batch: Vec<Incoming> = span.iter().map(|(_, event)| event.clone()).collect();
            match self.store.apply(&self.name, &batch).await {
                Ok(mut done) => {
                    let refused = std::mem::take(&mut done.refused).into_iter();
                    poison.extend(refused.map(|refused| PoisonRecord {
                        at: span[refused.at].0,
                        class: "not_in_books",
                        reason: refused.reason,
                    }));
                    *applied += done;
                }
                // Only a refused value and a damaged row concern one record. Every other error is an outage, and the
                // events wait.
                Err(error) if !matches!(error, StoreError::Value { .. } | StoreError::Corrupt { .. }) => {
                    return Err((*first, error));
                }
                Err(error) if span.len() == 1 => {
                    poison.push(PoisonRecord {
                        at: *first,
                        class: "refused",
                        reason: telemetry::chain(&error),
                    });
                }
                Err(_) => {
                    let (left, right) = span.split_at(span.len() / 2);
                    spans.extend([right, left]);
                }
            }
        }
        Ok(())
    }

    async fn store_dead_letters(
        &self,
        records: &[Record],
        poison: &[PoisonRecord],
    ) -> Result<(), ConsumeError> {
        let Some(first) = poison.first() else { return Ok(()) };
        let letter = |unfit: &PoisonRecord| DeadLetter {
            record: records[unfit.at].clone(),
            reason: unfit.reason.chars().take(REASON_CHARACTERS_MAX).collect(),
            attempts: 1,
        };
        let letters: Vec<DeadLetter> = poison.iter().map(letter).collect();
        log_dead_letters(&letters);
        self.dead_letters
            .keep(&letters)
            .await
            .map_err(|error| ConsumeError { done: first.at, cause: error.into() })?;
        for unfit in poison {
            telemetry::count_dead_lettered(unfit.class);
        }
        Ok(())
    }
}

/// Logs one line for a batch, with its first dead letter: a stranger who fills the topic must not fill the log.
fn log_dead_letters(letters: &[DeadLetter]) {
    let Some(DeadLetter { record, reason, .. }) = letters.first() else { return };
    let origin = &record.origin;
    let trace_id = record.trace().map(|trace| trace.trace_id()).map(tracing::field::display);
    tracing::error!(
        dead_letters = letters.len(), topic = %origin.topic, partition = origin.partition, offset = origin.offset,
        event_id = record.event_id().map(tracing::field::display), trace_id, reason,
        "events cannot be applied and become dead letters; this is the first"
    );
}
