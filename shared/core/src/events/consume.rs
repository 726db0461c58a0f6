//! The consumer: applies records in their order, each event once, and sets aside what it cannot apply.
//!
//! A batch is one transaction; one that fails is bisected, so that a single record is found at fault (I10). What fails for
//! now (the database is away) stops the batch at that record, and it comes again. Never: a record passed over without
//! either its inbox row or its dead letter. Next: `store/inbox.rs` for the transaction, `effects/` for what it sets off.

use std::sync::Arc;

use tokio::sync::Notify;

use super::dead_letter::{DeadLetterError, DeadLetterSink};
use crate::{
    envelope::{Incoming, Record},
    store::{Applied, DeadLetter, InboxStore, StoreError},
    telemetry,
};

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// What became of those that are events.
    pub applied: Applied,
    /// Those that were set aside.
    pub dead_lettered: u64,
}

/// Why a batch stopped before its end: come again with what is left.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {done} records")]
pub struct Stopped {
    /// How many records, from the first, are done with.
    pub done: usize,
    /// Why.
    #[source]
    pub why: StopReason,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    /// The database cannot be used now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What cannot be applied cannot be set aside now.
    #[error("a record cannot be set aside: {0}")]
    DeadLetters(#[from] DeadLetterError),
}

/// A record that cannot be applied.
struct Unfit {
    /// Which.
    at: usize,
    /// What is wrong with it, in the metrics and for people.
    class: &'static str,
    reason: String,
}

/// A consumer: whoever shares its name shares its inbox.
pub struct Consumer {
    store: Arc<dyn InboxStore>,
    name: String,
    dead_letters: Arc<dyn DeadLetterSink>,
    deliveries: Arc<Notify>,
}

impl Consumer {
    /// A consumer of this name. `deliveries` is told when there are webhooks to deliver.
    pub fn new(
        store: Arc<dyn InboxStore>,
        name: &str,
        dead_letters: Arc<dyn DeadLetterSink>,
        deliveries: Arc<Notify>,
    ) -> Self {
        Self { store, name: name.to_owned(), dead_letters, deliveries }
    }

    /// Applies records. Not cancel-safe.
    ///
    /// # Errors
    /// It stopped; those before it are done with.
    pub async fn consume(&self, records: &[Record]) -> Result<Consumed, Stopped> {
        crate::failpoint::reach("consumer.begun").await;
        let mut events = Vec::with_capacity(records.len());
        let mut poison = Vec::new();
        for (at, record) in records.iter().enumerate() {
            match record.incoming() {
                Ok(event) => events.push((at, event)),
                Err(reason) => poison.push(Unfit { at, class: reason.class(), reason: reason.to_string() }),
            }
        }
        let mut applied = Applied::default();
        let stopped = self.apply(&events, &mut applied, &mut poison).await.err();
        telemetry::count_consumed(applied.applied, applied.duplicates, applied.stale);
        if applied.deliveries > 0 {
            self.deliveries.notify_one();
        }
        // Set aside last: what is applied twice does no harm, what is passed over does.
        let end = stopped.as_ref().map_or(records.len(), |(at, _)| *at);
        poison.retain(|unfit| unfit.at < end);
        poison.sort_unstable_by_key(|unfit| unfit.at);
        self.set_aside(records, &poison).await?;
        match stopped {
            None => Ok(Consumed { applied, dead_lettered: poison.len() as u64 }),
            Some((done, why)) => Err(Stopped { done, why: why.into() }),
        }
    }

    /// Applies events; what cannot be applied joins `poison`. Where it stops: at which record, and why.
    async fn apply(
        &self,
        events: &[(usize, Incoming)],
        applied: &mut Applied,
        poison: &mut Vec<Unfit>,
    ) -> Result<(), (usize, StoreError)> {
        let mut spans = vec![events];
        while let Some(span) = spans.pop() {
            let Some((first, _)) = span.first() else { continue };
            let batch: Vec<Incoming> = span.iter().map(|(_, event)| event.clone()).collect();
            match self.store.apply(&self.name, &batch).await {
                Ok(done) => *applied += done,
                // Only what the database refuses of a record is the record's fault; all else waits until it is mended.
                Err(error) if !matches!(error, StoreError::Value { .. }) => return Err((*first, error)),
                Err(error) if span.len() == 1 => {
                    poison.push(Unfit { at: *first, class: "refused", reason: telemetry::chain(&error) });
                }
                Err(_) => {
                    let (left, right) = span.split_at(span.len() / 2);
                    spans.extend([right, left]);
                }
            }
        }
        Ok(())
    }

    async fn set_aside(&self, records: &[Record], poison: &[Unfit]) -> Result<(), Stopped> {
        let Some(first) = poison.first() else { return Ok(()) };
        let letter = |unfit: &Unfit| DeadLetter {
            record: records[unfit.at].clone(),
            reason: unfit.reason.clone(),
            attempts: 1,
        };
        let letters: Vec<DeadLetter> = poison.iter().map(letter).collect();
        for DeadLetter { record, reason, .. } in &letters {
            let origin = &record.origin;
            let trace_id = record.trace().map(|trace| trace.trace_id()).map(tracing::field::display);
            tracing::error!(
                topic = %origin.topic, partition = origin.partition, offset = origin.offset,
                event_id = record.header("ce_id"), trace_id, reason, "an event cannot be applied and is set aside"
            );
        }
        self.dead_letters.keep(&letters).await.map_err(|why| Stopped { done: first.at, why: why.into() })?;
        for unfit in poison {
            telemetry::count_dead_lettered(unfit.class);
        }
        Ok(())
    }
}
