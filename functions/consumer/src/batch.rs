//! Applies a batch as far as the deadline and the database allow.
//!
//! Receives the records of an event, and returns which of them must be delivered again.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bespeak::{
    app::{Access, dead_letters, open_store, refuse_newer_schema},
    background::time_until,
    config::Config,
    envelope::{Origin, Record},
    events::{
        EventLog,
        consume::{Consumed, Consumer},
        dead_letter::DeadLetterSink,
        embedded::CONSUMER,
    },
    store::Database,
};
use lambda_runtime::{Diagnostic, Error};
use tokio::{sync::Notify, time::timeout};

use crate::{
    event::{Batch, Message},
    redrive::Redrive,
    response::BatchResponse,
};

/// The number of records in one transaction.
const CHUNK: usize = 500;
/// How long before the deadline the last transaction must have ended.
const STOP_BEFORE: Duration = Duration::from_secs(2);

/// How long a dropped connection has to close.
const CLOSE_WITHIN: Duration = Duration::from_millis(20);

/// No record of a batch could be handled, so Lambda delivers the whole batch again.
#[derive(Debug, thiserror::Error)]
#[error("none of {records} records could be applied, and all of them come again: {why}")]
pub(crate) struct BatchFailed {
    records: usize,
    why: String,
}

impl From<BatchFailed> for Diagnostic {
    // Alarms may match the error type, so it stays as it was.
    fn from(error: BatchFailed) -> Self {
        Self { error_type: "Bespeak.NothingDone".to_owned(), error_message: error.to_string() }
    }
}

/// The consumer, with the connections that are kept between invocations.
pub(crate) struct BatchHandler {
    store: Arc<dyn Database>,
    dead_letters: Arc<dyn DeadLetterSink>,
    /// The name of the consumer, which owns the inbox.
    name: String,
}

/// How far the records of a batch were handled.
struct Progress {
    /// The number of handled records, from the first.
    done: usize,
    consumed: Consumed,
    /// Why the rest was not handled, if there is a rest.
    why: Option<String>,
}

impl BatchHandler {
    /// Prepares the connections, which open when the first batch arrives.
    pub(crate) async fn new(config: &Config) -> Result<Self, Error> {
        let store = open_store(config, Access::Maintain).await?;
        refuse_newer_schema(&*store).await?;
        let dead_letters = dead_letters(config, &store)?;
        let name = match &config.events {
            EventLog::Kafka(kafka) => kafka.group.clone(),
            EventLog::Embedded => CONSUMER.to_owned(),
        };
        Ok(Self { store, dead_letters, name })
    }

    /// Applies a batch and returns which records must be delivered again. No transaction is open when it returns,
    /// except one that was dropped near the deadline, until the database notices.
    ///
    /// # Errors
    /// No record could be handled.
    pub(crate) async fn consume(
        &self,
        batch: Batch,
        deadline: SystemTime,
    ) -> Result<BatchResponse, BatchFailed> {
        let time = time_until(deadline);
        let until = Instant::now() + time.saturating_sub(STOP_BEFORE.min(time / 2));
        match batch {
            Batch::Kafka(records) => {
                let progress = self.apply(&records, self.dead_letters.clone(), until).await;
                let left = progress.finish(records.len(), 0)?;
                Ok(BatchResponse::of_topic(&records[left..]))
            }
            Batch::Queue(messages) => self.consume_queue(messages, until).await,
        }
    }

    async fn consume_queue(
        &self,
        messages: Vec<Message>,
        until: Instant,
    ) -> Result<BatchResponse, BatchFailed> {
        // Two messages may carry the same record, so each is identified by its place in the batch.
        let place = |at: usize, record: Record| Record {
            origin: Origin {
                topic: record.origin.topic,
                partition: -1,
                offset: i64::try_from(at).unwrap_or(i64::MAX),
            },
            ..record
        };
        let (ids, records): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .enumerate()
            .map(|(at, message)| (message.id, place(at, message.record)))
            .unzip();
        let redrive = Arc::new(Redrive::default());
        let progress = self.apply(&records, redrive.clone(), until).await;
        let poison = redrive.take();
        let left = progress.finish(records.len(), poison.len())?;
        let poison = poison.iter().filter_map(|record| usize::try_from(record.origin.offset).ok());
        let failed = poison.chain(left..records.len()).filter_map(|at| ids.get(at).cloned());
        Ok(BatchResponse::of_queue(failed))
    }

    /// Applies records in transactions of [`CHUNK`] records, until `until`.
    async fn apply(
        &self,
        records: &[Record],
        dead_letters: Arc<dyn DeadLetterSink>,
        until: Instant,
    ) -> Progress {
        let consumer = Consumer::new(self.store.clone(), &self.name, dead_letters, Arc::new(Notify::new()));
        let mut progress = Progress { done: 0, consumed: Consumed::default(), why: None };
        for chunk in records.chunks(CHUNK) {
            let time = until.saturating_duration_since(Instant::now());
            // If the time-out drops the future, its connection closes, and the database rolls the transaction back
            // when it notices. If the transaction was committed before, the inbox recognises the records when they
            // come again.
            match timeout(time, consumer.consume(chunk)).await {
                Ok(Ok(consumed)) => {
                    progress.done += chunk.len();
                    progress.consumed.applied += consumed.applied;
                    progress.consumed.dead_lettered += consumed.dead_lettered;
                }
                Ok(Err(stopped)) => {
                    progress.done += stopped.done;
                    progress.why = Some(stopped.cause.to_string());
                    break;
                }
                Err(_elapsed) => {
                    progress.why = Some("the deadline is near".to_owned());
                    // Gives the closing of the connection time to leave this process before it is frozen.
                    tokio::time::sleep(CLOSE_WITHIN).await;
                    break;
                }
            }
        }
        progress
    }
}

impl Progress {
    /// Logs the progress, and returns the index of the first remaining record. `returned` is how many of the handled
    /// records go back to their queue.
    fn finish(self, records: usize, returned: usize) -> Result<usize, BatchFailed> {
        let Self { done, consumed: Consumed { applied, dead_lettered }, why } = self;
        tracing::info!(
            records,
            applied = applied.applied,
            duplicates = applied.duplicates,
            stale = applied.stale,
            dead_lettered = dead_lettered - (returned as u64).min(dead_lettered),
            returned,
            left = records - done,
            why = why.as_deref(),
            "batch is done"
        );
        match why {
            Some(why) if done == 0 => Err(BatchFailed { records, why }),
            _ => Ok(done),
        }
    }
}
